//! `serve`: run a proxy node until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use prometheus_rsocket_exposition::Limits;
use tracing::{error, warn};

use super::cluster::ClusterArgs;
use super::rebalance::RebalanceArgs;
use super::tls::TlsArgs;
use super::values::{
    any_duration, bytes, duration, frame_bytes, grace_period, network, origin, positive,
};
use super::{LogArgs, bad_usage, runtime};
use crate::access::Access;
use crate::identity::{Identities, Terms};
use crate::limits::descriptors;
use crate::limits::rate::Rate;
use crate::node::Node;
use crate::settings::{Envelope, RSocket, Scrape, Settings, Web};
use crate::tls::Tls;
use crate::{drain, logging, store};

/// Open files besides the connections of applications and over HTTP, for calls between nodes and files that are read.
const OTHER_FILES: usize = 600;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where Prometheus, probes and people come in (HTTP)
    #[arg(
        long = "web.listen-address",
        env = "PROXY_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    web_listen_address: SocketAddr,
    /// HTTP connections at a time; more wait
    #[arg(long = "web.max-connections", env = "PROXY_WEB_MAX_CONNECTIONS", value_name = "N", default_value = "512", value_parser = positive)]
    web_max_connections: usize,
    /// End an HTTP connection whose request head is not whole after this, or whose reader takes nothing for this long, or
    /// still reads this long after the answer has become useless
    #[arg(long = "web.io-timeout", env = "PROXY_WEB_IO_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    web_io_timeout: Duration,
    /// TLS, users, headers and rate of HTTP, in the format of Prometheus' exporter-toolkit. Read again when it changes
    #[arg(
        long = "web.config.file",
        env = "PROXY_WEB_CONFIG_FILE",
        value_name = "FILE"
    )]
    web_config_file: Option<PathBuf>,
    /// Let whoever reaches the HTTP port drain the node, with PUT /-/drain
    #[arg(long = "web.enable-lifecycle", env = "PROXY_WEB_ENABLE_LIFECYCLE")]
    web_enable_lifecycle: bool,
    /// Where applications connect by RSocket over TCP
    #[arg(
        long = "rsocket.tcp.listen-address",
        env = "PROXY_RSOCKET_TCP_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:7001"
    )]
    rsocket_tcp_listen_address: SocketAddr,
    /// Where applications connect by RSocket over WebSocket
    #[arg(
        long = "rsocket.websocket.listen-address",
        env = "PROXY_RSOCKET_WEBSOCKET_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8081"
    )]
    rsocket_websocket_listen_address: SocketAddr,
    /// Origin of web pages that may connect over WebSocket (https://app.example); a page from elsewhere is refused. May
    /// be repeated
    #[arg(
        long = "rsocket.websocket.allow-origin",
        env = "PROXY_RSOCKET_WEBSOCKET_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = origin
    )]
    rsocket_websocket_allow_origin: Vec<String>,
    #[command(flatten)]
    rsocket_tls: TlsArgs,
    /// Who applications are, by token, password or certificate, with labels and limits for each. Read again when it
    /// changes (docs/application-identities.md)
    #[arg(
        long = "rsocket.auth.file",
        env = "PROXY_RSOCKET_AUTH_FILE",
        value_name = "FILE"
    )]
    rsocket_auth_file: Option<PathBuf>,
    /// How applications send their text
    #[arg(
        long = "rsocket.envelope",
        env = "PROXY_RSOCKET_ENVELOPE",
        value_name = "ENVELOPE",
        default_value = "encrypted"
    )]
    rsocket_envelope: EnvelopeArg,
    /// Allow the plaintext envelope although nothing else encrypts the connection
    #[arg(
        long = "rsocket.insecure-plaintext",
        env = "PROXY_RSOCKET_INSECURE_PLAINTEXT"
    )]
    rsocket_insecure_plaintext: bool,
    /// The least envelope version that is opened; 2 shuts out Java clients (docs/envelope.md)
    #[arg(
        long = "rsocket.min-envelope-version",
        env = "PROXY_RSOCKET_MIN_ENVELOPE_VERSION",
        value_name = "VERSION",
        default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    rsocket_min_envelope_version: u8,
    /// Make a new key pair after this
    #[arg(long = "rsocket.key-rotation", env = "PROXY_RSOCKET_KEY_ROTATION", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    rsocket_key_rotation: Duration,
    /// Close a connection without SETUP (or with an unfinished handshake) after this
    #[arg(long = "rsocket.setup-timeout", env = "PROXY_RSOCKET_SETUP_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    rsocket_setup_timeout: Duration,
    /// The longest RSocket frame
    #[arg(long = "rsocket.max-frame", env = "PROXY_RSOCKET_MAX_FRAME", value_name = "BYTES", default_value = "16777215B", value_parser = frame_bytes)]
    rsocket_max_frame: usize,
    /// Connections on both RSocket listeners; more wait
    #[arg(long = "rsocket.max-connections", env = "PROXY_RSOCKET_MAX_CONNECTIONS", value_name = "N", default_value = "20000", value_parser = positive)]
    rsocket_max_connections: usize,
    /// RSocket connections from one address, 0 for no limit of its own (behind a balancer all come from one)
    #[arg(
        long = "rsocket.max-connections-per-address",
        env = "PROXY_RSOCKET_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value = "0"
    )]
    rsocket_max_connections_per_address: usize,
    /// Connections on both RSocket listeners that are not set up; past it the oldest of them is ended
    #[arg(long = "rsocket.max-handshakes", env = "PROXY_RSOCKET_MAX_HANDSHAKES", value_name = "N", default_value = "1024", value_parser = positive)]
    rsocket_max_handshakes: usize,
    /// An address or network whose RSocket connections begin with a PROXY header (version 1 or 2) that says where they
    /// come from: a balancer's. May be given several times
    #[arg(
        long = "rsocket.proxy-protocol.trusted",
        env = "PROXY_RSOCKET_PROXY_PROTOCOL_TRUSTED",
        value_name = "NETWORK",
        value_delimiter = ',',
        value_parser = network
    )]
    rsocket_proxy_protocol_trusted: Vec<IpNet>,
    /// Bytes of payloads half received or not opened yet, over all connections; past it the connection is ended whose
    /// payload is unfinished for longest
    #[arg(long = "rsocket.max-unfinished", env = "PROXY_RSOCKET_MAX_UNFINISHED", value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    rsocket_max_unfinished: usize,
    /// End a connection with a payload that is half received for so long
    #[arg(long = "rsocket.payload-timeout", env = "PROXY_RSOCKET_PAYLOAD_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    rsocket_payload_timeout: Duration,
    /// Frames queued to one connection
    #[arg(long = "rsocket.max-queued-frames", env = "PROXY_RSOCKET_MAX_QUEUED_FRAMES", value_name = "N", default_value = "64", value_parser = positive)]
    rsocket_max_queued_frames: usize,
    /// Upper bound of one pull where the request has no X-Prometheus-Scrape-Timeout-Seconds
    #[arg(long = "scrape.timeout", env = "PROXY_SCRAPE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    scrape_timeout: Duration,
    /// The least that is kept back from the request's own timeout for the response; more where responses take longer
    #[arg(long = "scrape.timeout-offset", env = "PROXY_SCRAPE_TIMEOUT_OFFSET", value_name = "DURATION", default_value = "500ms", value_parser = any_duration)]
    scrape_timeout_offset: Duration,
    /// The longest decompressed text of one application
    #[arg(long = "scrape.max-payload", env = "PROXY_SCRAPE_MAX_PAYLOAD", value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    scrape_max_payload: usize,
    /// Samples in the text of one application; a text with more is not taken, nor one with a thousand families more, or
    /// with eight times as many lines as those
    #[arg(long = "scrape.max-series", env = "PROXY_SCRAPE_MAX_SERIES", value_name = "N", default_value = "1000000", value_parser = positive)]
    scrape_max_series: usize,
    /// Bytes in the name of a metric or label; a text with a longer one is not taken
    #[arg(long = "scrape.max-name-length", env = "PROXY_SCRAPE_MAX_NAME_LENGTH", value_name = "BYTES", default_value = "1KiB", value_parser = bytes)]
    scrape_max_name_length: usize,
    /// Bytes in the value of a label; a text with a longer one is not taken
    #[arg(long = "scrape.max-label-value-length", env = "PROXY_SCRAPE_MAX_LABEL_VALUE_LENGTH", value_name = "BYTES", default_value = "64KiB", value_parser = bytes)]
    scrape_max_label_value_length: usize,
    /// Labels of one sample, with those that its identity adds; a text with a sample that has more is not taken
    #[arg(long = "scrape.max-labels", env = "PROXY_SCRAPE_MAX_LABELS", value_name = "N", default_value = "100", value_parser = positive)]
    scrape_max_labels: usize,
    /// Decompressed text held for all scrapes under way, and what its families cost to merge; applications past it miss
    /// the scrape
    #[arg(long = "scrape.max-memory", env = "PROXY_SCRAPE_MAX_MEMORY", value_name = "BYTES", default_value = "2GiB", value_parser = bytes)]
    scrape_max_memory: usize,
    /// Scrapes under way at a time; more are answered 503
    #[arg(long = "scrape.max-concurrent", env = "PROXY_SCRAPE_MAX_CONCURRENT", value_name = "N", default_value = "16", value_parser = positive)]
    scrape_max_concurrent: usize,
    /// Drop a push that no scrape served after this
    #[arg(long = "push.ttl", env = "PROXY_PUSH_TTL", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    push_ttl: Duration,
    /// Serve a push in every scrape until this long after the first; 0s: in one scrape
    #[arg(long = "push.retention", env = "PROXY_PUSH_RETENTION", value_name = "DURATION", default_value = "0s", value_parser = any_duration)]
    push_retention: Duration,
    /// Pushes of one connection in a second, and as many at once; 0 for no limit
    #[arg(
        long = "push.max-rate",
        env = "PROXY_PUSH_MAX_RATE",
        value_name = "N",
        default_value = "1000"
    )]
    push_max_rate: u32,
    /// All pushes held, with what it takes to hold them; past it a push is refused
    #[arg(long = "push.max-bytes", env = "PROXY_PUSH_MAX_BYTES", value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    push_max_bytes: usize,
    /// Nodes that hold a push besides the one that took it
    #[arg(
        long = "push.replicas",
        env = "PROXY_PUSH_REPLICAS",
        value_name = "N",
        default_value = "2"
    )]
    push_replicas: usize,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    rebalance: RebalanceArgs,
    /// The longest a drain takes
    #[arg(long = "shutdown.grace-period", env = "PROXY_SHUTDOWN_GRACE_PERIOD", value_name = "DURATION", default_value = "30s", value_parser = grace_period)]
    shutdown_grace_period: Duration,
    /// Let balancers notice for so long that the node drains before its ports close, half of the grace period at most
    /// [default: 5s where other nodes are in service, else 0s]
    #[arg(long = "shutdown.delay", env = "PROXY_SHUTDOWN_DELAY", value_name = "DURATION", value_parser = any_duration)]
    shutdown_delay: Option<Duration>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EnvelopeArg {
    /// Compressed and encrypted
    Encrypted,
    /// As it is
    Plaintext,
}

