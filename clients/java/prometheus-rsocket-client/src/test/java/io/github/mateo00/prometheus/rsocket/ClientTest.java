package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.mateo00.prometheus.rsocket.FakeProxy.Kind;
import io.github.mateo00.prometheus.rsocket.FakeProxy.Peer;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.rsocket.Payload;
import io.rsocket.exceptions.ApplicationErrorException;
import io.rsocket.exceptions.ConnectionCloseException;
import io.rsocket.exceptions.InvalidException;
import io.rsocket.exceptions.RejectedException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** One connection: pulls, the push at the end, goodbye. */
@Timeout(20)
class ClientTest {

  private final MeterRegistry meters = new SimpleMeterRegistry();
  private final List<AutoCloseable> toClose = new ArrayList<>();

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

  private PrometheusRSocketClient.Builder builder(FakeProxy proxy, Supplier<String> scrape) {
    return PrometheusRSocketClient.build(meters, scrape, ProxyTransport.of(proxy.uri()));
  }

  private PrometheusRSocketClient connected(FakeProxy proxy, Supplier<String> scrape) {
    return started(builder(proxy, scrape).connectBlockingly());
  }

  private PrometheusRSocketClient started(PrometheusRSocketClient client) {
    toClose.add(0, client);
    return client;
  }

  private double count(String name, String... tags) {
    return meters.get("prometheus.rsocket.client." + name).tags(tags).counter().count();
  }

  @ParameterizedTest
  @EnumSource(names = {"VERSION2", "VERSION1", "PLAINTEXT"})
  void pullsAreAnsweredAndThePushArrivesInWhateverTheProxyOpens(Kind kind) throws Exception {
    FakeProxy proxy = proxy(kind);
    AtomicInteger scrapes = new AtomicInteger();
    PrometheusRSocketClient client = connected(proxy, () -> "scrapes " + scrapes.incrementAndGet() + "\n");
    Peer peer = proxy.next();
    assertEquals("scrapes 1\n", peer.pull());
    assertEquals("scrapes 2\n", peer.pull());
    client.pushAndCloseBlockingly();
    assertEquals("scrapes 3\n", peer.nextPush());
    assertEquals(2, count("pulls", "outcome", "answered"));
    assertEquals(1, count("pushes", "outcome", "acknowledged"));
  }

