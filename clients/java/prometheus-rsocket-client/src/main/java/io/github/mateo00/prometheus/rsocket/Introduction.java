package io.github.mateo00.prometheus.rsocket;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;

/** What an application says about itself in the data of SETUP. */
final class Introduction {

  static final String MIME_TYPE = "application/vnd.prometheus-rsocket.application+json";
  static final String CLIENT = "java 0.1.0";

  /** More than this the proxy does not read. */
  private static final int MAX_BYTES = 64 << 10;
  private static final int MAX_NAME_BYTES = 255;
  private static final int MAX_LABELS = 64;
  /** Prometheus takes labels that begin with two underscores as settings. */
  private static final Pattern LABEL_NAME = Pattern.compile("(?!__|(instance|job)$)[a-zA-Z_][a-zA-Z0-9_]*");

  private Introduction() {}

  /**
   * The JSON text. {@code instance} and {@code job} may be {@code null}. What the proxy would not believe is refused with an
   * {@link IllegalArgumentException}.
   */
  static byte[] encode(String instance, String job, Map<String, String> labels) {
    checkName("instance", instance);
    checkName("job", job);
    checkLabels(labels);
    StringBuilder json = new StringBuilder("{\"client\":");
    quote(json, CLIENT).append(",\"targets\":[{\"instance\":");
    quote(json, instance == null ? defaultInstance() : instance);
    if (job != null) {
      quote(json.append(",\"job\":"), job);
    }
    if (!labels.isEmpty()) {
      String separator = ",\"labels\":{";
      for (Map.Entry<String, String> label : new TreeMap<>(labels).entrySet()) {
        quote(json.append(separator), label.getKey());
        quote(json.append(':'), label.getValue());
        separator = ",";
      }
      json.append('}');
    }
    byte[] bytes = json.append("}]}").toString().getBytes(StandardCharsets.UTF_8);
    if (bytes.length > MAX_BYTES) {
      throw new IllegalArgumentException("instance, job and labels are longer than " + MAX_BYTES + " bytes");
    }
    return bytes;
  }

  private static void checkName(String what, String name) {
    if (name != null) {
      int length = name.getBytes(StandardCharsets.UTF_8).length;
      if (length == 0 || length > MAX_NAME_BYTES || name.codePoints().anyMatch(Character::isISOControl)) {
        throw new IllegalArgumentException(
            what + " must have 1 to " + MAX_NAME_BYTES + " bytes and no control characters");
      }
    }
  }

  private static void checkLabels(Map<String, String> labels) {
    if (labels.size() > MAX_LABELS) {
      throw new IllegalArgumentException("an application cannot have more than " + MAX_LABELS + " labels");
    }
    for (String name : labels.keySet()) {
      if (!LABEL_NAME.matcher(name).matches()) {
        throw new IllegalArgumentException("label " + name
            + ": the name must match [a-zA-Z_][a-zA-Z0-9_]*, must not begin with __, and must not be instance or job");
      }
    }
  }

  private static String defaultInstance() {
    return hostName() + ":" + ProcessHandle.current().pid();
  }

  private static String hostName() {
    // Set in containers, where a look-up may not know the name.
    String name = System.getenv("HOSTNAME");
    if (name != null && !name.isBlank()) {
      return name;
    }
    try {
      return InetAddress.getLocalHost().getHostName();
    } catch (UnknownHostException e) {
      return "localhost";
    }
  }

  private static StringBuilder quote(StringBuilder json, String text) {
    json.append('"');
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') {
        json.append('\\').append(c);
      } else if (c < ' ' || Character.isSurrogate(c)) {
        json.append(String.format("\\u%04x", (int) c));
      } else {
        json.append(c);
      }
    }
    return json.append('"');
  }
}
