package io.github.mateo00.prometheus.rsocket;

import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.rsocket.transport.ClientTransport;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.util.retry.Retry;

/**
 * Keeps an application connected to Prometheus RSocket Proxy: answers its pulls, connects again whenever the connection
 * ends, and pushes at the end.
 */
public final class PrometheusRSocketClient implements AutoCloseable {

  private static final Logger LOG = LoggerFactory.getLogger(PrometheusRSocketClient.class);
  /** For the goodbye to reach the proxy. */
  private static final Duration CLOSE_WITHIN = Duration.ofSeconds(1);

  private final State state;
  private final Reconnect reconnect;
  /** The push at the end; {@code null} before it has begun. */
  private CompletableFuture<Void> push;
  private boolean closed;

  private PrometheusRSocketClient(Settings settings) {
    byte[] introduction = Introduction.encode(settings.instance, settings.job, settings.labels);
    state = new State(settings);
    reconnect = new Reconnect(state, introduction);
    reconnect.start();
  }

  /**
   * A client whose text this registry gives, and which registers its own meters there.
   *
   * @param registry the registry
   * @param transport leads to the proxy
   * @return the builder
   */
  public static Builder build(PrometheusMeterRegistry registry, ClientTransport transport) {
    Settings settings = new Settings(transport);
    settings.registries.add(Objects.requireNonNull(registry));
    settings.meters = registry;
    return new Builder(settings);
  }

  /**
   * A client whose text {@code scrape} gives, and which registers its own meters with {@code registry}.
   *
   * @param registry where the client's own meters go
   * @param scrape gives the text, in the text format 0.0.4 or OpenMetrics; called for each pull, on a thread where it
   *     may take its time
   * @param transport leads to the proxy
   * @param <M> the type of registry
   * @return the builder
   */
  public static <M extends MeterRegistry> Builder build(
      M registry, Supplier<String> scrape, ClientTransport transport) {
    return build(scrape, transport).meters(registry);
  }

  /**
   * A client whose text {@code scrape} gives, without meters of its own.
   *
   * @param scrape gives the text, in the text format 0.0.4 or OpenMetrics; called for each pull, on a thread where it
   *     may take its time
   * @param transport leads to the proxy
   * @return the builder
   */
  public static Builder build(Supplier<String> scrape, ClientTransport transport) {
    Settings settings = new Settings(transport);
    settings.scrape = Objects.requireNonNull(scrape);
    return new Builder(settings);
  }

  /**
   * Says goodbye to the proxy and closes the connection, without a push. Waits for this up to one second. While a push
   * at the end is under way, this has no effect: the client closes when that has ended.
   */
  @Override
  public void close() {
    synchronized (this) {
      if (push != null) {
        return;
      }
      closed = true;
    }
    sayGoodbye();
  }

  /**
   * Pushes the text of the moment, then closes. Returns at once; a thread that is no daemon keeps the JVM from exiting
   * until the proxy has acknowledged the push, or {@link Builder#pushTimeout} is over. A push that fails is logged. The
   * JVM waits for no thread while it shuts down: in a shutdown hook use {@link #pushAndCloseBlockingly()}.
   *
   * @return completes when the proxy has acknowledged the push and the client is closed; fails with a
   *     {@link java.io.IOException} otherwise
   */
  public CompletableFuture<Void> pushAndClose() {
    return beginPush(state.settings.pushTimeout).copy();
  }

  /** {@link #pushAndCloseBlockingly(Duration)} within {@link Builder#pushTimeout}. */
  public void pushAndCloseBlockingly() {
    pushAndCloseBlockingly(state.settings.pushTimeout);
  }

