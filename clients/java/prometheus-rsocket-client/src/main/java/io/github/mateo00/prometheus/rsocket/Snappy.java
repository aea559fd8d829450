package io.github.mateo00.prometheus.rsocket;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * Compresses into Snappy's raw format: the length of the text, then literals and copies of what came before. Pure Java,
 * because the usual libraries bring native code, or make newer JDKs print warnings.
 */
final class Snappy {

  /** Copies reach back within one block only, so that an offset takes two bytes. */
  private static final int BLOCK_BYTES = 1 << 16;
  private static final int MAX_TABLE_BITS = 14;
  private static final int MIN_TABLE_BITS = 8;
  private static final int MIN_MATCH = 4;
  /** A block's last bytes are not searched, so that eight can be read wherever a search begins. */
  private static final int MARGIN = 15;
  /** How many bytes are searched one by one before the steps grow: text that does not compress costs little time. */
  private static final int STEP_BITS = 5;

  private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
  private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

  private final byte[] in;
  private final byte[] out;
  private final short[] table;
  private final int shift;
  private int written;
  /** Where it searches. */
  private int position;
  /** Where the bytes that it found stand a first time. */
  private int match;

  private Snappy(Text text, byte[] out) {
    this.in = text.bytes();
    this.out = out;
    int bits = MIN_TABLE_BITS;
    while (bits < MAX_TABLE_BITS && 1 << bits < text.length()) {
      bits++;
    }
    this.table = new short[1 << bits];
    this.shift = Integer.SIZE - bits;
  }

  /** The most bytes that {@link #compress} writes for a text of this length. Fails if no array has room for them. */
  static int maxCompressedLength(int length) {
    return Math.addExact(length, 32 + length / 6);
  }

  /** Writes the compressed text to the beginning of {@code out}, and gives its length. */
  static int compress(Text text, byte[] out) {
    Snappy snappy = new Snappy(text, out);
    snappy.writeLength(text.length());
    for (int block = 0; block < text.length(); block += BLOCK_BYTES) {
      snappy.compressBlock(block, Math.min(text.length(), block + BLOCK_BYTES));
    }
    return snappy.written;
  }

  private void writeLength(int length) {
    int rest = length;
    while (rest > 0x7f) {
      out[written++] = (byte) (rest | 0x80);
      rest >>>= 7;
    }
    out[written++] = (byte) rest;
  }

  private void compressBlock(int begin, int end) {
    int literal = begin;
    int limit = end - MARGIN;
    Arrays.fill(table, (short) 0);
    position = begin + 1;
    while (findMatch(begin, limit)) {
      writeLiteral(literal, position);
      int length = matchLength(end);
      writeCopy(position - match, length);
      position += length;
      literal = position;
    }
    writeLiteral(literal, end);
  }

  /** Looks for four bytes at {@link #position} or behind it that came before, at {@link #match}. */
  private boolean findMatch(int begin, int limit) {
    int searched = 1 << STEP_BITS;
    while (position < limit) {
      int slot = hash(position);
      match = begin + Short.toUnsignedInt(table[slot]);
      table[slot] = (short) (position - begin);
      if ((int) INT.get(in, match) == (int) INT.get(in, position)) {
        return true;
      }
      position += searched++ >>> STEP_BITS;
    }
    return false;
  }

  private int hash(int position) {
    return (int) INT.get(in, position) * 0x1e35a7bd >>> shift;
  }

  private int matchLength(int end) {
    int length = MIN_MATCH;
    while (position + length + Long.BYTES <= end) {
      long difference = (long) LONG.get(in, match + length) ^ (long) LONG.get(in, position + length);
      if (difference != 0) {
        return length + (Long.numberOfTrailingZeros(difference) >>> 3);
      }
      length += Long.BYTES;
    }
    while (position + length < end && in[match + length] == in[position + length]) {
      length++;
    }
    return length;
  }

  private void writeLiteral(int begin, int end) {
    int length = end - begin;
    if (length == 0) {
      return;
    }
    int less = length - 1;
    if (less < 60) {
      out[written++] = (byte) (less << 2);
    } else if (less < 0x100) {
      out[written++] = (byte) (60 << 2);
      out[written++] = (byte) less;
    } else {
      out[written++] = (byte) (61 << 2);
      out[written++] = (byte) less;
      out[written++] = (byte) (less >>> 8);
    }
    System.arraycopy(in, begin, out, written, length);
    written += length;
  }

  private void writeCopy(int offset, int length) {
    int rest = length;
    while (rest > 64) {
      // What is left is never shorter than a copy can be.
      int part = rest >= 64 + MIN_MATCH ? 64 : rest - MIN_MATCH;
      writeCopyElement(offset, part);
      rest -= part;
    }
    writeCopyElement(offset, rest);
  }

  private void writeCopyElement(int offset, int length) {
    if (length < 12 && offset < 1 << 11) {
      out[written++] = (byte) (1 | length - 4 << 2 | offset >>> 8 << 5);
      out[written++] = (byte) offset;
    } else {
      out[written++] = (byte) (2 | length - 1 << 2);
      out[written++] = (byte) offset;
      out[written++] = (byte) (offset >>> 8);
    }
  }
}
