package interop.rsocket;

import interop.common.Args;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.rsocket.core.RSocketConnector;
import io.rsocket.metadata.AuthMetadataCodec;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.util.ByteBufPayload;

/** What the SETUP says of who the app is, written by rsocket-java. */
final class Credentials {
  private static final ByteBufAllocator BUFFERS = ByteBufAllocator.DEFAULT;

  private Credentials() {
  }

  static void show(Args args, RSocketConnector connector) {
    if (!args.has("--token") && !args.has("--user")) {
      return;
    }
    ByteBuf authentication = args.has("--token")
        ? AuthMetadataCodec.encodeBearerMetadata(BUFFERS, args.text("--token", "").toCharArray())
        : AuthMetadataCodec.encodeSimpleMetadata(BUFFERS, args.text("--user", "").toCharArray(),
            args.text("--password", "").toCharArray());
    if (args.has("--alone")) {
      connector.metadataMimeType(WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION.getString());
      connector.setupPayload(ByteBufPayload.create(Unpooled.EMPTY_BUFFER, authentication));
      return;
    }
    CompositeByteBuf metadata = BUFFERS.compositeBuffer();
    CompositeMetadataCodec.encodeAndAddMetadata(metadata, BUFFERS, WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION,
        authentication);
    connector.metadataMimeType(WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA.getString());
    connector.setupPayload(ByteBufPayload.create(Unpooled.EMPTY_BUFFER, metadata));
  }
}
