//! The pushes that a node holds, as JSON and as people meet them in a browser.

use serde_json::{Value, json};

use crate::app::Peer;
use crate::browser::Browser;
use crate::cluster_gossip::{formed, nodes};
use crate::identities::{asking, bearer, identities, shown};
use crate::peers::need;
use crate::sandbox::{Sandbox, eventually};

async fn held(proxy: &Sandbox, query: &str) -> Value {
    let response = proxy.get(&format!("/api/v1/pushes{query}")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

async fn push(proxy: &Sandbox, token: &str, text: &str) {
    let mut peer = Peer::connect_with(proxy.tcp(), shown(&bearer(token))).await;
    peer.key().await;
    peer.push(text).await.expect("acknowledged");
}

#[tokio::test]
async fn who_pushed_how_much_is_listed_but_not_what() {
    let (proxy, ..) = asking(&identities(), &["--push.retention=1h"]).await;
    push(&proxy, "token of payments", "secret_total 0.1234321\n").await;
    push(&proxy, "token of reports", "b{c=\"1\"} 1\nb{c=\"2\"} 1\n").await;
    proxy.connected(0).await;
    let all = held(&proxy, "").await;
    assert!(!all.to_string().contains("secret"), "{all}");
    assert!(!all.to_string().contains("0.1234321"), "{all}");
    assert_eq!(all["matching"], 2);
    let newest = &all["pushes"][0];
    let node = proxy.status().await["node"]["id"].clone();
    for (field, value) in [
        ("pusher", json!("reports")),
        ("series", json!(2)),
        ("samples", json!(2)),
        ("state", json!("pending")),
        ("owner", node),
    ] {
        assert_eq!(newest[field], value, "{newest}");
    }
    let page = held(&proxy, "?per_page=1&page=2").await;
    assert_eq!(page["pages"], 2);
    assert_eq!(page["pushes"][0]["pusher"], "payments");
    let payments = held(&proxy, "?pusher=payments").await;
    assert_eq!(payments["matching"], 1);
    assert_eq!(held(&proxy, "?pusher=pay").await["matching"], 0);
    let refused = proxy.get("/api/v1/pushes?filter=payments").await;
    assert_eq!(refused.status, 400);

    proxy.scrape().await;
    eventually("the claim to be committed", async || {
        held(&proxy, "").await["pushes"][0]["state"] == "partly_served"
    })
    .await;
}

#[tokio::test]
async fn another_node_lists_it_as_a_replica_of_its_owner() {
    let nodes = nodes(2, &[]).await;
    formed(&nodes).await;
    let mut peer = Peer::connect(nodes[0].tcp()).await;
    peer.key().await;
    peer.push("jobs_total 1\n").await.expect("acknowledged");
    let own = held(&nodes[0], "?pusher=127.0.0.1").await;
    let replica = held(&nodes[1], "?pusher=127.0.0.1").await;
    let (own, replica) = (&own["pushes"][0], &replica["pushes"][0]);
    assert_eq!(replica["state"], "replica");
    assert_eq!(own["state"], "pending");
    for field in ["id", "owner", "samples", "pusher"] {
        assert_eq!(replica[field], own[field]);
    }
}

#[tokio::test]
async fn a_reader_comes_from_the_status_page_to_the_pushes_of_one_pusher() {
    need!(Browser);
    let (proxy, ..) = asking(&identities(), &[]).await;
    push(&proxy, "token of payments", "a 1\n").await;
    push(&proxy, "token of reports", "b 1\n").await;
    let mut browser = Browser::open(json!({
        "viewport": { "width": 390, "height": 844 },
        "isMobile": true,
    }))
    .await;
    browser.go_to(&format!("http://{}/", proxy.web())).await;
    browser.click("#all-pushes").await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 2")
        .await;
    let width = "document.documentElement.scrollWidth";
    assert_eq!(browser.evaluate(width).await, 390);
    browser
        .call("fill", [json!("#filter"), json!("payments")])
        .await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 1")
        .await;
    assert_eq!(browser.texts("#rows tbody th").await, ["payments"]);
    browser.is_content().await;
    browser.close().await;
}
