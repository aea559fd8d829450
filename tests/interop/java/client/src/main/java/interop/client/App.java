package interop.client;

import interop.common.Args;
import interop.common.Lines;
import interop.common.ObservedTransport;
import interop.common.Transports;
import io.micrometer.prometheus.rsocket.PrometheusRSocketClient;
import java.time.Duration;
import java.util.function.Supplier;
import reactor.util.retry.Retry;

/** One instrumented app: its registries and the published client. */
final class App {
  private final String name;
  private final Metrics metrics;
  private final Duration timeout;
  private final Supplier<PrometheusRSocketClient> connecting;
  private PrometheusRSocketClient client;

  App(String name, Args args, boolean pooled) {
    this.name = name;
    this.timeout = millis(args, "--timeout", 5000);
    this.metrics = new Metrics(name, args);
    ObservedTransport transport = new ObservedTransport(name, Transports.create(args, pooled));
    var builder = PrometheusRSocketClient.build(metrics.own(), new Scrape(metrics, args), transport)
        .retry(Retry.backoff(Long.MAX_VALUE, millis(args, "--first-backoff", 100))
            .maxBackoff(millis(args, "--max-backoff", 1000))
            .doBeforeRetry(retry -> Lines.say("RETRY", name, retry.totalRetries() + 1, retry.failure())))
        .doOnKeyReceived(transport::keyReceived);
    connecting = args.has("--blocking") ? () -> builder.connectBlockingly(timeout) : builder::connect;
  }

  void connect() {
    client = connecting.get();
  }

  private static Duration millis(Args args, String option, int fallback) {
    return Duration.ofMillis(args.number(option, fallback));
  }

  void increment() {
    Lines.say("INCREMENTED", name, metrics.increment());
  }

  void push() {
    client.pushAndClose();
    Lines.say("PUSHED", name);
  }

  void pushBlocking() {
    client.pushAndCloseBlockingly(timeout);
    Lines.say("PUSHED", name);
  }

  void close() {
    client.close();
  }
}
