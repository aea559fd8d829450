//! What an idle connection costs. Run by itself, in release:
//! `cargo test --release -p prometheus-rsocket-wire --all-features -- --ignored idle --nocapture`

use std::{
    io::{Read, Write},
    net::TcpStream as PeerStream,
};

use prometheus_rsocket_wire::{
    Connection, Event, Payload, Session,
    session::Limits,
    transport::{Transport, tcp::Tcp},
};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};

use crate::frames::*;

const CONNECTIONS: usize = 4000;
const ANSWER: usize = 100_000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn serve(transport: impl Transport, scraped: mpsc::Sender<()>) {
    let session = Session::accepting(Limits::default(), Instant::now().into_std());
    let mut connection = Connection::new(session, transport);
    loop {
        match connection.next().await {
            Event::Setup(_) => {
                let key = Payload::of_data(vec![0; 294]);
                connection.session().fire_and_forget(key.clone()).unwrap();
                connection.session().request_response(key).unwrap();
            }
            Event::Response { result, .. } => {
                assert_eq!(result.unwrap().len(), ANSWER);
                scraped.send(()).await.unwrap();
            }
            Event::Closed(_) => break,
            other => panic!("{other:?}"),
        }
    }
    connection.finish().await;
}

/// Sends SETUP and, once asked, an answer; each frame as `frame` has it.
fn answer(peer: &mut PeerStream, from_proxy: usize, frame: impl Fn(&[u8]) -> Vec<u8>) {
    peer.write_all(&frame(&setup(0))).unwrap();
    let mut asked = vec![0; from_proxy];
    peer.read_exact(&mut asked).unwrap();
    let text = payload(4, NEXT | COMPLETE, &vec![b'x'; ANSWER]);
    peer.write_all(&frame(&text)).unwrap();
}

#[allow(clippy::print_stdout, reason = "the figure is the point")]
fn report(what: &str, before: usize, limit: usize) {
    let each = (resident_bytes().saturating_sub(before)) / CONNECTIONS;
    println!("{what}: {each} bytes resident per idle connection");
    assert!(each < limit, "{each}");
}

#[tokio::test]
#[ignore = "measures the whole process"]
async fn idle_tcp_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (scraped, mut done) = mpsc::channel(1);
    let peers = std::thread::spawn(move || {
        let connect = |_| {
            let mut peer = PeerStream::connect(address).unwrap();
            answer(&mut peer, 2 * 303, prefixed);
            peer
        };
        (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
    });
    let before = resident_bytes();
    for _ in 0..CONNECTIONS {
        let (stream, _) = listener.accept().await.unwrap();
        let transport = Tcp::new(stream, Limits::default().max_frame);
        tokio::spawn(serve(transport, scraped.clone()));
        done.recv().await.unwrap();
    }
    report("tcp", before, 4096);
    drop(peers.join());
}

#[cfg(feature = "websocket")]
#[tokio::test]
#[ignore = "measures the whole process"]
async fn idle_websocket_connections() {
    use prometheus_rsocket_wire::transport::websocket::{Request, WebSocket};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (scraped, mut done) = mpsc::channel(1);
    let masked = |frame: &[u8]| {
        let len = u64::try_from(frame.len()).unwrap();
        let head = [&[0x82, 0x80 | 127][..], &len.to_be_bytes(), &[0; 4]].concat();
        [&head, frame].concat()
    };
    let peers = std::thread::spawn(move || {
        let connect = |_| {
            let mut peer = PeerStream::connect(address).unwrap();
            let request = "GET / HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\n\
                           Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            peer.write_all(request.as_bytes()).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            answer(&mut peer, 2 * 304, masked);
            peer
        };
        (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
    });
    let before = resident_bytes();
    for _ in 0..CONNECTIONS {
        let (stream, _) = listener.accept().await.unwrap();
        let scraped = scraped.clone();
        tokio::spawn(async move {
            let max_frame = Limits::default().max_frame;
            let request = Request::read(stream).await.unwrap();
            let transport = WebSocket::accept(request, max_frame, &[]).await.unwrap();
            serve(transport, scraped).await;
        });
        done.recv().await.unwrap();
    }
    report("websocket", before, 4096);
    drop(peers.join());
}
