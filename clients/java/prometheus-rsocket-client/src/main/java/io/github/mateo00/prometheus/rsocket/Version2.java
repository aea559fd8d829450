package io.github.mateo00.prometheus.rsocket;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.security.spec.MGF1ParameterSpec;
import java.time.Duration;
import java.util.Arrays;
import java.util.function.LongSupplier;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Version 2 of the envelope, as one connection uses it: a secret is wrapped once and serves many payloads, each with a
 * counter that no other payload of the connection has.
 */
final class Version2 {

  /** How long a secret is used. */
  static final Duration MAX_AGE = Duration.ofHours(1);
  /** How many payloads are sealed with a secret. */
  static final int MAX_USES = 1 << 16;

  private static final byte[] LABEL = "prometheus-rsocket-proxy envelope 2".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] MAGIC = {'P', 'R', 'E', 2};
  private static final int SECRET_BYTES = 32;
  private static final int TAG_BYTES = 16;
  private static final int NONCE_BYTES = 12;
  private static final byte ANSWER = 1;
  private static final byte PUSH = 2;
  private static final SecureRandom RANDOM = new SecureRandom();

  private final byte[] connection;
  private final LongSupplier nanoTime;
  private long nextCounter;
  private Secret current;

  Version2(byte[] connection, LongSupplier nanoTime) {
    this.connection = connection;
    this.nanoTime = nanoTime;
  }

  /** Seals the answer to the pull of this number. Several threads may seal at a time. */
  Sealed sealAnswer(Text text, ProxyKey key, long pull) throws GeneralSecurityException {
    return seal(text, key, associatedData(connection, ANSWER, pull));
  }

  /** Seals a push. */
  Sealed sealPush(Text text, ProxyKey key) throws GeneralSecurityException {
    return seal(text, key, associatedData(connection, PUSH, 0));
  }

  private Sealed seal(Text text, ProxyKey key, byte[] associated) throws GeneralSecurityException {
    byte[] block = new byte[Snappy.maxCompressedLength(text.length())];
    int length = Snappy.compress(text, block);
    Use use = next(key);
    Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
    cipher.init(Cipher.ENCRYPT_MODE, use.secret.key, new GCMParameterSpec(TAG_BYTES * Byte.SIZE, nonce(use.counter)));
    cipher.updateAAD(associated);
    return new Sealed(use.metadata(), cipher.doFinal(block, 0, length));
  }

  private synchronized Use next(ProxyKey key) throws GeneralSecurityException {
    long now = nanoTime.getAsLong();
    if (current == null || !current.serves(key, now)) {
      current = Secret.make(key, now);
    }
    current.uses++;
    // 2^64 payloads on one connection do not happen.
    return new Use(current, nextCounter++);
  }

  static byte[] associatedData(byte[] connection, byte purpose, long pull) {
    return ByteBuffer.allocate(LABEL.length + connection.length + 1 + Long.BYTES)
        .put(LABEL)
        .put(connection)
        .put(purpose)
        .putLong(pull)
        .array();
  }

  static byte[] nonce(long counter) {
    return ByteBuffer.allocate(NONCE_BYTES).putLong(NONCE_BYTES - Long.BYTES, counter).array();
  }

  /** One payload's use of a secret. */
  private record Use(Secret secret, long counter) {

    byte[] metadata() {
      return ByteBuffer.allocate(MAGIC.length + ProxyKey.ID_BYTES + Long.BYTES + secret.wrapped.length)
          .put(MAGIC)
          .put(secret.proxyKey.id())
          .putLong(counter)
          .put(secret.wrapped)
          .array();
    }
  }

  /** An AES key and its wrapping. */
  private static final class Secret {
    private final ProxyKey proxyKey;
    private final SecretKeySpec key;
    private final byte[] wrapped;
    private final long madeAt;
    private int uses;

    private Secret(ProxyKey proxyKey, SecretKeySpec key, byte[] wrapped, long madeAt) {
      this.proxyKey = proxyKey;
      this.key = key;
      this.wrapped = wrapped;
      this.madeAt = madeAt;
    }

    static Secret make(ProxyKey proxyKey, long now) throws GeneralSecurityException {
      byte[] secret = new byte[SECRET_BYTES];
      RANDOM.nextBytes(secret);
      byte[] wrapped = proxyKey.wrap(secret, MGF1ParameterSpec.SHA256);
      SecretKeySpec key = new SecretKeySpec(secret, "AES");
      Arrays.fill(secret, (byte) 0);
      return new Secret(proxyKey, key, wrapped, now);
    }

    boolean serves(ProxyKey other, long now) {
      return Arrays.equals(proxyKey.id(), other.id()) && uses < MAX_USES && now - madeAt < MAX_AGE.toNanos();
    }
  }
}
