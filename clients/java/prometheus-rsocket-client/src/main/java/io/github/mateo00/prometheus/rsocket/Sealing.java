package io.github.mateo00.prometheus.rsocket;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import java.util.function.LongSupplier;

/** What one connection seals with: follows the proxy's key, and chooses the envelope that both ends know. */
final class Sealing {

  private static final byte[] PLAINTEXT = "plaintext".getBytes(StandardCharsets.US_ASCII);

  private final boolean version2Only;
  private final LongSupplier nanoTime;
  /** What came last; {@code null} before the first key. */
  private byte[] keyBytes;
  /** {@code null} where the texts are sent as they are. */
  private ProxyKey key;
  /** One for the whole connection, so that no counter is used twice; {@code null} where the proxy does not open it. */
  private Version2 version2;

  Sealing(boolean version2Only, LongSupplier nanoTime) {
    this.version2Only = version2Only;
    this.nanoTime = nanoTime;
  }

  /**
   * Takes a key payload.
   *
   * @return whether the key is another one than before
   */
  synchronized boolean take(byte[] data, Announcement announcement) throws Failure {
    boolean changed = !Arrays.equals(keyBytes, data);
    if (changed) {
      key = Arrays.equals(data, PLAINTEXT) ? null : decode(data);
      keyBytes = data;
    }
    boolean opensVersion2 = key != null && announcement.version2() && announcement.connection() != null;
    if (version2Only && !opensVersion2) {
      throw new Failure(
          Failure.Reason.DOWNGRADE, "the proxy opens no envelope of version 2, and an older one is forbidden");
    }
    if (!opensVersion2) {
      version2 = null;
    } else if (version2 == null) {
      version2 = new Version2(announcement.connection(), nanoTime);
    }
    return changed;
  }

  private static ProxyKey decode(byte[] der) throws Failure {
    try {
      return ProxyKey.decode(der);
    } catch (GeneralSecurityException e) {
      throw new Failure(Failure.Reason.PROTOCOL, "the proxy sent a key that cannot be used: " + e.getMessage(), e);
    }
  }

  /** For the answer to the pull that this was announced with; {@code null} if it cannot be sealed as it has to be. */
  synchronized Seal forAnswer(Announcement announcement) {
    Version2 envelope = version2;
    ProxyKey to = key;
    if (envelope != null && announcement.pull().isPresent()) {
      long pull = announcement.pull().getAsLong();
      return text -> envelope.sealAnswer(text, to, pull);
    }
    return version2Only ? null : older(to);
  }

  /** For a push. There has to be a key. */
  synchronized Seal forPush() {
    Version2 envelope = version2;
    ProxyKey to = key;
    return envelope == null ? older(to) : text -> envelope.sealPush(text, to);
  }

  private static Seal older(ProxyKey key) {
    if (key != null) {
      return text -> Version1.seal(text, key);
    }
    return text -> new Sealed(PLAINTEXT, Arrays.copyOf(text.bytes(), text.length()));
  }
}
