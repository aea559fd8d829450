package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertNotNull;

import io.netty.buffer.ByteBufUtil;
import io.rsocket.ConnectionSetupPayload;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.SocketAcceptor;
import io.rsocket.core.RSocketServer;
import io.rsocket.exceptions.RejectedSetupException;
import io.rsocket.plugins.DuplexConnectionInterceptor;
import io.rsocket.transport.ServerTransport;
import io.rsocket.transport.netty.server.CloseableChannel;
import io.rsocket.transport.netty.server.TcpServerTransport;
import io.rsocket.util.DefaultPayload;
import io.rsocket.util.EmptyPayload;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.PrivateKey;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import reactor.core.publisher.Mono;

/** A proxy made with rsocket-java, which does as the test says. */
final class FakeProxy implements AutoCloseable {

  static final Duration PATIENCE = Duration.ofSeconds(10);

  private static final byte[] TOKEN = new byte[Announcement.TOKEN_BYTES];

  /** What the key payload says. */
  enum Kind {
    VERSION2,
    VERSION1,
    PLAINTEXT,
    /** None is sent. */
    NONE
  }

  private final BlockingQueue<Peer> peers = new LinkedBlockingQueue<>();
  private final CloseableChannel server;
  /** What becomes of a push. The default is an acknowledgement. */
  volatile Function<Peer, Mono<Payload>> onPush = peer -> Mono.just(EmptyPayload.INSTANCE);
  /** What becomes of a connection; empty where it is accepted. */
  volatile Function<Peer, Mono<RSocket>> onSetup = peer -> Mono.empty();
  volatile Kind kind;

  FakeProxy(Kind kind) {
    this(kind, TcpServerTransport.create("127.0.0.1", 0));
  }

  FakeProxy(Kind kind, int port) {
    this(kind, TcpServerTransport.create("127.0.0.1", port));
  }

  FakeProxy(Kind kind, ServerTransport<CloseableChannel> transport) {
    this.kind = kind;
    // The connection whose SETUP comes next; the server has one event loop for each.
    ThreadLocal<Wire> wires = new ThreadLocal<>();
    SocketAcceptor acceptor = (setup, client) -> {
      Peer peer = new Peer(setup, client, wires.get());
      return onSetup.apply(peer).switchIfEmpty(Mono.fromSupplier(() -> accept(peer)));
    };
    server = RSocketServer.create(acceptor)
        .interceptors(interceptors -> interceptors.forConnection((type, connection) -> {
          if (type != DuplexConnectionInterceptor.Type.SOURCE) {
            return connection;
          }
          wires.set(new Wire(connection));
          return wires.get();
        }))
        .bindNow(transport);
  }

  private RSocket accept(Peer peer) {
    if (kind != Kind.NONE) {
      peer.client.fireAndForget(peer.key(false)).subscribe();
    }
    peers.add(peer);
    return peer;
  }

  int port() {
    return server.address().getPort();
  }

  String uri() {
    return "tcp://localhost:" + port();
  }

  /** The next client that has connected. */
  Peer next() throws InterruptedException {
    Peer peer = peers.poll(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
    assertNotNull(peer, "no client connects");
    return peer;
  }

  @Override
  public void close() {
    server.dispose();
    server.onClose().block(PATIENCE);
  }

  /** A client that has connected. */
  final class Peer implements RSocket {

    final String dataMimeType;
    final String metadataMimeType;
    final String setupData;
    final byte[] setupMetadata;
    final RSocket client;
    /** Says how the client ended the connection. */
    final Wire wire;
    private final BlockingQueue<String> pushed = new LinkedBlockingQueue<>();
    private long pulls;

    Peer(ConnectionSetupPayload setup, RSocket client, Wire wire) {
      dataMimeType = setup.dataMimeType();
      metadataMimeType = setup.metadataMimeType();
      setupData = setup.getDataUtf8();
      setupMetadata = setup.hasMetadata() ? ByteBufUtil.getBytes(setup.metadata()) : new byte[0];
      this.client = client;
      this.wire = wire;
    }

    /** The text that the client answers a pull with. */
    String pull() throws Exception {
      Payload answer = pulling().block(PATIENCE);
      return open(answer, pulls);
    }

    Mono<Payload> pulling() {
      pulls++;
      return client.requestResponse(key(true));
    }

    /** The next text that the client pushes. */
    String nextPush() throws InterruptedException {
      String text = pushed.poll(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
      assertNotNull(text, "nothing is pushed");
      return text;
    }

    Payload key(boolean pull) {
      try {
        if (kind == Kind.PLAINTEXT) {
          return DefaultPayload.create("plaintext");
        }
        byte[] key = Vectors.read("1-small/public.der");
        return kind == Kind.VERSION1
            ? DefaultPayload.create(key)
            : DefaultPayload.create(key, announcement(pull));
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    }

    private byte[] announcement(boolean pull) {
      ByteArrayOutputStream items = new ByteArrayOutputStream();
      items.writeBytes(new byte[] {'P', 'R', 'P', 1, 1, 2, 1, 2, 2, Announcement.TOKEN_BYTES});
      items.writeBytes(TOKEN);
      if (pull) {
        items.writeBytes(new byte[] {3, Long.BYTES});
        items.writeBytes(ByteBuffer.allocate(Long.BYTES).putLong(pulls).array());
      }
      return items.toByteArray();
    }

    /** {@code pull}: which pull it answers; 0 where it is a push. */
    String open(Payload payload, long pull) throws Exception {
      byte[] data = ByteBufUtil.getBytes(payload.data());
      byte[] metadata = ByteBufUtil.getBytes(payload.metadata());
      PrivateKey key = Vectors.privateKey("1-small");
      byte[] text = switch (kind) {
        case VERSION2 -> Opener.version2(
            key, Version2.associatedData(TOKEN, (byte) (pull == 0 ? 2 : 1), pull), metadata, data);
        case VERSION1 -> Opener.version1(key, metadata, data);
        case PLAINTEXT, NONE -> data;
      };
      return new String(text, StandardCharsets.UTF_8);
    }

    @Override
    public Mono<Payload> requestResponse(Payload payload) {
      try {
        pushed.add(open(payload, 0));
        return onPush.apply(this);
      } catch (Exception e) {
        throw new AssertionError(e);
      } finally {
        payload.release();
      }
    }

    /** Rejects the connection. rsocket-java 1.1.4 does not do that by itself: it closes without a reason. */
    Mono<RSocket> reject(String reason) {
      wire.sendErrorAndClose(new RejectedSetupException(reason));
      return Mono.never();
    }

    /** Ends the connection as a node does that dies. */
    void cut() {
      wire.cut();
    }

    /** Waits until the client has ended the connection: how. */
    Failure ended() {
      wire.onClose().onErrorComplete().block(PATIENCE);
      return wire.failure();
    }
  }
}
