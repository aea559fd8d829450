//! Pushers that take whatever they get: beside them, one that means well is always acknowledged and served.

use std::net::SocketAddr;

use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::session::StreamError;

use crate::app::Peer;
use crate::cluster_push::{Member, introduce};
use crate::identities::{bearer, sha256, shown};
use crate::peers::Scratch;
use crate::sandbox::{Sandbox, eventually};

const GREEDY: [&str; 3] = ["greedy-0", "greedy-1", "greedy-2"];

/// A file in which each of `names` has a token that is the name; applications that show none may connect.
fn identities(names: &[&str]) -> (Scratch, String) {
    let mut file = "anonymous: {}\nidentities:\n".to_owned();
    for name in names {
        let token = sha256(name);
        file += &format!("- name: {name}\n  tokens_sha256: [{token}]\n");
    }
    let scratch = Scratch::new();
    let path = scratch.file("identities.yml", &file);
    (scratch, format!("--rsocket.auth.file={path}"))
}

async fn pusher(proxy: SocketAddr, name: Option<&str>) -> Peer {
    let setup = name.map(|name| shown(&bearer(name))).unwrap_or_default();
    let mut peer = Peer::connect_with(proxy, setup).await;
    peer.key().await;
    peer
}

/// Pushes until that is refused. How many were taken, and what was said then.
async fn push_until_refused(peer: &mut Peer, text: impl Fn(usize) -> String) -> (usize, String) {
    for taken in 0..100_000 {
        match peer.push(&text(taken)).await {
            Ok(()) => {}
            Err(StreamError::Application { code, message }) => {
                assert_eq!(code, ErrorCode::APPLICATION_ERROR);
                return (taken, format!("{message:?}"));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("nothing is ever refused");
}

async fn refused(proxy: &Sandbox, reason: &str) -> f64 {
    let series = format!("prometheus_proxy_pushes_refused_total{{reason=\"{reason}\"}}");
    proxy.own(&series).await
}

/// The pushers at the status page, with what they were refused for this reason.
async fn listed(proxy: &Sandbox, reason: &str) -> Vec<(String, u64)> {
    let status = proxy.status().await;
    let pushers = status["pushes"]["pushers"].as_array().expect("a list");
    let listed = pushers.iter().map(|pusher| {
        let name = pusher["pusher"].as_str().expect("a name").to_owned();
        (name, pusher["refused"][reason].as_u64().unwrap_or_default())
    });
    listed.collect()
}

/// A push of somebody else is taken, and goes out with the next scrape.
async fn is_served(proxy: &Sandbox, name: Option<&str>, line: &str) {
    let mut good = pusher(proxy.tcp(), name).await;
    good.push(&format!("{line}\n")).await.expect("taken");
    drop(good);
    let served = proxy.scrape().await;
    assert!(
        served.iter().any(|served| served == line),
        "{line}: {served:?}"
    );
}

#[tokio::test]
async fn the_same_series_again_and_again_costs_its_pusher_alone() {
    let (_scratch, file) = identities(&["greedy", "good"]);
    let proxy = Sandbox::start(&[&file, "--push.max-bytes=4MiB"]).await;
    let mut greedy = pusher(proxy.tcp(), Some("greedy")).await;
    let same = |_| "greedy_total 1".to_owned() + "\n";
    let (taken, said) = push_until_refused(&mut greedy, same).await;
    assert_eq!(taken, 100);
    assert!(said.contains("each scrape takes one"), "{said}");
    assert_eq!(refused(&proxy, "backlog").await, 1.0);
    assert_eq!(listed(&proxy, "backlog").await, [("greedy".to_owned(), 1)]);
    drop(greedy);
    for scrape in 0..3 {
        is_served(&proxy, Some("good"), &format!("good{{run=\"{scrape}\"}} 1")).await;
        is_served(&proxy, None, &format!("job{{run=\"{scrape}\"}} 1")).await;
    }
    let mut greedy = pusher(proxy.tcp(), Some("greedy")).await;
    let (taken, _) = push_until_refused(&mut greedy, same).await;
    assert_eq!(taken, 6, "as many as scrapes took");
}

#[tokio::test]
async fn greedy_identities_and_a_greedy_address_leave_room_for_others() {
    let (_scratch, file) = identities(&[&GREEDY[..], &["good"]].concat());
    let proxy = Sandbox::start(&[&file, "--push.max-bytes=256KiB"]).await;
    let mut taken = Vec::new();
    for name in GREEDY.map(Some).into_iter().chain([None]) {
        let mut greedy = pusher(proxy.tcp(), name).await;
        let label = name.unwrap_or("nobody");
        let text = |push| format!("greedy{{name=\"{label}\",push=\"{push}\"}} 1\n");
        let (pushes, said) = push_until_refused(&mut greedy, text).await;
        assert!(said.contains("free for all others"), "{said}");
        taken.push(pushes);
    }
    assert!(taken.is_sorted_by(|a, b| a > b), "{taken:?}");
    assert_eq!(refused(&proxy, "share").await, 4.0);
    let listed = listed(&proxy, "share").await;
    let names = [&GREEDY[..], &["127.0.0.1"]].concat();
    let expected = names.iter().map(|name| (name.to_string(), 1));
    assert_eq!(listed, Vec::from_iter(expected));
    is_served(&proxy, Some("good"), "good 1").await;
}

#[tokio::test]
async fn what_a_greedy_pusher_has_counts_at_every_node_of_a_cluster() {
    let (_scratch, file) = identities(&["greedy", "good"]);
    let flags = [&file[..], "--push.max-bytes=128KiB"];
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        members.push(Member::start(name, Some("secret"), &flags).await);
    }
    introduce(&members).await;
    let text = |push| format!("greedy{{push=\"{push}\"}} 1\n");
    let mut greedy = pusher(members[0].proxy.tcp(), Some("greedy")).await;
    let (mut taken, _) = push_until_refused(&mut greedy, text).await;
    assert!(taken > 20, "{taken}");
    for member in &members[1..] {
        // An acknowledgement waits for one of the two others.
        eventually("every replica to be held", async || {
            let status = member.proxy.status().await;
            status["pushes"]["replicas"] == taken
        })
        .await;
    }
    for member in &members[1..] {
        let mut greedy = pusher(member.proxy.tcp(), Some("greedy")).await;
        let again = |push| text(1_000_000 + push);
        let (more, _) = push_until_refused(&mut greedy, again).await;
        assert!(more <= 1, "{more} more");
        taken += more;
    }
    let mut good = pusher(members[1].proxy.tcp(), Some("good")).await;
    good.push("good 1\n").await.expect("taken");
    drop(good);
    let replicated = "prometheus_proxy_pushes_replicated_total";
    assert_eq!(members[1].proxy.own(replicated).await, 1.0);
    drop(greedy);
    let served = members[2].proxy.scrape().await;
    assert!(served.contains(&"good 1".to_owned()));
    assert_eq!(served.len(), taken + 1);
}
