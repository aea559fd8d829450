package interop.proxy;

import io.micrometer.prometheus.rsocket.autoconfigure.EnablePrometheusRSocketProxyServer;
import io.micrometer.prometheus.rsocket.autoconfigure.PrometheusRSocketClientAutoConfiguration;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** The published Java proxy. Arguments: TCP, WebSocket and HTTP port, each 0 for a free one. */
@SpringBootApplication(exclude = PrometheusRSocketClientAutoConfiguration.class)
@EnablePrometheusRSocketProxyServer
public class Main {
  public static void main(String[] argv) throws Exception {
    int tcp = port(argv, 0);
    int websocket = port(argv, 1);
    int http = port(argv, 2);
    SpringApplication.run(Main.class,
        "--micrometer.prometheus-proxy.tcp-port=" + tcp,
        "--micrometer.prometheus-proxy.websocket-port=" + websocket,
        "--server.address=127.0.0.1",
        "--server.port=" + http);
    awaitListener(tcp);
    awaitListener(websocket);
    System.out.println("READY tcp=" + tcp + " websocket=" + websocket + " http=" + http);
    awaitEndOfInput();
    System.exit(0);
  }

  private static int port(String[] argv, int index) throws IOException {
    int port = argv.length > index ? Integer.parseInt(argv[index]) : 0;
    if (port != 0) {
      return port;
    }
    try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return free.getLocalPort();
    }
  }

  /** The controller binds in the background and says nothing when it has. */
  private static void awaitListener(int port) throws InterruptedException {
    while (true) {
      try (Socket probe = new Socket(InetAddress.getLoopbackAddress(), port)) {
        return;
      } catch (IOException e) {
        Thread.sleep(50);
      }
    }
  }

  private static void awaitEndOfInput() throws IOException {
    while (System.in.read() >= 0) {
    }
  }
}
