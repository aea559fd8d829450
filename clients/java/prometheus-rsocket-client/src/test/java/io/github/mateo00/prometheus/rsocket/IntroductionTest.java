package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class IntroductionTest {

  private static String encode(String instance, String job, Map<String, String> labels) {
    return new String(Introduction.encode(instance, job, labels), StandardCharsets.UTF_8);
  }

  @Test
  void theClientSaysItsVersion() {
    assertEquals("java " + System.getProperty("project.version"), Introduction.CLIENT);
  }

  @Test
  void whatWasNotSetIsLeftOut() {
    assertEquals(
        "{\"client\":\"" + Introduction.CLIENT + "\",\"targets\":[{\"instance\":\"web-1\"}]}",
        encode("web-1", null, Map.of()));
  }

  @Test
  void anInstanceThatWasNotSetEndsWithTheProcess() {
    assertTrue(encode(null, null, Map.of()).endsWith(":" + ProcessHandle.current().pid() + "\"}]}"));
  }

  @Test
  void everyCharacterIsQuotedAsJsonAsksFor() {
    String text = encode("\"\\é\uD83D\uDE00", "j", Map.of("b", "\b\n\u0000", "a", "1"));
    assertTrue(
        text.endsWith("{\"instance\":\"\\\"\\\\é\\ud83d\\ude00\",\"job\":\"j\","
            + "\"labels\":{\"a\":\"1\",\"b\":\"\\u0008\\u000a\\u0000\"}}]}"),
        text);
  }

  @Test
  void whatTheProxyWouldNotBelieveIsRefused() {
    for (String name : new String[] {"", "x".repeat(256), "a\u0007b"}) {
      assertThrows(IllegalArgumentException.class, () -> encode(name, null, Map.of()));
      assertThrows(IllegalArgumentException.class, () -> encode(null, name, Map.of()));
    }
    for (String name : new String[] {"", "1a", "a.b", "__address__", "instance", "job"}) {
      assertThrows(IllegalArgumentException.class, () -> encode(null, null, Map.of(name, "")));
    }
    encode("x".repeat(255), "x".repeat(255), Map.of("_a1", "", "jobs", ""));
    Map<String, String> many = new HashMap<>();
    IntStream.rangeClosed(0, 64).forEach(number -> many.put("l" + number, ""));
    assertThrows(IllegalArgumentException.class, () -> encode(null, null, many));
    Map<String, String> tooLong = Map.of("a", "x".repeat(64 << 10));
    assertThrows(IllegalArgumentException.class, () -> encode(null, null, tooLong));
  }
}
