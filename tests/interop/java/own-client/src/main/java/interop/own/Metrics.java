package interop.own;

import interop.common.Args;
import io.micrometer.core.instrument.Clock;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.prometheus.metrics.model.registry.PrometheusRegistry;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/** What one app measures, as in the `client` program: the same names, labels and values. */
final class Metrics {
  private final List<PrometheusMeterRegistry> registries = new ArrayList<>();
  private final List<Counter> counters = new ArrayList<>();

  Metrics(String app, Args args) {
    int number = args.number("--registries", 1);
    for (int i = 1; i <= number; i++) {
      PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT, new PrometheusRegistry(),
          Clock.SYSTEM, args.has("--exemplars") ? new FixedSpan() : null);
      registry.config().commonTags("app", app);
      if (number > 1) {
        registry.config().commonTags("registry", Integer.toString(i));
      }
      if (args.has("--wide")) {
        registry.config().commonTags("application", "checkout", "instance", "checkout-7d9f8b6c5-x2x4q");
      }
      counters.add(Counter.builder("interop.events").description("Grows with each inc").register(registry));
      for (int row = 0; row < args.number("--series", 0); row++) {
        (args.has("--wide") ? wide(row) : narrow(row)).strongReference(true).register(registry);
      }
      registries.add(registry);
    }
  }

  private static Gauge.Builder<?> narrow(int row) {
    double value = row;
    return Gauge.builder("interop.series", () -> value).description("Constant").tag("row", Integer.toString(row));
  }

  private static Gauge.Builder<?> wide(int row) {
    double value = ThreadLocalRandom.current().nextDouble(100);
    return Gauge.builder("interop.series." + row / 20 + ".seconds", () -> value)
        .description("Duration of HTTP server request handling")
        .tags("method", "GET", "outcome", "SUCCESS", "status", "200", "uri", "/api/v1/items/" + row % 20);
  }

  /** The first also takes the client's own metrics. */
  List<PrometheusMeterRegistry> registries() {
    return registries;
  }

  double increment() {
    counters.forEach(Counter::increment);
    return counters.get(0).count();
  }
}
