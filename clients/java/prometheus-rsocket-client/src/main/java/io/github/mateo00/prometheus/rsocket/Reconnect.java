package io.github.mateo00.prometheus.rsocket;

import io.rsocket.transport.ClientTransport;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Keeps a client connected: goes through the proxies, and when all fail or the connection ends, begins again after a
 * delay. Everything private happens on {@link Threads#loop}.
 */
final class Reconnect {

  private static final Logger LOG = LoggerFactory.getLogger(PrometheusRSocketClient.class);
  /** For one of several proxies to take the connection and send its key, while a push waits: its deadline is near. */
  private static final Duration PUSH_WAITS = Duration.ofSeconds(2);
  private static final AtomicBoolean WARNED_OF_PLAIN_CREDENTIALS = new AtomicBoolean();

  private final State state;
  private final List<ClientTransport> proxies;
  private final byte[] introduction;
  private final Schedule schedule;
  /** The application's own rule for when to try again; {@code null} where the schedule says it. */
  private final AskedRetry askedRetry;
  private final ScheduledExecutorService loop;
  private final CompletableFuture<Void> closed = new CompletableFuture<>();

  /** The proxy that the next round begins with. */
  private int first;
  /** How many proxies of this round have failed. */
  private int tried;
  private long roundBeganAt;
  /** When the next round begins; {@code null} before the first one, and while the application's rule is asked. */
  private Long dueAt;
  private boolean asking;
  private Attempt attempt;
  private Connection connection;
  /** While no attempt is under way and there is no connection. */
  private Pause pause;
  /** Whether the push at the end waits. */
  private boolean hurried;
  private boolean over;

  Reconnect(State state, byte[] introduction) {
    Settings settings = state.settings;
    this.state = state;
    this.introduction = introduction;
    proxies = List.copyOf(settings.proxies);
    loop = state.threads.loop;
    schedule = new Schedule(
        settings.firstBackoff,
        settings.maxBackoff,
        settings.maxRetries,
        () -> ThreadLocalRandom.current().nextDouble());
    askedRetry = settings.retry == null ? null : new AskedRetry(settings.retry, loop, this::retryDue, this::giveUp);
  }

  /** Begins to connect. */
  void start() {
    loop.execute(this::round);
  }

  /** The push at the end waits: connecting hurries. */
  void hurry() {
    loop.execute(() -> {
      hurried = true;
      if (pause != null) {
        pause.plan();
      }
      if (attempt != null) {
        attempt.hurry();
      }
    });
  }

  /** Says goodbye, and ends; completes when the connection has ended. */
  CompletableFuture<Void> close() {
    loop.execute(this::sayGoodbye);
    return closed;
  }

  /** Ends the connection at once, for want of an answer to the goodbye. */
  void cut() {
    loop.execute(() -> {
      if (connection != null) {
        connection.end(new Failure(Failure.Reason.CLOSED, "the client is closed"));
      }
    });
  }

  private void round() {
    roundBeganAt = System.nanoTime();
    tried = 0;
    tryNext();
  }

  private void tryNext() {
    attempt = new Attempt((first + tried) % proxies.size());
    attempt.begin();
  }

  private void connected(Attempt made) {
    attempt = null;
    connection = made.connection;
    schedule.connected();
    if (askedRetry != null) {
      askedRetry.reset();
      asking = false;
    }
    String proxy = connection.proxy();
    state.meters.connects.increment();
    state.connected(connection);
    LOG.info("Connected to {}", proxy);
    state.threads.call(() -> state.settings.onConnected.accept(proxy));
    connection.ended().thenAcceptAsync(failure -> ended(made, failure), loop);
  }

  private void ended(Attempt made, Failure failure) {
    connection = null;
    state.disconnected();
    if (over) {
      finish();
      return;
    }
    Duration lived = made.connection.age();
    // A proxy that ends connections early is not the first to be asked again.
    first = made.proxy + (lived.compareTo(Schedule.WELL_AFTER) >= 0 ? 0 : 1);
    Duration delay = schedule.ended(lived);
    dueAt = System.nanoTime() + delay.toNanos();
    String what = "The connection to " + made.connection.proxy() + " was lost";
    report(what, failure, "connecting again in " + seconds(delay));
    pause = new Pause();
    pause.plan();
  }

  private void failed(Attempt made, Failure failure) {
    attempt = null;
    tried++;
    String what = "Cannot connect to " + Connection.name(proxies.get(made.proxy));
    if (tried < proxies.size()) {
      report(what, failure, "trying the next one");
      tryNext();
      return;
    }
    pause = new Pause();
    if (asking || dueAt != null && roundBeganAt - dueAt < 0) {
      // The push has hurried it: else that would use up, in seconds, the retries that were meant for hours.
      report(what, failure, "trying again at once, because a push waits");
    } else if (askedRetry != null) {
      dueAt = null;
      asking = true;
      report(what, failure, "trying again when its Retry says so");
      askedRetry.failed(failure);
    } else {
      Optional<Duration> delay = schedule.failed();
      if (delay.isEmpty()) {
        report(what, failure, "that was the last attempt");
        giveUp();
        return;
      }
      dueAt = System.nanoTime() + delay.get().toNanos();
      report(what, failure, "trying again in " + seconds(delay.get()));
    }
    pause.plan();
  }

  private void report(String what, Failure failure, String next) {
    if (failure.reason() == Failure.Reason.CREDENTIALS) {
      LOG.warn(
          "{}, {}: {}. This application presents {}: check it, and the identities file of the proxy",
          what, next, failure.getMessage(), state.settings.credentials);
    } else {
      LOG.warn("{}, {}: {}", what, next, failure.getMessage());
    }
    state.failed(failure);
    state.meters.connectionError(failure.reason());
    state.threads.call(() -> state.settings.onConnectionFailed.accept(failure));
  }

  private static String seconds(Duration delay) {
    return Math.max(0, delay.toMillis()) / 1000.0 + " s";
  }

  /** The application's Retry says that it is time. */
  private void retryDue() {
    if (asking) {
      asking = false;
      long shortest = roundBeganAt + Schedule.SHORTEST.toNanos();
      dueAt = Math.max(System.nanoTime(), shortest);
      if (pause != null) {
        pause.plan();
      }
    }
  }

  private void giveUp() {
    if (!over) {
      LOG.warn("Gave up connecting to the proxy");
      over = true;
      finish();
    }
  }

  private void sayGoodbye() {
    over = true;
    state.over();
    if (pause != null) {
      pause.cancel();
    }
    if (attempt != null) {
      attempt.abandon();
    }
    if (connection == null) {
      finish();
    } else {
      connection.sayGoodbye();
    }
  }

  private void finish() {
    state.over();
    state.meters.close();
    if (askedRetry != null) {
      askedRetry.reset();
    }
    closed.complete(null);
    state.threads.end();
  }

  /** The time until the next round. */
  private final class Pause {

    private final long beganAt = System.nanoTime();
    private Long hurriedBy;
    private ScheduledFuture<?> timer;

    /** Plans the next round, anew when a push hurries it, or the application's rule has answered. */
    void plan() {
      cancel();
      Long at = dueAt;
      if (hurried) {
        if (hurriedBy == null) {
          hurriedBy = schedule.hurried().toNanos();
        }
        long soon = beganAt + hurriedBy;
        at = at == null || soon - at < 0 ? Long.valueOf(soon) : at;
      }
      if (at != null) {
        timer = loop.schedule(this::end, at - System.nanoTime(), TimeUnit.NANOSECONDS);
      }
    }

    void cancel() {
      if (timer != null) {
        timer.cancel(false);
      }
    }

    private void end() {
      pause = null;
      state.meters.retries.increment();
      round();
    }
  }

  /** An attempt to connect to one proxy, up to the arrival of its key. */
  private final class Attempt {

    final int proxy;
    Connection connection;
    private ScheduledFuture<?> impatience;
    private final ScheduledFuture<?> timer;

    Attempt(int proxy) {
      this.proxy = proxy;
      long timeout = state.settings.connectTimeout.toMillis();
      timer = loop.schedule(this::late, timeout, TimeUnit.MILLISECONDS);
    }

    void begin() {
      hurry();
      Credentials credentials = state.settings.credentials;
      if (!credentials.present()) {
        open(null);
        return;
      }
      warnOfPlain(proxies.get(proxy));
      CompletableFuture<byte[]> asked = new CompletableFuture<>();
      asked.whenCompleteAsync((metadata, error) -> {
        if (error == null) {
          open(metadata);
        } else {
          end(Failure.of(error));
        }
      }, loop);
      ask(credentials, asked, state.threads.workers());
    }

    private static void ask(Credentials credentials, CompletableFuture<byte[]> asked, Executor workers) {
      try {
        workers.execute(() -> {
          try {
            asked.complete(credentials.metadata());
          } catch (Throwable e) {
            asked.completeExceptionally(e);
          }
        });
      } catch (RejectedExecutionException e) {
        asked.completeExceptionally(
            new Failure(Failure.Reason.CREDENTIALS, "the credentials cannot be read: all threads are busy", e));
      }
    }

    private static void warnOfPlain(ClientTransport transport) {
      if (transport instanceof ProxyTransport.Addressed addressed
          && !addressed.isSecure()
          && WARNED_OF_PLAIN_CREDENTIALS.compareAndSet(false, true)) {
        LOG.warn("Credentials are sent to {} unencrypted, others can read them: use tls:// or wss://", transport);
      }
    }

    private void open(byte[] credentials) {
      if (attempt != this) {
        return;
      }
      try {
        connection = Connection.open(state, proxies.get(proxy), introduction, credentials);
      } catch (RuntimeException e) {
        // The transport is the application's.
        end(Failure.of(e));
        return;
      }
      connection.keyed().whenCompleteAsync((keyed, error) -> {
        if (error == null) {
          succeed();
        } else {
          end(Failure.of(error));
        }
      }, loop);
    }

    private void succeed() {
      if (attempt == this) {
        cancelTimers();
        connected(this);
      }
    }

    /** A push cannot wait long where there is another proxy to try. */
    void hurry() {
      if (hurried && proxies.size() > 1 && impatience == null) {
        Failure failure = new Failure(Failure.Reason.TIMEOUT, "a push could not wait for it");
        impatience = loop.schedule(() -> end(failure), PUSH_WAITS.toMillis(), TimeUnit.MILLISECONDS);
      }
    }

    /** Where there is no other proxy the key may take its time: a proxy past its limits leaves connections waiting. */
    private void late() {
      String within = " within " + seconds(state.settings.connectTimeout);
      if (connection == null || !connection.isOpen()) {
        end(new Failure(Failure.Reason.TIMEOUT, "no connection" + within));
      } else if (proxies.size() > 1) {
        end(new Failure(Failure.Reason.NO_KEY, "no key" + within));
      }
    }

    private void end(Failure failure) {
      if (attempt == this) {
        abandon();
        failed(this, failure);
      }
    }

    /** Ends it without another attempt. */
    void abandon() {
      attempt = null;
      cancelTimers();
      if (connection != null) {
        connection.end(new Failure(Failure.Reason.CLOSED, "the attempt was given up"));
      }
    }

    private void cancelTimers() {
      timer.cancel(false);
      if (impatience != null) {
        impatience.cancel(false);
      }
    }
  }
}
