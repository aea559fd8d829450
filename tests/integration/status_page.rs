//! The status page, as people meet it in a browser.

use hyper::StatusCode;
use prometheus_rsocket_wire::ErrorCode;
use serde_json::{Value, json};

use crate::app::{Answer, App, Peer};
use crate::browser::Browser;
use crate::cluster_gossip::{formed, nodes};
use crate::peers::{Scratch, need};
use crate::sandbox::{Sandbox, eventually};

const SECONDS: &str = "x-prometheus-scrape-timeout-seconds";
const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;";

/// Applications in every state, scraped once.
struct Scene {
    proxy: Sandbox,
    _apps: Vec<App>,
    _unpulled: Peer,
}

impl Scene {
    async fn new() -> Self {
        Self::around(Sandbox::start(&[]).await).await
    }

    async fn around(proxy: Sandbox) -> Self {
        let mut apps = Vec::new();
        for rows in [1, 40, 700] {
            let text: String = (0..rows)
                .map(|row| format!("s{{row=\"{row}\"}} 1\n"))
                .collect();
            apps.push(App::text(proxy.tcp(), &text).await);
        }
        for bad in [
            Answer::Never,
            Answer::Text("up{ 1\n".into()),
            Answer::Error(ErrorCode::APPLICATION_ERROR),
        ] {
            apps.push(App::connect(proxy.tcp(), bad).await);
        }
        proxy
            .get_with("/metrics/connected", &[(SECONDS, "0.5")])
            .await;
        let mut unpulled = Peer::connect(proxy.tcp()).await;
        unpulled.key().await;
        Self {
            proxy,
            _apps: apps,
            _unpulled: unpulled,
        }
    }

    fn address(&self, query: &str) -> String {
        format!("http://{}/{query}", self.proxy.web())
    }

    /// An application comes and says why it goes again.
    async fn leave(&self, reason: &str) {
        let mut peer = Peer::connect(self.proxy.tcp()).await;
        peer.key().await;
        peer.connection
            .session()
            .close(ErrorCode::CONNECTION_ERROR, reason);
        peer.connection.finish().await;
        eventually("one that left", async || {
            let status = self.proxy.status().await;
            status["left"][0]["reason"]
                .as_str()
                .is_some_and(|said| said.contains(reason))
        })
        .await;
    }
}

#[tokio::test]
async fn the_page_allows_nothing_from_elsewhere_and_nothing_inline() {
    let proxy = Sandbox::start(&[]).await;
    for path in [
        "/",
        "/applications",
        "/status.css",
        "/status.js",
        "/status.svg",
    ] {
        let response = proxy.get(path).await;
        assert_eq!(response.status, StatusCode::OK, "{path}");
        let policy = response.headers["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        assert_eq!(response.headers["referrer-policy"], "no-referrer");
        if path != "/status.svg" {
            assert!(!response.text().contains("://"), "{path}");
        }
    }
    let page = proxy.get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    for inline in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!page.text().contains(inline), "{inline}");
    }
}

#[tokio::test]
async fn one_click_leads_to_the_applications_that_are_not_scraped_and_why() {
    need!(Browser);
    let scene = Scene::new().await;
    scene.leave("the job is done").await;
    let mut browser = Browser::open(json!({})).await;
    browser.go_to(&scene.address("")).await;
    assert_eq!(browser.texts("#rows tbody tr").await.len(), 7);
    browser.click("#failing").await;
    browser
        .wait_for("location.search === '?outcome=failing'")
        .await;
    let outcomes = browser.texts("#rows td:nth-of-type(1)").await;
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert_eq!(outcomes[0], "error peer answered APPLICATION_ERROR: no");
    assert!(
        outcomes[1].starts_with("invalid line 1, column 5: "),
        "{outcomes:?}"
    );
    assert_eq!(
        outcomes[2],
        "timeout no answer before the scrape's deadline"
    );
    let gone = browser.texts("#gone tbody td:nth-of-type(1)").await;
    assert_eq!(gone, ["peer closed with CONNECTION_ERROR: the job is done"]);
    let title = browser.evaluate("document.title").await;
    assert!(title.as_str().unwrap().starts_with("3 failing"), "{title}");
    browser.is_content().await;
    browser.close().await;
}

