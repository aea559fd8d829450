package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.mateo00.prometheus.rsocket.FakeProxy.Kind;
import io.github.mateo00.prometheus.rsocket.FakeProxy.Peer;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import reactor.core.publisher.Mono;
import reactor.util.retry.Retry;

/** Connections that fail or end, and what follows. */
@Timeout(20)
class ReconnectTest {

  private static final Duration SOON = Duration.ofMillis(100);

  private final MeterRegistry meters = new SimpleMeterRegistry();
  private final List<AutoCloseable> toClose = new ArrayList<>();
  private final BlockingQueue<Failure> failures = new LinkedBlockingQueue<>();

  @AfterEach
  void close() throws Exception {
    for (AutoCloseable closeable : toClose) {
      closeable.close();
    }
  }

  private FakeProxy proxy(Kind kind) {
    FakeProxy proxy = new FakeProxy(kind);
    toClose.add(proxy);
    return proxy;
  }

  /** A port at which connections are taken, and nothing is ever said. */
  private ServerSocket silent() throws IOException {
    ServerSocket socket = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    toClose.add(socket);
    return socket;
  }

  private static ClientTransport to(int port) {
    return ProxyTransport.of("tcp://127.0.0.1:" + port);
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    }
  }

  private PrometheusRSocketClient.Builder builder(ClientTransport transport) {
    return PrometheusRSocketClient.build(meters, () -> "up 1\n", transport)
        .backoff(SOON, SOON)
        .doOnConnectionFailed(failure -> failures.add((Failure) failure));
  }

  private PrometheusRSocketClient started(PrometheusRSocketClient client) {
    toClose.add(0, client);
    return client;
  }

  private Failure nextFailure() throws InterruptedException {
    Failure failure = failures.poll(10, TimeUnit.SECONDS);
    assertNotNull(failure, "nothing fails");
    return failure;
  }

  private double errors(String reason) {
    return meters.get("prometheus.rsocket.client.connection.errors").tag("reason", reason).counter().count();
  }

  @Test
  void aProxyThatComesLaterIsFound() throws Exception {
    int port = freePort();
    PrometheusRSocketClient client = started(builder(to(port)).connect());
    assertEquals(Failure.Reason.REFUSED, nextFailure().reason());
    assertTrue(client.lastFailure().orElseThrow().contains("refused"), client.lastFailure().toString());
    FakeProxy proxy = new FakeProxy(Kind.VERSION2, port);
    toClose.add(proxy);
    assertEquals("up 1\n", proxy.next().pull());
    assertTrue(client.lastFailure().isEmpty());
    assertTrue(errors("refused") >= 1);
  }

  @Test
  void aConnectionThatEndsIsMadeAgain() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    started(builder(to(proxy.port())).connect());
    for (int i = 0; i < 3; i++) {
      Peer peer = proxy.next();
      assertEquals("up 1\n", peer.pull());
      peer.cut();
    }
    assertEquals("up 1\n", proxy.next().pull());
    assertEquals(3, errors("closed"));
    assertEquals(3, meters.get("prometheus.rsocket.client.retries").counter().count());
  }

  @Test
  void transportsOfRSocketJavaServeToo() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient client =
        started(builder(TcpClientTransport.create("127.0.0.1", proxy.port())).connectBlockingly());
    assertEquals("127.0.0.1:" + proxy.port(), client.proxy().orElseThrow());
  }

  @Test
  void theNextProxyIsTriedWhereOneRefusesOrSendsNoKey() throws Exception {
    FakeProxy third = proxy(Kind.VERSION2);
    FakeProxy second = proxy(Kind.NONE);
    PrometheusRSocketClient client = started(builder(to(freePort()))
        .proxy(to(second.port()))
        .proxy(to(third.port()))
        .connectTimeout(Duration.ofMillis(300))
        .connectBlockingly());
    assertEquals("tcp://127.0.0.1:" + third.port(), client.proxy().orElseThrow());
    assertEquals(Failure.Reason.REFUSED, nextFailure().reason());
    assertEquals(Failure.Reason.NO_KEY, nextFailure().reason());
  }

  @Test
  void theNextProxyIsTriedWhereAConnectionEndsEarly() throws Exception {
    FakeProxy first = proxy(Kind.VERSION2);
    FakeProxy second = proxy(Kind.VERSION2);
    started(builder(to(first.port())).proxy(to(second.port())).connect());
    first.next().cut();
    second.next().cut();
    assertEquals("up 1\n", first.next().pull());
  }

  @Test
  void whereThereIsOneProxyItsKeyMayTakeItsTime() throws Exception {
    FakeProxy proxy = proxy(Kind.NONE);
    PrometheusRSocketClient client = started(builder(to(proxy.port())).connectTimeout(SOON).connect());
    Peer peer = proxy.next();
    Thread.sleep(3 * SOON.toMillis());
    proxy.kind = Kind.VERSION2;
    assertEquals("up 1\n", peer.pull());
    assertTrue(client.isConnected() || client.lastFailure().isEmpty());
  }

  @Test
  void aProxyThatGivesNoSignOfLifeIsLeft() throws Exception {
    ServerSocket silent = silent();
    started(builder(to(silent.getLocalPort())).keepAlive(Duration.ofMillis(50), Duration.ofMillis(200)).connect());
    assertEquals(Failure.Reason.SILENT, nextFailure().reason());
    // The connection is closed: what was sent ends.
    try (Socket connection = silent.accept()) {
      assertTrue(connection.getInputStream().readAllBytes().length > 0);
    }
  }

  @Test
  void aConnectionWithSignsOfLifeStays() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient client = started(
        builder(to(proxy.port())).keepAlive(Duration.ofMillis(50), Duration.ofMillis(500)).connectBlockingly());
    Thread.sleep(1000);
    assertTrue(client.isConnected());
    assertTrue(failures.isEmpty());
  }

  @Test
  void aProxyThatOpensLessThanVersion2IsLeftWhereThatIsForbidden() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION1);
    PrometheusRSocketClient client = started(builder(to(proxy.port())).forbidDowngrade().connect());
    assertEquals(Failure.Reason.DOWNGRADE, nextFailure().reason());
    assertFalse(client.isConnected());
    assertTrue(errors("downgrade") >= 1);
  }

  @Test
  void tokensAreAskedForEachConnectionAndRejectionIsSaid(@TempDir Path folder) throws Exception {
    Path file = Files.writeString(folder.resolve("token"), "wrong\n");
    FakeProxy proxy = proxy(Kind.VERSION2);
    BlockingQueue<byte[]> presented = new LinkedBlockingQueue<>();
    proxy.onSetup = peer -> {
      presented.add(peer.setupMetadata);
      boolean right = new String(peer.setupMetadata, StandardCharsets.ISO_8859_1).endsWith("right");
      return right ? Mono.empty() : peer.reject("unknown token");
    };
    PrometheusRSocketClient client = started(builder(to(proxy.port())).bearerTokenFile(file).connect());
    assertEquals(Failure.Reason.CREDENTIALS, nextFailure().reason());
    assertTrue(client.lastFailure().orElseThrow().contains("unknown token"));
    Files.writeString(file, "right \n");
    Peer peer = proxy.next();
    assertEquals("message/x.rsocket.composite-metadata.v0", peer.metadataMimeType);
    // The entry's type (authentication), its length, the kind (bearer), the token.
    byte[] expected = {(byte) 0xfc, 0, 0, 6, (byte) 0x81, 'w', 'r', 'o', 'n', 'g'};
    assertArrayEquals(expected, presented.take());
  }

  @Test
  void aPasswordFollowsItsUser() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    started(builder(to(proxy.port())).password("me", () -> "pass").connect());
    byte[] expected = {(byte) 0xfc, 0, 0, 9, (byte) 0x80, 0, 2, 'm', 'e', 'p', 'a', 's', 's'};
    assertArrayEquals(expected, proxy.next().setupMetadata);
  }

  @Test
  void credentialsThatCannotBeReadAreAFailureAndTriedAgain() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    AtomicInteger asked = new AtomicInteger();
    started(builder(to(proxy.port()))
        .bearerToken(() -> {
          if (asked.incrementAndGet() == 1) {
            throw new IllegalStateException("vault is sealed");
          }
          return "token";
        })
        .connect());
    Failure failure = nextFailure();
    assertEquals(Failure.Reason.CREDENTIALS, failure.reason());
    assertTrue(failure.getMessage().contains("vault is sealed"));
    proxy.next();
    assertEquals(2, asked.get());
  }

  @Test
  void theApplicationsOwnRetryDecidesAndCanEndIt() throws Exception {
    PrometheusRSocketClient client = started(builder(to(freePort())).retry(Retry.max(2)).connect());
    for (int i = 0; i < 3; i++) {
      nextFailure();
    }
    Exception failure = assertThrows(ExecutionException.class, () -> client.pushAndClose().get());
    assertTrue(failure.getMessage().contains("the client is closed"), failure.getMessage());
    assertTrue(failures.isEmpty());
  }

  @Test
  void theApplicationsOwnRetryBeginsAnewAfterAConnection() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    AtomicInteger setups = new AtomicInteger();
    proxy.onSetup = peer -> setups.incrementAndGet() % 2 == 1 ? peer.reject("not yet") : Mono.empty();
    started(builder(to(proxy.port())).retry(Retry.max(1)).connect());
    proxy.next().cut();
    proxy.next().cut();
    assertEquals("up 1\n", proxy.next().pull());
  }

  @Test
  void aClientGivesUpAfterItsRetries() throws Exception {
    PrometheusRSocketClient client = started(builder(to(freePort())).maxRetries(1).connectBlockingly());
    assertFalse(client.isConnected());
    nextFailure();
    nextFailure();
    assertTrue(failures.isEmpty());
  }

  @Test
  void aPushHurriesTheNextAttempt() throws Exception {
    int port = freePort();
    PrometheusRSocketClient client = started(
        builder(to(port)).backoff(Duration.ofHours(1), Duration.ofHours(1)).connect());
    nextFailure();
    FakeProxy proxy = new FakeProxy(Kind.VERSION2, port);
    toClose.add(proxy);
    client.pushAndClose().get(10, TimeUnit.SECONDS);
    assertEquals("up 1\n", proxy.next().nextPush());
  }

  @Test
  void aPushUsesUpNoRetriesThatWereMeantForLater() throws Exception {
    AtomicInteger asked = new AtomicInteger();
    Retry never = Retry.from(signals ->
        signals.doOnNext(signal -> asked.incrementAndGet()).flatMap(signal -> Mono.never()));
    PrometheusRSocketClient client =
        started(builder(to(freePort())).retry(never).pushTimeout(Duration.ofSeconds(1)).connect());
    nextFailure();
    assertThrows(ExecutionException.class, () -> client.pushAndClose().get());
    nextFailure();
    nextFailure();
    assertEquals(1, asked.get());
  }

  @Test
  void aPushWithoutAConnectionSaysWhyThereIsNone() throws Exception {
    PrometheusRSocketClient client = started(builder(to(freePort())).pushTimeout(Duration.ofMillis(500)).connect());
    Exception failure = assertThrows(ExecutionException.class, () -> client.pushAndClose().get());
    assertTrue(failure.getMessage().contains("refused"), failure.getMessage());
  }

  @Test
  void aTransportThatThrowsIsAFailureAndTriedAgain() throws Exception {
    ClientTransport broken = () -> {
      throw new IllegalStateException("no transport");
    };
    started(builder(broken).connect());
    assertEquals("no transport", nextFailure().getMessage());
    assertEquals("no transport", nextFailure().getMessage());
  }

  @Test
  void timesThatCannotBeWaitedForAreRefusedAndEndlessOnesAreBounded() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient.Builder builder = builder(to(proxy.port()));
    Duration endless = Duration.ofSeconds(Long.MAX_VALUE);
    for (Duration time : new Duration[] {Duration.ZERO, Duration.ofSeconds(-1)}) {
      assertThrows(IllegalArgumentException.class, () -> builder.pushTimeout(time));
      assertThrows(IllegalArgumentException.class, () -> builder.connectTimeout(time));
      assertThrows(IllegalArgumentException.class, () -> builder.keepAlive(time, endless));
    }
    assertThrows(IllegalArgumentException.class, () -> builder.keepAlive(SOON, SOON.minusMillis(1)));
    builder.pushTimeout(endless).connectTimeout(endless).keepAlive(endless, endless).backoff(endless, endless);
    PrometheusRSocketClient client = started(builder.connectBlockingly(endless));
    client.pushAndCloseBlockingly(endless);
    assertEquals("up 1\n", proxy.next().nextPush());
  }
}
