package io.github.mateo00.prometheus.rsocket;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** What the parts of one client have in common. */
final class State {

  final Settings settings;
  final Threads threads = new Threads();
  final Renderer renderer;
  final Meters meters;
  /** Completes with the first connection; fails when the client ends before. */
  final CompletableFuture<Void> firstConnected = new CompletableFuture<>();

  /** The connection that pushes go to: one whose key has come. */
  private Connection connection;
  /** How the last attempt or connection failed. */
  private Failure failure;
  private boolean over;

  State(Settings settings) {
    this.settings = settings;
    renderer = new Renderer(settings);
    meters = new Meters(settings.meters, () -> connection() != null);
  }

  synchronized Connection connection() {
    return connection;
  }

  synchronized Failure failure() {
    return failure;
  }

  /** From now on pushes go to this connection. */
  synchronized void connected(Connection to) {
    connection = to;
    failure = null;
    notifyAll();
    firstConnected.complete(null);
  }

  /** From now on pushes wait. */
  synchronized void disconnected() {
    connection = null;
  }

  synchronized void failed(Failure how) {
    failure = how;
  }

  /** Nothing connects any more. */
  synchronized void over() {
    over = true;
    connection = null;
    notifyAll();
    firstConnected.completeExceptionally(new IllegalStateException("the client is closed"));
  }

  synchronized boolean isOver() {
    return over;
  }

  /** Waits for a connection other than this one: {@code null} when there is none in time, or will be none. */
  synchronized Connection awaitOther(Connection tried, long nanos) throws InterruptedException {
    long deadline = System.nanoTime() + nanos;
    while (!over && (connection == null || connection == tried)) {
      long left = deadline - System.nanoTime();
      if (left <= 0) {
        return null;
      }
      TimeUnit.NANOSECONDS.timedWait(this, left);
    }
    return over ? null : connection;
  }
}
