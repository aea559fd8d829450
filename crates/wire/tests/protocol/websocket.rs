//! WebSocket, against `tokio-tungstenite` and against raw bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use prometheus_rsocket_wire::{
    CloseReason, Connection, ErrorCode, Event, Payload, Session,
    frame::Malformed,
    session::{Limits, SetupOptions, Violation},
    transport::websocket::{HandshakeError, Request, WebSocket},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{Bytes, Message},
};

use crate::frames::*;

type Pipe = Connection<WebSocket<DuplexStream>>;

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    max_frame: usize,
    origins: &[String],
) -> Result<WebSocket<S>, (HandshakeError, S)> {
    let request = Request::read(stream).await?;
    WebSocket::accept(request, max_frame, origins).await
}

async fn accepting(pipe: DuplexStream, limits: Limits) -> Pipe {
    let transport = accept(pipe, limits.max_frame, &[]).await.unwrap();
    Connection::new(Session::accepting(limits, now()), transport)
}

fn binary(frame: Vec<u8>) -> Message {
    Message::Binary(frame.into())
}

/// A proxy whose peer is `tokio-tungstenite`, with the SETUP done.
async fn with_client(limits: Limits) -> (Pipe, WebSocketStream<DuplexStream>) {
    let (left, right) = duplex(1 << 20);
    let (mut proxy, client) = tokio::join!(
        accepting(left, limits),
        client_async("ws://proxy:8081/any?path", right)
    );
    let (mut client, _) = client.unwrap();
    client.send(binary(setup(0))).await.unwrap();
    assert!(matches!(proxy.next().await, Event::Setup(_)));
    (proxy, client)
}

#[tokio::test(start_paused = true)]
async fn a_scrape_over_it() {
    let (mut proxy, mut client) = with_client(Limits::default()).await;
    proxy
        .session()
        .request_response(Payload::of_data(vec![b'k'; 70_000]))
        .unwrap();
    for size in [0, 10, 200, 70_000, 300_000] {
        let text = vec![b'x'; size];
        client
            .send(binary(fire_and_forget(1, &text)))
            .await
            .unwrap();
        let event = proxy.next().await;
        assert!(
            matches!(&event, Event::FireAndForget { payload } if payload.data[..] == text),
            "{event:?}"
        );
    }
    let asked = client.next().await.unwrap().unwrap().into_data();
    assert_eq!(see(&asked), see(&request_response(2, &[b'k'; 70_000])));
}

#[tokio::test(start_paused = true)]
async fn messages_in_pieces_and_pings_between() {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    let (mut proxy, mut client) = with_client(Limits::default()).await;
    let whole = fire_and_forget(1, &[b'x'; 1000]);
    let mut pieces = whole.chunks(300).peekable();
    let mut code = OpCode::Data(Data::Binary);
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let frame = Frame::message(Bytes::copy_from_slice(piece), code, last);
        client.send(Message::Frame(frame)).await.unwrap();
        client
            .send(Message::Ping(Bytes::from_static(b"ping")))
            .await
            .unwrap();
        code = OpCode::Data(Data::Continue);
    }
    let event = proxy.next().await;
    assert!(matches!(event, Event::FireAndForget { payload } if payload.data[..] == whole[6..]));
    let idle = timeout(Duration::from_secs(1), proxy.next()).await;
    assert!(idle.is_err());
    let pong = client.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"ping")));
}

/// What TLS makes of a peer that closes TCP without a word: its end is an error.
#[derive(Debug)]
struct Unannounced(DuplexStream);

impl AsyncRead for Unannounced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        Poll::Ready(match buffer.filled().len() > before {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }
}

