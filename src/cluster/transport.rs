//! The gossip's way over UDP: messages are made into packets, and only packets that open become messages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::Metrics;
use super::codec::{Decoder, Encoder};
use super::drops::Drops;
use super::packet::{MAX_PACKET, Opener, Refusal, Sealer};
use super::secret::Secrets;
use super::vet::is_bounded;
use crate::limits::log_limit::LogLimit;
use crate::sockets::{canonical, reached_from};

/// Messages that wait for the gossip; more are dropped, and asked for again by the next round.
const WAITING: usize = 256;
/// Before a socket that failed is asked again.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A bound port. It outlives the gossip that uses it, as do the counters of its packets.
#[derive(Clone)]
pub(super) struct Port(Arc<Shared>);

struct Shared {
    socket: UdpSocket,
    address: SocketAddr,
    sealer: Mutex<Sealer>,
    opener: Mutex<Opener>,
    drops: Drops,
    metrics: Arc<Metrics>,
}

impl Port {
    pub(super) async fn bind(
        address: SocketAddr,
        cluster_name: &str,
        secrets: &Secrets,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        Ok(Self(Arc::new(Shared {
            address: socket.local_addr()?,
            socket,
            sealer: Mutex::new(Sealer::new(cluster_name, secrets)),
            opener: Mutex::new(Opener::new(cluster_name, secrets)),
            drops: Drops::new(metrics.drops()),
            metrics,
        })))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }
}

#[async_trait]
impl Transport for Port {
    /// A socket for one start of the gossip, on the port that is bound already.
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, received) = mpsc::channel(WAITING);
        let decoder = Decoder::open().await?;
        let receiving = Arc::clone(&self.0).receive(decoder, sender);
        Ok(Box::new(PacketSocket {
            shared: Arc::clone(&self.0),
            encoder: Some(Encoder::open().await?),
            received,
            _receiving: AbortOnDropHandle::new(tokio::spawn(receiving)),
        }))
    }
}

struct PacketSocket {
    shared: Arc<Shared>,
    /// `None` after an error, until the next message.
    encoder: Option<Encoder>,
    received: mpsc::Receiver<RecvOutcome>,
    _receiving: AbortOnDropHandle<()>,
}

#[async_trait]
impl Socket for PacketSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.shared.address)
    }

    /// What cannot be sent is dropped, as the network would: the next round makes up for it.
    async fn send(
        &mut self,
        to: SocketAddr,
        message: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::open().await?,
        };
        let sent = match encoder.encode(message).await {
            Ok(bytes) => self.shared.send(to, bytes).await,
            Err(error) => {
                warn!(error = %format!("{error:#}"), "a gossip message could not be written");
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        self.encoder = Some(encoder);
        Ok(SendOutcome {
            num_bytes_sent: sent,
        })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.received
            .recv()
            .await
            .context("packets are no longer received")
    }
}

impl Shared {
    async fn send(&self, to: SocketAddr, message: &[u8]) -> usize {
        let sealed = self.sealer.lock().seal(message, now());
        let packet = match sealed {
            Ok(packet) => packet,
            Err(refusal) => {
                self.drops.note(refusal, to);
                return 0;
            }
        };
        let reached = reached_from(self.address, to);
        match self.socket.send_to(&packet, reached).await {
            Ok(sent) => {
                self.metrics.gossiped("sent", sent);
                sent
            }
            Err(error) => {
                // Mostly for all peers alike, again and again: no network, or addresses of the other family.
                static LOG_LIMIT: LogLimit = LogLimit::new(1);
                match LOG_LIMIT.due() {
                    Some(suppressed) => {
                        warn!(%to, %error, suppressed, "gossip packets could not be sent");
                    }
                    None => debug!(%to, %error, "a gossip packet could not be sent"),
                }
                0
            }
        }
    }

    /// Reads packets for as long as somebody wants messages.
    async fn receive(self: Arc<Self>, mut decoder: Decoder, messages: mpsc::Sender<RecvOutcome>) {
        // One byte more than the longest packet, so that a longer one shows.
        let mut buffer = vec![0; MAX_PACKET + 1];
        while !messages.is_closed() {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => (length, canonical(from)),
                Err(error) => {
                    // An earlier packet's echo (ICMP), or a system short of memory.
                    debug!(%error, "gossip packets could not be read");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            self.metrics.gossiped("received", length);
            let packet = buffer.get(..length).unwrap_or_default();
            match self.message(packet, &mut decoder).await {
                Ok(Ok(envelope)) => {
                    let message = RecvOutcome {
                        from_addr: from,
                        envelope,
                        num_bytes_received: length,
                    };
                    if messages.try_send(message).is_err() {
                        self.drops.note(Refusal::Overrun, from);
                    }
                }
                Ok(Err(refusal)) => self.drops.note(refusal, from),
                Err(error) => {
                    // Ends the gossip, which is started again with another decoder.
                    warn!(error = %format!("{error:#}"), "gossip messages cannot be read");
                    return;
                }
            }
        }
    }

    async fn message(
        &self,
        packet: &[u8],
        decoder: &mut Decoder,
    ) -> anyhow::Result<Result<ChitchatEnvelope, Refusal>> {
        let opened = self.opener.lock().open(packet, now());
        let bytes = match opened {
            Ok(bytes) => bytes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !is_bounded(&bytes) {
            return Ok(Err(Refusal::Malformed));
        }
        Ok(decoder.decode(&bytes).await?.ok_or(Refusal::Malformed))
    }
}

/// In milliseconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