#[tokio::test]
async fn sorting_and_filtering_work_with_and_without_script() {
    need!(Browser);
    let scene = Scene::new().await;
    for script in [true, false] {
        let mut browser = Browser::open(json!({ "javaScriptEnabled": script })).await;
        browser.go_to(&scene.address("")).await;
        browser.click("#sort-payload").await;
        browser
            .wait_for("document.querySelector('[aria-sort=descending] #sort-payload')")
            .await;
        let largest = browser
            .texts("#rows tbody tr:first-child td:nth-of-type(4)")
            .await;
        assert!(largest[0].ends_with("KiB"), "{largest:?}");
        browser.click("#sort-payload").await;
        browser
            .wait_for("document.querySelector('[aria-sort=ascending] #sort-payload')")
            .await;

        browser
            .call("fill", [json!("#filter"), json!("DEADLINE timeout")])
            .await;
        if !script {
            browser
                .call("press", [json!("#filter"), json!("Enter")])
                .await;
        }
        browser
            .wait_for("document.querySelectorAll('#rows tbody tr').length === 1")
            .await;
        let address = browser.evaluate("location.search").await;
        assert_eq!(address, "?filter=DEADLINE+timeout&sort=payload&order=asc");
        browser.is_content().await;
        browser.close().await;
    }
}

#[tokio::test]
async fn the_page_follows_what_happens_and_keeps_what_somebody_types() {
    need!(Browser);
    let scene = Scene::new().await;
    let mut browser = Browser::open(json!({})).await;
    browser.call("clock.install", []).await;
    browser.go_to(&scene.address("")).await;
    browser
        .evaluate("document.querySelector('details').open = true")
        .await;
    browser
        .call("type", [json!("#filter"), json!("127.0.0.1")])
        .await;
    browser.call("clock.runFor", [json!(1000)]).await;
    browser
        .wait_for("location.search === '?filter=127.0.0.1'")
        .await;
    scene.leave("gone home").await;
    let _another = App::text(scene.proxy.tcp(), "up 1\n").await;
    browser.call("clock.runFor", [json!(6000)]).await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 8")
        .await;
    browser
        .wait_for("document.querySelector('#gone').innerText.includes('gone home')")
        .await;
    let kept =
        "document.activeElement.value === '127.0.0.1' && document.querySelector('details').open";
    assert_eq!(browser.evaluate(kept).await, true);

    browser.call("focus", [json!("#sort-age")]).await;
    let _third = App::text(scene.proxy.tcp(), "up 1\n").await;
    browser.call("clock.runFor", [json!(6000)]).await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 9")
        .await;
    assert_eq!(
        browser.evaluate("document.activeElement.id").await,
        "sort-age"
    );
    browser.is_content().await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_that_nobody_sees_asks_the_node_for_nothing() {
    need!(Browser);
    let scene = Scene::new().await;
    let mut browser = Browser::open(json!({})).await;
    browser.call("clock.install", []).await;
    browser.go_to(&scene.address("")).await;
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}), \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.evaluate(&hide(true)).await;
    browser.call("clock.runFor", [json!(60_000)]).await;
    let _another = App::text(scene.proxy.tcp(), "up 1\n").await;
    browser.evaluate(&hide(false)).await;
    browser.call("clock.runFor", [json!(100)]).await;
    browser
        .wait_for("document.querySelectorAll('#rows tbody tr').length === 8")
        .await;
    assert_eq!(browser.call("fetches", []).await, 1);
    browser.close().await;
}

#[tokio::test]
async fn a_node_that_is_gone_is_said_to_be() {
    need!(Browser);
    let scene = Scene::new().await;
    let mut browser = Browser::open(json!({})).await;
    browser.call("clock.install", []).await;
    browser.go_to(&scene.address("")).await;
    drop(scene);
    browser.call("clock.runFor", [json!(6000)]).await;
    browser
        .wait_for("document.querySelector('#stale').innerText.includes('does not answer')")
        .await;
    browser.close().await;
}

#[tokio::test]
async fn what_an_application_says_never_becomes_part_of_the_page() {
    need!(Browser);
    let scene = Scene::new().await;
    scene.leave(HOSTILE).await;
    let mut browser = Browser::open(json!({})).await;
    let query: String = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    for query in [String::new(), format!("?filter={query}")] {
        browser.go_to(&scene.address(&query)).await;
        let gone = browser.texts("#gone tbody td:nth-of-type(1)").await;
        assert_eq!(
            gone,
            [format!("peer closed with CONNECTION_ERROR: {HOSTILE}")]
        );
        assert_eq!(browser.evaluate("document.images.length").await, 0);
        assert_eq!(browser.evaluate("document.scripts.length").await, 1);
    }
    browser.is_content().await;
    browser.close().await;
}

