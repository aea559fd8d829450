//! Any bytes on a transport: the connection ends without a panic.
//!
//! The first byte chooses: TCP, or a WebSocket whose handshake is done.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::{
    Connection, Event, Session,
    session::Limits,
    transport::{Transport, tcp::Tcp, websocket::{Request, WebSocket}},
};
use tokio::{
    io::{join, sink},
    runtime::{Builder, Runtime},
    time::Instant,
};

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().unwrap());
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let limits = Limits {
        max_frame: 1 << 16,
        ..Limits::default()
    };
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            if choice % 2 == 0 {
                serve(Tcp::new(join(bytes, sink()), limits.max_frame), limits).await;
            } else {
                let bytes = [HANDSHAKE, bytes].concat();
                let stream = join(&bytes[..], sink());
                let request = Request::read(stream).await.unwrap();
                let transport = WebSocket::accept(request, limits.max_frame, &[]).await;
                serve(transport.unwrap(), limits).await;
            }
        });
    });
});

async fn serve(transport: impl Transport, limits: Limits) {
    let session = Session::accepting(limits, Instant::now().into_std());
    let mut connection = Connection::new(session, transport);
    loop {
        match connection.next().await {
            Event::Request { stream, payload } => {
                connection.session().respond(stream, Some(payload));
            }
            Event::Closed(_) => break,
            _ => {}
        }
    }
    connection.finish().await;
}
