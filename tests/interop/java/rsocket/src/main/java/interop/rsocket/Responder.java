package interop.rsocket;

import interop.common.Args;
import interop.common.Lines;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.util.DefaultPayload;
import java.time.Duration;
import reactor.core.publisher.Mono;

/** Takes keys and answers pulls, well or badly as the arguments ask. */
final class Responder implements RSocket {
  private final String name;
  private final Text text;
  private final String answer;
  private final Duration delay;
  private volatile byte[] key;
  private Runnable onKey = () -> { };

  Responder(String name, Args args, Text text) {
    this.name = name;
    this.text = text;
    this.answer = args.text("--answer", "text");
    this.delay = Duration.ofMillis(args.number("--delay", 0));
  }

  void onKey(Runnable action) {
    onKey = action;
  }

  /** The latest key, null as long as none came. */
  byte[] key() {
    return key;
  }

  @Override
  public Mono<Void> fireAndForget(Payload payload) {
    takeKey(payload);
    return Mono.empty();
  }

  @Override
  public Mono<Payload> requestResponse(Payload payload) {
    takeKey(payload);
    Mono<Payload> reply = Mono.defer(this::reply);
    return (delay.isZero() ? reply : Mono.delay(delay).then(reply)).doOnCancel(() -> Lines.say("CANCELLED", name));
  }

  private void takeKey(Payload payload) {
    byte[] data = new byte[payload.data().readableBytes()];
    payload.data().readBytes(data);
    payload.release();
    key = data;
    onKey.run();
  }

  private Mono<Payload> reply() {
    switch (answer) {
      case "text":
        Payload sealed = Envelope.seal(key, text.get());
        Lines.say("PULLED", name, Envelope.isPlaintext(key) ? "plaintext" : "sealed",
            "data=" + sealed.data().readableBytes(), "metadata=" + sealed.metadata().readableBytes());
        return Mono.just(sealed);
      case "rubbish":
        return Mono.just(DefaultPayload.create("not an envelope", "not a key"));
      case "empty":
        return Mono.empty();
      case "error":
        return Mono.error(new IllegalStateException("the app says no"));
      default: // never
        return Mono.never();
    }
  }
}
