package io.github.mateo00.prometheus.rsocket;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import java.util.function.BooleanSupplier;

/** The client's own meters. */
final class Meters {

  private static final String PREFIX = "prometheus.rsocket.client.";

  private final MeterRegistry registry;
  private final Gauge connected;
  final Counter connects;
  final Counter retries;
  final Counter pullsAnswered;
  final Counter pullsFailed;
  final Counter pullsCancelled;
  final Counter pushesAcknowledged;
  final Counter pushesRefused;
  final Counter pushesFailed;

  /** {@code registry} may be {@code null}: then nothing is counted. */
  Meters(MeterRegistry registry, BooleanSupplier isConnected) {
    this.registry = registry == null ? new CompositeMeterRegistry() : registry;
    connected = Gauge.builder(PREFIX + "connected", isConnected, is -> is.getAsBoolean() ? 1 : 0)
        .description("Whether the client is connected to the proxy.")
        .strongReference(true)
        .register(this.registry);
    connects = counter("connects", "Connections made.").register(this.registry);
    retries = counter("retries", "Repeated attempts to connect.").register(this.registry);
    pullsAnswered = pulls("answered");
    pullsFailed = pulls("failed");
    pullsCancelled = pulls("cancelled");
    pushesAcknowledged = pushes("acknowledged");
    pushesRefused = pushes("refused");
    pushesFailed = pushes("failed");
  }

  void connectionError(Failure.Reason reason) {
    counter("connection.errors", "Failed attempts to connect and lost connections.")
        .tag("reason", reason.label())
        .register(registry)
        .increment();
  }

  /** Makes room for the gauge of another client. The counters stay: another client goes on with them. */
  void close() {
    registry.remove(connected);
  }

  private Counter pulls(String outcome) {
    return counter("pulls", "Pulls of the proxy, by outcome.").tag("outcome", outcome).register(registry);
  }

  private Counter pushes(String outcome) {
    return counter("pushes", "Pushes, by outcome.").tag("outcome", outcome).register(registry);
  }

  private static Counter.Builder counter(String name, String description) {
    return Counter.builder(PREFIX + name).description(description);
  }
}
