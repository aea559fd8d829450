package io.github.mateo00.prometheus.rsocket;

import io.netty.buffer.ByteBufUtil;
import io.rsocket.DuplexConnection;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import io.rsocket.exceptions.ApplicationErrorException;
import io.rsocket.exceptions.RejectedException;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.transport.ClientTransport;
import io.rsocket.util.DefaultPayload;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;

/** One connection to a proxy, from SETUP to its end: answers pulls, sends pushes. */
final class Connection implements RSocket {

  private static final Logger LOG = LoggerFactory.getLogger(PrometheusRSocketClient.class);
  private static final byte[] NOTHING = {};
  /** Longer payloads go in fragments. A frame has room for 16 MiB, less its header. */
  private static final int FRAGMENT_BYTES = 8 << 20;

  private final State state;
  private final ClientTransport transport;
  private final Sealing sealing;
  private final CompletableFuture<Void> keyed = new CompletableFuture<>();
  private final CompletableFuture<Failure> ended = new CompletableFuture<>();
  private final long beganAt = System.nanoTime();
  private volatile Disposable opening;
  private volatile Wire wire;
  private volatile String proxy;
  private volatile RSocket requester;
  private volatile ScheduledFuture<?> watch;

  private Connection(State state, ClientTransport transport) {
    this.state = state;
    this.transport = transport;
    this.proxy = name(transport);
    this.sealing = new Sealing(state.settings.forbidDowngrade, System::nanoTime);
  }

  /** Begins to connect. {@code credentials} may be {@code null}. */
  static Connection open(State state, ClientTransport transport, byte[] introduction, byte[] credentials) {
    Connection connection = new Connection(state, transport);
    connection.open(introduction, credentials);
    return connection;
  }

  private void open(byte[] introduction, byte[] credentials) {
    Settings settings = state.settings;
    RSocketConnector connector = RSocketConnector.create()
        .dataMimeType(Introduction.MIME_TYPE)
        .setupPayload(DefaultPayload.create(introduction, credentials))
        .keepAlive(settings.keepAliveInterval, settings.keepAliveMaxLifetime)
        .fragment(FRAGMENT_BYTES)
        .maxInboundPayloadSize(transport.maxFrameLength())
        .acceptor((setup, to) -> {
          requester = to;
          return Mono.just(this);
        });
    if (credentials != null) {
      connector.metadataMimeType(WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA.getString());
    }
    opening = connector.connect(new Watched()).subscribe(opened -> {}, error -> end(Failure.of(error)));
    if (ended.isDone()) {
      opening.dispose();
    }
  }

  /** Completes when the proxy's key has come, so that it can be pulled and pushed to. */
  CompletableFuture<Void> keyed() {
    return keyed;
  }

  /** Completes with the reason when the connection is over. */
  CompletableFuture<Failure> ended() {
    return ended;
  }

  /** Whether the proxy has taken the connection. */
  boolean isOpen() {
    return wire != null;
  }

  /** How long ago it was begun. */
  Duration age() {
    return Duration.ofNanos(System.nanoTime() - beganAt);
  }

  /** The proxy's address. */
  String proxy() {
    return proxy;
  }

  /** What a proxy is called before it is connected to. */
  static String name(ClientTransport transport) {
    return transport instanceof ProxyTransport.Addressed ? transport.toString() : "the proxy";
  }

  /** Ends the connection for this reason, without a word to the proxy. */
  void end(Failure reason) {
    if (!ended.complete(reason)) {
      return;
    }
    keyed.completeExceptionally(reason);
    if (watch != null) {
      watch.cancel(false);
    }
    if (opening != null) {
      opening.dispose();
    }
    if (wire != null) {
      wire.cut();
    }
  }

  /** Tells the proxy that the application ends, then ends the connection. */
  void sayGoodbye() {
    if (wire == null) {
      end(new Failure(Failure.Reason.CLOSED, "the client is closed"));
    } else {
      wire.sayGoodbye();
    }
  }

  /** The transport, with a {@link Wire} around what it makes. */
  private final class Watched implements ClientTransport {

