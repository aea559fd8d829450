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
import java.util.concurrent.ThreadLocalRandom;
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
      if (args.has("--wide")) {
        registry.config().commonTags("application", "checkout", "instance", "checkout-7d9f8b6c5-x2x4q");
      }
      counters.add(Counter.builder("interop.events").description("Grows with each inc").register(registry));
      fill(registry, args.number("--series", 0), args.has("--wide"));
      registries.add(registry);
    }
  }

  private static PrometheusMeterRegistry registry(boolean exemplars) {
    return exemplars
        ? new PrometheusMeterRegistry(PrometheusConfig.DEFAULT, new CollectorRegistry(), Clock.SYSTEM,
            new DefaultExemplarSampler(new FixedSpan()))
        : new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  }

  private static void fill(PrometheusMeterRegistry registry, int series, boolean wide) {
    for (int i = 0; i < series; i++) {
      (wide ? wide(i) : narrow(i)).strongReference(true).register(registry);
    }
  }

  private static Gauge.Builder<?> narrow(int row) {
    double value = row;
    return Gauge.builder("interop.series", () -> value).description("Constant").tag("row", Integer.toString(row));
  }

  /** As a Spring Boot app measures its HTTP server: families of twenty rows, long labels, digits that do not compress. */
  private static Gauge.Builder<?> wide(int row) {
    double value = ThreadLocalRandom.current().nextDouble(100);
    return Gauge.builder("interop.series." + row / 20 + ".seconds", () -> value)
        .description("Duration of HTTP server request handling")
        .tags("method", "GET", "outcome", "SUCCESS", "status", "200", "uri", "/api/v1/items/" + row % 20);
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
