package io.github.mateo00.prometheus.rsocket;

import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.rsocket.transport.ClientTransport;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.function.Supplier;
import reactor.util.retry.Retry;

/** What a {@link PrometheusRSocketClient.Builder} was told. */
final class Settings {
  final List<ClientTransport> proxies = new ArrayList<>();
  final List<PrometheusMeterRegistry> registries = new ArrayList<>();
  Supplier<String> scrape;
  MeterRegistry meters;
  Retry retry;
  Duration firstBackoff = Duration.ofSeconds(10);
  Duration maxBackoff = Duration.ofMinutes(10);
  long maxRetries = Long.MAX_VALUE;
  Runnable onKeyReceived = () -> {};
  Consumer<String> onConnected = proxy -> {};
  Consumer<Throwable> onConnectionFailed = failure -> {};
  Duration pushTimeout = Duration.ofSeconds(5);
  Credentials credentials = Credentials.none();
  boolean forbidDowngrade;
  boolean openMetrics;
  Duration keepAliveInterval = Duration.ofSeconds(5);
  Duration keepAliveMaxLifetime = Duration.ofSeconds(15);
  Duration connectTimeout = Duration.ofSeconds(10);
  String instance;
  String job;
  Map<String, String> labels = Map.of();

  Settings(ClientTransport transport) {
    proxies.add(Objects.requireNonNull(transport));
  }

  /** A time that has to be more than nothing, no longer than timers can count. */
  static Duration positive(Duration time) {
    if (time.compareTo(Duration.ofMillis(1)) < 0) {
      throw new IllegalArgumentException("not a time that can be waited for: " + time);
    }
    return bounded(time);
  }

  /** A time no longer than timers can count, which is 24 days. */
  static Duration bounded(Duration time) {
    Duration longest = Duration.ofMillis(Integer.MAX_VALUE);
    return time.compareTo(longest) > 0 ? longest : time;
  }
}
