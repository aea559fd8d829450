//! Scripted proxies: whatever a proxy may do to a client, said in a few lines.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use prometheus_rsocket_client::{Address, Builder, Client};
use prometheus_rsocket_wire::envelope::plaintext::PLAINTEXT;
use prometheus_rsocket_wire::session::{CloseReason, Limits, Setup};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{
    Announcement, Connection, ErrorCode, Event, Payload, Session, StreamId,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Longer than anything here takes, in the time of a paused clock too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) fn address(socket: SocketAddr) -> Address {
    format!("tcp://{socket}").parse().expect("an address")
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> Address {
    Proxy::bind().await.address()
}

/// A client of these proxies that renders `up 1`.
pub(crate) fn client(proxies: impl IntoIterator<Item = Address>) -> Builder {
    Client::builder(|| "up 1\n").proxies(proxies)
}

/// Listens; every connection is accepted by hand.
pub(crate) struct Proxy(TcpListener);

/// A paused clock goes on as soon as nothing runs, also while bytes are on their way through a socket. So it goes in small
/// steps, and each waits until a datagram has made the same way.
fn keep_the_clock_behind_sockets() {
    const STEP: Duration = Duration::from_millis(20);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let itself = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(STEP).await;
            socket.send_to(&[0], itself).expect("a datagram");
            socket.recv(&mut [0]).expect("a datagram");
        }
    });
}

impl Proxy {
    pub(crate) async fn bind() -> Self {
        keep_the_clock_behind_sockets();
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    pub(crate) async fn bind_at(address: &Address) -> Self {
        keep_the_clock_behind_sockets();
        let socket = address.to_string().replace("tcp://", "");
        Self(TcpListener::bind(socket).await.expect("the port"))
    }

    pub(crate) fn address(&self) -> Address {
        address(self.0.local_addr().expect("an address"))
    }

    /// The next connection, which has sent its SETUP and got no answer so far.
    pub(crate) async fn accept(&self) -> Peer {
        self.accept_setup().await.0
    }

    /// The same, and its SETUP.
    pub(crate) async fn accept_setup(&self) -> (Peer, Setup) {
        let (stream, _) = timeout(PATIENCE, self.0.accept())
            .await
            .expect("a connection")
            .expect("a socket");
        let mut peer = Peer::new(stream);
        match peer.next().await {
            Event::Setup(setup) => (peer, setup),
            other => panic!("expected a SETUP, got {other:?}"),
        }
    }

    /// The next connection, with a key.
    pub(crate) async fn accept_with_key(&self) -> Peer {
        let peer = self.accept().await;
        peer.key();
        peer
    }
}

type Act = Box<dyn FnOnce(&mut Session) + Send>;

/// A proxy's end of a connection.
pub(crate) struct Peer {
    acts: mpsc::UnboundedSender<Act>,
    events: mpsc::UnboundedReceiver<Event>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        // Else a frame after another waits for the other end's delayed ACK, 40 ms by a clock that is not paused.
        stream.set_nodelay(true).expect("a socket");
        let session = Session::accepting(Limits::default(), Instant::now().into_std());
        let mut connection = Connection::new(session, Tcp::new(stream, 1 << 24));
        let (acts, mut orders) = mpsc::unbounded_channel::<Act>();
        let (sender, events) = mpsc::unbounded_channel();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = connection.next() => {
                        let over = matches!(event, Event::Closed(_));
                        let _ = sender.send(event);
                        if over {
                            return connection.finish().await;
                        }
                    }
                    Some(act) = orders.recv() => act(connection.session()),
                    () = stopped.notified() => std::future::pending().await,
                }
            }
        });
        Self {
            acts,
            events,
            stop,
            task,
        }
    }

    pub(crate) fn act(&self, act: impl FnOnce(&mut Session) + Send + 'static) {
        self.acts.send(Box::new(act)).expect("a connection");
    }

    /// The connection stays, and nobody reads from it.
    pub(crate) fn stop_reading(&self) {
        self.stop.notify_one();
    }

    pub(crate) fn key(&self) {
        self.act(|session| {
            let key = Payload::of_data(PLAINTEXT);
            session.fire_and_forget(key).expect("a set up connection");
        });
    }

    pub(crate) fn pull(&self) {
        self.pull_saying(&Announcement::default());
    }

    pub(crate) fn pull_saying(&self, announcement: &Announcement) {
        let pull = Payload {
            metadata: Some(announcement.encode()),
            data: PLAINTEXT.into(),
        };
        self.act(|session| {
            session.request_response(pull).expect("a connection");
        });
    }

    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event").expect("a connection")
    }

    /// The text that answers the pull.
    pub(crate) async fn answer(&mut self) -> String {
        match self.next().await {
            Event::Response { result, .. } => text(&result.expect("a text")),
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// A push that comes: where to answer it, and its text.
    pub(crate) async fn push(&mut self) -> (StreamId, String) {
        match self.next().await {
            Event::Request { stream, payload } => (stream, text(&payload)),
            other => panic!("expected a push, got {other:?}"),
        }
    }

    pub(crate) fn acknowledge(&self, stream: StreamId) {
        self.act(move |session| session.respond(stream, None));
    }

    pub(crate) fn refuse(&self, stream: StreamId, code: ErrorCode) {
        self.act(move |session| session.respond_error(stream, code, "no"));
    }

    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let Event::Closed(reason) = self.next().await {
                return reason;
            }
        }
    }
}

impl Drop for Peer {
    /// The connection breaks.
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(payload: &Payload) -> String {
    String::from_utf8(payload.data.to_vec()).expect("UTF-8")
}

/// A proxy on a thread of its own that acknowledges every push, and hands its text over before it does.
pub(crate) fn acknowledging() -> (Address, blocking::Receiver<String>) {
    let (texts, receiver) = blocking::channel();
    let (ready, bound) = blocking::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let proxy = Proxy::bind().await;
            ready.send(proxy.address()).expect("a test");
            loop {
                tokio::spawn(acknowledge_all(
                    proxy.accept_with_key().await,
                    texts.clone(),
                ));
            }
        });
    });
    (bound.recv().expect("an address"), receiver)
}

async fn acknowledge_all(mut peer: Peer, texts: blocking::Sender<String>) {
    loop {
        match peer.next().await {
            Event::Request { stream, payload } => {
                let _ = texts.send(text(&payload));
                peer.acknowledge(stream);
            }
            Event::FireAndForget { payload } => drop(texts.send(text(&payload))),
            Event::Closed(_) => return,
            _ => {}
        }
    }
}
