package io.github.mateo00.prometheus.rsocket;

import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.security.spec.MGF1ParameterSpec;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.SecretKeySpec;

/** Version 1 of the envelope, for proxies that open no later one. */
final class Version1 {

  private static final int SECRET_BYTES = 16;
  private static final SecureRandom RANDOM = new SecureRandom();

  private Version1() {}

  static Sealed seal(Text text, ProxyKey key) throws GeneralSecurityException {
    byte[] secret = new byte[SECRET_BYTES];
    RANDOM.nextBytes(secret);
    byte[] block = new byte[Snappy.maxCompressedLength(text.length())];
    int length = Snappy.compress(text, block);
    Cipher cipher = Cipher.getInstance("AES/ECB/PKCS5Padding");
    cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(secret, "AES"));
    byte[] data = cipher.doFinal(block, 0, length);
    byte[] metadata = key.wrap(secret, MGF1ParameterSpec.SHA1);
    Arrays.fill(secret, (byte) 0);
    return new Sealed(metadata, data);
  }
}
