//! `rsocket_rust` as an independent peer: its client and server on the other end.

use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_wire::{
    CloseReason, Connection, Event, Payload, Session,
    session::{Limits, SetupOptions},
    transport::tcp::Tcp,
};
use rsocket_rust::{
    prelude::{RSocket as _, RSocketFactory},
    utils::EchoRSocket,
};
use rsocket_rust_transport_tcp::{TcpClientTransport, TcpServerTransport};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

fn peers(data: &'static str, metadata: &'static str) -> rsocket_rust::prelude::Payload {
    rsocket_rust::prelude::Payload::builder()
        .set_data_utf8(data)
        .set_metadata_utf8(metadata)
        .build()
}

fn text() -> Payload {
    Payload {
        metadata: Some(Bytes::from_static(b"metadata")),
        data: Bytes::from(vec![b'x'; 100_000]),
    }
}

fn on(stream: TcpStream, session: Session) -> Connection<Tcp<TcpStream>> {
    Connection::new(session, Tcp::new(stream, session_limits().max_frame))
}

fn session_limits() -> Limits {
    Limits::default()
}

/// Echoes requests until the connection ends; how many of each kind came.
async fn serve(mut proxy: Connection<Tcp<TcpStream>>) -> (usize, usize, CloseReason) {
    let (mut asked, mut told) = (0, 0);
    loop {
        match proxy.next().await {
            Event::Request { stream, payload } => {
                asked += 1;
                proxy.session().respond(stream, Some(payload));
            }
            Event::FireAndForget { payload } => {
                assert_eq!(payload.data, "tell");
                told += 1;
            }
            Event::Closed(reason) => return (asked, told, reason),
            Event::Setup(_) => {
                proxy
                    .session()
                    .fire_and_forget(Payload::of_data("key"))
                    .unwrap();
                let asked = proxy.session().request_response(text()).unwrap();
                assert_eq!(asked.get(), 4);
            }
            Event::Response { result, .. } => assert_eq!(result, Ok(text())),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_client_on_our_accepting_side() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let now = Instant::now().into_std();
        serve(on(stream, Session::accepting(session_limits(), now))).await
    });
    let client = RSocketFactory::connect()
        .transport(TcpClientTransport::from(address))
        .acceptor(Box::new(|| Box::new(EchoRSocket)))
        .start()
        .await
        .unwrap();
    for _ in 0..10 {
        let answer = client
            .request_response(peers("ask", "about"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.data_utf8(), Some("ask"));
        assert_eq!(answer.metadata_utf8(), Some("about"));
        client.fire_and_forget(peers("tell", "")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.abort();
    if let Ok((asked, told, reason)) = proxy.await {
        panic!("ended early: {asked} {told} {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_connecting_side_on_its_server() {
    // It takes no listener, only an address.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = RSocketFactory::receive()
        .transport(TcpServerTransport::from(address))
        .acceptor(Box::new(|_, _| Ok(Box::new(EchoRSocket))))
        .serve();
    let server = tokio::spawn(async move { server.await.unwrap() });
    let stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let now = Instant::now().into_std();
    let setup = SetupOptions::default();
    let mut app = on(
        stream,
        Session::connecting(setup, session_limits(), now).unwrap(),
    );
    app.session().fire_and_forget(text()).unwrap();
    let asked = app.session().request_response(text()).unwrap();
    assert_eq!(asked.get(), 3);
    let event = timeout(Duration::from_secs(10), app.next()).await.unwrap();
    let Event::Response { stream, result } = event else {
        panic!("{event:?}");
    };
    assert_eq!((stream, result), (asked, Ok(text())));
    server.abort();
}