  @Test
  void setupSaysWhoTheApplicationIs() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    started(builder(proxy, () -> "")
        .instance("web-1")
        .job("shop")
        .labels(Map.of("zone", "b", "env", "test"))
        .connect());
    Peer peer = proxy.next();
    assertEquals("application/vnd.prometheus-rsocket.application+json", peer.dataMimeType);
    assertEquals(
        "{\"client\":\"" + Introduction.CLIENT + "\",\"targets\":[{\"instance\":\"web-1\",\"job\":\"shop\","
            + "\"labels\":{\"env\":\"test\",\"zone\":\"b\"}}]}",
        peer.setupData);
    assertEquals(0, peer.setupMetadata.length);
  }

  @Test
  void aClientSaysItsStateAndCallsItsListeners() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    BlockingQueue<String> calls = new LinkedBlockingQueue<>();
    PrometheusRSocketClient client = started(builder(proxy, () -> "")
        .doOnKeyReceived(() -> calls.add("key"))
        .doOnConnected(calls::add)
        .doOnConnectionFailed(failure -> calls.add(failure.getMessage()))
        .connectBlockingly());
    assertTrue(client.isConnected());
    assertEquals(proxy.uri(), client.proxy().orElseThrow());
    assertTrue(client.lastFailure().isEmpty());
    assertEquals("key", calls.poll(10, TimeUnit.SECONDS));
    assertEquals(proxy.uri(), calls.poll(10, TimeUnit.SECONDS));
    proxy.next().cut();
    assertEquals("the proxy closed the connection", calls.poll(10, TimeUnit.SECONDS));
  }

  @Test
  void closingSaysGoodbyeAndPushesNothing() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient client = connected(proxy, () -> "up 1\n");
    Peer peer = proxy.next();
    client.close();
    assertInstanceOf(ConnectionCloseException.class, peer.ended().getCause());
    assertFalse(client.isConnected());
    assertThrows(Exception.class, () -> client.pushAndClose().get());
    assertTrue(meters.find("prometheus.rsocket.client.connected").gauges().isEmpty());
  }

  @Test
  void goodbyeFollowsThePush() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient client = connected(proxy, () -> "up 1\n");
    Peer peer = proxy.next();
    CompletableFuture<Void> pushed = client.pushAndClose();
    client.close();
    pushed.get(10, TimeUnit.SECONDS);
    assertEquals("up 1\n", peer.nextPush());
    assertInstanceOf(ConnectionCloseException.class, peer.ended().getCause());
    assertDoesNotThrow(() -> client.pushAndCloseBlockingly(), "again");
  }

  @Test
  void aPushIsSentAgainOverTheNextConnectionWithTheSameText() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    AtomicInteger scrapes = new AtomicInteger();
    PrometheusRSocketClient client = connected(proxy, () -> "scrapes " + scrapes.incrementAndGet() + "\n");
    proxy.onPush = peer -> {
      proxy.onPush = next -> Mono.just(io.rsocket.util.EmptyPayload.INSTANCE);
      peer.cut();
      return Mono.never();
    };
    client.pushAndClose().get(10, TimeUnit.SECONDS);
    assertEquals("scrapes 1\n", proxy.next().nextPush());
    assertEquals("scrapes 1\n", proxy.next().nextPush());
  }

  @Test
  void aPushThatCompletesWithoutAnAnswerIsAcknowledged() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION1);
    proxy.onPush = peer -> Mono.empty();
    connected(proxy, () -> "up 1\n").pushAndClose().get(10, TimeUnit.SECONDS);
  }

  @Test
  void aPushThatTheProxyRefusesIsNotTriedAgain() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    proxy.onPush = peer -> Mono.error(new InvalidException("no metrics"));
    PrometheusRSocketClient client = connected(proxy, () -> "up 1\n");
    Exception failure = assertThrows(Exception.class, () -> client.pushAndClose().get(10, TimeUnit.SECONDS));
    assertTrue(failure.getMessage().contains("the proxy refused the push: no metrics"), failure.getMessage());
    assertEquals(1, count("pushes", "outcome", "refused"));
  }

  @Test
  void aPushThatIsNotAcknowledgedInTimeFailsWithoutAnException() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    proxy.onPush = peer -> Mono.never();
    PrometheusRSocketClient client = connected(proxy, () -> "up 1\n");
    client.pushAndCloseBlockingly(java.time.Duration.ofMillis(100));
    assertEquals(1, count("pushes", "outcome", "failed"));
  }

  @Test
  void aSupplierThatThrowsCostsOnePull() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    AtomicInteger scrapes = new AtomicInteger();
    connected(proxy, () -> {
      if (scrapes.incrementAndGet() == 1) {
        throw new StackOverflowError("too deep");
      }
      return "up 1\n";
    });
    Peer peer = proxy.next();
    Mono<Payload> first = peer.pulling();
    String message = assertThrows(ApplicationErrorException.class, first::block).getMessage();
    assertTrue(message.contains("too deep"), message);
    assertEquals("up 1\n", peer.pull());
    assertEquals(1, count("pulls", "outcome", "failed"));
  }

  @Test
  void suppliersThatHangHoldUpFourPullsAndTheNextIsRefused() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    CountDownLatch rendering = new CountDownLatch(Renderer.MAX_RENDERS);
    CountDownLatch release = new CountDownLatch(1);
    connected(proxy, () -> {
      rendering.countDown();
      awaitUninterruptibly(release);
      return "up 1\n";
    });
    Peer peer = proxy.next();
    CompletableFuture<?>[] pulls = new CompletableFuture<?>[Renderer.MAX_RENDERS];
    for (int i = 0; i < pulls.length; i++) {
      pulls[i] = peer.pulling().toFuture();
    }
    assertTrue(rendering.await(10, TimeUnit.SECONDS));
    Mono<Payload> fifth = peer.pulling();
    assertThrows(RejectedException.class, fifth::block);
    release.countDown();
    CompletableFuture.allOf(pulls).get(10, TimeUnit.SECONDS);
    assertEquals("up 1\n", peer.pull());
  }

  @Test
  void aPullThatTheProxyGivesUpIsNotAnswered() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    Semaphore rendering = new Semaphore(0);
    CountDownLatch release = new CountDownLatch(1);
    connected(proxy, () -> {
      rendering.release();
      awaitUninterruptibly(release);
      return "up 1\n";
    });
    Peer peer = proxy.next();
    Disposable pull = peer.pulling().subscribe();
    assertTrue(rendering.tryAcquire(10, TimeUnit.SECONDS));
    pull.dispose();
    // What is sent after the CANCEL comes after it.
    CompletableFuture<Payload> second = peer.pulling().toFuture();
    assertTrue(rendering.tryAcquire(10, TimeUnit.SECONDS));
    release.countDown();
    second.get(10, TimeUnit.SECONDS);
    assertEquals(1, count("pulls", "outcome", "cancelled"));
    assertEquals(1, count("pulls", "outcome", "answered"));
  }

  private static void awaitUninterruptibly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  @Test
  void textsOfManyMegabytesArriveWhole() throws Exception {
    FakeProxy proxy = proxy(Kind.PLAINTEXT);
    String text = "a_metric_of_some_length 1\n".repeat(1 << 20);
    connected(proxy, () -> text);
    assertEquals(text, proxy.next().pull());
  }

  @Test
  void theClientsOwnMetersAreInTheTextOfItsRegistry() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    started(PrometheusRSocketClient.build(registry, ProxyTransport.of(proxy.uri())).connectBlockingly());
    Peer peer = proxy.next();
    peer.pull();
    String text = peer.pull();
    assertTrue(text.contains("\nprometheus_rsocket_client_connected 1.0\n"), text);
    assertTrue(text.contains("\nprometheus_rsocket_client_connects_total 1.0\n"), text);
    assertTrue(text.contains("\nprometheus_rsocket_client_pulls_total{outcome=\"answered\"} 1.0\n"), text);
  }

  @Test
  void aRegistryWithItsOwnScrapeIsBuiltAsWithThePublishedClient() throws Exception {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    started(PrometheusRSocketClient.build(registry, registry::scrape, ProxyTransport.of(proxy.uri())).connect());
    assertTrue(proxy.next().pull().contains("\nprometheus_rsocket_client_retries_total 0.0\n"));
  }

  @Test
  void introductionsThatTheProxyWouldNotBelieveAreRefusedAtOnce() {
    FakeProxy proxy = proxy(Kind.VERSION2);
    PrometheusRSocketClient.Builder builder = builder(proxy, () -> "").instance("x".repeat(256));
    assertThrows(IllegalArgumentException.class, builder::connect);
  }
}
