package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class SnappyTest {

  private static byte[] compress(byte[] text) {
    byte[] block = new byte[Snappy.maxCompressedLength(text.length)];
    return Arrays.copyOf(block, Snappy.compress(new Text(text, text.length), block));
  }

  private static void assertRoundTrip(byte[] text) {
    assertArrayEquals(text, Opener.decompress(compress(text)), text.length + " bytes");
  }

  @Test
  void textsOfEveryLengthAroundTheBoundsOfAnElementComeBack() {
    for (int length = 0; length < 300; length++) {
      byte[] same = new byte[length];
      Arrays.fill(same, (byte) 'a');
      assertRoundTrip(same);
    }
  }

  @Test
  void textsAroundTheBoundsOfABlockComeBack() {
    Random random = new Random(1);
    for (int length : new int[] {65535, 65536, 65537, 65551, 131071, 131073, 500_000}) {
      byte[] text = new byte[length];
      random.nextBytes(text);
      assertRoundTrip(text);
      for (int i = 0; i < length; i++) {
        text[i] = (byte) ('a' + i * 31 % 17);
      }
      assertRoundTrip(text);
    }
  }

  @Test
  void randomTextsOfFewLettersComeBack() {
    Random random = new Random(2);
    for (int round = 0; round < 2000; round++) {
      byte[] text = new byte[random.nextInt(2000)];
      int letters = 1 + random.nextInt(8);
      for (int i = 0; i < text.length; i++) {
        text[i] = (byte) ('a' + random.nextInt(letters));
      }
      assertRoundTrip(text);
    }
  }

  @Test
  void bytesThatDoNotCompressStayWithinTheBound() {
    byte[] text = new byte[1 << 20];
    new Random(3).nextBytes(text);
    assertTrue(compress(text).length <= Snappy.maxCompressedLength(text.length));
    assertThrows(ArithmeticException.class, () -> Snappy.maxCompressedLength(Integer.MAX_VALUE));
  }

  @Test
  void anExpositionShrinksToAFewthOfItsSize() {
    String text = IntStream.range(0, 1000)
        .mapToObj(i -> "http_requests_total{method=\"GET\",path=\"/items/" + i + "\",status=\"200\"} " + i * 7 + "\n")
        .collect(Collectors.joining());
    byte[] bytes = text.getBytes();
    assertTrue(compress(bytes).length * 4 < bytes.length, compress(bytes).length + " of " + bytes.length);
    assertRoundTrip(bytes);
  }
}
