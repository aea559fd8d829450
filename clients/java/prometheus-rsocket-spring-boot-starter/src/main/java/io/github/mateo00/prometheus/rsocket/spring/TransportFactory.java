package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.ProxyTransport;
import io.rsocket.transport.ClientTransport;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import org.springframework.boot.ssl.NoSuchSslBundleException;
import org.springframework.boot.ssl.SslBundles;
import org.springframework.core.env.Environment;

/** Makes the ways to the proxies, as the properties say. */
final class TransportFactory {

  private final PrometheusRSocketProperties properties;
  private final PrometheusRSocketProperties.Ssl ssl;
  private final Environment environment;
  private final SslBundles bundles;

  TransportFactory(PrometheusRSocketProperties properties, Environment environment, SslBundles bundles) {
    this.properties = properties;
    this.ssl = properties.getSsl();
    this.environment = environment;
    this.bundles = bundles;
  }

  /** In the order in which they are to be tried, at least one. */
  List<ClientTransport> transports() {
    List<String> proxies = properties.getProxies();
    List<ClientTransport> transports = proxies.isEmpty()
        ? List.of(transport("host", address()))
        : IntStream.range(0, proxies.size()).mapToObj(i -> transport("proxies[" + i + "]", proxies.get(i))).toList();
    if (transports.stream().noneMatch(TransportFactory::isSecure)) {
      refuse(List.of("ssl.bundle", "ssl.ca-file", "ssl.certificate-file", "ssl.server-name"),
          "It has no effect without TLS. Set secure to true, or use tls:// or wss:// in proxies.");
    }
    return transports;
  }

  private String address() {
    int port = properties.getPort();
    if (port < 1 || port > 65535) {
      throw Prefix.invalid(environment, "port", port, "It has to be between 1 and 65535.");
    }
    String scheme = switch (properties.getTransport()) {
      case TCP -> properties.isSecure() ? "tls" : "tcp";
      case WEBSOCKET -> properties.isSecure() ? "wss" : "ws";
    };
    String host = properties.getHost();
    boolean bare = host.contains(":") && !host.startsWith("[");
    return scheme + "://" + (bare ? "[" + host + "]" : host) + ":" + port;
  }

  private ClientTransport transport(String property, String address) {
    try {
      ProxyTransport.Builder builder = ProxyTransport.builder(address).connectTimeout(properties.getConnectTimeout());
      Prefix.given(ssl.getServerName()).ifPresent(builder::serverName);
      Prefix.given(ssl.getBundle()).ifPresentOrElse(name -> bundle(builder, name), () -> files(builder));
      return builder.build();
    } catch (IllegalArgumentException e) {
      throw Prefix.invalid(environment, property, address,
          "It has to be tcp://, tls://, ws:// or wss://, then HOST:PORT. " + e.getMessage());
    }
  }

  /** The bundle is asked for each connection, because it may be loaded again. */
  private void bundle(ProxyTransport.Builder builder, String name) {
    refuse(List.of("ssl.ca-file", "ssl.certificate-file", "ssl.key-file"), "It cannot be set together with ssl.bundle.");
    Supplier<SSLContext> context = () -> bundles.getBundle(name).createSslContext();
    try {
      context.get();
    } catch (NoSuchSslBundleException e) {
      throw Prefix.invalid(environment, "ssl.bundle", name,
          "There is no bundle of this name. Define it under spring.ssl.bundle.");
    }
    builder.sslContext(context);
  }

  private void files(ProxyTransport.Builder builder) {
    Optional<Path> certificate = Prefix.given(ssl.getCertificateFile()).map(Path::of);
    Optional<Path> key = Prefix.given(ssl.getKeyFile()).map(Path::of);
    if (certificate.isPresent() != key.isPresent()) {
      throw Prefix.invalid(environment, key.isPresent() ? "ssl.key-file" : "ssl.certificate-file", null,
          "Set ssl.certificate-file and ssl.key-file together.");
    }
    certificate.ifPresent(file -> builder.certificate(file, key.orElseThrow()));
    Prefix.given(ssl.getCaFile()).map(Path::of).ifPresent(builder::caFile);
  }

  /** Fails if one of these properties is set. */
  private void refuse(List<String> names, String reason) {
    for (String name : names) {
      if (Prefix.given(environment.getProperty(Prefix.name(environment, name))).isPresent()) {
        throw Prefix.invalid(environment, name, null, reason);
      }
    }
  }

  private static boolean isSecure(ClientTransport transport) {
    String address = transport.toString().toLowerCase(Locale.ROOT);
    return address.startsWith("tls:") || address.startsWith("wss:");
  }
}