impl AsyncWrite for Unannounced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn an_unannounced_end_of_tls_is_an_end_between_messages_and_a_failure_within() {
    let whole = fire_and_forget(1, b"push");
    // A masked head and its payload.
    let message = [&[0x82, 0x80 | whole.len() as u8, 0, 0, 0, 0], &whole[..]].concat();
    for cut in [message.len(), 1, 8] {
        let (left, right) = duplex(1 << 16);
        let accepting = accept(Unannounced(left), 1 << 16, &[]);
        let connecting = client_async("ws://proxy:8081/", right);
        let (transport, client) = tokio::join!(accepting, connecting);
        let session = Session::accepting(Limits::default(), now());
        let mut proxy = Connection::new(session, transport.unwrap());
        let mut client = client.unwrap().0;
        client.send(binary(setup(0))).await.unwrap();
        assert!(matches!(proxy.next().await, Event::Setup(_)));
        let mut stream = client.into_inner();
        stream.write_all(&message[..cut]).await.unwrap();
        drop(stream);
        let mut event = proxy.next().await;
        if cut == message.len() {
            assert!(matches!(event, Event::FireAndForget { .. }), "{event:?}");
            event = proxy.next().await;
        }
        let expected = match cut == message.len() {
            true => CloseReason::PeerEnded,
            false => CloseReason::Transport(io::ErrorKind::UnexpectedEof),
        };
        assert!(
            matches!(&event, Event::Closed(reason) if *reason == expected),
            "{event:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_is_an_end_and_is_answered() {
    let (mut proxy, mut client) = with_client(Limits::default()).await;
    client
        .send(binary(fire_and_forget(1, b"push")))
        .await
        .unwrap();
    client.close(None).await.unwrap();
    assert!(matches!(proxy.next().await, Event::FireAndForget { .. }));
    let event = proxy.next().await;
    assert!(
        matches!(event, Event::Closed(CloseReason::PeerEnded)),
        "{event:?}"
    );
    let (answer, ()) = tokio::join!(client.next(), proxy.finish());
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn our_close_is_an_error_and_a_close_frame() {
    let (mut proxy, mut client) = with_client(Limits::default()).await;
    proxy.session().close(ErrorCode::CONNECTION_CLOSE, "moving");
    assert!(matches!(proxy.next().await, Event::Closed(_)));
    let peer = async {
        let error = client.next().await.unwrap().unwrap().into_data();
        assert_eq!(see(&error).code(), ErrorCode::CONNECTION_CLOSE.0);
        let close = client.next().await;
        assert!(matches!(close, Some(Ok(Message::Close(_)))), "{close:?}");
        while client.next().await.is_some() {}
        drop(client);
    };
    tokio::join!(peer, proxy.finish());
}

#[tokio::test(start_paused = true)]
async fn text_and_too_long_messages_are_refused() {
    let limits = Limits {
        max_frame: 1000,
        ..Limits::default()
    };
    for (message, malformed) in [
        (Message::text("{}"), Malformed::NotBinary),
        (binary(vec![0; 1001]), Malformed::TooLong),
        (binary(Vec::new()), Malformed::TooShort),
    ] {
        let (mut proxy, mut client) = with_client(limits).await;
        client.send(message).await.unwrap();
        let event = proxy.next().await;
        let expected = CloseReason::Violation(Violation::Malformed(malformed));
        assert!(
            matches!(&event, Event::Closed(reason) if *reason == expected),
            "{event:?}"
        );
        let (error, ()) = tokio::join!(client.next(), proxy.finish());
        let error = error.unwrap().unwrap().into_data();
        assert_eq!(see(&error).code(), ErrorCode::CONNECTION_ERROR.0);
    }
}

#[tokio::test(start_paused = true)]
async fn our_client_on_its_server() {
    let (left, right) = duplex(1 << 20);
    let (server, transport) = tokio::join!(
        accept_async(left),
        WebSocket::connect(right, "ws://proxy:8081", Limits::default().max_frame)
    );
    let mut server = server.unwrap();
    let setup_options = SetupOptions::default();
    let session = Session::connecting(setup_options, Limits::default(), now()).unwrap();
    let mut app = Connection::new(session, transport.unwrap());
    app.session()
        .fire_and_forget(Payload::of_data(vec![b'x'; 100_000]))
        .unwrap();
    let peer = async {
        let first = server.next().await.unwrap().unwrap().into_data();
        assert_eq!(first[..], setup(0));
        let push = server.next().await.unwrap().unwrap().into_data();
        assert_eq!(push[..], fire_and_forget(1, &[b'x'; 100_000]));
        server
            .send(binary(fire_and_forget(2, b"key")))
            .await
            .unwrap();
        server
    };
    let (event, mut server) = tokio::join!(app.next(), peer);
    assert!(matches!(event, Event::FireAndForget { .. }), "{event:?}");
    app.session().end();
    assert!(matches!(
        app.next().await,
        Event::Closed(CloseReason::Ended)
    ));
    let peer = async {
        while server.next().await.is_some() {}
        drop(server);
    };
    tokio::join!(peer, app.finish());
}

/// Frames as RFC 6455 forbids them, after a SETUP as it wants it.
#[tokio::test(start_paused = true)]
async fn frames_that_break_the_websocket_protocol() {
    let bad: [&[u8]; 8] = [
        b"\x82\x01x",                        // not masked
        b"\x83\x80\0\0\0\0",                 // unknown data frame
        b"\x8B\x80\0\0\0\0",                 // unknown control frame
        b"\xC2\x80\0\0\0\0",                 // reserved bit
        b"\x80\x80\0\0\0\0",                 // continuation of nothing
        b"\x09\x80\0\0\0\0",                 // ping in pieces
        b"\x89\xFE\x00\x7E\0\0\0\0",         // ping of 126 bytes
        b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0", // message within a message
    ];
    for bytes in bad {
        let (mut proxy, client) = with_client(Limits::default()).await;
        let mut peer = client.into_inner();
        peer.write_all(bytes).await.unwrap();
        let event = proxy.next().await;
        let expected = CloseReason::Violation(Violation::Malformed(Malformed::WebSocket));
        assert!(
            matches!(&event, Event::Closed(reason) if *reason == expected),
            "{bytes:x?}: {event:?}"
        );
    }
    let (mut proxy, client) = with_client(Limits::default()).await;
    let mut peer = client.into_inner();
    peer.write_all(b"\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0")
        .await
        .unwrap();
    let event = proxy.next().await;
    let expected = CloseReason::Violation(Violation::Malformed(Malformed::TooLong));
    assert!(matches!(event, Event::Closed(reason) if reason == expected));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_no_handshake() {
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(10_000));
    for request in ["GET / HTTP/1.1\r\nHost: proxy\r\n\r\n", &long] {
        let (left, mut peer) = duplex(1 << 16);
        peer.write_all(request.as_bytes()).await.unwrap();
        let accepted = accept(left, 1000, &[]).await;
        assert!(matches!(
            accepted.map(|_| ()),
            Err((HandshakeError::Invalid(_) | HandshakeError::TooLong, _))
        ));
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    for answer in [
        "HTTP/1.1 503 Unavailable\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
    ] {
        let (left, mut peer) = duplex(1 << 16);
        peer.write_all(answer.as_bytes()).await.unwrap();
        let connected = WebSocket::connect(left, "ws://proxy", 1000).await;
        assert!(matches!(
            connected.map(|_| ()),
            Err(HandshakeError::Refused(503) | HandshakeError::Mismatch)
        ));
    }
}

/// Any page that is open in a browser of the network could connect otherwise, and push.
#[tokio::test(start_paused = true)]
async fn a_web_page_connects_from_an_allowed_origin_only() {
    const ALLOWED: &str = "https://grafana.example";
    let allowed = [ALLOWED.to_owned()];
    for (headers, origins, status) in [
        (String::new(), &[][..], 101),
        (format!("Origin: {ALLOWED}\r\n"), &allowed, 101),
        (format!("Origin: {ALLOWED}\r\n"), &[], 403),
        (format!("Origin: {ALLOWED}.evil\r\n"), &allowed, 403),
        ("Origin: null\r\n".to_owned(), &allowed, 403),
        // As the Java client, which names the host that it connects to.
        ("Origin: http://proxy\r\n".to_owned(), &[], 101),
        (
            "Origin: http://proxy\r\nUser-Agent: Mozilla/5.0 (X11)\r\n".to_owned(),
            &[],
            403,
        ),
        (
            format!("Origin: {ALLOWED}\r\nOrigin: https://evil.example\r\n"),
            &allowed,
            403,
        ),
    ] {
        let (left, mut peer) = duplex(1 << 16);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        peer.write_all(request.as_bytes()).await.unwrap();
        let accepted = accept(left, 1000, origins).await;
        let refused = matches!(accepted, Err((HandshakeError::Origin, _)));
        assert_eq!(refused, status == 403, "{headers}");
        drop(accepted);
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_says_what_its_header_lines_say_before_it_is_answered() {
    let (left, mut peer) = duplex(1 << 16);
    let request =
        "GET / HTTP/1.1\r\nX-Forwarded-For: a, b\r\nHost: proxy\r\nx-forwarded-for:c\r\n\r\n";
    peer.write_all(request.as_bytes()).await.unwrap();
    let request = Request::read(left).await.unwrap();
    let values: Vec<_> = request.values("x-forwarded-for").collect();
    assert_eq!(values, [&b"a, b"[..], b"c"]);
    assert!(request.values("forwarded").next().is_none());
    drop(request);
    assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
}

/// The Java client over plain TCP, one that wants TLS: a client on the wrong port is told nothing.
#[tokio::test(start_paused = true)]
async fn what_is_not_even_http_is_not_answered() {
    for beginning in [
        &b"\x16\x03\x01\x02\0\x01"[..],
        &[&[0, 0, 40][..], &setup(0)].concat(),
    ] {
        let (left, mut peer) = duplex(1 << 16);
        peer.write_all(beginning).await.unwrap();
        let Err((HandshakeError::Foreign(_), stream)) = accept(left, 1000, &[]).await else {
            panic!("{beginning:?}");
        };
        drop(stream);
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

/// A client may send its SETUP right behind the handshake, before the answer.
#[tokio::test(start_paused = true)]
async fn bytes_behind_the_handshake_are_kept() {
    let (left, mut peer) = duplex(1 << 16);
    let request = "GET / HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let setup = setup(0);
    let head = [0x82, 0x80 | setup.len() as u8, 0, 0, 0, 0];
    let bytes = [request.as_bytes(), &head, &setup].concat();
    peer.write_all(&bytes).await.unwrap();
    let mut proxy = accepting(left, Limits::default()).await;
    let event = proxy.next().await;
    assert!(matches!(event, Event::Setup(_)), "{event:?}");
    let mut answer = vec![0; 300];
    let count = peer.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
}
