package io.github.mateo00.prometheus.rsocket;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.OptionalLong;

/**
 * What the proxy says beside its key, in the metadata of the key payload. {@code docs/envelope.md} describes the bytes.
 *
 * @param version1 whether the proxy opens version 1 of the envelope
 * @param version2 whether the proxy opens version 2 of the envelope
 * @param connection the token that names the connection; {@code null} if there is none
 * @param pull the number of the pull that this came with
 */
record Announcement(boolean version1, boolean version2, byte[] connection, OptionalLong pull) {

  /** What an old proxy says. */
  static final Announcement NONE = new Announcement(false, false, null, OptionalLong.empty());

  static final int TOKEN_BYTES = 16;

  private static final byte[] MAGIC = {'P', 'R', 'P', 1};
  private static final int ENVELOPES = 1;
  private static final int CONNECTION = 2;
  private static final int PULL = 3;
  private static final int TIMEOUT = 4;

  /** Reads a key payload's metadata. Metadata that is something else, or damaged, says nothing. */
  static Announcement decode(byte[] metadata) {
    if (metadata.length < MAGIC.length || !Arrays.equals(metadata, 0, MAGIC.length, MAGIC, 0, MAGIC.length)) {
      return NONE;
    }
    Items items = new Items();
    ByteBuffer rest = ByteBuffer.wrap(metadata, MAGIC.length, metadata.length - MAGIC.length);
    while (rest.remaining() >= 2) {
      int type = Byte.toUnsignedInt(rest.get());
      int length = Byte.toUnsignedInt(rest.get());
      if (length > rest.remaining()) {
        return NONE;
      }
      byte[] value = new byte[length];
      rest.get(value);
      if (!items.take(type, value)) {
        return NONE;
      }
    }
    return rest.hasRemaining() ? NONE : items.announcement();
  }

  /** The first item of each type. */
  private static final class Items {
    private byte[] envelopes;
    private byte[] connection;
    private byte[] pull;

    /** Whether the item has the length that its type asks for. */
    boolean take(int type, byte[] value) {
      switch (type) {
        case ENVELOPES -> envelopes = first(envelopes, value);
        case CONNECTION -> connection = first(connection, value);
        case PULL -> pull = first(pull, value);
        default -> {}
      }
      return switch (type) {
        case CONNECTION -> value.length == TOKEN_BYTES;
        case PULL -> value.length == Long.BYTES;
        case TIMEOUT -> value.length == Integer.BYTES;
        default -> true;
      };
    }

    private static byte[] first(byte[] known, byte[] value) {
      return known == null ? value : known;
    }

    Announcement announcement() {
      OptionalLong number = pull == null ? OptionalLong.empty() : OptionalLong.of(ByteBuffer.wrap(pull).getLong());
      return new Announcement(opens(1), opens(2), connection, number);
    }

    private boolean opens(int version) {
      for (int i = 0; envelopes != null && i < envelopes.length; i++) {
        if (envelopes[i] == version) {
          return true;
        }
      }
      return false;
    }
  }
}