impl ServeArgs {
    /// What the flags mean together. The error is one line that names the flag.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let tls = self.rsocket_tls.tls()?;
        let authenticated = self.rsocket_min_envelope_version > 1;
        let envelope = match self.rsocket_envelope {
            EnvelopeArg::Encrypted if authenticated => Envelope::Authenticated,
            EnvelopeArg::Encrypted => Envelope::Encrypted,
            EnvelopeArg::Plaintext if authenticated => {
                return Err("--rsocket.min-envelope-version=2 cannot be had with --rsocket.envelope=plaintext".into());
            }
            EnvelopeArg::Plaintext if tls.is_some() || self.rsocket_insecure_plaintext => {
                Envelope::Plaintext
            }
            EnvelopeArg::Plaintext => {
                return Err("--rsocket.envelope=plaintext sends everybody's metrics readable over the network; \
                            turn TLS on (--rsocket.tls.cert-file), or add --rsocket.insecure-plaintext if that is meant"
                    .into());
            }
        };
        let scrape = self.scrape();
        if self.rsocket_max_unfinished < self.scrape_max_payload {
            return Err("--rsocket.max-unfinished is less than --scrape.max-payload: no payload of that size could come".into());
        }
        Ok(Settings {
            web: Web {
                listen_address: self.web_listen_address,
                max_connections: self.web_max_connections,
                io_timeout: self.web_io_timeout,
                access: self.access()?,
                enable_lifecycle: self.web_enable_lifecycle,
            },
            rsocket: RSocket {
                tcp_listen_address: self.rsocket_tcp_listen_address,
                websocket_listen_address: self.rsocket_websocket_listen_address,
                allowed_origins: self.rsocket_websocket_allow_origin.clone(),
                identities: self.identities(scrape.terms(), tls.as_ref())?,
                push_rate: Rate::per_second(self.push_max_rate),
                tls,
                envelope,
                key_rotation: self.rsocket_key_rotation,
                setup_timeout: self.rsocket_setup_timeout,
                max_frame: self.rsocket_max_frame,
                max_connections: self.rsocket_max_connections,
                max_connections_per_address: self.rsocket_max_connections_per_address,
                max_handshakes: self.rsocket_max_handshakes,
                balancers: self.rsocket_proxy_protocol_trusted.clone(),
                max_unfinished: self.rsocket_max_unfinished,
                payload_timeout: self.rsocket_payload_timeout,
                max_queued_frames: self.rsocket_max_queued_frames,
            },
            scrape,
            push: store::Limits {
                ttl: self.push_ttl,
                retention: self.push_retention,
                max_bytes: self.push_max_bytes,
            },
            replication: store::Replication {
                replicas: self.push_replicas,
                max_claim_bytes: self.scrape_max_payload,
                ..store::Replication::default()
            },
            cluster: self.cluster.settings()?,
            rebalance: self.rebalance.settings(),
            grace_period: self.shutdown_grace_period,
            shutdown_delay: self.shutdown_delay,
        })
    }
}

