package interop.client;

import interop.common.Args;
import io.micrometer.core.instrument.Clock;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.prometheus.PrometheusConfig;
import io.micrometer.prometheus.PrometheusMeterRegistry;
import io.prometheus.client.CollectorRegistry;
import io.prometheus.client.exemplars.DefaultExemplarSampler;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/** What one app measures: a counter to follow by eye and a number of constant series, in each registry. */
final class Metrics {
  private final List<PrometheusMeterRegistry> registries = new ArrayList<>();
  private final List<Counter> counters = new ArrayList<>();

  Metrics(String app, Args args) {
    int number = args.number("--registries", 1);
    for (int i = 1; i <= number; i++) {
      PrometheusMeterRegistry registry = registry(args.has("--exemplars"));
      registry.config().commonTags("app", app);
      if (number > 1) {
        registry.config().commonTags("registry", Integer.toString(i));
      }
      fill(registry, args.number("--series", 0));
      registries.add(registry);
    }
  }

  private static PrometheusMeterRegistry registry(boolean exemplars) {
    return exemplars
        ? new PrometheusMeterRegistry(PrometheusConfig.DEFAULT, new CollectorRegistry(), Clock.SYSTEM,
            new DefaultExemplarSampler(new FixedSpan()))
        : new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  }

  private void fill(PrometheusMeterRegistry registry, int series) {
    counters.add(Counter.builder("interop.events").description("Grows with each inc").register(registry));
    for (int i = 0; i < series; i++) {
      double value = i;
      Gauge.builder("interop.series", () -> value).description("Constant").tag("row", Integer.toString(i))
          .strongReference(true).register(registry);
    }
  }

  /** The registry that also takes the client's own metrics. */
  PrometheusMeterRegistry own() {
    return registries.get(0);
  }

  double increment() {
    counters.forEach(Counter::increment);
    return counters.get(0).count();
  }

  /** Several registries one behind the other, as the client's documentation suggests. */
  String scrape(String contentType) {
    return registries.stream().map(registry -> registry.scrape(contentType)).collect(Collectors.joining());
  }
}
