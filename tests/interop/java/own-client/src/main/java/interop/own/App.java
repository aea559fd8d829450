package interop.own;

import interop.common.Args;
import interop.common.Lines;
import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import io.rsocket.transport.ClientTransport;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.function.Supplier;

/** One instrumented app: its registries and a client. */
final class App {
  private final String name;
  private final Metrics metrics;
  private final AtomicBoolean connected = new AtomicBoolean();
  private final Duration timeout;
  private final Supplier<PrometheusRSocketClient> connecting;
  private PrometheusRSocketClient client;

  App(String name, Args args) {
    this.name = name;
    this.timeout = millis(args, "--timeout", 5000);
    this.metrics = new Metrics(name, args);
    List<ClientTransport> proxies = Proxies.of(args).toList();
    var builder = builder(args, proxies.get(0))
        .backoff(millis(args, "--first-backoff", 100), millis(args, "--max-backoff", 1000))
        .keepAlive(millis(args, "--keepalive", 5000), millis(args, "--max-lifetime", 15000))
        .pushTimeout(timeout)
        .instance(args.has("--instance") ? args.text("--instance", "") : name)
        .doOnConnected(this::connected)
        .doOnConnectionFailed(this::failed);
    proxies.stream().skip(1).forEach(builder::proxy);
    option(args, "--job", builder::job);
    option(args, "--token-file", file -> builder.bearerTokenFile(Path.of(file)));
    option(args, "--password-file", file -> builder.passwordFile(args.text("--user", ""), Path.of(file)));
    if (args.has("--forbid-downgrade")) {
      builder.forbidDowngrade();
    }
    connecting = args.has("--blocking") ? () -> builder.connectBlockingly(timeout) : builder::connect;
  }

  private PrometheusRSocketClient.Builder builder(Args args, ClientTransport proxy) {
    var registries = metrics.registries();
    if (Scrape.isWanted(args)) {
      return PrometheusRSocketClient.build(registries.get(0), new Scrape(metrics, args), proxy);
    }
    var builder = PrometheusRSocketClient.build(registries.get(0), proxy).openMetrics(args.has("--openmetrics"));
    registries.stream().skip(1).forEach(builder::registry);
    return builder;
  }

  private static void option(Args args, String name, Function<String, ?> setting) {
    if (args.has(name)) {
      setting.apply(args.text(name, ""));
    }
  }

  private static Duration millis(Args args, String option, int fallback) {
    return Duration.ofMillis(args.number(option, fallback));
  }

  private void connected(String proxy) {
    connected.set(true);
    Lines.say("READY", name, proxy);
  }

  private void failed(Throwable failure) {
    if (connected.getAndSet(false)) {
      Lines.say("CLOSED", name);
    }
    Lines.say("RETRY", name, failure);
  }

  void connect() {
    client = connecting.get();
  }

  void increment() {
    Lines.say("INCREMENTED", name, metrics.increment());
  }

  /** Comes back at once; what becomes of the push is told when it is known. */
  void push() {
    client.pushAndClose().whenComplete((done, failure) -> {
      if (failure == null) {
        Lines.say("PUSHED", name);
      } else {
        Lines.say("PUSH-FAILED", name, failure);
      }
    });
  }

  void pushBlocking() {
    client.pushAndCloseBlockingly(timeout);
    Lines.say("PUSHED", name);
  }

  void close() {
    client.close();
    Lines.say("CLOSED", name);
  }
}
