package interop.common;

import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.proxy.ProxyConnectionEvent;
import io.netty.handler.ssl.SslContextBuilder;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import java.io.File;
import java.net.URI;
import java.util.List;
import java.util.logging.Level;
import java.util.logging.Logger;
import javax.net.ssl.SSLException;
import reactor.netty.NettyPipeline;
import reactor.netty.http.client.HttpClient;
import reactor.netty.tcp.TcpClient;
import reactor.netty.transport.ProxyProvider;

/** A transport made as the original's Spring starter makes it. */
public final class Transports {
  public static final String[] OPTIONS = {"--transport=", "--host=", "--port=", "--ca=", "--cert=", "--key=", "--http-proxy="};
  // They log each failed connect with its stack. Held, because a logger nobody refers to forgets its level.
  private static final List<Logger> SILENT = List.of(Logger.getLogger("io.netty"), Logger.getLogger("reactor"));

  static {
    SILENT.forEach(logger -> logger.setLevel(Level.OFF));
  }

  private Transports() {
  }

  /** The default pool of connections ends at 500 for one address; unpooled is for more than that. */
  public static ClientTransport create(Args args, boolean pooled) {
    boolean websocket = args.text("--transport", "tcp").equals("ws");
    TcpClient tcp = (pooled ? TcpClient.create() : TcpClient.newConnection())
        .host(args.text("--host", "127.0.0.1"))
        .port(args.number("--port", websocket ? 8081 : 7001));
    if (args.has("--ca")) {
      tcp = secure(tcp, args);
    }
    if (args.has("--http-proxy")) {
      tcp = through(tcp, URI.create(args.text("--http-proxy", "")));
    }
    return websocket ? WebsocketClientTransport.create(HttpClient.from(tcp), "/") : TcpClientTransport.create(tcp);
  }

  private static TcpClient through(TcpClient tcp, URI url) {
    String[] user = url.getUserInfo().split(":", 2);
    return tcp.proxy(spec -> spec.type(ProxyProvider.Proxy.HTTP)
        .host(url.getHost())
        .port(url.getPort())
        .username(user[0])
        .password(name -> user[1]))
        .doOnChannelInit((observer, channel, remote) -> channel.pipeline()
            .addAfter(NettyPipeline.ProxyHandler, null, new ActiveInTunnel()));
  }

  /** As docs/clients.md has it. */
  private static final class ActiveInTunnel extends ChannelInboundHandlerAdapter {
    @Override
    public void channelActive(ChannelHandlerContext context) {
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
      context.fireUserEventTriggered(event);
      if (event instanceof ProxyConnectionEvent) {
        context.fireChannelActive();
        context.pipeline().remove(this);
      }
    }
  }

  private static TcpClient secure(TcpClient tcp, Args args) {
    try {
      SslContextBuilder tls = SslContextBuilder.forClient().trustManager(new File(args.text("--ca", "")));
      if (args.has("--cert")) {
        tls.keyManager(new File(args.text("--cert", "")), new File(args.text("--key", "")));
      }
      var context = tls.build();
      return tcp.secure(spec -> spec.sslContext(context));
    } catch (SSLException e) {
      throw new IllegalArgumentException(e);
    }
  }
}
