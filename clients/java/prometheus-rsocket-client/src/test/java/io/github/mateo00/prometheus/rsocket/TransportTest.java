package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.mateo00.prometheus.rsocket.FakeProxy.Kind;
import io.netty.handler.ssl.ClientAuth;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.handler.ssl.SslProvider;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.server.TcpServerTransport;
import io.rsocket.transport.netty.server.WebsocketServerTransport;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.netty.http.server.HttpServer;
import reactor.netty.tcp.TcpServer;

/** The ways to a proxy: TCP and WebSocket, each with and without TLS. */
@Timeout(30)
class TransportTest {

  @TempDir
  static Path folder;

  /** The proxy's, and where it asks for one the client's too. */
  private static Pem pem;

  private final List<AutoCloseable> toClose = new ArrayList<>();
  private final BlockingQueue<Failure> failures = new LinkedBlockingQueue<>();

  @BeforeAll
  static void makeCertificate() throws Exception {
    pem = Pem.make(folder, "localhost");
  }

  @AfterEach
  void close() throws Exception {
    for (AutoCloseable closeable : toClose) {
      closeable.close();
    }
  }

  private FakeProxy tls(SslContextBuilder builder) throws Exception {
    SslContext context = builder.sslProvider(SslProvider.JDK).build();
    TcpServer tcp = TcpServer.create().host("127.0.0.1").port(0).secure(spec -> spec.sslContext(context));
    return proxy(new FakeProxy(Kind.VERSION2, TcpServerTransport.create(tcp)));
  }

  private FakeProxy webSocket(HttpServer http) {
    return proxy(new FakeProxy(Kind.VERSION2, WebsocketServerTransport.create(http.host("127.0.0.1").port(0))));
  }

  private FakeProxy proxy(FakeProxy proxy) {
    toClose.add(proxy);
    return proxy;
  }

  private static SslContextBuilder certificate() {
    return SslContextBuilder.forServer(pem.certificate.toFile(), pem.key.toFile());
  }

  private PrometheusRSocketClient connect(ClientTransport transport) {
    PrometheusRSocketClient client = PrometheusRSocketClient.build(() -> "up 1\n", transport)
        .doOnConnectionFailed(failure -> failures.add((Failure) failure))
        .connect();
    toClose.add(0, client);
    return client;
  }

  private void assertPulled(FakeProxy proxy, ClientTransport transport) throws Exception {
    connect(transport);
    assertEquals("up 1\n", proxy.next().pull());
  }

  private void assertFails(Failure.Reason reason, ClientTransport transport) throws Exception {
    connect(transport);
    assertEquals(reason, failures.poll(10, TimeUnit.SECONDS).reason());
  }

  @ParameterizedTest
  @ValueSource(strings = {
    "", "proxy:7001", "http://proxy:7001", "tcp://proxy", "tcp://proxy:0", "tcp://proxy:70000", "tcp://:7001",
    "tcp:proxy:1"
  })
  void whatIsNoAddressIsRefused(String uri) {
    assertThrows(IllegalArgumentException.class, () -> ProxyTransport.of(uri));
  }

  @Test
  void aTransportsTextIsItsAddress() {
    assertEquals("wss://proxy:443/rsocket", ProxyTransport.of("wss://proxy:443/rsocket").toString());
    assertEquals("tcp://[::1]:7001", ProxyTransport.of(" tcp://[::1]:7001 ").toString());
  }

  @Test
  void aWebSocketIsUsed() throws Exception {
    FakeProxy proxy = webSocket(HttpServer.create());
    assertPulled(proxy, ProxyTransport.of("ws://localhost:" + proxy.port()));
  }

  @Test
  void aWebSocketWithTlsIsUsed() throws Exception {
    SslContext context = certificate().sslProvider(SslProvider.JDK).build();
    FakeProxy proxy = webSocket(HttpServer.create().secure(spec -> spec.sslContext(context)));
    ClientTransport transport =
        ProxyTransport.builder("wss://localhost:" + proxy.port() + "/rsocket").caFile(pem.certificate).build();
    assertPulled(proxy, transport);
  }

  @Test
  void aServerThatSpeaksNoWebSocketIsAFailure() throws Exception {
    var http = HttpServer.create()
        .host("127.0.0.1")
        .port(0)
        .handle((request, response) -> response.sendNotFound())
        .bindNow();
    toClose.add(http::disposeNow);
    assertFails(Failure.Reason.WEBSOCKET, ProxyTransport.of("ws://127.0.0.1:" + http.port()));
  }

  @Test
  void tlsIsUsedWhereTheCertificateIsTrusted() throws Exception {
    FakeProxy proxy = tls(certificate());
    assertPulled(
        proxy, ProxyTransport.builder("tls://localhost:" + proxy.port()).caFile(pem.certificate).build());
  }

  @Test
  void aCertificateThatIsNotTrustedIsRefused() throws Exception {
    FakeProxy proxy = tls(certificate());
    assertFails(Failure.Reason.TLS, ProxyTransport.of("tls://localhost:" + proxy.port()));
  }

  @Test
  void aCertificateForAnotherNameIsRefusedUnlessThatNameIsExpected() throws Exception {
    FakeProxy proxy = tls(certificate());
    ProxyTransport.Builder builder =
        ProxyTransport.builder("tls://127.0.0.1:" + proxy.port()).caFile(pem.certificate);
    assertFails(Failure.Reason.TLS, builder.build());
    assertPulled(proxy, builder.serverName("localhost").build());
  }

  @Test
  void aClientCertificateIsShownAndItsAbsenceIsAFailure() throws Exception {
    FakeProxy proxy = tls(certificate().trustManager(pem.certificate.toFile()).clientAuth(ClientAuth.REQUIRE));
    ProxyTransport.Builder builder =
        ProxyTransport.builder("tls://localhost:" + proxy.port()).caFile(pem.certificate);
    connect(builder.build());
    assertTrue(failures.poll(10, TimeUnit.SECONDS) != null);
    assertPulled(proxy, builder.certificate(pem.certificate, pem.key).build());
  }

  @Test
  void anSslContextTakesThePlaceOfFiles() throws Exception {
    FakeProxy proxy = tls(certificate());
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    try (InputStream in = Files.newInputStream(pem.certificate)) {
      store.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    assertPulled(proxy, ProxyTransport.builder("tls://localhost:" + proxy.port()).sslContext(context).build());
    assertFails(
        Failure.Reason.TLS, ProxyTransport.builder("tls://127.0.0.1:" + proxy.port()).sslContext(context).build());
  }

  @Test
  void certificatesAreReadForEachConnection() throws Exception {
    FakeProxy proxy = tls(certificate());
    Path file = folder.resolve("later.pem");
    ClientTransport transport = ProxyTransport.builder("tls://localhost:" + proxy.port()).caFile(file).build();
    PrometheusRSocketClient client = PrometheusRSocketClient.build(() -> "up 1\n", transport)
        .backoff(Duration.ofMillis(100), Duration.ofMillis(100))
        .doOnConnectionFailed(failure -> failures.add((Failure) failure))
        .connect();
    toClose.add(0, client);
    Failure failure = failures.poll(10, TimeUnit.SECONDS);
    assertEquals(Failure.Reason.TLS, failure.reason());
    assertTrue(failure.getMessage().contains("later.pem"), failure.getMessage());
    Files.copy(pem.certificate, file);
    assertEquals("up 1\n", proxy.next().pull());
  }
}