  /**
   * Pushes the text of the moment, waits until the proxy has acknowledged it, then closes. A push that fails is logged,
   * and nothing is thrown.
   *
   * @param timeout how long to wait at most
   */
  public void pushAndCloseBlockingly(Duration timeout) {
    try {
      beginPush(timeout).get();
    } catch (ExecutionException e) {
      LOG.debug("The push at the end has failed", e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private synchronized CompletableFuture<Void> beginPush(Duration timeout) {
    if (closed) {
      LOG.warn("Cannot push to the proxy: the client is closed");
      return CompletableFuture.failedFuture(new IOException("the client is closed"));
    }
    if (push == null) {
      CompletableFuture<Void> outcome = new CompletableFuture<>();
      push = outcome;
      Thread thread = new Thread(() -> push(timeout, outcome), "prometheus-rsocket-push");
      thread.setDaemon(false);
      thread.start();
    }
    return push;
  }

  private void push(Duration timeout, CompletableFuture<Void> outcome) {
    IOException failure = null;
    reconnect.hurry();
    try {
      Push.run(state, Settings.bounded(timeout));
      LOG.info("The proxy has acknowledged the push at the end");
    } catch (IOException e) {
      LOG.warn("Cannot push to the proxy: {}", e.getMessage());
      failure = e;
    } catch (InterruptedException e) {
      failure = new InterruptedIOException("interrupted");
    }
    sayGoodbye();
    if (failure == null) {
      outcome.complete(null);
    } else {
      outcome.completeExceptionally(failure);
    }
  }

  private void sayGoodbye() {
    try {
      reconnect.close().get(CLOSE_WITHIN.toMillis(), TimeUnit.MILLISECONDS);
    } catch (TimeoutException | ExecutionException e) {
      LOG.debug("The proxy did not take the goodbye in time");
      reconnect.cut();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /**
   * Whether there is a connection whose key has come.
   *
   * @return whether the proxy can pull this application
   */
  public boolean isConnected() {
    return state.connection() != null;
  }

  /**
   * The proxy that the client is connected to.
   *
   * @return its address, such as {@code tcp://proxy:7001}; empty while there is no connection
   */
  public Optional<String> proxy() {
    return Optional.ofNullable(state.connection()).map(Connection::proxy);
  }

  /**
   * Why the client is not connected.
   *
   * @return how the last attempt or connection failed; empty while there is a connection, and before the first failure
   */
  public Optional<String> lastFailure() {
    return Optional.ofNullable(state.failure()).map(Failure::getMessage);
  }

  /** Settings of a client. */
  public static final class Builder {

    private final Settings settings;

    private Builder(Settings settings) {
      this.settings = settings;
    }

    /**
     * Another proxy. A client connects to the first that it can reach, and tries the others in turn where that one
     * fails.
     *
     * @param transport leads to the proxy
     * @return this builder
     */
    public Builder proxy(ClientTransport transport) {
      settings.proxies.add(Objects.requireNonNull(transport));
      return this;
    }

    /**
     * Another registry, whose text follows that of those before. A metric may be in several registries, a series
     * only in one.
     *
     * @param registry the registry
     * @return this builder
     */
    public Builder registry(PrometheusMeterRegistry registry) {
      settings.registries.add(Objects.requireNonNull(registry));
      return this;
    }

    /**
     * When to try again after all proxies have failed. Replaces {@link #backoff} and {@link #maxRetries}.
     *
     * @param retry is asked anew after each connection that was made
     * @return this builder
     */
    public Builder retry(Retry retry) {
      settings.retry = Objects.requireNonNull(retry);
      return this;
    }

    /**
     * The delays between attempts to connect while they fail: they double from the first to the longest, each
     * lengthened by up to itself at random. The default is 10 s to 10 min.
     *
     * @param first the first delay
     * @param max the longest delay
     * @return this builder
     */
    public Builder backoff(Duration first, Duration max) {
      settings.firstBackoff = Objects.requireNonNull(first);
      settings.maxBackoff = Objects.requireNonNull(max);
      return this;
    }

    /**
     * How many attempts in a row may fail after the first one before the client gives up. The default is no limit.
     *
     * @param retries the limit
     * @return this builder
     */
    public Builder maxRetries(long retries) {
      settings.maxRetries = retries;
      return this;
    }

    /**
     * Called when the first key of a connection has come, and when it changes: from then on the client can push.
     *
     * @param listener is called on a thread where it may take its time
     * @return this builder
     */
    public Builder doOnKeyReceived(Runnable listener) {
      settings.onKeyReceived = Objects.requireNonNull(listener);
      return this;
    }

    /**
     * Called when a connection has been made and its key has come.
     *
     * @param listener takes the proxy's address; is called on a thread where it may take its time
     * @return this builder
     */
    public Builder doOnConnected(Consumer<String> listener) {
      settings.onConnected = Objects.requireNonNull(listener);
      return this;
    }

    /**
     * Called when an attempt to connect has failed or a connection was lost.
     *
     * @param listener takes the reason; is called on a thread where it may take its time
     * @return this builder
     */
    public Builder doOnConnectionFailed(Consumer<Throwable> listener) {
      settings.onConnectionFailed = Objects.requireNonNull(listener);
      return this;
    }

    /**
     * How long a push may take. The default is 5 s.
     *
     * @param timeout the time
     * @return this builder
     * @throws IllegalArgumentException if it is less than a millisecond
     */
    public Builder pushTimeout(Duration timeout) {
      settings.pushTimeout = Settings.positive(timeout);
      return this;
    }

    /**
     * Presents a token to the proxy. Use TLS, or others can read it.
     *
     * @param token is asked for each connection, on a thread where it may take its time
     * @return this builder
     */
    public Builder bearerToken(Supplier<String> token) {
      settings.credentials = Credentials.bearer(token);
      return this;
    }

    /**
     * Presents a token to the proxy. Use TLS, or others can read it.
     *
     * @param file holds the token; is read for each connection. White space at its end is not part of the token
     * @return this builder
     */
    public Builder bearerTokenFile(Path file) {
      return bearerToken(Credentials.file(file));
    }

    /**
     * Presents a user name and its password to the proxy. Use TLS, or others can read them.
     *
     * @param user the user name
     * @param password is asked for each connection, on a thread where it may take its time
     * @return this builder
     */
    public Builder password(String user, Supplier<String> password) {
      settings.credentials = Credentials.simple(user, password);
      return this;
    }

    /**
     * Presents a user name and its password to the proxy. Use TLS, or others can read them.
     *
     * @param user the user name
     * @param file holds the password; is read for each connection. White space at its end is not part of the password
     * @return this builder
     */
    public Builder passwordFile(String user, Path file) {
      return password(user, Credentials.file(file));
    }

    /**
     * Does not stay connected to a proxy that cannot open version 2 of the envelope.
     *
     * @return this builder
     */
    public Builder forbidDowngrade() {
      settings.forbidDowngrade = true;
      return this;
    }

    /**
     * Asks registries for OpenMetrics 1.0, which has exemplars, instead of the text format. Has no effect on a client
     * that was built with a {@code scrape} of its own.
     *
     * @param on whether to
     * @return this builder
     */
    public Builder openMetrics(boolean on) {
      settings.openMetrics = on;
      return this;
    }

    /**
     * How often to send a sign of life, and how long to wait for one of the proxy before the connection is given up.
     * The default is 5 s and 15 s.
     *
     * @param interval how often
     * @param maxLifetime how long
     * @return this builder
     * @throws IllegalArgumentException if one is less than a millisecond, or the second less than the first
     */
    public Builder keepAlive(Duration interval, Duration maxLifetime) {
      if (maxLifetime.compareTo(interval) < 0) {
        throw new IllegalArgumentException("the proxy would be given up before its first sign of life");
      }
      settings.keepAliveInterval = Settings.positive(interval);
      settings.keepAliveMaxLifetime = Settings.positive(maxLifetime);
      return this;
    }

    /**
     * How long a proxy may take for the connection and, where there are several proxies, for its key. The default is 10
     * s. Where there is one proxy only, its key may take longer: a proxy past its limits leaves connections waiting.
     *
     * @param timeout the time
     * @return this builder
     * @throws IllegalArgumentException if it is less than a millisecond
     */
    public Builder connectTimeout(Duration timeout) {
      settings.connectTimeout = Settings.positive(timeout);
      return this;
    }

    /**
     * What the proxy is to call this application. The default is the name of the host and the process id.
     *
     * @param instance the value of the label {@code instance}, 1 to 255 bytes without control characters
     * @return this builder
     */
    public Builder instance(String instance) {
      settings.instance = Objects.requireNonNull(instance);
      return this;
    }

    /**
     * What kind of application this is.
     *
     * @param job the value of the label {@code job}, as long as an instance can be
     * @return this builder
     */
    public Builder job(String job) {
      settings.job = Objects.requireNonNull(job);
      return this;
    }

    /**
     * More labels of this application, at most 64.
     *
     * @param labels names and values; the names as Prometheus has them
     * @return this builder
     */
    public Builder labels(Map<String, String> labels) {
      settings.labels = Map.copyOf(labels);
      return this;
    }

    /**
     * Where the client registers its own meters. The default is the registry that it was built with.
     *
     * @param registry the registry
     * @return this builder
     */
    public Builder meters(MeterRegistry registry) {
      settings.meters = Objects.requireNonNull(registry);
      return this;
    }

    /**
     * Begins to connect, and goes on for as long as the client is not closed.
     *
     * @return the client, not connected yet
     * @throws IllegalArgumentException if instance, job or a label cannot be one, or they are longer than 64 KiB together
     */
    public PrometheusRSocketClient connect() {
      return new PrometheusRSocketClient(settings);
    }

    /**
     * {@link #connectBlockingly(Duration)} within 5 s.
     *
     * @return the client
     */
    public PrometheusRSocketClient connectBlockingly() {
      return connectBlockingly(Duration.ofSeconds(5));
    }

    /**
     * {@link #connect()}, then waits until the proxy's key has come.
     *
     * @param timeout how long to wait at most
     * @return the client; connected, unless the time was over, which is logged
     */
    public PrometheusRSocketClient connectBlockingly(Duration timeout) {
      PrometheusRSocketClient client = connect();
      long millis = Settings.bounded(timeout).toMillis();
      try {
        client.state.firstConnected.get(millis, TimeUnit.MILLISECONDS);
      } catch (TimeoutException | ExecutionException e) {
        LOG.warn("Not connected to the proxy within {} ms: {}", millis, client.lastFailure().orElse("no key has come"));
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return client;
    }
  }
}
