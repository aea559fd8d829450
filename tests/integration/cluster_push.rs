//! Pushes that several nodes hold for each other. Who lives is told by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use prometheus_rsocket_proxy::cluster::calls::{CallIdentity, Joining, Peer as Other};
use prometheus_rsocket_proxy::node::Node;
use prometheus_rsocket_proxy::nodes::{NodeId, NodeState};
use prometheus_rsocket_wire::Payload;
use prometheus_rsocket_wire::session::StreamError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::app::{App, Peer};
use crate::sandbox::{PATIENCE, Sandbox, begin, eventually, long_text, request, samples};

/// A node, and its view of the others.
pub(crate) struct Member {
    id: NodeId,
    pub(crate) proxy: Sandbox,
    others: watch::Sender<Arc<[Other]>>,
}

impl Member {
    pub(crate) async fn start(name: &str, secret: Option<&str>, flags: &[&str]) -> Self {
        let id = NodeId::new(name, 1);
        let (others, peers) = watch::channel(Arc::from([]));
        let secrets: Vec<_> = secret.into_iter().collect();
        let joining = Joining {
            me: id.clone(),
            identity: CallIdentity::new(&secrets).expect("an identity"),
            peers,
        };
        let node = Node::join(Sandbox::settings(flags), joining);
        Self {
            id,
            proxy: Sandbox {
                node: node.await.expect("free ports"),
            },
            others,
        }
    }

    pub(crate) fn as_other(&self) -> Other {
        Other {
            id: self.id.clone(),
            grpc: self.node_address(),
            state: NodeState::Active,
        }
    }

    pub(crate) fn node_address(&self) -> SocketAddr {
        self.proxy
            .node
            .grpc_address
            .expect("a port for other nodes")
    }

    /// Lets the node see these others, and waits until it does.
    pub(crate) async fn see(&self, others: Vec<Other>) {
        let number = others.len();
        self.others.send_replace(others.into());
        eventually("the view", async || {
            self.proxy.own("prometheus_proxy_push_peers").await == number as f64
        })
        .await;
    }

    async fn push(&self, text: &str) -> Result<(), StreamError> {
        let mut app = Peer::connect(self.proxy.tcp()).await;
        app.key().await;
        let outcome = app.push(text).await;
        drop(app);
        self.proxy.connected(0).await;
        outcome
    }
}

/// Lets all members see each other.
pub(crate) async fn introduce(members: &[Member]) {
    let all: Vec<_> = members.iter().map(Member::as_other).collect();
    for member in members {
        let others = all.iter().filter(|other| other.id != member.id);
        member.see(others.cloned().collect()).await;
    }
}

async fn cluster(number: usize, secret: Option<&str>) -> Vec<Member> {
    let members = (0..number).map(|number| async move {
        let name = format!("node-{number}");
        Member::start(&name, secret, &[]).await
    });
    let members = join_all(members).await;
    introduce(&members).await;
    members
}

async fn sum(members: &[Member], series: &str) -> f64 {
    let values = members.iter().map(|member| member.proxy.own(series));
    join_all(values).await.into_iter().sum()
}

/// Waits until the members together count that much.
async fn counted(members: &[Member], series: &str, value: f64) {
    let what = format!("{series} to be {value}");
    eventually(&what, async || sum(members, series).await == value).await;
}

/// Pushes, each to any of the members, that have no series in common.
async fn scatter(members: &[Member], number: usize) -> Vec<String> {
    let mut expected = Vec::new();
    for push in 0..number {
        let line = format!("job{{number=\"{push:02}\"}} 1");
        let member = fastrand::choice(members).expect("a member");
        member.push(&format!("{line}\n")).await.expect("taken");
        expected.push(line);
    }
    expected
}

#[tokio::test]
async fn what_a_killed_node_had_acknowledged_is_served_once_by_another() {
    let mut members = cluster(3, Some("secret")).await;
    members[0].push("jobs_total 1\n").await.unwrap();
    assert_eq!(
        members[0]
            .proxy
            .own("prometheus_proxy_pushes_replicated_total")
            .await,
        1.0
    );
    drop(members.remove(0));
    introduce(&members).await;
    counted(&members, "prometheus_proxy_pushes_taken_over_total", 1.0).await;
    assert_eq!(members[0].proxy.scrape().await, ["jobs_total 1"]);
    assert!(members[1].proxy.scrape().await.is_empty());
    assert!(members[0].proxy.scrape().await.is_empty());
    counted(&members, "prometheus_proxy_pushes{state=\"replica\"}", 0.0).await;
}

