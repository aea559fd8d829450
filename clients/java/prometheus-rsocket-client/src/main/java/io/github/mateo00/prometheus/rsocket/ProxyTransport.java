package io.github.mateo00.prometheus.rsocket;

import io.rsocket.transport.ClientTransport;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import javax.net.ssl.SSLContext;

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
    SSLContext sslContext;
    String serverName;
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
     * The time for a connection to be made, and for the TLS handshake. The default is 10 s.
     *
     * @param timeout the time
     * @return this builder
     */
    public Builder connectTimeout(Duration timeout) {
      connectTimeout = Objects.requireNonNull(timeout);
      return this;
    }

    /**
     * The transport.
     *
     * @return the transport; its {@code toString} is the address
     */
    public ClientTransport build() {
      throw new UnsupportedOperationException("under construction");
    }
  }
}
