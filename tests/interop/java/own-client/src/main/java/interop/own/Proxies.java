package interop.own;

import interop.common.Args;
import io.github.mateo00.prometheus.rsocket.ProxyTransport;
import io.rsocket.transport.ClientTransport;
import java.nio.file.Path;
import java.util.stream.Stream;

/** The proxies that an app connects to, by the client's own transports. */
final class Proxies {
  private Proxies() {
  }

  /** `--proxies` as they stand there, else the one that the other options name. */
  static Stream<ClientTransport> of(Args args) {
    return Stream.of(args.text("--proxies", only(args)).split(",")).map(uri -> transport(uri, args));
  }

  private static String only(Args args) {
    boolean websocket = args.text("--transport", "tcp").equals("ws");
    String plain = websocket ? "ws" : "tcp";
    String secure = websocket ? "wss" : "tls";
    return (args.has("--ca") ? secure : plain) + "://" + args.text("--host", "127.0.0.1") + ":"
        + args.number("--port", websocket ? 8081 : 7001);
  }

  private static ClientTransport transport(String uri, Args args) {
    var builder = ProxyTransport.builder(uri);
    if (args.has("--ca")) {
      builder.caFile(Path.of(args.text("--ca", "")));
    }
    if (args.has("--cert")) {
      builder.certificate(Path.of(args.text("--cert", "")), Path.of(args.text("--key", "")));
    }
    if (args.has("--http-proxy")) {
      builder.httpProxy(args.text("--http-proxy", ""));
    }
    return builder.build();
  }
}