#[tokio::test]
async fn all_nodes_scraped_at_once_serve_each_push_once() {
    let members = cluster(3, None).await;
    let expected = scatter(&members, 30).await;
    let scrapes = members.iter().map(|member| member.proxy.scrape());
    let mut served: Vec<_> = join_all(scrapes).await.into_iter().flatten().collect();
    served.sort_unstable();
    assert_eq!(served, expected);
    counted(&members, "prometheus_proxy_pushes_served_total", 30.0).await;
    counted(&members, "prometheus_proxy_push_bytes", 0.0).await;
    assert_eq!(
        sum(
            &members,
            "prometheus_proxy_pushes_possible_duplicates_total"
        )
        .await,
        0.0
    );
}

#[tokio::test]
async fn each_consumer_of_three_nodes_gets_each_push_once_and_who_looks_takes_nothing() {
    let members = cluster(3, Some("secret")).await;
    for name in ["a", "b", "a", "b"] {
        members[0].proxy.scrape_as(name).await;
    }
    let expected = scatter(&members, 12).await;
    assert_eq!(members[0].proxy.scrape().await.len(), 12);
    for name in ["a", "b"] {
        let mut served = Vec::new();
        for member in &members {
            served.extend(member.proxy.scrape_as(name).await);
        }
        served.sort_unstable();
        assert_eq!(served, expected, "{name}");
    }
    counted(&members, "prometheus_proxy_push_bytes", 0.0).await;
    for (series, value) in [
        ("prometheus_proxy_pushes_served_total", 12.0),
        ("prometheus_proxy_push_deliveries_total", 36.0),
        ("prometheus_proxy_pushes_possible_duplicates_total", 0.0),
        ("prometheus_proxy_pushes_missed_total", 0.0),
        ("prometheus_proxy_push_consumers{state=\"counting\"}", 6.0),
        ("prometheus_proxy_push_consumers{state=\"new\"}", 3.0),
    ] {
        counted(&members, series, value).await;
    }
}

#[tokio::test]
async fn a_node_that_is_started_again_keeps_a_push_for_the_consumer_that_has_not_had_it() {
    let mut members = cluster(3, Some("secret")).await;
    for name in ["a", "b", "a", "b"] {
        members[0].proxy.scrape_as(name).await;
    }
    members[0].push("jobs_total 1\n").await.unwrap();
    assert_eq!(members[1].proxy.scrape_as("a").await.len(), 1);
    let leaving = members.remove(0);
    timeout(PATIENCE, leaving.proxy.node.drain(PATIENCE))
        .await
        .expect("no wait for a scrape");
    members.push(Member::start("node-3", Some("secret"), &[]).await);
    introduce(&members).await;
    for member in &members {
        assert!(member.proxy.scrape_as("a").await.is_empty());
    }
    assert_eq!(members[2].proxy.scrape_as("b").await, ["jobs_total 1"]);
    counted(&members, "prometheus_proxy_push_bytes", 0.0).await;
}

#[tokio::test]
async fn one_node_alone_scraped_serves_what_all_have_taken() {
    let members = cluster(3, Some("secret")).await;
    members[1].proxy.scrape().await;
    let expected = scatter(&members, 30).await;
    let mut served = members[1].proxy.scrape().await;
    served.sort_unstable();
    assert_eq!(served, expected);
    counted(&members, "prometheus_proxy_push_bytes", 0.0).await;
}

