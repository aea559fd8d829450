package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.Map;
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
    String text = encode("\"\\\b\n\u0000é\uD83D\uDE00", "j", Map.of("b", "2", "a", "1"));
    assertTrue(
        text.endsWith("{\"instance\":\"\\\"\\\\\\u0008\\u000a\\u0000é\\ud83d\\ude00\",\"job\":\"j\","
            + "\"labels\":{\"a\":\"1\",\"b\":\"2\"}}]}"),
        text);
  }

  @Test
  void moreThanTheProxyReadsIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> encode("x".repeat(64 << 10), null, Map.of()));
  }
}
