package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The connection itself is tried through a real one, by tests/integration/http_proxy.rs. */
class HttpProxyTest {

  @ParameterizedTest
  @ValueSource(strings = {"http://proxy:3128", "HTTP://proxy:3128/", "http://user:p%40ss@[::1]:3128", "http://user@proxy:1"})
  void aUrlIsTaken(String url) {
    assertNotNull(HttpProxy.parse(url));
  }

  @ParameterizedTest
  @ValueSource(strings = {"https://user:secret@proxy:3128", "http://user:secret@proxy", "http://user:secret@proxy:0",
      "http://user:secret@proxy:3128/path", "user:secret@proxy:3128", "http://user:secret@pro xy:3128",
      "http://user:se%zzcret@proxy:3128"})
  void anotherTextIsRefusedWithoutItsPassword(String url) {
    var error = assertThrows(IllegalArgumentException.class, () -> HttpProxy.parse(url));
    assertFalse(error.getMessage().contains("secret"), error::getMessage);
    assertNull(error.getCause());
  }
}
