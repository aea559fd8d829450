package io.github.mateo00.prometheus.rsocket;

import java.nio.charset.StandardCharsets;

/**
 * An exposition in UTF-8: the first {@code length} of these bytes.
 *
 * @param bytes the text, and room that is not used
 * @param length of the text
 */
record Text(byte[] bytes, int length) {

  static Text of(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    return new Text(bytes, bytes.length);
  }
}
