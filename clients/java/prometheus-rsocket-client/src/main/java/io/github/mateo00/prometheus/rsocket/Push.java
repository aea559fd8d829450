package io.github.mateo00.prometheus.rsocket;

import io.rsocket.RSocketErrorException;
import io.rsocket.frame.ErrorFrameCodec;
import java.io.IOException;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A push: rendered once, then sent over one connection after the other until the proxy has answered, or the time is
 * over. The proxy may hold it twice where a connection ended before the answer came.
 */
final class Push {

  private final State state;
  private final long deadline;

  private Push(State state, Duration timeout) {
    this.state = state;
    this.deadline = System.nanoTime() + timeout.toNanos();
  }

  /**
   * Pushes the text of the moment and waits for the outcome.
   *
   * @throws IOException why it was not acknowledged
   */
  static void run(State state, Duration timeout) throws IOException, InterruptedException {
    Meters meters = state.meters;
    try {
      new Push(state, timeout).run();
      meters.pushesAcknowledged.increment();
    } catch (Refused e) {
      meters.pushesRefused.increment();
      throw e;
    } catch (IOException e) {
      meters.pushesFailed.increment();
      throw e;
    }
  }

  private void run() throws IOException, InterruptedException {
    Text text = render();
    Connection tried = null;
    do {
      tried = state.awaitOther(tried, left());
      if (tried == null) {
        throw unsent();
      }
    } while (!isAcknowledged(tried, text));
  }

  private long left() {
    return deadline - System.nanoTime();
  }

  private Text render() throws IOException, InterruptedException {
    Callable<Text> render = state.renderer::render;
    FutureTask<Text> rendering = new FutureTask<>(render);
    if (!state.renderer.tryAcquire(left())) {
      throw new IOException("the metrics were not rendered in time: renderings for pulls do not end");
    }
    try {
      state.threads.workers().execute(rendering);
      return rendering.get(left(), TimeUnit.NANOSECONDS);
    } catch (ExecutionException e) {
      throw new IOException("the metrics could not be rendered: " + e.getCause(), e.getCause());
    } catch (TimeoutException e) {
      throw new IOException("the metrics were not rendered in time", e);
    } catch (RejectedExecutionException e) {
      state.renderer.release();
      throw new IOException("the client is closed", e);
    }
  }

  /** Whether the proxy has acknowledged; {@code false} where the connection ended before. */
  private boolean isAcknowledged(Connection connection, Text text) throws IOException, InterruptedException {
    try {
      connection.push(text).get(left(), TimeUnit.NANOSECONDS);
      return true;
    } catch (TimeoutException e) {
      throw new IOException("the proxy did not acknowledge the push in time", e);
    } catch (GeneralSecurityException | ArithmeticException e) {
      throw new IOException("the text could not be sealed: " + e.getMessage(), e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RSocketErrorException error && isOfStream(error)) {
        throw new Refused(error);
      }
      return false;
    }
  }

  /** Lower codes are those of connections. */
  private static boolean isOfStream(RSocketErrorException error) {
    return error.errorCode() >= ErrorFrameCodec.APPLICATION_ERROR;
  }

  private IOException unsent() {
    if (state.isOver()) {
      return new IOException("the client is closed");
    }
    Failure failure = state.failure();
    String reason = failure == null ? "" : ": " + failure.getMessage();
    return new IOException("there was no connection to the proxy in time" + reason, failure);
  }

  /** The proxy refused the push: another try would not change that. */
  private static final class Refused extends IOException {

    private static final long serialVersionUID = 1;

    Refused(RSocketErrorException error) {
      super("the proxy refused the push: " + error.getMessage(), error);
    }
  }
}
