package io.github.mateo00.prometheus.rsocket;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.rsocket.DuplexConnection;
import io.rsocket.RSocketErrorException;
import io.rsocket.exceptions.ConnectionCloseException;
import io.rsocket.exceptions.Exceptions;
import io.rsocket.frame.FrameHeaderCodec;
import io.rsocket.frame.FrameType;
import java.net.SocketAddress;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * A connection's frames on their way, for what rsocket-java does not say, or not in all its versions: when a frame came
 * last, and why the connection ended.
 */
final class Wire implements DuplexConnection {

  private final DuplexConnection connection;
  private volatile long heardAt = System.nanoTime();
  /** Why the connection is about to end; the first reason counts. */
  private volatile Failure failure;

  Wire(DuplexConnection connection) {
    this.connection = connection;
  }

  /** When a frame came last, by {@link System#nanoTime}. */
  long heardAt() {
    return heardAt;
  }

  /** Why the connection has ended. */
  Failure failure() {
    Failure known = failure;
    return known == null ? new Failure(Failure.Reason.CLOSED, "the proxy closed the connection") : known;
  }

  /** Says that the application ends, then closes. */
  void sayGoodbye() {
    connection.sendErrorAndClose(new ConnectionCloseException("the application ends"));
  }

  /** Closes without a word. */
  void cut() {
    connection.dispose();
  }

  @Override
  public Flux<ByteBuf> receive() {
    return connection.receive().doOnNext(this::heard).doOnError(error -> fail(Failure.of(error)));
  }

  private void heard(ByteBuf frame) {
    heardAt = System.nanoTime();
    if (FrameHeaderCodec.streamId(frame) == 0 && FrameHeaderCodec.frameType(frame) == FrameType.ERROR) {
      fail(Failure.of(Exceptions.from(0, frame)));
    }
  }

  private void fail(Failure reason) {
    if (failure == null) {
      failure = reason;
    }
  }

  /** rsocket-java ends a connection by itself when the proxy breaks the protocol. */
  @Override
  public void sendErrorAndClose(RSocketErrorException error) {
    fail(new Failure(Failure.Reason.PROTOCOL, "the proxy broke the protocol: " + error.getMessage(), error));
    connection.sendErrorAndClose(error);
  }

  /** rsocket-java does this when no keepalive came in time. */
  @Override
  public void dispose() {
    fail(silent());
    connection.dispose();
  }

  /** The proxy gave no sign of life. */
  static Failure silent() {
    return new Failure(Failure.Reason.SILENT, "the proxy gave no sign of life");
  }

  @Override
  public void sendFrame(int streamId, ByteBuf frame) {
    connection.sendFrame(streamId, frame);
  }

  @Override
  public ByteBufAllocator alloc() {
    return connection.alloc();
  }

  @Override
  public SocketAddress remoteAddress() {
    return connection.remoteAddress();
  }

  @Override
  public Mono<Void> onClose() {
    return connection.onClose();
  }

  @Override
  public boolean isDisposed() {
    return connection.isDisposed();
  }
}
