package io.github.mateo00.prometheus.rsocket;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;

/** The test vectors of the repository, which the Rust crates are tested with too. */
final class Vectors {

  private static final Path ROOT = Path.of("../../../crates/wire/tests/vectors");

  private Vectors() {}

  static byte[] read(String file) throws IOException {
    return Files.readAllBytes(ROOT.resolve(file));
  }

  static Text text(String folder) throws IOException {
    byte[] bytes = read(folder + "/plaintext.txt");
    return new Text(bytes, bytes.length);
  }

  static ProxyKey publicKey(String folder) throws IOException, GeneralSecurityException {
    return ProxyKey.decode(read(folder + "/public.der"));
  }

  static PrivateKey privateKey(String folder) throws IOException, GeneralSecurityException {
    String pem = Files.readString(ROOT.resolve(folder + "/private.pem"));
    byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
    return KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(der));
  }
}
