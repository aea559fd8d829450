package io.github.mateo00.prometheus.rsocket;

import io.netty.channel.ChannelOption;
import io.netty.handler.ssl.ClientAuth;
import io.netty.handler.ssl.JdkSslContext;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.handler.ssl.SslHandler;
import io.netty.handler.ssl.SupportedCipherSuiteFilter;
import io.rsocket.DuplexConnection;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.function.Supplier;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLParameters;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;
import reactor.netty.http.client.HttpClient;
import reactor.netty.tcp.SslProvider;
import reactor.netty.tcp.TcpClient;

/**
 * Makes a transport from a proxy's address: {@code tcp://}, {@code tls://}, {@code ws://} or {@code wss://}, then
 * {@code HOST:PORT}, and for the last two a path, if it is not {@code /}.
 */
public final class ProxyTransport {

  private ProxyTransport() {}

  /**
   * A transport with the defaults of {@link Builder}.
   *
   * @param uri the proxy's address
   * @return the transport; its {@code toString} is the address
   * @throws IllegalArgumentException if this is no such address
   */
  public static ClientTransport of(String uri) {
    return builder(uri).build();
  }

  /**
   * A builder for a transport with settings of its own.
   *
   * @param uri the proxy's address
   * @return the builder
   * @throws IllegalArgumentException if this is no such address
   */
  public static Builder builder(String uri) {
    return new Builder(uri);
  }

  /** Settings of a transport. Those of TLS have an effect with {@code tls://} and {@code wss://} only. */
  public static final class Builder {

    private static final Set<String> SCHEMES = Set.of("tcp", "tls", "ws", "wss");

    final URI uri;
    Path caFile;
    Path certificate;
    Path key;
    Supplier<SSLContext> sslContext;
    String serverName;
    HttpProxy httpProxy;
    Duration connectTimeout = Duration.ofSeconds(10);

    private Builder(String uri) {
      this.uri = address(uri);
    }

    private static URI address(String text) {
      URI uri = URI.create(text.strip());
      String scheme = uri.getScheme() == null ? "" : uri.getScheme().toLowerCase(Locale.ROOT);
      if (!SCHEMES.contains(scheme) || uri.getHost() == null || uri.getPort() < 1 || uri.getPort() > 65535) {
        throw new IllegalArgumentException(
            "not an address of a proxy, which is tcp://, tls://, ws:// or wss:// and HOST:PORT: " + text);
      }
      return uri;
    }

    /**
     * Trusts the certificates in this PEM file, and not those of the JDK. It is read for each connection.
     *
     * @param file the PEM file
     * @return this builder
     */
    public Builder caFile(Path file) {
      caFile = Objects.requireNonNull(file);
      return this;
    }

    /**
     * Shows the proxy this certificate. The files are read for each connection.
     *
     * @param certificate a PEM file with the certificate and, if there is one, its chain
     * @param key a PEM file with its key (PKCS #8, not encrypted)
     * @return this builder
     */
    public Builder certificate(Path certificate, Path key) {
      this.certificate = Objects.requireNonNull(certificate);
      this.key = Objects.requireNonNull(key);
      return this;
    }

    /**
     * Uses this instead of any files.
     *
     * @param context the TLS context
     * @return this builder
     */
    public Builder sslContext(SSLContext context) {
      Objects.requireNonNull(context);
      return sslContext(() -> context);
    }

    /**
     * Uses this instead of any files.
     *
     * @param context gives the TLS context; is asked for each connection
     * @return this builder
     */
    public Builder sslContext(Supplier<SSLContext> context) {
      sslContext = Objects.requireNonNull(context);
      return this;
    }

    /**
     * The name that the proxy's certificate has to be for. The default is the host of the address.
     *
     * @param name the name
     * @return this builder
     */
    public Builder serverName(String name) {
      serverName = Objects.requireNonNull(name);
      return this;
    }

    /**
     * Connects through an HTTP proxy ({@code CONNECT}), which looks the host up itself. By default there is none, whatever
     * the environment and the system properties say.
     *
     * @param url {@code http://[USER:PASSWORD@]HOST:PORT}; special characters in name and password are written as in a URL,
     *     as {@code %40} for {@code @}
     * @return this builder
     * @throws IllegalArgumentException if this is no such URL
     */
    public Builder httpProxy(String url) {
      httpProxy = HttpProxy.parse(url);
      return this;
    }

