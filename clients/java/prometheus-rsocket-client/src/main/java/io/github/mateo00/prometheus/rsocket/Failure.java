package io.github.mateo00.prometheus.rsocket;

import io.netty.channel.ConnectTimeoutException;
import io.netty.handler.codec.http.websocketx.WebSocketHandshakeException;
import io.rsocket.RSocketErrorException;
import io.rsocket.exceptions.RejectedSetupException;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.nio.channels.ClosedChannelException;
import java.util.concurrent.TimeoutException;
import javax.net.ssl.SSLException;

/** Why an attempt to connect failed, or a connection ended. */
final class Failure extends IOException {

  private static final long serialVersionUID = 1;

  /** The value of the label {@code reason} of {@code prometheus_rsocket_client_connection_errors_total}. */
  enum Reason {
    /** Nobody listens at the address. */
    REFUSED,
    /** The connection, a handshake or the key took too long. */
    TIMEOUT,
    TLS,
    WEBSOCKET,
    /** The connection was made, but no key came in time, and there is another proxy to try. */
    NO_KEY,
    /** The proxy closed the connection. */
    CLOSED,
    /** The proxy ended the connection with an ERROR. */
    ERROR,
    /** The proxy gave no sign of life. */
    SILENT,
    PROTOCOL,
    /** The proxy opens no envelope of version 2, and an older one is forbidden. */
    DOWNGRADE,
    /** The credentials cannot be read, or the proxy does not accept them. */
    CREDENTIALS,
    NETWORK;

    String label() {
      return name().toLowerCase(java.util.Locale.ROOT);
    }
  }

  private final transient Reason reason;

  Failure(Reason reason, String message) {
    this(reason, message, null);
  }

  Failure(Reason reason, String message, Throwable cause) {
    super(message, cause);
    this.reason = reason;
  }

  Reason reason() {
    return reason;
  }

  /** What an error of the network or of the proxy says. */
  static Failure of(Throwable error) {
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      if (cause instanceof Failure failure) {
        return failure;
      }
      Reason known = reasonOf(cause);
      if (known != null) {
        return new Failure(known, describe(cause), error);
      }
    }
    return new Failure(Reason.NETWORK, describe(error), error);
  }

  private static Reason reasonOf(Throwable error) {
    if (error instanceof RejectedSetupException) {
      return Reason.CREDENTIALS;
    } else if (error instanceof RSocketErrorException) {
      return Reason.ERROR;
    } else if (error instanceof SSLException) {
      return Reason.TLS;
    } else if (error instanceof WebSocketHandshakeException) {
      return Reason.WEBSOCKET;
    } else if (error instanceof ConnectTimeoutException
        || error instanceof SocketTimeoutException
        || error instanceof TimeoutException) {
      return Reason.TIMEOUT;
    } else if (error instanceof UnknownHostException) {
      return Reason.NETWORK;
    } else if (error instanceof ConnectException) {
      return Reason.REFUSED;
    } else if (error instanceof ClosedChannelException) {
      return Reason.CLOSED;
    }
    return null;
  }

  private static String describe(Throwable error) {
    return error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
  }
}
