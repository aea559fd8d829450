package interop.common;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.rsocket.DuplexConnection;
import io.rsocket.RSocketErrorException;
import io.rsocket.frame.ErrorFrameCodec;
import io.rsocket.frame.FrameHeaderCodec;
import io.rsocket.frame.FrameType;
import java.net.SocketAddress;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Tells of every ERROR frame that comes in, with its code as it was on the wire; changes nothing. */
final class ObservedConnection implements DuplexConnection {
  private final String name;
  private final DuplexConnection inner;

  ObservedConnection(String name, DuplexConnection inner) {
    this.name = name;
    this.inner = inner;
  }

  @Override
  public Flux<ByteBuf> receive() {
    return inner.receive().doOnNext(frame -> {
      if (FrameHeaderCodec.frameType(frame) == FrameType.ERROR) {
        Lines.say("ERROR", name, String.format("0x%03x", ErrorFrameCodec.errorCode(frame)),
            "stream=" + FrameHeaderCodec.streamId(frame), ErrorFrameCodec.dataUtf8(frame));
      }
    });
  }

  @Override
  public void sendFrame(int streamId, ByteBuf frame) {
    inner.sendFrame(streamId, frame);
  }

  @Override
  public void sendErrorAndClose(RSocketErrorException error) {
    inner.sendErrorAndClose(error);
  }

  @Override
  public ByteBufAllocator alloc() {
    return inner.alloc();
  }

  @Override
  public SocketAddress remoteAddress() {
    return inner.remoteAddress();
  }

  @Override
  public double availability() {
    return inner.availability();
  }

  @Override
  public Mono<Void> onClose() {
    return inner.onClose();
  }

  @Override
  public void dispose() {
    inner.dispose();
  }

  @Override
  public boolean isDisposed() {
    return inner.isDisposed();
  }
}
