//! Whatever strangers send to a node's ports: afterwards it lives, holds no more memory than it may, and the application
//! beside them is scraped.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hyper::Method;
use prometheus_rsocket_client::{Builder, Client};
use prometheus_rsocket_wire::Payload;
use prometheus_rsocket_wire::envelope::version2::{Purpose, Sealer};
use prometheus_rsocket_wire::session::StreamError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::app::{App, Peer};
use crate::cluster_gossip::{ENOUGH, crowd, plain};
use crate::nodes::{BINARY, Node, Ports, local};
use crate::peers::{Program, Scratch, reserved_port};
use crate::sandbox::{eventually, request};
use crate::tls::Authority;

/// What the good application answers.
const GOOD: &str = "good_up 1\n";
/// More than these nodes may hold, in bytes; idle, one has some thirty million.
const MAX_MEMORY: f64 = 400e6;
/// As Prometheus waits.
const SCRAPE: Duration = Duration::from_secs(10);

/// A node of a cluster, as a process of its own, and an application that means well.
struct Target {
    node: Node,
    websocket: SocketAddr,
    grpc: SocketAddr,
    gossip: SocketAddr,
    _good: Client,
}

/// A file with this secret, and the flag that names it.
fn secret(text: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    let file = scratch.file("secret", text);
    (scratch, format!("--cluster.secret-file={file}"))
}

impl Target {
    async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, "tcp", |good| good).await
    }

    /// Whose application comes in by this scheme, with what `secured` gives it.
    async fn start_with(
        flags: &[&str],
        scheme: &str,
        secured: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let (_kept_until_read, secret) = secret("correct horse battery staple, once more");
        Self::start_open(&[&[&secret[..]], flags].concat(), scheme, secured).await
    }

    /// That has no secret unless the flags give it one.
    async fn start_open(
        flags: &[&str],
        scheme: &str,
        secured: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let gossip = reserved_port();
        let ports = ["web", "rsocket.tcp", "rsocket.websocket", "cluster.grpc"];
        let mut command = Command::new(BINARY);
        command
            .args(ports.map(|port| format!("--{port}.listen-address=127.0.0.1:0")))
            .arg(format!("--cluster.listen-address=127.0.0.1:{gossip}"))
            // Nobody is there.
            .arg(format!("--cluster.peer=127.0.0.1:{gossip}"))
            .arg("--scrape.timeout=8s")
            .args(flags);
        let mut program = Program::start(&mut command);
        let Ports {
            web,
            tcp,
            websocket,
            grpc,
        } = Ports::of(&mut program).await;
        let address = format!("{scheme}://localhost:{}", tcp.port());
        let good = Client::builder(|| GOOD)
            .own_metrics(false)
            .proxy(address.parse().expect("an address"));
        Self {
            _good: secured(good).connect_and_wait().await.expect("connected"),
            node: Node { program, tcp, web },
            websocket,
            grpc,
            gossip: (Ipv4Addr::LOCALHOST, gossip).into(),
        }
    }

    /// The ports that connections come in by.
    fn doors(&self) -> [(&'static str, SocketAddr); 4] {
        [
            ("RSocket over TCP", self.node.tcp),
            ("RSocket over WebSocket", self.websocket),
            ("HTTP", self.node.web),
            ("gRPC", self.grpc),
        ]
    }

    async fn stands(&mut self, after: &str) {
        self.serves(after).await;
        assert!(!self.node.program.has_mentioned("panicked"), "{after}");
    }

    async fn serves(&mut self, after: &str) {
        let started = Instant::now();
        let scraped = self.node.scrape().await;
        let there = scraped.iter().any(|sample| sample == GOOD.trim_end());
        assert!(there, "{after}: {scraped:?}");
        let took = started.elapsed();
        assert!(took < SCRAPE, "{after}: {took:?}");
        let memory = self.node.own("process_resident_memory_bytes").await;
        assert!(memory > 0.0 && memory < MAX_MEMORY, "{after}: {memory} B");
        let ready = request(self.node.web, Method::GET, "/-/ready", &[]).await;
        assert!(ready.status.is_success(), "{after}: {}", ready.status);
        assert!(self.node.program.runs(), "{after}");
    }

    /// Sends these datagrams, again and again because a busy machine loses some, until as many have been dropped for
    /// this reason.
    async fn drops(&self, datagrams: &[Vec<u8>], reason: &str) {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let dropped =
            format!("prometheus_proxy_gossip_packets_dropped_total{{reason=\"{reason}\"}}");
        let before = self.node.own(&dropped).await;
        eventually(&format!("datagrams to be dropped: {reason}"), async || {
            for datagram in datagrams {
                let _ = stranger.send_to(datagram, self.gossip).await;
            }
            self.node.own(&dropped).await >= before + datagrams.len() as f64
        })
        .await;
    }

    /// Waits until this node and the other see each other, and nobody besides.
    async fn is_with(&self, other: &Node) {
        self.node.sees(2, "active").await;
        other.sees(2, "active").await;
    }
}

