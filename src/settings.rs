//! Typed settings, one struct for each part. `cli` makes them out of flags and environment; nothing else reads either.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use prometheus_rsocket_exposition as exposition;

use crate::access::Access;
use crate::identity::{Identities, Terms};
use crate::limits::rate::Rate;
use crate::tls::Tls;
use crate::{cluster, store};

/// All of a node's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The HTTP side.
    pub web: Web,
    /// The applications' side.
    pub rsocket: RSocket,
    /// Pulling.
    pub scrape: Scrape,
    /// Pushes held for the next scrape.
    pub push: store::Limits,
    /// The nodes' side; `None` for a cluster of one.
    pub cluster: Option<cluster::Settings>,
    /// Pushes held for other nodes.
    pub replication: store::Replication,
    /// Moving connections to other nodes.
    pub rebalance: Rebalance,
    /// The most that a drain takes.
    pub grace_period: Duration,
    /// How long a drain waits for balancers to notice; see [`Times::delay`](crate::drain::Times::delay).
    pub shutdown_delay: Option<Duration>,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct Web {
    /// Where Prometheus, probes and people come in.
    pub listen_address: SocketAddr,
    /// Connections at a time; more wait in the listener's backlog.
    pub max_connections: usize,
    /// A request whose head is not whole after this, and a response of which the reader takes nothing for this long, or
    /// has not taken everything this long after it should have, end their connection.
    pub io_timeout: Duration,
    /// TLS, users and the rest of `--web.config.file`; `None`: everybody may ask, in the clear.
    pub access: Option<Access>,
    /// Whoever reaches the port may drain the node.
    pub enable_lifecycle: bool,
}

/// The applications' side.
#[derive(Debug, Clone)]
pub struct RSocket {
    /// RSocket over TCP.
    pub tcp_listen_address: SocketAddr,
    /// RSocket over WebSocket.
    pub websocket_listen_address: SocketAddr,
    /// Origins of web pages that may connect over WebSocket, such as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// TLS on both; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Who applications are, and what holds for each; `None`: nobody is asked.
    pub identities: Option<Identities>,
    /// How often one connection may push; `None`: as often as it likes.
    pub push_rate: Option<Rate>,
    /// Whether answers come encrypted.
    pub envelope: Envelope,
    /// A new key pair is made after this.
    pub key_rotation: Duration,
    /// A connection without SETUP is closed after this.
    pub setup_timeout: Duration,
    /// Bytes of one frame.
    pub max_frame: usize,
    /// Connections on both listeners together; more wait in the listeners' backlog.
    pub max_connections: usize,
    /// Connections from one address; zero: no limit of its own. More are left unanswered until one of them
    /// ends, for a minute at most.
    pub max_connections_per_address: usize,
    /// Connections that are not set up; past it the oldest of them is ended.
    pub max_handshakes: usize,
    /// Whose connections begin with a PROXY header that says where they come from.
    pub balancers: Vec<IpNet>,
    /// Bytes of payloads that are half received or wait to be opened, over all connections.
    pub max_unfinished: usize,
    /// The longest that a payload may be half received.
    pub payload_timeout: Duration,
    /// Frames queued to one connection.
    pub max_queued_frames: usize,
}

/// How an application's text travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// Compressed and encrypted, as the Java client does it by default, or better where the client knows how.
    Encrypted,
    /// Compressed, encrypted and authenticated, which the Java client cannot do.
    Authenticated,
    /// As it is.
    Plaintext,
}

/// Pulling.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Upper bound of one pull where the request names none.
    pub timeout: Duration,
    /// The least that is kept back from the request's own timeout for the response.
    pub timeout_offset: Duration,
    /// Bytes of one application's decompressed text.
    pub max_payload: usize,
    /// What one application's text may hold.
    pub limits: exposition::Limits,
    /// Bytes of decompressed text held for all scrapes under way.
    pub max_memory: usize,
    /// Scrapes under way at a time; more are answered 503.
    pub max_concurrent: usize,
}

impl Scrape {
    /// What holds for the texts of applications of which nothing else is said.
    pub fn terms(&self) -> Terms {
        Terms {
            max_text: self.max_payload,
            limits: self.limits,
            ..Terms::default()
        }
    }
}

/// When a node that has more connections than its peers lets go of some, and how fast.
#[derive(Debug, Clone)]
pub struct Rebalance {
    /// Whether it does at all.
    pub enabled: bool,
    /// It begins above this many times the mean; more than one.
    pub tolerance: f64,
    /// It begins only with more than this above the mean.
    pub min_surplus: usize,
    /// The members must have stayed as they are for this long.
    pub settle_time: Duration,
    /// A connection younger than this stays. Meant as two scrape intervals: each is scraped before it moves again.
    pub min_connection_age: Duration,
    /// Connections closed in a second, as a share of its own.
    pub max_rate: f64,
    /// What a round closes is spread over this.
    pub spread: Duration,
    /// After a round: until gossip and connections that come back have shown what came of it.
    pub freeze: Duration,
    /// The first pause after closing connections was of no use; doubled each time, up to the longest.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            enabled: true,
            tolerance: 1.2,
            min_surplus: 10,
            settle_time: Duration::from_secs(30),
            min_connection_age: Duration::from_secs(60),
            max_rate: 0.01,
            spread: Duration::from_secs(10),
            freeze: Duration::from_secs(5),
            first_pause: Duration::from_secs(10 * 60),
            longest_pause: Duration::from_secs(2 * 60 * 60),
        }
    }
}
