//! The page of all applications, as people meet it in a browser.

use prometheus_rsocket_wire::ErrorCode;
use serde_json::json;

use crate::app::{Answer, App};
use crate::browser::Browser;
use crate::cluster_gossip::{formed, nodes};
use crate::peers::need;
use crate::sandbox::{Sandbox, eventually};
use crate::targets::described;

/// An agent with a thousand targets, numbered from `first`.
async fn thousand(proxy: &Sandbox, first: usize) -> App {
    let targets: Vec<_> = (first..first + 1000)
        .map(|number| json!({"instance": format!("application-{number:05}"), "job": "many"}))
        .collect();
    let description = json!({"client": "test 1", "targets": targets});
    let peer = described(proxy.tcp(), &description).await;
    peer.answering(Answer::Text("up 1\n".into()))
}

async fn counts(proxy: &Sandbox, state: &str, number: usize) {
    eventually(&format!("{number} {state}"), async || {
        proxy.status().await["applications"][state] == number
    })
    .await;
}

#[tokio::test]
async fn one_of_ten_thousand_applications_is_found_by_name_at_another_node() {
    need!(Browser);
    let nodes = nodes(2, &[]).await;
    formed(&nodes).await;
    let [here, elsewhere] = &nodes[..] else {
        panic!("two nodes");
    };
    let mut agents = Vec::new();
    for first in (0..10_000).step_by(1000) {
        agents.push(thousand(elsewhere, first).await);
    }
    counts(here, "connected", 10_000).await;
    let mut browser = Browser::open(json!({})).await;
    browser.go_to(&format!("http://{}/", here.web())).await;
    browser.click("#applications").await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 200")
        .await;
    assert_eq!(browser.texts("#rows caption").await, ["1 to 200 of 10,000"]);
    browser.click("#page-last").await;
    browser
        .wait_for(
            "document.querySelector('#rows caption')?.innerText === '9,801 to 10,000 of 10,000'",
        )
        .await;
    browser
        .call("fill", [json!("#filter"), json!("application-07777")])
        .await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 1")
        .await;
    let row = browser.texts("#rows tbody tr > *").await;
    let id = elsewhere.status().await["node"]["id"].clone();
    assert_eq!(row[..3], ["application-07777", "many", "connected"]);
    assert_eq!(row[5], id);
    let link = "document.querySelector('#rows td a').href";
    let link = browser.evaluate(link).await;
    let link = link.as_str().expect("an address");
    assert!(
        link.starts_with(&format!("http://{}/?filter=", elsewhere.web())),
        "{link}"
    );

    drop(agents.pop());
    counts(here, "lost", 1000).await;
    browser
        .go_to(&format!("http://{}/applications", here.web()))
        .await;
    browser.click("#show-lost").await;
    browser
        .wait_for("document.querySelector('#rows caption')?.innerText === '1 to 200 of 1,000'")
        .await;
    browser.is_content().await;
    browser.close().await;
}

#[tokio::test]
async fn a_name_leads_to_the_samples_of_that_application_alone_with_and_without_script() {
    need!(Browser);
    let proxy = Sandbox::start(&[]).await;
    let name = json!({"instance": "web/1 ä?#", "job": "shop"});
    let description = json!({"client": "test 1", "targets": [name]});
    let app = described(proxy.tcp(), &description).await;
    let app = app.answering(Answer::Text("orders 1\n".into()));
    counts(&proxy, "connected", 1).await;
    for script in [true, false] {
        let mut browser = Browser::open(json!({ "javaScriptEnabled": script })).await;
        browser
            .go_to(&format!("http://{}/applications", proxy.web()))
            .await;
        browser.click("#rows th a").await;
        browser
            .wait_for("document.body?.innerText.trim() === 'orders 1'")
            .await;
        browser.close().await;
    }
    assert!(app.seen.pulls() >= 2);
}

#[tokio::test]
async fn a_phone_needs_no_sideways_scrolling() {
    need!(Browser);
    let proxy = Sandbox::start(&[]).await;
    let long = "unbroken".repeat(20);
    let description = json!({"client": long, "targets": [{"instance": long, "job": long}]});
    let app = described(proxy.tcp(), &description).await;
    let _app = app.answering(Answer::Error(ErrorCode::APPLICATION_ERROR));
    counts(&proxy, "connected", 1).await;
    proxy.get(&format!("/metrics/app/{long}")).await;
    let mut browser = Browser::open(json!({
        "viewport": { "width": 390, "height": 844 },
        "isMobile": true,
    }))
    .await;
    browser
        .go_to(&format!(
            "http://{}/applications?state=failing",
            proxy.web()
        ))
        .await;
    assert_eq!(browser.texts("#rows tbody tr").await.len(), 1);
    let width = "document.documentElement.scrollWidth";
    assert_eq!(browser.evaluate(width).await, 390);
    browser.is_content().await;
    browser.close().await;
}
