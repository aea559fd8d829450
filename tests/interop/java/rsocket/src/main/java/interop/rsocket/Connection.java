package interop.rsocket;

import interop.common.Args;
import interop.common.Lines;
import interop.common.ObservedTransport;
import interop.common.Transports;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.SocketAcceptor;
import io.rsocket.core.RSocketConnector;
import io.rsocket.core.Resume;
import io.rsocket.lease.Lease;
import io.rsocket.util.DefaultPayload;
import java.time.Duration;
import reactor.core.publisher.Flux;

/** One connection, never made again by itself; its options are those that the published client has no words for. */
final class Connection {
  private static final Duration LEASE_TIME = Duration.ofSeconds(5);
  private static final Duration PUSH_TIMEOUT = Duration.ofSeconds(30);

  private final String name;
  private final Responder responder;
  private volatile RSocket socket;

  Connection(String name, Args args, Responder responder) {
    this.name = name;
    this.responder = responder;
    ObservedTransport transport = new ObservedTransport(name, Transports.create(args, true));
    responder.onKey(transport::keyReceived);

    RSocketConnector connector = RSocketConnector.create()
        .fragment(args.number("--mtu", 65536))
        .keepAlive(Duration.ofMillis(args.number("--keepalive", 20_000)),
            Duration.ofMillis(args.number("--max-lifetime", 90_000)))
        .acceptor(SocketAcceptor.with(responder));
    if (args.has("--lease")) {
      int requests = args.number("--lease", 1);
      connector.lease(spec -> spec.maxPendingRequests(16).sender(() -> leases(requests)));
    }
    if (args.has("--resume")) {
      connector.resume(new Resume());
    }
    Credentials.show(args, connector);
    connector.connect(transport).subscribe(this::opened, e -> Lines.say("FAILED", name, e));
  }

  private static Flux<Lease> leases(int requests) {
    return Flux.interval(Duration.ZERO, LEASE_TIME).map(tick -> Lease.create(LEASE_TIME, requests));
  }

  private void opened(RSocket opened) {
    socket = opened;
    opened.onClose().subscribe(v -> { }, e -> Lines.say("FAILED", name, e));
  }

  void push(String text) {
    if (keyIsHere()) {
      socket.fireAndForget(Envelope.seal(responder.key(), text))
          .subscribe(v -> { }, this::pushFailed, () -> Lines.say("PUSHED", name));
    }
  }

  void pushBlocking(String text) {
    if (keyIsHere()) {
      request(Envelope.seal(responder.key(), text));
    }
  }

  void pushRubbish() {
    if (keyIsHere()) {
      request(DefaultPayload.create("not an envelope", "not a key"));
    }
  }

  private boolean keyIsHere() {
    if (socket == null || responder.key() == null) {
      Lines.say("PUSH-FAILED", name, "no key yet");
      return false;
    }
    return true;
  }

  private void request(Payload payload) {
    socket.requestResponse(payload).timeout(PUSH_TIMEOUT)
        .subscribe(v -> { }, this::pushFailed, () -> Lines.say("PUSHED", name));
  }

  private void pushFailed(Throwable e) {
    Lines.say("PUSH-FAILED", name, e);
  }

  void close() {
    if (socket != null) {
      socket.dispose();
    }
  }
}
