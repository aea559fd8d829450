package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class AnnouncementTest {

  private static final byte[] TOKEN = bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);

  private final ByteArrayOutputStream metadata = new ByteArrayOutputStream();

  AnnouncementTest() {
    metadata.writeBytes(bytes('P', 'R', 'P', 1));
  }

  @Test
  void allItemsAreRead() {
    item(1, bytes(1, 2)).item(2, TOKEN).item(3, number(-5)).item(4, bytes(0, 0, 1, 2));
    Announcement announcement = Announcement.decode(metadata.toByteArray());
    assertTrue(announcement.version1() && announcement.version2());
    assertArrayEquals(TOKEN, announcement.connection());
    assertEquals(OptionalLong.of(-5), announcement.pull());
  }

  @Test
  void unknownTypesAreSkippedAndOfATypeThatStandsTwiceTheFirstCounts() {
    item(200, bytes(9, 9, 9)).item(1, bytes(2)).item(1, bytes(1)).item(0, bytes());
    item(3, number(1)).item(3, number(2));
    Announcement announcement = Announcement.decode(metadata.toByteArray());
    assertFalse(announcement.version1());
    assertTrue(announcement.version2());
    assertEquals(OptionalLong.of(1), announcement.pull());
  }

  @Test
  void itemsOfAnotherLengthMakeTheMetadataSayNothing() {
    for (int type = 2; type <= 4; type++) {
      metadata.reset();
      metadata.writeBytes(bytes('P', 'R', 'P', 1));
      item(1, bytes(2)).item(type, bytes(1, 2, 3));
      assertSame(Announcement.NONE, Announcement.decode(metadata.toByteArray()), "type " + type);
    }
    metadata.reset();
    metadata.writeBytes(bytes('P', 'R', 'P', 1));
    item(3, number(1)).item(3, bytes(1));
    assertSame(Announcement.NONE, Announcement.decode(metadata.toByteArray()), "also the second of a type");
  }

  @Test
  void whereverMetadataIsCutItSaysNothingOrTheItemsBeforeTheCut() {
    item(1, bytes(1, 2)).item(2, TOKEN).item(3, number(7));
    byte[] whole = metadata.toByteArray();
    for (int length = 0; length < whole.length; length++) {
      Announcement announcement = Announcement.decode(Arrays.copyOf(whole, length));
      boolean betweenItems = length == 8 || length == 26;
      assertEquals(betweenItems, announcement.version2(), "cut to " + length);
    }
  }

  @Test
  void metadataOfSomethingElseSaysNothing() {
    assertSame(Announcement.NONE, Announcement.decode(bytes()));
    assertSame(Announcement.NONE, Announcement.decode("plaintext".getBytes()));
    assertSame(Announcement.NONE, Announcement.decode(bytes('P', 'R', 'P', 2, 1, 1, 2)));
  }

  private AnnouncementTest item(int type, byte[] value) {
    metadata.write(type);
    metadata.write(value.length);
    metadata.writeBytes(value);
    return this;
  }

  private static byte[] number(long number) {
    return ByteBuffer.allocate(Long.BYTES).putLong(number).array();
  }

  private static byte[] bytes(int... values) {
    byte[] bytes = new byte[values.length];
    for (int i = 0; i < values.length; i++) {
      bytes[i] = (byte) values[i];
    }
    return bytes;
  }
}
