package interop.common;

import io.rsocket.DuplexConnection;
import io.rsocket.transport.ClientTransport;
import java.util.concurrent.atomic.AtomicInteger;
import reactor.core.publisher.Mono;

/** Counts the connections a client makes and tells of their end, which the published client keeps to itself. */
public final class ObservedTransport implements ClientTransport {
  private final String name;
  private final ClientTransport inner;
  private final AtomicInteger made = new AtomicInteger();
  private final AtomicInteger ready = new AtomicInteger();

  public ObservedTransport(String name, ClientTransport inner) {
    this.name = name;
    this.inner = inner;
  }

  @Override
  public Mono<DuplexConnection> connect() {
    return inner.connect().map(connection -> {
      made.incrementAndGet();
      connection.onClose().doFinally(signal -> Lines.say("CLOSED", name)).subscribe(v -> { }, e -> { });
      return new ObservedConnection(name, connection);
    });
  }

  @Override
  public int maxFrameLength() {
    return inner.maxFrameLength();
  }

  /** To be called for every key; only a connection's first one is news, each pull brings another. */
  public void keyReceived() {
    int connection = made.get();
    if (ready.getAndSet(connection) != connection) {
      Lines.say("READY", name);
    }
  }
}
