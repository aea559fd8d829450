//! Pushes on disk: nodes that are killed at any moment, one and all at once, and started again in their directories; and
//! one that is stopped for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus_rsocket_wire::envelope::version1;
use prometheus_rsocket_wire::key::PublicKey;
use prometheus_rsocket_wire::session::{Limits, SetupOptions};
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{Connection, Event, Session};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::nodes::{BINARY, Node};
use crate::peers::{Program, Scratch, reserved_port};
use crate::sandbox::{eventually, eventually_within, samples};

/// What was acknowledged, and what scrapes brought.
#[derive(Default)]
struct Account {
    next: AtomicU64,
    acknowledged: Mutex<BTreeSet<u64>>,
    refused: AtomicU64,
    served: Mutex<BTreeMap<u64, u32>>,
}

impl Account {
    /// Pushes one after the other until the connection ends.
    async fn push_to(&self, proxy: SocketAddr) -> Option<()> {
        let stream = TcpStream::connect(proxy).await.ok()?;
        let now = Instant::now().into_std();
        let session = Session::connecting(SetupOptions::default(), Limits::default(), now).ok()?;
        let mut connection = Connection::new(session, Tcp::new(stream, 1 << 24));
        let key = loop {
            match connection.next().await {
                Event::FireAndForget { payload } => {
                    break PublicKey::from_spki_der(&payload.data).ok()?;
                }
                Event::Closed(_) => return None,
                _ => {}
            }
        };
        loop {
            let push = self.next.fetch_add(1, Ordering::SeqCst);
            let text = format!("pushed{{push=\"{push}\"}} 1\n");
            let payload = version1::seal(text.as_bytes(), &key).ok()?;
            let sent = connection.session().request_response(payload.into()).ok()?;
            let outcome = loop {
                match connection.next().await {
                    Event::Response { stream, result } if stream == sent => break result,
                    Event::Closed(_) => return None,
                    _ => {}
                }
            };
            if outcome.is_ok() {
                self.acknowledged.lock().insert(push);
            } else {
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Scrapes once; notes what a whole response brings.
    async fn scrape(&self, web: SocketAddr) -> Option<()> {
        let stream = TcpStream::connect(web).await.ok()?;
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.ok()?;
        tokio::spawn(connection);
        let request = Request::get("/metrics/connected").header("host", web.to_string());
        let request = request.body(Empty::<Bytes>::new()).ok()?;
        let response = sender.send_request(request).await.ok()?;
        let body = response.into_body().collect().await.ok()?.to_bytes();
        let mut served = self.served.lock();
        for sample in samples(&String::from_utf8_lossy(&body)) {
            let push = sample.strip_prefix("pushed{push=\"");
            if let Some((push, _)) = push.and_then(|rest| rest.split_once('"')) {
                *served.entry(push.parse().expect("a number")).or_default() += 1;
            }
        }
        Some(())
    }

    fn unserved(&self) -> Vec<u64> {
        let served = self.served.lock();
        let acknowledged = self.acknowledged.lock();
        let unserved = acknowledged
            .iter()
            .filter(|push| !served.contains_key(push));
        unserved.copied().collect()
    }

    fn served_again(&self) -> u32 {
        self.served.lock().values().map(|times| times - 1).sum()
    }
}

/// A node that is started again and again in the same place.
struct Place {
    flags: Vec<String>,
    web: SocketAddr,
    tcp: SocketAddr,
}

impl Place {
    fn all(number: usize, scratch: &Scratch) -> Vec<Self> {
        let gossip: Vec<_> = (0..number).map(|_| reserved_port()).collect();
        let places = (0..number).map(|own| {
            let [web, tcp] = [reserved_port(), reserved_port()];
            let mut flags = vec![
                format!("--web.listen-address=127.0.0.1:{web}"),
                format!("--rsocket.tcp.listen-address=127.0.0.1:{tcp}"),
                "--rsocket.websocket.listen-address=127.0.0.1:0".into(),
                "--cluster.grpc.listen-address=127.0.0.1:0".into(),
                format!("--cluster.listen-address=127.0.0.1:{}", gossip[own]),
                format!("--push.dir={}", scratch.path(&format!("node-{own}"))),
            ];
            let others = gossip.iter().filter(|port| **port != gossip[own]);
            flags.extend(others.map(|port| format!("--cluster.peer=127.0.0.1:{port}")));
            Self {
                flags,
                web: (Ipv4Addr::LOCALHOST, web).into(),
                tcp: (Ipv4Addr::LOCALHOST, tcp).into(),
            }
        });
        places.collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.args(&self.flags);
        command
    }
}

/// Kills all nodes at once, so often, while pushes and scrapes go on: each time at some moment after a push was
/// acknowledged, or while they start. Then looks for what was acknowledged.
async fn kill_all(nodes: usize, rounds: u32) {
    let scratch = Scratch::new();
    let places = Place::all(nodes, &scratch);
    let account = Arc::new(Account::default());
    let mut traffic = JoinSet::new();
    for place in &places {
        let (tcp, web) = (place.tcp, place.web);
        for _ in 0..4 {
            let account = Arc::clone(&account);
            traffic.spawn(async move {
                loop {
                    account.push_to(tcp).await;
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
        let account = Arc::clone(&account);
        traffic.spawn(async move {
            loop {
                account.scrape(web).await;
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    for round in 0..rounds {
        let before = account.acknowledged.lock().len();
        let programs = places
            .iter()
            .map(|place| Program::start(&mut place.command()));
        let programs: Vec<_> = programs.collect();
        if round == 0 || fastrand::u8(0..4) > 0 {
            eventually("an acknowledgement", async || {
                account.acknowledged.lock().len() > before
            })
            .await;
        }
        sleep(Duration::from_millis(fastrand::u64(0..1_000))).await;
        for program in programs {
            program.kill().await;
            sleep(Duration::from_millis(fastrand::u64(0..5))).await;
        }
    }
    traffic.shutdown().await;
    let mut running = Vec::new();
    for place in &places {
        running.push(Program::start(&mut place.command()));
    }
    eventually_within(
        Duration::from_secs(60),
        "every acknowledged push",
        async || {
            for place in &places {
                account.scrape(place.web).await;
            }
            account.unserved().is_empty()
        },
    )
    .await;
    let acknowledged = account.acknowledged.lock().len();
    let line = format!(
        "{} kills of {nodes} nodes: {acknowledged} pushes acknowledged, 0 lost, {} refused, {} served again",
        rounds as usize * nodes,
        account.refused.load(Ordering::SeqCst),
        account.served_again(),
    );
    writeln!(std::io::stderr(), "{line}").expect("standard error");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_acknowledged_survives_its_being_killed_at_any_moment() {
    kill_all(1, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_has_acknowledged_survives_all_nodes_being_killed_at_once() {
    kill_all(3, 3).await;
}

fn rounds() -> u32 {
    let rounds = std::env::var("PROXY_KILL_ROUNDS").unwrap_or("100".into());
    rounds.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: as many rounds as PROXY_KILL_ROUNDS says"]
async fn one_node_killed_again_and_again() {
    kill_all(1, rounds()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: as many rounds as PROXY_KILL_ROUNDS says"]
async fn three_nodes_killed_again_and_again() {
    kill_all(3, rounds()).await;
}

#[tokio::test]
async fn what_others_serve_while_a_node_is_stopped_is_not_served_again_when_it_goes_on() {
    let scratch = Scratch::new();
    let places = Place::all(3, &scratch);
    let mut nodes = Vec::new();
    for place in &places {
        nodes.push(start(place).await);
    }
    let account = Arc::new(Account::default());
    let mut pushers = JoinSet::new();
    let pusher = Arc::clone(&account);
    let to = places[0].tcp;
    pushers.spawn(async move { pusher.push_to(to).await });
    eventually("pushes", async || account.acknowledged.lock().len() >= 50).await;
    pushers.shutdown().await;
    nodes[0].program.freeze();
    eventually_within(
        Duration::from_secs(60),
        "all of them, by others",
        async || {
            for place in &places[1..] {
                account.scrape(place.web).await;
            }
            account.unserved().is_empty()
        },
    )
    .await;
    // Longer than its peers keep their connections to it, with what they tell it.
    sleep(Duration::from_secs(30)).await;
    nodes[0].program.resume();
    for _ in 0..40 {
        for place in &places {
            account.scrape(place.web).await.expect("a response");
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(account.served_again(), 0);
}

async fn start(place: &Place) -> Node {
    Node::start(&mut place.command(), Ipv4Addr::LOCALHOST.into()).await
}

#[tokio::test]
async fn a_directory_is_one_nodes() {
    let scratch = Scratch::new();
    let places = Place::all(1, &scratch);
    let _node = start(&places[0]).await;
    let directory = scratch.path("node-0");
    let second = Command::new(BINARY)
        .args(
            ["--web.listen-address", "--rsocket.tcp.listen-address"]
                .map(|flag| format!("{flag}=127.0.0.1:0")),
        )
        .arg("--rsocket.websocket.listen-address=127.0.0.1:0")
        .arg(format!("--push.dir={directory}"))
        .output()
        .await
        .expect("the program");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr) + String::from_utf8_lossy(&second.stdout);
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.contains("level=error"))
        .collect();
    let [line] = errors[..] else {
        panic!("one line: {said}");
    };
    assert!(line.contains("another process, probably "), "{line}");
    assert!(line.contains(&directory), "{line}");
}

#[tokio::test]
async fn a_drain_keeps_what_nobody_scraped_and_does_not_wait_for_a_scrape() {
    let scratch = Scratch::new();
    let places = Place::all(1, &scratch);
    let mut node = start(&places[0]).await;
    node.pushed("kept 1\n").await;
    node.program.terminate();
    assert!(node.program.ended().await.success());
    let node = start(&places[0]).await;
    eventually("it waits for a scrape", async || {
        let status = node.get("/api/v1/status").await;
        status.contains("\"pending\":1")
    })
    .await;
    assert_eq!(node.scrape().await, ["kept 1"]);
    assert_eq!(
        node.own("prometheus_proxy_pushes_restored_total{outcome=\"restored\"}")
            .await,
        1.0
    );
}

/// A file system of its own, of a few megabytes; `None` where that is not allowed.
struct SmallDisk(String);

impl SmallDisk {
    async fn mount(path: String) -> Option<Self> {
        std::fs::create_dir(&path).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs", &path])
            .output()
            .await;
        mounted
            .is_ok_and(|mounted| mounted.status.success())
            .then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left behind, it goes with the machine.
        let _ = std::process::Command::new("umount")
            .args(["-l", &self.0])
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_pushes_and_takes_them_again_when_there_is_room() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(scratch.path("node-0")).await else {
        let line = "SKIPPED: durable::a_full_disk: there is no permission to mount a file system";
        writeln!(std::io::stderr(), "{line}").expect("standard error");
        return;
    };
    let filler = format!("{}/filler", disk.0);
    std::fs::write(&filler, vec![0; 1 << 20]).expect("room");
    let places = Place::all(1, &scratch);
    let node = start(&places[0]).await;
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let refused = loop {
        number += 1;
        match push(&node, number).await {
            Ok(()) => acknowledged.push(number),
            Err(refused) => break refused,
        }
        assert!(number < 200, "the disk is never full");
    };
    assert!(
        refused.contains("cannot write this push to its disk"),
        "{refused}"
    );
    assert!(!acknowledged.is_empty());
    assert_eq!(node.own("prometheus_proxy_push_disk_failing").await, 1.0);
    assert_eq!(node.get("/-/ready").await.lines().count(), 1);

    std::fs::remove_file(&filler).expect("the file");
    eventually_within(
        Duration::from_secs(30),
        "the disk works again",
        async || node.own("prometheus_proxy_push_disk_failing").await == 0.0,
    )
    .await;
    number += 1;
    push(&node, number).await.expect("acknowledged");
    acknowledged.push(number);

    node.program.kill().await;
    let node = start(&places[0]).await;
    let mut served = BTreeSet::new();
    eventually(
        "what was acknowledged, and nothing that was refused",
        async || {
            let samples = node.scrape().await;
            served.extend(samples.iter().map(|sample| number_of(sample)));
            served.iter().eq(&acknowledged)
        },
    )
    .await;
}

/// Pushes a text of some tens of kilobytes that hardly compresses.
async fn push(node: &Node, number: u64) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(number);
    let text = (0..500).fold(String::new(), |mut text, row| {
        let noise: String = (0..64).map(|_| random.alphanumeric()).collect();
        text += &format!("filled{{push=\"{number}\",row=\"{row}\",noise=\"{noise}\"}} 1\n");
        text
    });
    let address = format!("tcp://{}", node.tcp).parse().expect("an address");
    let client = prometheus_rsocket_client::Client::builder(move || text.clone()).proxy(address);
    let client = client
        .max_retries(0)
        .timeout(Duration::from_secs(20))
        .connect();
    client
        .push_and_close()
        .await
        .map_err(|error| error.to_string())
}

fn number_of(sample: &str) -> u64 {
    let number = sample
        .strip_prefix("filled{push=\"")
        .and_then(|rest| rest.split('"').next());
    number.expect("a pushed sample").parse().expect("a number")
}