/// Sends all of it, as far as it is taken, and listens for a moment.
async fn say(address: SocketAddr, bytes: Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let _ = timeout(Duration::from_secs(1), stream.write_all(&bytes)).await;
    let mut heard = [0; 1024];
    let _ = timeout(Duration::from_millis(50), stream.read(&mut heard)).await;
}

/// A frame with its length in front.
fn frame(stream: u32, kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(6 + body.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend(stream.to_be_bytes());
    frame.extend((kind << 10 | flags).to_be_bytes());
    frame.extend(body);
    frame
}

/// A good SETUP: version 1.0, 20 s, 90 s, and two MIME types.
pub(crate) fn setup() -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0, 0, 0, 0x4E, 0x20, 0, 1, 0x5F, 0x90];
    for _ in 0..2 {
        body.push(3);
        body.extend(b"a/b");
    }
    frame(0, 0x01, 0, &body)
}

/// Beginnings that no port knows what to do with, or only another one.
fn beginnings(random: &mut Rng) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"\0\0\0",
        b"\xFF\xFF\xFF",
        b"\xFF\xFF\xFF\0\0\0\0\x04\0",
        b"\0\0\x06\0\0\0\0\x04\0",
        b"GET / HTTP/1.1\r\n",
        b"GET /metrics/connected HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xFF\xFF\xFF\x04\x00\x00\x00\x00\x00",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\x01\x02\x03\x04",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        b"\x16\x03\x01\xFF\xFF",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ]
    .map(<[u8]>::to_vec)
    .into();
    // A SETUP, cut anywhere, and with a bit turned.
    let setup = setup();
    all.extend((1..setup.len()).map(|to| setup[..to].to_vec()));
    for _ in 0..64 {
        let mut turned = setup.clone();
        let at = random.usize(..turned.len());
        turned[at] ^= 1 << random.u8(..8);
        all.push(turned);
    }
    // After a good SETUP, rubbish of the right length.
    for _ in 0..64 {
        let body: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        let rubbish = frame(random.u32(..4), random.u16(..64), random.u16(..1024), &body);
        all.push([setup.clone(), rubbish].concat());
    }
    all.push(vec![b'A'; 1 << 20]);
    all.push([&b"GET / HTTP/1.1\r\nX: "[..], &[b'A'; 1 << 20]].concat());
    all
}

