//! Applications that are targets of their own, asked for at any node of a cluster.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_rsocket_proxy::cluster::calls::Peer as Other;
use prometheus_rsocket_proxy::nodes::{NodeId, NodeState};
use prometheus_rsocket_wire::description::MIME;
use prometheus_rsocket_wire::session::SetupOptions;
use prometheus_rsocket_wire::{ErrorCode, Event};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::app::{Answer, App, Peer};
use crate::cluster_push::{Member, introduce};
use crate::nodes::local;
use crate::peers::{Scratch, reserved_port};
use crate::sandbox::{Response, eventually, request};

/// An application that says its name.
async fn called(instance: &str, proxy: SocketAddr) -> Peer {
    let mut setup = SetupOptions {
        data_mime: MIME.to_owned(),
        ..SetupOptions::default()
    };
    setup.payload.data = format!(r#"{{"targets":[{{"instance":"{instance}"}}]}}"#).into();
    let mut peer = Peer::connect_with(proxy, setup).await;
    peer.key().await;
    peer
}

/// The same, with an answer to each pull that says where it is.
pub(crate) async fn answering(instance: &str, place: &str, proxy: SocketAddr) -> App {
    let text = format!("place{{is=\"{place}\"}} 1\n");
    called(instance, proxy).await.answering(Answer::Text(text))
}

async fn get(node: SocketAddr, path: &str) -> Response {
    request(node, Method::GET, path, &[]).await
}

/// The instances that a node lists; `None` where it has no list.
pub(crate) async fn listed(node: SocketAddr) -> Option<Vec<String>> {
    let response = get(node, "/targets").await;
    if response.status != StatusCode::OK {
        return None;
    }
    let groups: Value = serde_json::from_slice(&response.body).expect("JSON");
    let groups = groups.as_array().expect("a list").iter();
    let instances = groups.map(|group| group["labels"]["instance"].as_str());
    Some(instances.map(|name| name.expect("a name").into()).collect())
}

async fn lists(node: SocketAddr, expected: &[&str]) {
    eventually(&format!("{expected:?} are listed"), async || {
        listed(node).await.is_some_and(|names| names == expected)
    })
    .await;
}

/// Two nodes that see each other.
async fn two() -> [Member; 2] {
    let members = ["one", "two"].map(|name| Member::start(name, Some("secret"), &[]));
    let members: [Member; 2] = futures_util::future::join_all(members)
        .await
        .try_into()
        .unwrap_or_else(|_| panic!("two members"));
    introduce(&members).await;
    for member in &members {
        lists(member.proxy.web(), &[]).await;
    }
    members
}

/// A node of a release that knows no calls about applications.
async fn older_release() -> Other {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let grpc = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let unimplemented = service_fn(async |_| {
                let response = hyper::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "12");
                response.body(Empty::<Bytes>::new())
            });
            let serving = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), unimplemented);
            tokio::spawn(serving);
        }
    });
    Other {
        id: NodeId::new("older", 1),
        grpc,
        state: NodeState::Active,
    }
}

#[tokio::test]
async fn any_node_lists_and_pulls_an_application_that_is_connected_to_another() {
    let [one, two] = two().await;
    let app = answering("a", "one", one.proxy.tcp()).await;
    for member in [&one, &two] {
        let web = member.proxy.web();
        lists(web, &["a"]).await;
        let pulled = get(web, "/metrics/app/a").await;
        assert_eq!(pulled.status, StatusCode::OK, "{}", pulled.text());
        assert!(pulled.text().contains("place{is=\"one\"} 1"));
    }
    assert_eq!(app.seen.pulls(), 2);
    let unknown = get(two.proxy.web(), "/metrics/app/b").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let bytes = [&one, &two].map(|member| get(member.proxy.web(), "/targets"));
    let [first, second] = bytes;
    let (first, second) = tokio::join!(first, second);
    let without_ports =
        |response: Response, web: SocketAddr| response.text().replace(&web.to_string(), "proxy");
    assert_eq!(
        without_ports(first, one.proxy.web()),
        without_ports(second, two.proxy.web())
    );
}

#[tokio::test]
async fn a_text_comes_from_another_node_as_it_is_served_where_the_application_is() {
    let [one, two] = two().await;
    let long = |number| format!("a{{b=\"{number}\"}} 1\n");
    let texts = [
        ("apart", "a 1\nd 1\na{b=\"e\"} 1\n".to_owned()),
        ("as-it-is", "# TYPE a gauge\na{b=\"c\"} 1\n".to_owned()),
        ("long", (0..20_000).map(long).collect()),
        (
            "openmetrics",
            "# TYPE a counter\na_total 1\n# EOF\n".to_owned(),
        ),
    ];
    let instances = texts.each_ref().map(|(instance, _)| *instance);
    let mut apps = Vec::new();
    for (instance, text) in texts {
        let peer = called(instance, one.proxy.tcp()).await;
        apps.push(peer.answering(Answer::Text(text)));
    }
    lists(two.proxy.web(), &instances).await;
    for instance in instances {
        let path = format!("/metrics/app/{instance}");
        let here = get(one.proxy.web(), &path).await;
        let there = get(two.proxy.web(), &path).await;
        assert_eq!(there.status, StatusCode::OK, "{}", there.text());
        assert_eq!(there.text(), here.text());
    }
}

