package io.github.mateo00.prometheus.rsocket.spring;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Optional;
import org.springframework.core.env.Environment;

/**
 * The instance of an application with a web server: host name and port, as Prometheus names what it scrapes itself.
 * Unlike the process id, that stays the same when the application is started again.
 *
 * @param name none where the port is another one each time, or the host has no name
 */
record DefaultInstance(Optional<String> name) {

  static DefaultInstance of(Environment environment) {
    int port = environment.getProperty("server.port", Integer.class, 8080);
    return new DefaultInstance(port > 0 ? host().map(host -> host + ":" + port) : Optional.empty());
  }

  private static Optional<String> host() {
    try {
      return Optional.of(InetAddress.getLocalHost().getHostName());
    } catch (UnknownHostException e) {
      return Optional.empty();
    }
  }
}