#[tokio::test]
async fn a_phone_in_the_dark_needs_no_sideways_scrolling() {
    need!(Browser);
    let scene = Scene::new().await;
    scene.leave(&"unbroken".repeat(20)).await;
    let mut browser = Browser::open(json!({
        "viewport": { "width": 390, "height": 844 },
        "colorScheme": "dark",
        "isMobile": true,
    }))
    .await;
    browser.go_to(&scene.address("")).await;
    assert_eq!(
        browser
            .evaluate("document.documentElement.scrollWidth")
            .await,
        390
    );
    let ground = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.evaluate(ground).await, "rgb(22, 24, 29)");
    browser.is_content().await;
    browser.close().await;
}

#[tokio::test]
async fn other_nodes_are_a_click_away_and_the_filter_goes_along() {
    need!(Browser);
    let nodes = nodes(2, &[]).await;
    formed(&nodes).await;
    let other = nodes[1].status().await["node"]["id"].clone();
    let mut browser = Browser::open(json!({})).await;
    browser
        .go_to(&format!("http://{}/?filter=10.0.0.9", nodes[0].web()))
        .await;
    browser.click("#nodes a").await;
    browser
        .wait_for(&format!(
            "document.querySelector('#node dd').innerText.startsWith({other})"
        ))
        .await;
    assert_eq!(
        browser.evaluate("location.host").await,
        nodes[1].web().to_string()
    );
    assert_eq!(
        browser
            .evaluate("document.querySelector('#filter').value")
            .await,
        "10.0.0.9"
    );
    browser.is_content().await;
    browser.close().await;
}

/// Gives the nodes the names that they would have in production, wherever the page shows them.
fn renamed(ids: &[Value]) -> String {
    let names = (1..=ids.len()).map(|number| format!("proxy-{number}:8080"));
    let names: Vec<_> = ids.iter().cloned().zip(names).collect();
    format!(
        "(() => {{
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (texts.nextNode()) {{
                for (const [id, name] of {}) {{
                    texts.currentNode.data = texts.currentNode.data.replaceAll(id, name);
                }}
            }}
        }})()",
        json!(names)
    )
}

/// Makes `docs/images` where PROXY_TEST_SCREENSHOTS names that directory: see `tests/browser/screenshots.sh`.
#[tokio::test]
async fn screenshots_of_a_cluster_are_small_enough_for_the_documentation() {
    need!(Browser);
    let mut nodes = nodes(3, &[]).await;
    formed(&nodes).await;
    let mut ids = Vec::new();
    for node in &nodes {
        ids.push(node.status().await["node"]["id"].clone());
    }
    let scene = Scene::around(nodes.swap_remove(0)).await;
    let mut apps = Vec::new();
    for node in [&nodes[0], &nodes[0], &nodes[0], &nodes[1]] {
        apps.push(App::text(node.tcp(), "up 1\n").await);
    }
    scene.leave("the job is done").await;
    let mut job = Peer::connect(scene.proxy.tcp()).await;
    job.key().await;
    job.push("jobs_total 1\n").await.unwrap();
    eventually("everybody's connections", async || {
        let status = scene.proxy.status().await;
        let members = status["members"].as_array().unwrap();
        let connections = members.iter().map(|member| member["connections"].as_u64());
        connections.sum::<Option<u64>>() == Some(12)
    })
    .await;
    let directory = Scratch::new();
    let desktop = json!({ "viewport": { "width": 1200, "height": 960 }, "colorScheme": "light" });
    let phone = json!({
        "viewport": { "width": 390, "height": 800 },
        "deviceScaleFactor": 1.5,
        "isMobile": true,
        "colorScheme": "dark",
    });
    for (name, query, options) in [
        ("status-desktop.png", "", desktop),
        ("status-phone.png", "?outcome=failing#connections", phone),
    ] {
        let path = match std::env::var("PROXY_TEST_SCREENSHOTS") {
            Ok(wanted) => format!("{wanted}/{name}"),
            Err(_) => directory.path(name),
        };
        let mut browser = Browser::open(options).await;
        browser.go_to(&scene.address(query)).await;
        browser.evaluate(&renamed(&ids)).await;
        browser.call("screenshot", [json!({ "path": path })]).await;
        browser.close().await;
        assert!(std::fs::metadata(&path).unwrap().len() < 150_000, "{path}");
    }
}
