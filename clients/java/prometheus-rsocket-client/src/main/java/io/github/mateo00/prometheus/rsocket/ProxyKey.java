package io.github.mateo00.prometheus.rsocket;

import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;

/** The proxy's public key. */
final class ProxyKey {

  static final int ID_BYTES = 8;

  /** Shorter ones are no protection, longer ones cost too much time. */
  private static final int MIN_BITS = 2048;
  private static final int MAX_BITS = 8192;

  private final RSAPublicKey key;
  private final byte[] id;

  private ProxyKey(RSAPublicKey key, byte[] id) {
    this.key = key;
    this.id = id;
  }

  /** Reads an X.509 SubjectPublicKeyInfo in DER. */
  static ProxyKey decode(byte[] der) throws GeneralSecurityException {
    RSAPublicKey key = (RSAPublicKey) KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(der));
    int bits = key.getModulus().bitLength();
    if (bits < MIN_BITS || bits > MAX_BITS) {
      throw new GeneralSecurityException("a key of " + bits + " bits");
    }
    byte[] digest = MessageDigest.getInstance("SHA-256").digest(der);
    return new ProxyKey(key, Arrays.copyOf(digest, ID_BYTES));
  }

  /** The first eight bytes of the key's SHA-256. */
  byte[] id() {
    return id;
  }

  /** RSA-OAEP with SHA-256 for the empty label. */
  byte[] wrap(byte[] secret, MGF1ParameterSpec mask) throws GeneralSecurityException {
    Cipher cipher = Cipher.getInstance("RSA/ECB/OAEPPadding");
    cipher.init(Cipher.ENCRYPT_MODE, key, new OAEPParameterSpec("SHA-256", "MGF1", mask, PSource.PSpecified.DEFAULT));
    return cipher.doFinal(secret);
  }
}