impl ServeArgs {
    fn scrape(&self) -> Scrape {
        Scrape {
            timeout: self.scrape_timeout,
            timeout_offset: self.scrape_timeout_offset,
            max_payload: self.scrape_max_payload,
            limits: Limits {
                max_samples: self.scrape_max_series,
                max_name_len: self.scrape_max_name_length,
                max_label_value_len: self.scrape_max_label_value_length,
                max_labels: self.scrape_max_labels,
            },
            max_memory: self.scrape_max_memory,
            max_concurrent: self.scrape_max_concurrent,
        }
    }

    fn identities(&self, terms: Terms, tls: Option<&Tls>) -> Result<Option<Identities>, String> {
        let Some(file) = &self.rsocket_auth_file else {
            return Ok(None);
        };
        let place = format!("--rsocket.auth.file {}", file.display());
        let identities = Identities::read(file.clone(), terms);
        let identities = identities.map_err(|unusable| format!("{place}: {unusable}"))?;
        if identities.know_certificates() && !tls.is_some_and(Tls::is_mutual) {
            return Err(format!(
                "{place}: certificates are shown where --rsocket.tls.client-ca-file says who issues them"
            ));
        }
        Ok(Some(identities))
    }

    fn access(&self) -> Result<Option<Access>, String> {
        let Some(file) = &self.web_config_file else {
            return Ok(None);
        };
        let access = Access::read(file.clone());
        access
            .map(Some)
            .map_err(|unusable| format!("--web.config.file {}: {unusable}", file.display()))
    }
}

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(line) => return bad_usage(&line),
    };
    logging::init(&args.log.level, args.log.format);
    raise_open_files(&settings);
    let failure = match runtime::block_on(serve(settings)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.to_string(),
        Err(failure) => failure.to_string(),
    };
    error!(error = %failure, "stopped");
    ExitCode::FAILURE
}

/// Says so where the system may run out of descriptors before the node's own limits hold.
fn raise_open_files(settings: &Settings) {
    let connections = settings
        .rsocket
        .max_connections
        .saturating_add(settings.web.max_connections);
    let needed = connections.saturating_add(OTHER_FILES) as u64;
    if let Some(limit) = descriptors::raise()
        && limit < needed
    {
        warn!(
            limit,
            needed,
            "too few open files allowed for --rsocket.max-connections and --web.max-connections: raise the hard limit \
             (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker) or lower these"
        );
    }
}

async fn serve(settings: Settings) -> Result<(), crate::node::StartError> {
    let grace_period = settings.grace_period;
    let mut signals = drain::Signals::new()?;
    let node = Node::bind(settings).await?;
    let mut signalled = true;
    tokio::select! {
        () = signals.received() => {}
        () = node.drain_asked() => signalled = false,
    }
    let second_signal = async {
        // Whoever asked over HTTP may be what comes before an ordinary SIGTERM.
        if !signalled {
            signals.received().await;
        }
        signals.received().await;
    };
    tokio::select! {
        () = node.drain(grace_period) => {}
        () = second_signal => warn!("second signal, exiting at once"),
    }
    Ok(())
}
