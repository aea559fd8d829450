package io.github.mateo00.prometheus.rsocket;

import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.proxy.ProxyConnectionEvent;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.Objects;
import reactor.netty.NettyPipeline;
import reactor.netty.transport.ProxyProvider;

/** Which HTTP proxy to connect through, and how to use the tunnel that it makes. */
final class HttpProxy {

  /** The password must not be in it. */
  private static final String FORM = "an HTTP proxy is written http://[USER:PASSWORD@]HOST:PORT";

  private final String host;
  private final int port;
  private final String name;
  private final String password;

  private HttpProxy(URI url) {
    host = url.getHost();
    port = url.getPort();
    String[] credentials = url.getRawUserInfo() == null ? null : url.getRawUserInfo().split(":", 2);
    name = credentials == null ? null : decoded(credentials[0]);
    password = credentials == null || credentials.length == 1 ? "" : decoded(credentials[1]);
  }

  static HttpProxy parse(String text) {
    URI url;
    try {
      url = URI.create(text.strip());
    } catch (IllegalArgumentException e) {
      // Without the cause, which has the text in it.
      throw new IllegalArgumentException(FORM);
    }
    String path = Objects.requireNonNullElse(url.getRawPath(), "");
    if (!"http".equalsIgnoreCase(url.getScheme()) || url.getHost() == null || url.getPort() < 1
        || url.getPort() > 65535 || !path.isEmpty() && !path.equals("/")) {
      throw new IllegalArgumentException(FORM);
    }
    return new HttpProxy(url);
  }

  /** A plus sign is one, other than in a form. */
  private static String decoded(String part) {
    return URLDecoder.decode(part.replace("+", "%2B"), StandardCharsets.UTF_8);
  }

  void describe(ProxyProvider.TypeSpec spec) {
    var proxy = spec.type(ProxyProvider.Proxy.HTTP).host(host.replaceAll("[\\[\\]]", "")).port(port);
    if (name != null) {
      proxy.username(name).password(user -> password);
    }
  }

  /**
   * Has Reactor Netty take the channel for connected once the tunnel is there. Otherwise it does so while CONNECT is not
   * answered. What is sent then is to wait in Netty's {@code ProxyHandler}, but gets lost: that listens to the promise of each
   * write, and Reactor Netty's promise for a stream ({@code MonoSendMany}) throws at it.
   */
  static void announceTunnelOnly(Channel channel) {
    channel.pipeline().addAfter(NettyPipeline.ProxyHandler, null, new ChannelInboundHandlerAdapter() {
      @Override
      public void channelActive(ChannelHandlerContext context) {
        // Not yet.
      }

      @Override
      public void userEventTriggered(ChannelHandlerContext context, Object event) {
        context.fireUserEventTriggered(event);
        if (event instanceof ProxyConnectionEvent) {
          context.fireChannelActive();
          context.pipeline().remove(this);
        }
      }
    });
  }
}
