//! Keeps a client connected: connects, and when that fails or ends, connects again after a delay.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use prometheus_rsocket_wire::transport::tcp::Tcp;
#[cfg(feature = "websocket")]
use prometheus_rsocket_wire::transport::websocket::WebSocket;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::address::Scheme;
use crate::connection::{Application, MAX_FRAME};
use crate::{Builder, Command, PushError};

/// For the connection to be made; a proxy that takes longer is as good as not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lived this long shows that the proxy is well: the delays begin anew.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// The greatest delay after a connection that the proxy closed: it is still there, or another one is. Random below it,
/// so that a thousand applications do not come back at the same instant.
const RETURN_WITHIN: Duration = Duration::from_millis(500);

/// Serves commands and pulls until the client is closed.
pub(crate) async fn run(
    builder: Builder,
    mut commands: mpsc::Receiver<Command>,
    ready: watch::Sender<bool>,
) {
    let mut delays = delays(&builder);
    loop {
        let started = Instant::now();
        let end = connect_and_serve(&builder, &mut commands, &ready).await;
        ready.send_replace(false);
        let delay = match end {
            Ok(ControlFlow::Break(())) => return,
            Ok(ControlFlow::Continue(())) => {
                if started.elapsed() >= WELL_AFTER {
                    delays = self::delays(&builder);
                }
                info!(proxy = %builder.address, "connection to the proxy closed");
                first_return(&builder)
            }
            Err(error) => {
                let delay = delays.next().unwrap_or(builder.max_backoff);
                info!(proxy = %builder.address, %error, ?delay, "cannot connect to the proxy");
                delay
            }
        };
        if wait(&mut commands, Instant::now() + delay).await.is_break() {
            return;
        }
    }
}

fn delays(builder: &Builder) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(builder.first_backoff)
        .with_max_delay(builder.max_backoff)
        .without_max_times()
        .with_jitter()
        .build()
}

fn first_return(builder: &Builder) -> Duration {
    ExponentialBuilder::new()
        .with_min_delay(RETURN_WITHIN.min(builder.first_backoff) / 2)
        .with_jitter()
        .build()
        .next()
        .unwrap_or(RETURN_WITHIN)
}

/// Without a connection a push fails at once: whoever waits for it knows best whether to try again.
async fn wait(commands: &mut mpsc::Receiver<Command>, until: Instant) -> ControlFlow<()> {
    loop {
        tokio::select! {
            () = sleep_until(until) => return ControlFlow::Continue(()),
            command = commands.recv() => match command {
                Some(Command::Push(reply)) => drop(reply.send(Err(PushError::Disconnected))),
                Some(Command::Close) | None => return ControlFlow::Break(()),
            },
        }
    }
}

async fn connect_and_serve(
    builder: &Builder,
    commands: &mut mpsc::Receiver<Command>,
    ready: &watch::Sender<bool>,
) -> io::Result<ControlFlow<()>> {
    let address = &builder.address;
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let stream = timeout(CONNECT_TIMEOUT, connecting).await??;
    stream.set_nodelay(true)?;
    debug!(proxy = %address, "connected to the proxy");
    let application = Application::new(builder, commands, ready);
    Ok(match address.scheme {
        Scheme::Tcp => application.serve(Tcp::new(stream, MAX_FRAME)).await,
        #[cfg(feature = "websocket")]
        Scheme::WebSocket => {
            let uri = format!("{address}/");
            let handshake = WebSocket::connect(stream, &uri, MAX_FRAME);
            let frames = timeout(CONNECT_TIMEOUT, handshake)
                .await?
                .map_err(io::Error::other)?;
            application.serve(frames).await
        }
    })
}
