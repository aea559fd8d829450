package io.github.mateo00.prometheus.rsocket;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.rsocket.metadata.AuthMetadataCodec;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.function.Supplier;

/** What a client presents to the proxy to say who it is. Its text has no secret in it. */
final class Credentials {

  /** More than this the proxy does not read. */
  private static final int MAX_BYTES = 16 << 10;

  /** Whose password the secret is; {@code null} where it is a token. */
  private final String user;
  /** {@code null} where nothing is presented. */
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

  /** The content of a file, without the white space at its end. */
  static Supplier<String> file(Path file) {
    Objects.requireNonNull(file);
    return () -> {
      try (InputStream in = Files.newInputStream(file)) {
        return new String(in.readNBytes(MAX_BYTES + 1), StandardCharsets.UTF_8).stripTrailing();
      } catch (IOException e) {
        throw new UncheckedIOException("cannot read " + file, e);
      }
    };
  }

  boolean present() {
    return secret != null;
  }

  /** The metadata of SETUP; {@code null} where nothing is presented. Asks for the secret, which may take its time. */
  byte[] metadata() throws Failure {
    if (secret == null) {
      return null;
    }
    String value;
    try {
      value = Objects.requireNonNull(secret.get(), "there is no token or password");
    } catch (RuntimeException e) {
      throw new Failure(Failure.Reason.CREDENTIALS, "the credentials cannot be read: " + e.getMessage(), e);
    }
    int length = ByteBufUtil.utf8Bytes(value) + (user == null ? 0 : ByteBufUtil.utf8Bytes(user));
    if (length > MAX_BYTES) {
      throw new Failure(Failure.Reason.CREDENTIALS, "the credentials are longer than " + MAX_BYTES + " bytes");
    }
    return encode(value.toCharArray());
  }

  private byte[] encode(char[] value) {
    ByteBufAllocator allocator = Unpooled.EMPTY_BUFFER.alloc();
    CompositeByteBuf composite = allocator.compositeBuffer();
    try {
      ByteBuf entry = user == null
          ? AuthMetadataCodec.encodeBearerMetadata(allocator, value)
          : AuthMetadataCodec.encodeSimpleMetadata(allocator, user.toCharArray(), value);
      CompositeMetadataCodec.encodeAndAddMetadata(
          composite, allocator, WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION, entry);
      return ByteBufUtil.getBytes(composite);
    } finally {
      composite.release();
    }
  }

  @Override
  public String toString() {
    return secret == null ? "no token or password" : user == null ? "a token" : "the password of " + user;
  }
}
