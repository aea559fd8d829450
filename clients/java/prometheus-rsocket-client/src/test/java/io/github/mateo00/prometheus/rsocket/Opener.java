package io.github.mateo00.prometheus.rsocket;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.PrivateKey;
import java.security.spec.MGF1ParameterSpec;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import javax.crypto.spec.SecretKeySpec;

/** The proxy's end of the envelopes, with Netty's decoder for Snappy. */
final class Opener {

  private static final int HEAD_BYTES = 4 + 8 + 8;

  private Opener() {}

  static byte[] version1(PrivateKey key, byte[] metadata, byte[] data) throws GeneralSecurityException {
    byte[] secret = unwrap(key, metadata, MGF1ParameterSpec.SHA1);
    Cipher cipher = Cipher.getInstance("AES/ECB/PKCS5Padding");
    cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(secret, "AES"));
    return decompress(cipher.doFinal(data));
  }

  static byte[] version2(PrivateKey key, byte[] associated, byte[] metadata, byte[] data)
      throws GeneralSecurityException {
    byte[] secret = unwrap(key, wrapped(metadata), MGF1ParameterSpec.SHA256);
    byte[] nonce = ByteBuffer.allocate(12).putLong(4, counter(metadata)).array();
    Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
    cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(secret, "AES"), new GCMParameterSpec(128, nonce));
    cipher.updateAAD(associated);
    return decompress(cipher.doFinal(data));
  }

  static long counter(byte[] metadata) {
    return ByteBuffer.wrap(metadata).getLong(HEAD_BYTES - Long.BYTES);
  }

  static byte[] wrapped(byte[] metadata) {
    return Arrays.copyOfRange(metadata, HEAD_BYTES, metadata.length);
  }

  static byte[] unwrap(PrivateKey key, byte[] wrapped, MGF1ParameterSpec mask) throws GeneralSecurityException {
    Cipher cipher = Cipher.getInstance("RSA/ECB/OAEPPadding");
    cipher.init(Cipher.DECRYPT_MODE, key, new OAEPParameterSpec("SHA-256", "MGF1", mask, PSource.PSpecified.DEFAULT));
    return cipher.doFinal(wrapped);
  }

  static byte[] decompress(byte[] block) {
    ByteBuf text = Unpooled.buffer();
    new io.netty.handler.codec.compression.Snappy().decode(Unpooled.wrappedBuffer(block), text);
    return ByteBufUtil.getBytes(text);
  }
}