    /**
     * The time for a connection to be made, and for the TLS handshake. The default is 10 s.
     *
     * @param timeout the time
     * @return this builder
     * @throws IllegalArgumentException if it is less than a millisecond
     */
    public Builder connectTimeout(Duration timeout) {
      connectTimeout = Settings.positive(timeout);
      return this;
    }

    /**
     * The transport.
     *
     * @return the transport; its {@code toString} is the address
     */
    public ClientTransport build() {
      return new Addressed(this);
    }
  }

  /** A transport that knows its address. Each connection is set up anew: certificates may have been renewed. */
  static final class Addressed implements ClientTransport {

    private final Builder settings;
    private final String scheme;

    private Addressed(Builder settings) {
      this.settings = settings;
      this.scheme = settings.uri.getScheme().toLowerCase(Locale.ROOT);
    }

    /** Whether TLS keeps others from reading what is sent. */
    boolean isSecure() {
      return scheme.equals("tls") || scheme.equals("wss");
    }

    @Override
    public Mono<DuplexConnection> connect() {
      Mono<DuplexConnection> connecting = Mono.defer(() -> (scheme.startsWith("ws") ? webSocket() : tcp()).connect());
      // Certificates are read, which may take its time.
      return isSecure() ? connecting.subscribeOn(Schedulers.boundedElastic()) : connecting;
    }

    private ClientTransport tcp() {
      TcpClient client = configured(TcpClient.newConnection());
      if (settings.httpProxy != null) {
        client = client.doOnChannelInit((observer, channel, remote) -> HttpProxy.announceTunnelOnly(channel));
      }
      return TcpClientTransport.create(isSecure() ? client.secure(this::secure) : client);
    }

    private ClientTransport webSocket() {
      HttpClient client = configured(HttpClient.newConnection());
      String path = settings.uri.getRawPath();
      return WebsocketClientTransport.create(
          isSecure() ? client.secure(this::secure) : client, path == null || path.isEmpty() ? "/" : path);
    }

    private <T extends reactor.netty.transport.ClientTransport<T, ?>> T configured(T client) {
      String host = settings.uri.getHost();
      boolean bracketed = host.startsWith("[");
      T direct = client
          .host(bracketed ? host.substring(1, host.length() - 1) : host)
          .port(settings.uri.getPort())
          .option(ChannelOption.CONNECT_TIMEOUT_MILLIS, (int) settings.connectTimeout.toMillis());
      return settings.httpProxy == null ? direct : direct.proxy(settings.httpProxy::describe);
    }

    private void secure(SslProvider.SslContextSpec spec) {
      spec.sslContext(sslContext()).handshakeTimeout(settings.connectTimeout).handlerConfigurator(this::verifyName);
    }

    private SslContext sslContext() {
      if (settings.sslContext != null) {
        SSLContext context = settings.sslContext.get();
        return new JdkSslContext(
            context, true, null, SupportedCipherSuiteFilter.INSTANCE, null, ClientAuth.NONE, null, false);
      }
      try {
        SslContextBuilder builder = SslContextBuilder.forClient().sslProvider(io.netty.handler.ssl.SslProvider.JDK);
        if (settings.caFile != null) {
          builder.trustManager(settings.caFile.toFile());
        }
        if (settings.certificate != null) {
          builder.keyManager(settings.certificate.toFile(), settings.key.toFile());
        }
        return builder.build();
      } catch (SSLException | IllegalArgumentException e) {
        throw new UncheckedIOException(new Failure(Failure.Reason.TLS, "TLS cannot be set up: " + reason(e), e));
      }
    }

    /** What is wrong with a file is said by the last cause. */
    private static String reason(Throwable error) {
      Throwable cause = error;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      return error.getMessage() + (cause == error ? "" : ": " + cause.getMessage());
    }

    private void verifyName(SslHandler handler) {
      SSLParameters parameters = handler.engine().getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      if (settings.serverName != null) {
        parameters.setServerNames(List.of(new SNIHostName(settings.serverName)));
      }
      handler.engine().setSSLParameters(parameters);
    }

    @Override
    public String toString() {
      return settings.uri.toString();
    }
  }
}