    @Override
    public Mono<DuplexConnection> connect() {
      return transport.connect().map(Connection.this::watched);
    }

    @Override
    public int maxFrameLength() {
      return transport.maxFrameLength();
    }
  }

  private Wire watched(DuplexConnection connection) {
    Wire made = new Wire(connection);
    if (!(transport instanceof ProxyTransport.Addressed)
        && made.remoteAddress() instanceof InetSocketAddress address) {
      proxy = address.getHostString() + ":" + address.getPort();
    }
    wire = made;
    made.onClose().subscribe(null, error -> end(made.failure()), () -> end(made.failure()));
    long period = state.settings.keepAliveInterval.toMillis();
    watch = state.threads.loop.scheduleWithFixedDelay(this::watch, period, period, TimeUnit.MILLISECONDS);
    if (ended.isDone()) {
      watch.cancel(false);
      made.cut();
    }
    return made;
  }

  private void watch() {
    if (System.nanoTime() - wire.heardAt() > state.settings.keepAliveMaxLifetime.toNanos()) {
      end(Wire.silent());
    }
  }

  @Override
  public Mono<Void> fireAndForget(Payload payload) {
    try {
      takeKey(payload);
      return Mono.empty();
    } catch (Failure failure) {
      end(failure);
      return Mono.error(failure);
    }
  }

  @Override
  public Mono<Payload> requestResponse(Payload payload) {
    try {
      Seal seal = sealing.forAnswer(takeKey(payload));
      return Mono.create(sink -> pull(seal, sink));
    } catch (Failure failure) {
      end(failure);
      return Mono.error(failure);
    }
  }

  /** Without a key to seal with the connection is useless: then it ends. */
  private Announcement takeKey(Payload payload) throws Failure {
    byte[] data = ByteBufUtil.getBytes(payload.data());
    byte[] metadata = payload.hasMetadata() ? ByteBufUtil.getBytes(payload.metadata()) : NOTHING;
    payload.release();
    Announcement announcement = Announcement.decode(metadata);
    if (sealing.take(data, announcement)) {
      state.threads.call(state.settings.onKeyReceived);
    }
    keyed.complete(null);
    return announcement;
  }

  private void pull(Seal seal, MonoSink<Payload> sink) {
    if (seal == null || !state.renderer.tryAcquire()) {
      refuse(sink);
      return;
    }
    AtomicBoolean over = new AtomicBoolean();
    sink.onCancel(() -> {
      if (over.compareAndSet(false, true)) {
        state.meters.pullsCancelled.increment();
      }
    });
    try {
      state.threads.workers().execute(() -> answer(seal, sink, over));
    } catch (RejectedExecutionException e) {
      state.renderer.release();
      refuse(sink);
    }
  }

  private void refuse(MonoSink<Payload> sink) {
    state.meters.pullsFailed.increment();
    sink.error(new RejectedException("not ready to answer"));
  }

  private void answer(Seal seal, MonoSink<Payload> sink, AtomicBoolean over) {
    try {
      Text text = state.renderer.render();
      if (!over.get()) {
        Payload payload = sealed(seal, text);
        if (over.compareAndSet(false, true)) {
          state.meters.pullsAnswered.increment();
          sink.success(payload);
        }
      }
    } catch (Throwable e) {
      // Whatever the application's code throws costs this one pull.
      LOG.warn("A pull of the proxy cannot be answered, because the metrics could not be rendered", e);
      if (over.compareAndSet(false, true)) {
        state.meters.pullsFailed.increment();
        sink.error(new ApplicationErrorException("metrics could not be rendered: " + e));
      }
    }
  }

  private static Payload sealed(Seal seal, Text text) throws GeneralSecurityException {
    Sealed sealed = seal.seal(text);
    return DefaultPayload.create(sealed.data(), sealed.metadata());
  }

  /** Pushes a text. Completes when the proxy has acknowledged it, or with the error that it or the connection gave. */
  CompletableFuture<Void> push(Text text) throws GeneralSecurityException {
    Payload payload = sealed(sealing.forPush(), text);
    return requester.requestResponse(payload).doOnNext(Payload::release).then().toFuture();
  }
}
