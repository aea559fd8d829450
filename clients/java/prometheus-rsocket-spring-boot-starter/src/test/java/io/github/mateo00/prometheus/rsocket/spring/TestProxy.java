package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.rsocket.ConnectionSetupPayload;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketServer;
import io.rsocket.transport.ServerTransport;
import io.rsocket.transport.netty.server.CloseableChannel;
import io.rsocket.transport.netty.server.TcpServerTransport;
import io.rsocket.transport.netty.server.WebsocketServerTransport;
import io.rsocket.util.DefaultPayload;
import io.rsocket.util.EmptyPayload;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import reactor.core.publisher.Mono;
import reactor.netty.http.server.HttpServer;
import reactor.netty.resources.LoopResources;

/** A proxy that takes everything in plain text and remembers it. */
final class TestProxy implements AutoCloseable {

  private final BlockingQueue<String> setups = new LinkedBlockingQueue<>();
  private final BlockingQueue<String> pushes = new LinkedBlockingQueue<>();
  private final List<RSocket> connections = new CopyOnWriteArrayList<>();
  private final CountDownLatch ended = new CountDownLatch(1);
  private final String scheme;
  private final CloseableChannel server;

  /** Over TCP. */
  TestProxy() {
    this("tcp", TcpServerTransport.create("127.0.0.1", 0));
  }

  private TestProxy(String scheme, ServerTransport<CloseableChannel> transport) {
    this.scheme = scheme;
    this.server = RSocketServer.create(this::accept).bindNow(transport);
  }

  static TestProxy overWebSocket() {
    HttpServer server = HttpServer.create().host("127.0.0.1").port(0).runOn(LoopResources.create("test-proxy"));
    return new TestProxy("ws", WebsocketServerTransport.create(server));
  }

  private Mono<RSocket> accept(ConnectionSetupPayload setup, RSocket application) {
    setups.add(setup.getDataUtf8());
    connections.add(application);
    application.onClose().onErrorComplete().doFinally(end -> ended.countDown()).subscribe();
    application.fireAndForget(DefaultPayload.create("plaintext")).subscribe();
    return Mono.just(new RSocket() {
      @Override
      public Mono<Payload> requestResponse(Payload push) {
        pushes.add(push.getDataUtf8());
        push.release();
        return Mono.just(EmptyPayload.INSTANCE);
      }
    });
  }

  String property() {
    return "micrometer.prometheus.rsocket.proxies=" + address();
  }

  String address() {
    return scheme + "://127.0.0.1:" + server.address().getPort();
  }

  /** What the next application says of itself. */
  String setup() {
    return next(setups);
  }

  String push() {
    return next(pushes);
  }

  /** Waits for the connection to end. */
  void goodbye() throws InterruptedException {
    assertThat(ended.await(30, TimeUnit.SECONDS)).as("an end of the connection").isTrue();
  }

  boolean hasPushes() {
    return !pushes.isEmpty();
  }

  private static String next(BlockingQueue<String> queue) {
    try {
      String next = queue.poll(30, TimeUnit.SECONDS);
      assertThat(next).as("something from the application").isNotNull();
      return next;
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  @Override
  public void close() {
    server.dispose();
    connections.forEach(RSocket::dispose);
  }
}
