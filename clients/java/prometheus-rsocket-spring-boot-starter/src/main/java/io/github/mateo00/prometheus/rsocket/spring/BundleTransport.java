package io.github.mateo00.prometheus.rsocket.spring;

import io.rsocket.DuplexConnection;
import io.rsocket.transport.ClientTransport;
import java.util.function.Supplier;
import reactor.core.publisher.Mono;

/** Takes the certificates from an SSL bundle for each connection, because a bundle may be loaded again. */
final class BundleTransport implements ClientTransport {

  private final Supplier<ClientTransport> current;
  private final ClientTransport first;

  /** Fails where there is no bundle, or no transport. */
  BundleTransport(Supplier<ClientTransport> current) {
    this.current = current;
    this.first = current.get();
  }

  @Override
  public Mono<DuplexConnection> connect() {
    return Mono.fromSupplier(current).flatMap(ClientTransport::connect);
  }

  @Override
  public int maxFrameLength() {
    return first.maxFrameLength();
  }

  @Override
  public String toString() {
    return first.toString();
  }
}
