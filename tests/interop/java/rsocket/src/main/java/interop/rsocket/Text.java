package interop.rsocket;

import interop.common.Args;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Random;

/** The exposition the app answers with: one sample, or a file's text, or as many bytes as asked for. */
final class Text {
  private final String text;

  Text(String name, Args args) {
    try {
      text = args.has("--text") ? Files.readString(Path.of(args.text("--text", "")))
          : generate(name, args.number("--bytes", 0));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** At least that many bytes, in label values of random base64 that snappy cannot make smaller. */
  private static String generate(String name, int bytes) {
    StringBuilder out = new StringBuilder(bytes + 4096);
    out.append("# HELP interop_up Always 1\n# TYPE interop_up gauge\n");
    out.append("interop_up{app=\"").append(name).append("\"} 1\n");
    if (bytes > 0) {
      out.append("# HELP interop_bulk Ballast\n# TYPE interop_bulk gauge\n");
    }
    Random random = new Random(1);
    byte[] value = new byte[750];
    for (int row = 0; out.length() < bytes; row++) {
      random.nextBytes(value);
      out.append("interop_bulk{app=\"").append(name).append("\",row=\"").append(row).append("\",ballast=\"")
          .append(Base64.getEncoder().encodeToString(value)).append("\"} 1\n");
    }
    return out.toString();
  }

  String get() {
    return text;
  }

  String describe() {
    try {
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes);
      return "bytes=" + bytes.length + " sha256=" + HexFormat.of().formatHex(digest);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }
}
