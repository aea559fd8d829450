package interop.rsocket;

import io.rsocket.Payload;
import io.rsocket.util.DefaultPayload;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.KeyGenerator;
import javax.crypto.SecretKey;
import org.xerial.snappy.Snappy;

/** What the published client does to a text, told in few lines of its own. */
final class Envelope {
  private static final byte[] PLAINTEXT = "plaintext".getBytes(StandardCharsets.UTF_8);

  private Envelope() {
  }

  static boolean isPlaintext(byte[] key) {
    return Arrays.equals(key, PLAINTEXT);
  }

  /** Sealed to the key, which is a SubjectPublicKeyInfo; left open where the key says `plaintext`. */
  static Payload seal(byte[] key, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    if (isPlaintext(key)) {
      return DefaultPayload.create(bytes, PLAINTEXT);
    }
    try {
      KeyGenerator generator = KeyGenerator.getInstance("AES");
      generator.init(128);
      SecretKey session = generator.generateKey();
      Cipher aes = Cipher.getInstance("AES/ECB/PKCS5Padding");
      aes.init(Cipher.ENCRYPT_MODE, session);
      return DefaultPayload.create(aes.doFinal(Snappy.compress(bytes)), wrap(key, session));
    } catch (GeneralSecurityException | IOException e) {
      throw new IllegalStateException(e);
    }
  }

  /** This name means SHA-256 as the digest and SHA-1 in MGF1. */
  private static byte[] wrap(byte[] key, SecretKey session) throws GeneralSecurityException {
    PublicKey recipient = KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(key));
    Cipher rsa = Cipher.getInstance("RSA/ECB/OAEPWithSHA-256AndMGF1Padding");
    rsa.init(Cipher.ENCRYPT_MODE, recipient);
    return rsa.doFinal(session.getEncoded());
  }
}
