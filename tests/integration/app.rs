//! Scripted applications: whatever a client may do to a proxy, said in a few lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_rsocket_wire::envelope::version1;
use prometheus_rsocket_wire::key::PublicKey;
use prometheus_rsocket_wire::session::{CloseReason, Limits, SetupOptions, StreamError};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{
    Announcement, Connection, ErrorCode, Event, Payload, Session, StreamId,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::sandbox::{PATIENCE, TcpConnection};

/// How an application answers a pull.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This text, sealed.
    Text(String),
    /// This text, sealed, once the gate is open.
    Gated(String, watch::Receiver<bool>),
    /// Bytes that are no envelope.
    Rubbish,
    /// An envelope without a key.
    NoKey,
    /// No payload at all.
    Empty,
    /// ERROR with this code.
    Error(ErrorCode),
    /// Nothing, ever.
    Never,
}

/// What an application saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) pulls: AtomicUsize,
    pub(crate) cancels: AtomicUsize,
}

impl Seen {
    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::SeqCst)
    }

    pub(crate) fn cancels(&self) -> usize {
        self.cancels.load(Ordering::SeqCst)
    }
}

/// An application that answers every pull the same way until it is dropped.
pub(crate) struct App {
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<CloseReason>,
}

impl App {
    /// Connects, and comes back once the key has come.
    pub(crate) async fn connect(proxy: SocketAddr, answer: Answer) -> Self {
        let mut peer = Peer::connect(proxy).await;
        peer.key().await;
        peer.answering(answer)
    }

    pub(crate) async fn text(proxy: SocketAddr, text: &str) -> Self {
        Self::connect(proxy, Answer::Text(text.into())).await
    }

    /// Why the proxy ended the connection.
    pub(crate) async fn closed(mut self) -> CloseReason {
        timeout(PATIENCE, &mut self.task)
            .await
            .expect("an end")
            .expect("no panic")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An application's end of a connection, driven by hand.
pub(crate) struct Peer {
    pub(crate) connection: TcpConnection,
    pub(crate) key: Option<PublicKey>,
    /// What the proxy said beside its key.
    pub(crate) announcement: Option<Announcement>,
}

impl Peer {
    pub(crate) async fn connect(proxy: SocketAddr) -> Self {
        Self::connect_with(proxy, SetupOptions::default()).await
    }

    pub(crate) async fn connect_with(proxy: SocketAddr, setup: SetupOptions) -> Self {
        let stream = TcpStream::connect(proxy).await.expect("a listening proxy");
        let session = Session::connecting(setup, Limits::default(), Instant::now().into_std());
        Self {
            connection: Connection::new(session.expect("a valid SETUP"), Tcp::new(stream, 1 << 24)),
            key: None,
            announcement: None,
        }
    }

    /// Answers every pull from now on.
    pub(crate) fn answering(self, answer: Answer) -> App {
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(self.answer_until_closed(answer, Arc::clone(&seen)));
        App { seen, task }
    }

    /// Waits for the connection's end.
    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let Event::Closed(reason) = self.next().await {
                return reason;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.connection.next())
            .await
            .expect("an event")
    }

    /// Waits for the key of the fireAndForget.
    pub(crate) async fn key(&mut self) -> PublicKey {
        loop {
            match self.next().await {
                Event::FireAndForget { payload } => {
                    let key = PublicKey::from_spki_der(&payload.data).expect("a key");
                    self.key = Some(key.clone());
                    self.announcement = payload
                        .metadata
                        .and_then(|metadata| Announcement::decode(&metadata));
                    return key;
                }
                Event::Request { .. } | Event::RequestCancelled { .. } => {}
                other => panic!("expected the key, got {other:?}"),
            }
        }
    }

    pub(crate) fn seal(&self, text: &str) -> Payload {
        let key = self.key.as_ref().expect("a key");
        version1::seal(text.as_bytes(), key).expect("sealed").into()
    }

    /// Pushes and waits for the proxy's answer.
    pub(crate) async fn push(&mut self, text: &str) -> Result<(), StreamError> {
        let payload = self.seal(text);
        self.push_payload(payload).await
    }

    pub(crate) async fn push_payload(&mut self, payload: Payload) -> Result<(), StreamError> {
        let sent = self
            .connection
            .session()
            .request_response(payload)
            .expect("room");
        loop {
            match self.next().await {
                Event::Response { stream, result } if stream == sent => return result.map(|_| ()),
                Event::FireAndForget { .. }
                | Event::Request { .. }
                | Event::RequestCancelled { .. } => {}
                other => panic!("expected the answer to a push, got {other:?}"),
            }
        }
    }

    async fn answer_until_closed(mut self, answer: Answer, seen: Arc<Seen>) -> CloseReason {
        let mut waiting: Vec<StreamId> = Vec::new();
        let mut gate = match &answer {
            Answer::Gated(_, gate) => Some(gate.clone()),
            _ => None,
        };
        loop {
            tokio::select! {
                event = self.connection.next() => match event {
                    Event::Request { stream, payload } => {
                        self.key = PublicKey::from_spki_der(&payload.data).ok();
                        seen.pulls.fetch_add(1, Ordering::SeqCst);
                        match &gate {
                            Some(gate) if !*gate.borrow() => waiting.push(stream),
                            _ => self.answer(stream, &answer),
                        }
                    }
                    Event::RequestCancelled { .. } => {
                        seen.cancels.fetch_add(1, Ordering::SeqCst);
                    }
                    Event::Closed(reason) => {
                        self.connection.finish().await;
                        return reason;
                    }
                    _ => {}
                },
                opened = opened(&mut gate), if !waiting.is_empty() => {
                    assert!(opened);
                    for stream in std::mem::take(&mut waiting) {
                        self.answer(stream, &answer);
                    }
                }
            }
        }
    }

    fn answer(&mut self, stream: StreamId, answer: &Answer) {
        let payload = match answer {
            Answer::Text(text) | Answer::Gated(text, _) => Some(self.seal(text)),
            Answer::Rubbish => Some(Payload {
                metadata: Some(vec![7; 256].into()),
                data: vec![8; 64].into(),
            }),
            Answer::NoKey => Some(Payload::of_data("up 1\n")),
            Answer::Empty => None,
            Answer::Error(code) => {
                return self.connection.session().respond_error(stream, *code, "no");
            }
            Answer::Never => return,
        };
        self.connection.session().respond(stream, payload);
    }
}

async fn opened(gate: &mut Option<watch::Receiver<bool>>) -> bool {
    match gate {
        Some(gate) => gate.wait_for(|open| *open).await.is_ok(),
        None => std::future::pending().await,
    }
}
