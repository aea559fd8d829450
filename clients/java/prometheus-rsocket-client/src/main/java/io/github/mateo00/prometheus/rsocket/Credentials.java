package io.github.mateo00.prometheus.rsocket;

import java.nio.file.Path;
import java.util.Objects;
import java.util.function.Supplier;

/** What a client presents to the proxy to say who it is. */
final class Credentials {

  /** Whose password the secret is; none where it is a token. */
  private final String user;
  private final Supplier<String> secret;

  private Credentials(String user, Supplier<String> secret) {
    this.user = user;
    this.secret = secret;
  }

  static Credentials none() {
    return new Credentials(null, null);
  }

  static Credentials bearer(Supplier<String> token) {
    return new Credentials(null, Objects.requireNonNull(token));
  }

  static Credentials simple(String user, Supplier<String> password) {
    return new Credentials(Objects.requireNonNull(user), Objects.requireNonNull(password));
  }

  static Supplier<String> file(Path file) {
    return () -> file.toString();
  }
}