#[tokio::test]
async fn a_node_that_holds_no_replica_serves_a_push_too() {
    let names = ["node-0", "node-1"];
    let members = names.map(|name| Member::start(name, None, &["--push.replicas=0"]));
    let members = join_all(members).await;
    introduce(&members).await;
    members[0].push("jobs_total 1\n").await.unwrap();
    assert_eq!(
        members[1]
            .proxy
            .own("prometheus_proxy_pushes{state=\"replica\"}")
            .await,
        0.0
    );
    assert_eq!(members[1].proxy.scrape().await, ["jobs_total 1"]);
    members[0].proxy.pending(0).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_leaves_its_pushes_to_the_scrape_of_another_node() {
    let members = cluster(3, None).await;
    members[1].push("zz_jobs_total 1\n").await.unwrap();
    let _app = App::text(members[0].proxy.tcp(), &long_text()).await;
    let web = members[0].proxy.web();
    let mut response = begin(web, Method::GET, "/metrics/connected", &[]).await;
    response
        .frame()
        .await
        .expect("a first piece")
        .expect("no error");
    assert_eq!(members[1].proxy.status().await["pushes"]["claimed"], 1);
    drop(response);
    members[1].proxy.pending(1).await;
    assert_eq!(members[2].proxy.scrape().await, ["zz_jobs_total 1"]);
    counted(&members, "prometheus_proxy_push_bytes", 0.0).await;
}

/// A node that takes connections and never says anything.
pub(crate) struct Hung {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Hung {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(stream);
            }
        });
        Self { address, task }
    }

    pub(crate) fn as_other(&self) -> Other {
        Other {
            id: NodeId::new("hung", 1),
            grpc: self.address,
            state: NodeState::Active,
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_node_that_hangs_delays_neither_acknowledgement_nor_scrape_beyond_their_bounds() {
    for secret in [None, Some("secret")] {
        let hung = Hung::start().await;
        let member = Member::start("node-0", secret, &[]).await;
        member.see(vec![hung.as_other()]).await;
        let started = Instant::now();
        member.push("jobs_total 1\n").await.unwrap();
        let acknowledged = started.elapsed();
        // Two seconds, and some for a busy machine.
        assert!(acknowledged < Duration::from_secs(6), "{acknowledged:?}");
        let short = "prometheus_proxy_pushes_acknowledged_short_total";
        assert_eq!(member.proxy.own(short).await, 1.0);

        let started = Instant::now();
        let headers = [("x-prometheus-scrape-timeout-seconds", "10")];
        let response = member.proxy.get_with("/metrics/connected", &headers).await;
        let scraped = started.elapsed();
        assert_eq!(samples(response.text()), ["jobs_total 1"]);
        assert!(scraped < Duration::from_secs(9), "{scraped:?}");
        let late = "prometheus_proxy_push_claims_late_total";
        assert_eq!(member.proxy.own(late).await, 1.0);
    }
}

#[tokio::test]
async fn a_node_that_hangs_costs_the_others_nothing() {
    let hung = Hung::start().await;
    let members = cluster(2, None).await;
    for (member, other) in [(0, 1), (1, 0)] {
        let others = vec![members[other].as_other(), hung.as_other()];
        members[member].see(others).await;
    }
    let expected = scatter(&members, 10).await;
    assert_eq!(
        sum(&members, "prometheus_proxy_pushes_replicated_total").await,
        10.0
    );
    let mut served = members[0].proxy.scrape().await;
    served.sort_unstable();
    assert_eq!(served, expected);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_holds_up_no_scrape() {
    let gone = Hung::start().await;
    let other = gone.as_other();
    drop(gone);
    let member = Member::start("node-0", None, &[]).await;
    member.see(vec![other]).await;
    member.push("jobs_total 1\n").await.unwrap();
    assert_eq!(member.proxy.scrape().await, ["jobs_total 1"]);
    let late = "prometheus_proxy_push_claims_late_total";
    assert_eq!(member.proxy.own(late).await, 0.0);
}

#[tokio::test]
async fn a_push_sealed_to_the_key_of_another_node_is_taken() {
    let members = cluster(2, Some("secret")).await;
    let mut first = Peer::connect(members[0].proxy.tcp()).await;
    first.key().await;
    let sealed = first.seal("jobs_total 1\n");
    drop(first);
    members[0].proxy.connected(0).await;
    let mut second = Peer::connect(members[1].proxy.tcp()).await;
    second.push_payload(sealed).await.unwrap();
    drop(second);
    members[1].proxy.connected(0).await;
    assert_eq!(members[0].proxy.scrape().await, ["jobs_total 1"]);
    let found = "prometheus_proxy_push_key_lookups_total{outcome=\"found\"}";
    assert_eq!(members[1].proxy.own(found).await, 1.0);
}

#[tokio::test]
async fn other_nodes_are_sent_nothing_that_is_longer_or_shorter_than_a_wrapped_key() {
    let members = cluster(2, Some("secret")).await;
    let mut app = Peer::connect(members[1].proxy.tcp()).await;
    let asked = "prometheus_proxy_push_key_lookups_total{outcome=\"unknown\"}";
    for (bytes, times) in [
        (0, 0.0),
        (255, 0.0),
        (256, 1.0),
        (1025, 1.0),
        (1 << 20, 1.0),
    ] {
        let rubbish = Payload {
            metadata: Some(vec![7; bytes].into()),
            data: vec![8; 64].into(),
        };
        assert!(app.push_payload(rubbish).await.is_err());
        assert_eq!(members[1].proxy.own(asked).await, times, "{bytes} bytes");
    }
}

#[tokio::test]
async fn keys_are_unwrapped_for_nobody_where_nodes_do_not_authenticate() {
    let members = cluster(2, None).await;
    let mut first = Peer::connect(members[0].proxy.tcp()).await;
    first.key().await;
    let sealed = first.seal("jobs_total 1\n");
    let mut second = Peer::connect(members[1].proxy.tcp()).await;
    assert!(second.push_payload(sealed).await.is_err());
}

#[tokio::test]
async fn a_node_that_drains_hands_over_what_it_has_and_what_still_comes() {
    let mut members = cluster(2, Some("secret")).await;
    members[0].push("early 1\n").await.unwrap();
    let leaving = members.remove(0);
    let mut app = Peer::connect(leaving.proxy.tcp()).await;
    app.key().await;
    let web = leaving.proxy.web();
    let draining = tokio::spawn(leaving.proxy.node.drain(Duration::from_secs(3600)));
    eventually("the drain to begin", async || {
        let response = request(web, Method::GET, "/-/ready", &[]).await;
        response.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    app.push("late 1\n").await.unwrap();
    timeout(PATIENCE, draining)
        .await
        .expect("no wait for a scrape")
        .expect("no panic");
    introduce(&members).await;
    members[0].proxy.pending(2).await;
    let mut served = members[0].proxy.scrape().await;
    served.sort_unstable();
    assert_eq!(served, ["early 1", "late 1"]);
    let possible = "prometheus_proxy_pushes_possible_duplicates_total";
    assert_eq!(sum(&members, possible).await, 0.0);
}

#[tokio::test]
async fn who_does_not_know_the_secret_can_neither_call_nor_be_called() {
    let member = Member::start("node-0", Some("secret"), &[]).await;
    for secret in [None, Some("another")] {
        let stranger = Member::start("stranger", secret, &[]).await;
        stranger.see(vec![member.as_other()]).await;
        stranger.push("strange 1\n").await.unwrap();
        let short = "prometheus_proxy_pushes_acknowledged_short_total";
        assert_eq!(stranger.proxy.own(short).await, 1.0);
        assert_eq!(stranger.proxy.scrape().await, ["strange 1"]);
    }
    let refused = "prometheus_proxy_cluster_connection_errors_total{reason=\"handshake\"}";
    assert!(member.proxy.own(refused).await >= 2.0);
    assert_eq!(member.proxy.status().await["pushes"]["replicas"], 0);
    member.push("jobs_total 1\n").await.unwrap();
    assert_eq!(member.proxy.scrape().await, ["jobs_total 1"]);
}

#[tokio::test]
async fn random_bytes_on_the_port_harm_nobody() {
    let mut random = fastrand::Rng::with_seed(1);
    for secret in [None, Some("secret")] {
        let member = Member::start("node-0", secret, &[]).await;
        for length in [1, 9, 24, 100, 10_000] {
            let mut stream = TcpStream::connect(member.node_address()).await.unwrap();
            let preface: &[u8] = if random.bool() {
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            } else {
                b""
            };
            let rubbish: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                .take(length)
                .collect();
            // It may be closed under the writing.
            let _ = stream.write_all(&[preface, &rubbish].concat()).await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "left open after {length} bytes");
        }
        member.push("jobs_total 1\n").await.unwrap();
        assert_eq!(member.proxy.scrape().await, ["jobs_total 1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures instead of checking any"]
async fn figures() {
    const CONNECTIONS: usize = 16;
    const PUSHES: usize = 500;
    let members = cluster(3, Some("secret")).await;
    let started = Instant::now();
    let pushing = (0..CONNECTIONS).map(|connection| {
        let proxy = members[connection % members.len()].proxy.tcp();
        tokio::spawn(async move {
            let mut app = Peer::connect(proxy).await;
            app.key().await;
            let mut times = Vec::new();
            for push in 0..PUSHES {
                let text = format!("job{{number=\"{connection}-{push}\"}} 1\n");
                let started = Instant::now();
                app.push(&text).await.unwrap();
                times.push(started.elapsed());
            }
            times
        })
    });
    let mut times: Vec<_> = join_all(pushing)
        .await
        .into_iter()
        .flat_map(|times| times.expect("no panic"))
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!(
        "{:.0} pushes/s, acknowledged after {:?} (p50), {:?} (p99); \
         {} acknowledged as held by one node",
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        sum(&members, "prometheus_proxy_pushes_acknowledged_short_total").await,
    );
    let started = Instant::now();
    let served = members[0].proxy.scrape().await.len();
    println!(
        "{served} pushes in one scrape of one node, in {:?}",
        started.elapsed()
    );
}
