package io.github.mateo00.prometheus.rsocket;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/** What an application says about itself in the data of SETUP. */
final class Introduction {

  static final String MIME_TYPE = "application/vnd.prometheus-rsocket.application+json";
  static final String CLIENT = "java 0.1.0";

  /** More than this the proxy does not read. */
  private static final int MAX_BYTES = 64 << 10;

  private Introduction() {}

  /** The JSON text. {@code instance} and {@code job} may be {@code null}. */
  static byte[] encode(String instance, String job, Map<String, String> labels) {
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