#[tokio::test]
async fn what_an_application_does_wrong_is_told_alike_at_every_node() {
    let [one, two] = two().await;
    let _rubbish = called("rubbish", one.proxy.tcp())
        .await
        .answering(Answer::Rubbish);
    let _error = called("error", one.proxy.tcp())
        .await
        .answering(Answer::Error(ErrorCode::APPLICATION_ERROR));
    let _silent = called("silent", one.proxy.tcp())
        .await
        .answering(Answer::Never);
    lists(two.proxy.web(), &["error", "rubbish", "silent"]).await;
    for member in [&one, &two] {
        let web = member.proxy.web();
        let within = [("x-prometheus-scrape-timeout-seconds", "1")];
        for (instance, status) in [
            ("rubbish", StatusCode::BAD_GATEWAY),
            ("error", StatusCode::BAD_GATEWAY),
            ("silent", StatusCode::GATEWAY_TIMEOUT),
        ] {
            let path = format!("/metrics/app/{instance}");
            let failed = request(web, Method::GET, &path, &within).await;
            assert_eq!(failed.status, status, "{instance}: {}", failed.text());
        }
    }
}

#[tokio::test]
async fn a_pull_waits_for_an_application_that_moves_to_another_node() {
    let [one, two] = two().await;
    let mut app = called("a", one.proxy.tcp()).await;
    lists(two.proxy.web(), &["a"]).await;
    // It breaks off while it is asked, and is back at the other node after a while.
    let web = two.proxy.web();
    let asked = tokio::spawn(async move { get(web, "/metrics/app/a").await });
    while !matches!(app.next().await, Event::Request { .. }) {}
    drop(app);
    eventually("it is known to be lost", async || {
        let all = get(web, "/api/v1/applications").await;
        all.text().contains("lost")
    })
    .await;
    assert!(!asked.is_finished());
    let _back = answering("a", "two", two.proxy.tcp()).await;
    let pulled = asked.await.expect("no panic");
    assert_eq!(pulled.status, StatusCode::OK, "{}", pulled.text());
    assert!(pulled.text().contains("place{is=\"two\"} 1"));
}

#[tokio::test]
async fn there_is_no_list_before_every_node_has_been_heard() {
    let one = Member::start("one", None, &[]).await;
    let web = one.proxy.web();
    lists(web, &[]).await;
    // A node that is a member and does not answer.
    let silent = Other {
        id: NodeId::new("silent", 1),
        grpc: ([127, 0, 0, 1], reserved_port()).into(),
        state: NodeState::Active,
    };
    for (other, says) in [
        (silent, "the applications of node silent are not known yet"),
        (
            older_release().await,
            "node older runs a release without targets",
        ),
    ] {
        one.see(vec![other]).await;
        eventually(says, async || {
            let refused = get(web, "/targets").await;
            refused.status == StatusCode::SERVICE_UNAVAILABLE && refused.text().contains(says)
        })
        .await;
    }
    one.see(Vec::new()).await;
    lists(web, &[]).await;
}

#[tokio::test]
async fn what_a_killed_node_had_is_listed_by_all_and_by_its_next_life_and_pulled_where_it_is_back()
{
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "correct horse battery staple, twice\n");
    let secret = format!("--cluster.secret-file={secret}");
    let [gossip, peer] = [reserved_port(), reserved_port()];
    // Its name is that of the host with this port.
    let name = format!("--web.listen-address=127.0.0.1:{}", reserved_port());
    let killed = local(gossip, peer, &[&secret, &name]).await;
    let other = local(peer, gossip, &[&secret]).await;
    let _stays = answering("stays", "other", other.tcp).await;
    let app = answering("returns", "killed", killed.tcp).await;
    for node in [&killed, &other] {
        node.sees(2, "active").await;
        lists(node.web, &["returns", "stays"]).await;
    }
    killed.program.kill().await;
    drop(app);
    other.sees(1, "active").await;
    lists(other.web, &["returns", "stays"]).await;
    let next_life = local(gossip, peer, &[&secret, &name]).await;
    lists(next_life.web, &["returns", "stays"]).await;
    let _back = answering("returns", "its next life", next_life.tcp).await;
    for node in [&next_life, &other] {
        lists(node.web, &["returns", "stays"]).await;
        eventually("it is pulled again", async || {
            let pulled = get(node.web, "/metrics/app/returns").await;
            pulled.text().contains("place{is=\"its next life\"} 1")
        })
        .await;
    }
}
