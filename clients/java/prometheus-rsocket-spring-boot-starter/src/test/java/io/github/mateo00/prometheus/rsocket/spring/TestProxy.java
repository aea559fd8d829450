package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketServer;
import io.rsocket.transport.netty.server.CloseableChannel;
import io.rsocket.transport.netty.server.TcpServerTransport;
import io.rsocket.util.DefaultPayload;
import io.rsocket.util.EmptyPayload;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import reactor.core.publisher.Mono;

/** A proxy that takes everything in plain text and remembers it. */
final class TestProxy implements AutoCloseable {

  private final BlockingQueue<String> setups = new LinkedBlockingQueue<>();
  private final BlockingQueue<String> pushes = new LinkedBlockingQueue<>();
  private final List<RSocket> connections = new CopyOnWriteArrayList<>();
  private final CountDownLatch ended = new CountDownLatch(1);
  private final CloseableChannel server = RSocketServer.create((setup, application) -> {
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
  }).bindNow(TcpServerTransport.create("127.0.0.1", 0));

  String property() {
    return "micrometer.prometheus.rsocket.proxies=tcp://127.0.0.1:" + port();
  }

  int port() {
    return server.address().getPort();
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
