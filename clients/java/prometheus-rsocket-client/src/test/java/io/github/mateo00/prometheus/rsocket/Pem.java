package io.github.mateo00.prometheus.rsocket;

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.Base64;

/** A certificate that is its own authority, made with the JDK's {@code keytool}. */
final class Pem {

  final Path certificate;
  final Path key;

  private Pem(Path certificate, Path key) {
    this.certificate = certificate;
    this.key = key;
  }

  static Pem make(Path folder, String name) throws Exception {
    char[] password = "changeit".toCharArray();
    Path store = folder.resolve(name + ".p12");
    Process keytool = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-genkeypair", "-alias", name, "-dname", "CN=" + name, "-ext", "san=dns:" + name,
            "-keyalg", "EC", "-validity", "30", "-storetype", "PKCS12", "-keystore", store.toString(),
            "-storepass", new String(password))
        .redirectErrorStream(true)
        .start();
    String said = new String(keytool.getInputStream().readAllBytes());
    if (keytool.waitFor() != 0) {
      throw new AssertionError(said);
    }
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      keys.load(in, password);
    }
    return new Pem(
        write(folder.resolve(name + ".pem"), "CERTIFICATE", keys.getCertificate(name).getEncoded()),
        write(folder.resolve(name + ".key"), "PRIVATE KEY", keys.getKey(name, password).getEncoded()));
  }

  private static Path write(Path file, String type, byte[] der) throws Exception {
    String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
    return Files.writeString(file, "-----BEGIN " + type + "-----\n" + base64 + "\n-----END " + type + "-----\n");
  }
}