async fn mistaken(mut target: Target) {
    let mut random = Rng::with_seed(8);
    for (name, address) in target.doors() {
        let mut talks = JoinSet::new();
        for beginning in beginnings(&mut random) {
            talks.spawn(say(address, beginning));
        }
        talks.join_all().await;
        target.stands(name).await;
    }
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for beginning in beginnings(&mut random) {
        let datagram = &beginning[..beginning.len().min(1400)];
        // What does not fit into the node's buffer is lost.
        let _ = stranger.send_to(datagram, target.gossip).await;
    }
    target.stands("gossip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_none_harm_nobody() {
    mistaken(Target::start(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_none_harm_nobody_behind_tls() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let [certificate, key] = authority.issue(&scratch, "localhost", "node");
    let flags = [
        &format!("--rsocket.tls.cert-file={certificate}")[..],
        &format!("--rsocket.tls.key-file={key}"),
    ];
    let trusting = |good: Builder| good.tls_ca_file(&authority.ca_file).expect("a certificate");
    mistaken(Target::start_with(&flags, "tls", trusting).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_keep_nobody_out() {
    let mut target =
        Target::start(&["--rsocket.max-handshakes=50", "--web.max-connections=50"]).await;
    let mut held = Vec::new();
    for (name, address) in target.doors() {
        // Silent ones, ones that begin, and ones that go on as slowly as they like.
        for begin in [
            &b""[..],
            b"\0",
            b"GET / HTTP/1.1\r\nHost",
            b"\x16\x03\x01\x02\0\x01",
        ] {
            for _ in 0..50 {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let _ = stream.write_all(begin).await;
                    held.push(stream);
                }
            }
        }
        target.stands(name).await;
        let newcomer = timeout(SCRAPE, App::text(target.node.tcp, "new_up 1\n"));
        let newcomer = newcomer.await.expect("a place for a newcomer");
        let scraped = target.node.scrape().await;
        assert!(scraped.iter().any(|sample| sample == "new_up 1"), "{name}");
        drop(newcomer);
    }
    for series in [
        "prometheus_proxy_connection_error_total{exception=\"crowded\",transport=\"TCP\"}",
        "prometheus_proxy_connection_error_total{exception=\"crowded\",transport=\"Websocket\"}",
        "prometheus_proxy_http_connection_errors_total{exception=\"crowded\"}",
    ] {
        assert!(target.node.own(series).await > 0.0, "{series}");
    }
}

/// Datagrams that a node sent to what it was told is a peer; it is gone since.
async fn recorded(flags: &[&str]) -> Vec<Vec<u8>> {
    let recorder = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let port = recorder.local_addr().expect("an address").port();
    let _node = local(reserved_port(), port, flags).await;
    let mut buffer = vec![0; 1 << 16];
    let mut datagrams = Vec::new();
    while datagrams.len() < 3 {
        let length = recorder.recv(&mut buffer).await.expect("a datagram");
        datagrams.push(buffer[..length].to_vec());
    }
    datagrams
}

/// As they are, but for one bit of each.
fn turned(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let turn = |datagram: &Vec<u8>| {
        let mut turned = datagram.clone();
        *turned.last_mut().expect("a byte") ^= 1;
        turned
    };
    datagrams.iter().map(turn).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_gossip_changes_nothing() {
    let (_kept, ours) = secret("the secret of these nodes");
    let (_kept_too, theirs) = secret("the secret of other nodes");
    let mut target = Target::start_open(&[&ours], "tcp", |good| good).await;
    let other = local(reserved_port(), target.gossip.port(), &[&ours]).await;
    target.is_with(&other).await;
    let crowds = vec![plain(&crowd()); ENOUGH];
    target.drops(&crowds, "unsealed").await;
    let strange = recorded(&[&theirs]).await;
    target.drops(&strange, "unopened").await;
    let recorded = recorded(&[&ours]).await;
    target.drops(&turned(&recorded), "unopened").await;
    // Each is taken once.
    target.drops(&recorded, "replayed").await;
    target.stands("forged gossip").await;
    target.is_with(&other).await;
    for node in [&target.node, &other] {
        let restarts = node.own("prometheus_proxy_gossip_restarts_total").await;
        assert_eq!(restarts, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_gossip_ends_no_node_that_has_no_secret() {
    let (_kept, theirs) = secret("the secret of other nodes");
    let mut target = Target::start_open(&[], "tcp", |good| good).await;
    let other = local(reserved_port(), target.gossip.port(), &[]).await;
    target.is_with(&other).await;
    target.drops(&recorded(&[&theirs]).await, "sealed").await;
    target.stands("sealed gossip").await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    eventually("the gossip to be started again", async || {
        for _ in 0..ENOUGH {
            let _ = stranger.send_to(&plain(&crowd()), target.gossip).await;
        }
        let restarts = "prometheus_proxy_gossip_restarts_total";
        target.node.own(restarts).await > 0.0
    })
    .await;
    target.serves("gossip that panics").await;
    target.is_with(&other).await;
    target.serves("gossip that panicked").await;
}

/// A payload in pieces of which there is always another, over one connection, until the node has had enough.
async fn endless(address: SocketAddr, kind: u16, total: usize) {
    const FOLLOWS: u16 = 0x80;
    let piece = [b'x'; 64 << 10];
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let beginning = [setup(), frame(1, kind, FOLLOWS, &piece)].concat();
    let next = frame(1, 0x0A, 0x20 | FOLLOWS, &piece);
    let mut sent = 0;
    let mut bytes = beginning;
    while sent < total {
        let written = timeout(Duration::from_secs(2), stream.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        sent += bytes.len();
        bytes.clone_from(&next);
    }
    // Stays, with what it has sent unfinished.
    let mut heard = [0; 1024];
    while let Ok(Ok(1..)) = timeout(Duration::from_secs(2), stream.read(&mut heard)).await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_without_end_do_not_fill_the_memory() {
    const REQUEST_RESPONSE: u16 = 0x04;
    const REQUEST_FNF: u16 = 0x05;
    let mut target = Target::start(&[
        "--scrape.max-payload=16MiB",
        "--rsocket.max-unfinished=64MiB",
    ])
    .await;
    let mut hostile = JoinSet::new();
    for number in 0..100 {
        let kind = if number % 2 == 0 {
            REQUEST_RESPONSE
        } else {
            REQUEST_FNF
        };
        hostile.spawn(endless(target.node.tcp, kind, 12 << 20));
    }
    while !hostile.is_empty() {
        target.stands("endless fragments").await;
        let _ = timeout(Duration::from_millis(100), hostile.join_next()).await;
    }
    target.stands("endless fragments").await;
    let ended =
        "prometheus_proxy_connection_error_total{exception=\"unfinished\",transport=\"TCP\"}";
    assert!(target.node.own(ended).await > 0.0);
}

/// So many pushes, as fast as they are taken, each of which costs the node an RSA operation and comes to nothing.
async fn junk(address: SocketAddr, pushes: u32) {
    const FNF: u16 = 0x05;
    const METADATA: u16 = 0x100;
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let metadata = [0; 256];
    let body = [&[0, 1, 0][..], &metadata, b"x"].concat();
    let mut bytes = setup();
    for number in 0..pushes {
        bytes.extend(frame(2 * number + 1, FNF, METADATA, &body));
    }
    // As they come: a peer that reads nothing is given up.
    let (mut reader, mut writer) = stream.split();
    let mut heard = tokio::io::sink();
    tokio::select! {
        _ = tokio::io::copy(&mut reader, &mut heard) => {}
        _ = writer.write_all(&bytes) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_come_to_nothing_keep_no_scrape_waiting() {
    let mut target = Target::start(&[]).await;
    let mut hostile = JoinSet::new();
    for _ in 0..100 {
        hostile.spawn(junk(target.node.tcp, 200));
    }
    while !hostile.is_empty() {
        target.stands("junk").await;
        let _ = timeout(Duration::from_millis(100), hostile.join_next()).await;
    }
    target.stands("junk").await;
    let refused = "prometheus_proxy_pushes_refused_total{reason=\"envelope\"}";
    assert!(target.node.own(refused).await > 0.0);
}

/// What is left of a text of very many bytes after compression.
fn bomb() -> String {
    format!("bomb{{a=\"{}\"}} 1\n", "x".repeat(20 << 20))
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_cost_their_sender_alone() {
    let mut target = Target::start(&["--scrape.max-payload=1MiB"]).await;
    let bomb = bomb();
    let bombs = [
        App::text(target.node.tcp, &bomb).await,
        App::text(target.node.tcp, &bomb).await,
    ];
    let mut pusher = Peer::connect(target.node.tcp).await;
    pusher.key().await;
    for _ in 0..20 {
        let pushed = pusher.push(&bomb).await;
        assert!(
            matches!(pushed, Err(StreamError::Application { .. })),
            "{pushed:?}"
        );
    }
    for _ in 0..5 {
        target.stands("bombs").await;
    }
    assert!(bombs.iter().all(|bomb| bomb.seen.pulls() > 0));
}

/// An application that seals by version 2, whose sealed push is known to others.
async fn modern(target: &Target) -> (Peer, Payload) {
    let mut peer = Peer::connect(target.node.tcp).await;
    let key = peer.key().await;
    let announced = peer.announcement.as_ref().and_then(|said| said.connection);
    let sealer = Sealer::new(announced.expect("a token"));
    let text = b"pushed_total 1\n";
    let sealed = sealer.seal(text, &key, Purpose::Push, Instant::now());
    (peer, sealed.expect("sealed").into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_for_another_place_is_never_taken() {
    let mut target = Target::start(&[]).await;
    let mut random = Rng::with_seed(2);
    let (mut owner, sealed) = modern(&target).await;
    let (mut thief, _) = modern(&target).await;
    for _ in 0..50 {
        let stolen = thief.push_payload(sealed.clone()).await;
        assert!(stolen.is_err(), "crossed: {stolen:?}");
        let mut turned = sealed.data.to_vec();
        let at = random.usize(..turned.len());
        turned[at] ^= 1 << random.u8(..8);
        let turned = Payload {
            data: turned.into(),
            ..sealed.clone()
        };
        let turned = owner.push_payload(turned).await;
        assert!(turned.is_err(), "turned: {turned:?}");
    }
    owner.push_payload(sealed.clone()).await.expect("the first");
    for _ in 0..50 {
        let replayed = owner.push_payload(sealed.clone()).await;
        assert!(replayed.is_err(), "replayed: {replayed:?}");
    }
    drop((owner, thief));
    let scraped = target.node.scrape().await;
    let pushed = scraped
        .iter()
        .filter(|sample| sample.starts_with("pushed_total"));
    assert_eq!(pushed.count(), 1, "{scraped:?}");
    target.stands("replays").await;
}

/// Where the hostile of the figures connect to.
const AIM: &str = "HOSTILE_AIM";

/// By name, with `ulimit -n 30000`: what 10,000 hostile connections beside 1,000 good ones cost.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, and more open files than usual"]
async fn figures_of_ten_thousand_hostile_connections_beside_a_thousand_good_ones() {
    let mut target = Target::start(&["--rsocket.max-unfinished=256MiB"]).await;
    let mut good = Vec::new();
    for number in 0..1000 {
        let text = format!("app_up{{app=\"{number}\"}} 1\n");
        good.push(App::text(target.node.tcp, &text).await);
    }
    // Elsewhere, in life: the processors that they share with the node here are its own first.
    let mut hostile = Program::start(
        Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe().expect("a name"))
            .args([
                "--ignored",
                "--exact",
                "hostile::ten_thousand_hostile_connections",
            ])
            .env(AIM, target.node.tcp.to_string()),
    );
    let mut took = Vec::new();
    let mut most = 0.0_f64;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) && hostile.runs() {
        let scrape = Instant::now();
        // As Prometheus says that it waits.
        let patience = [("x-prometheus-scrape-timeout-seconds", "10")];
        let path = "/metrics/connected";
        let scraped = request(target.node.web, Method::GET, path, &patience).await;
        took.push(scrape.elapsed().as_secs_f64());
        let there = scraped.text().matches("app_up{").count();
        assert_eq!(there, 1000);
        most = most.max(target.node.own("process_resident_memory_bytes").await);
    }
    assert!(hostile.runs() || hostile.ended().await.success());
    let ended = |exception| {
        format!(
            "prometheus_proxy_connection_error_total{{exception=\"{exception}\",transport=\"TCP\"}}"
        )
    };
    for exception in ["crowded", "unfinished", "setup_timeout"] {
        println!("{exception}: {}", target.node.own(&ended(exception)).await);
    }
    println!(
        "scrapes that took {took:.1?} s; at most {:.0} MB",
        most / 1e6
    );
    assert!(target.node.program.runs() && !target.node.program.has_mentioned("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process that the figures above start"]
async fn ten_thousand_hostile_connections() {
    const FNF: u16 = 0x05;
    let aim = std::env::var(AIM).expect("started by the figures");
    let address: SocketAddr = aim.parse().expect("an address");
    let mut hostile = JoinSet::new();
    for number in 0..10_000 {
        match number % 4 {
            0 => hostile.spawn(endless(address, FNF, 4 << 20)),
            1 => hostile.spawn(say_slowly(address, setup())),
            2 => hostile.spawn(junk(address, 1000)),
            _ => hostile.spawn(say_slowly(address, b"\0".to_vec())),
        };
    }
    hostile.join_all().await;
}

/// Sends it, and stays.
async fn say_slowly(address: SocketAddr, bytes: Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let _ = stream.write_all(&bytes).await;
    let mut heard = [0; 1024];
    while let Ok(Ok(1..)) = timeout(Duration::from_secs(40), stream.read(&mut heard)).await {}
}
