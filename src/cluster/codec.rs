//! Gossip messages to bytes and back.
//!
//! chitchat hands messages to its `Transport`, and keeps to itself how they are written: only its own UDP socket writes
//! and reads them. So one of these sockets, on the loopback interface, serves as the codec: what it is made to send to us
//! are the bytes of a message, and what we send to it comes out as the message.
//!
//! Other processes of this host can send to its port as well. Their datagrams are told by their source and dropped,
//! [`Encoder`]'s by the kernel: its end is connected.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use chitchat::transport::{Socket, UdpSocket as MessageSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::packet::MAX_PACKET;

/// Far longer than a datagram takes over loopback: past it, it is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// chitchat's socket, and ours that is connected to it.
struct Pair {
    messages: MessageSocket,
    bytes: UdpSocket,
    bytes_address: SocketAddr,
}

impl Pair {
    async fn open() -> anyhow::Result<Self> {
        let v4: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let v6: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
        match Self::open_on(v4).await {
            Ok(pair) => Ok(pair),
            Err(error) => Self::open_on(v6).await.map_err(|_| error),
        }
        .context("no loopback interface")
    }

    async fn open_on(address: SocketAddr) -> anyhow::Result<Self> {
        let messages = MessageSocket::open(address).await?;
        let bytes = UdpSocket::bind(address).await?;
        bytes.connect(messages.local_addr()?).await?;
        Ok(Self {
            bytes_address: bytes.local_addr()?,
            messages,
            bytes,
        })
    }
}

/// Messages to bytes.
pub(super) struct Encoder {
    pair: Pair,
    buffer: Vec<u8>,
}

impl Encoder {
    pub(super) async fn open() -> anyhow::Result<Self> {
        Ok(Self {
            pair: Pair::open().await?,
            buffer: vec![0; MAX_PACKET],
        })
    }

    /// The bytes of a message. After an error the encoder must not be used again: what was lost may still come.
    pub(super) async fn encode(&mut self, message: ChitchatEnvelope) -> anyhow::Result<&[u8]> {
        let to = self.pair.bytes_address;
        self.pair.messages.send(to, message).await?;
        let length = timeout(LOST_AFTER, self.pair.bytes.recv(&mut self.buffer))
            .await
            .context("a message was lost on the loopback interface")??;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }
}

/// Bytes to messages.
pub(super) struct Decoder {
    pair: Pair,
    /// The name of no cluster, in a message that follows every other: when it comes out and the other has not, the other
    /// was no message.
    end: String,
    end_bytes: Vec<u8>,
}

impl Decoder {
    pub(super) async fn open() -> anyhow::Result<Self> {
        let end = format!("{:032x}", rand::random::<u128>());
        let message = ChitchatEnvelope {
            version: ProtocolVersion::V0,
            message: ChitchatMessage::Syn {
                cluster_id: end.clone(),
                digest: Default::default(),
            },
        };
        Ok(Self {
            pair: Pair::open().await?,
            end_bytes: Encoder::open().await?.encode(message).await?.to_vec(),
            end,
        })
    }

    /// The message that these bytes are; `None` if they are none. After an error the decoder must not be used again.
    pub(super) async fn decode(
        &mut self,
        bytes: &[u8],
    ) -> anyhow::Result<Option<ChitchatEnvelope>> {
        send(&self.pair.bytes, bytes).await?;
        send(&self.pair.bytes, &self.end_bytes).await?;
        let mut decoded = None;
        loop {
            let received = timeout(LOST_AFTER, self.pair.messages.recv())
                .await
                .context("a message was lost on the loopback interface")??;
            if received.from_addr != self.pair.bytes_address {
                continue;
            }
            if self.is_end(&received.envelope.message) {
                return Ok(decoded);
            }
            decoded = Some(received.envelope);
        }
    }

    fn is_end(&self, message: &ChitchatMessage) -> bool {
        matches!(message, ChitchatMessage::Syn { cluster_id, .. } if *cluster_id == self.end)
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8]) -> anyhow::Result<()> {
    let sent: Result<usize, io::Error> = socket.send(bytes).await;
    ensure!(sent? == bytes.len(), "a datagram was cut");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(cluster: &str) -> ChitchatEnvelope {
        ChitchatEnvelope {
            version: ProtocolVersion::V1,
            message: ChitchatMessage::Syn {
                cluster_id: cluster.into(),
                digest: Default::default(),
            },
        }
    }

    #[tokio::test]
    async fn what_is_encoded_is_decoded() {
        let mut encoder = Encoder::open().await.unwrap();
        let mut decoder = Decoder::open().await.unwrap();
        for cluster in ["a", "", &"c".repeat(60_000)] {
            let bytes = encoder.encode(message(cluster)).await.unwrap();
            let decoded = decoder.decode(bytes).await.unwrap();
            assert_eq!(decoded, Some(message(cluster)));
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_and_the_next_message_is_itself() {
        let mut encoder = Encoder::open().await.unwrap();
        let mut decoder = Decoder::open().await.unwrap();
        let bytes = encoder.encode(message("next")).await.unwrap();
        let longest = vec![0; MAX_PACKET];
        for junk in [&b""[..], b"junk", &bytes[..bytes.len() - 1], &longest] {
            assert_eq!(decoder.decode(junk).await.unwrap(), None);
            let decoded = decoder.decode(bytes).await.unwrap();
            assert_eq!(decoded, Some(message("next")));
        }
    }

    #[tokio::test]
    async fn a_message_from_another_process_is_not_taken() {
        let mut encoder = Encoder::open().await.unwrap();
        let mut decoder = Decoder::open().await.unwrap();
        let forged = encoder.encode(message("forged")).await.unwrap().to_vec();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = decoder.pair.messages.local_addr().unwrap();
        stranger.send_to(&forged, port).await.unwrap();
        assert_eq!(decoder.decode(b"junk").await.unwrap(), None);
        let to_encoder = encoder.pair.bytes_address;
        stranger.send_to(&forged, to_encoder).await.unwrap();
        let bytes = encoder.encode(message("true")).await.unwrap();
        let decoded = decoder.decode(bytes).await.unwrap();
        assert_eq!(decoded, Some(message("true")));
    }
}
