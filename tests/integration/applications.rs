//! Who applications are to a node that makes each a target of its own, and how they come and go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use prometheus_rsocket_wire::description::MIME;
use prometheus_rsocket_wire::session::SetupOptions;
use prometheus_rsocket_wire::{Announcement, ErrorCode, Event, Payload};
use tokio::task::JoinHandle;

use crate::app::{Answer, App, Peer};
use crate::identities::{asking, bearer, sha256, shown};
use crate::sandbox::{Sandbox, eventually};

/// A description of these targets.
fn of(instances: &[&str]) -> String {
    let targets = instances.iter();
    let targets: Vec<_> = targets
        .map(|instance| format!(r#"{{"instance":"{instance}","job":"test"}}"#))
        .collect();
    format!(r#"{{"client":"test 1","targets":[{}]}}"#, targets.join(","))
}

/// The SETUP of an application that says what it is, and so much else.
fn saying(description: &str, mut setup: SetupOptions) -> SetupOptions {
    setup.data_mime = MIME.to_owned();
    setup.payload.data = description.to_owned().into();
    setup
}

async fn described(proxy: SocketAddr, description: &str) -> Peer {
    let setup = saying(description, SetupOptions::default());
    let mut peer = Peer::connect_with(proxy, setup).await;
    peer.key().await;
    peer
}

/// What an application says that it is now.
fn update(peer: &mut Peer, description: &[u8]) {
    let payload = Payload {
        metadata: Some(MIME.into()),
        data: description.to_vec().into(),
    };
    let session = peer.connection.session();
    session.fire_and_forget(payload).expect("room");
}

/// Answers each pull with the name of the target that is meant, as an agent does; or with this text.
fn answering(mut peer: Peer, text: Option<&'static str>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match peer.connection.next().await {
                Event::Request { stream, payload } => {
                    let announcement = payload.metadata.and_then(|it| Announcement::decode(&it));
                    let target = announcement.and_then(|announcement| announcement.target);
                    let target = target.map_or("all".to_owned(), |target| target.instance);
                    let own = format!("asked_for{{target=\"{target}\"}} 1\n");
                    let answer = peer.seal(text.unwrap_or(&own));
                    peer.connection.session().respond(stream, Some(answer));
                }
                Event::Closed(_) => return,
                _ => {}
            }
        }
    })
}

/// Names, states, and what the names come from.
async fn known(proxy: &Sandbox) -> Vec<(String, String, String)> {
    let body = proxy.get("/api/v1/applications").await.body;
    let found: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let all = found["applications"].as_array().expect("a list").iter();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    all.map(|one| {
        let name = format!("{}/{}", word(&one["job"]), word(&one["instance"]));
        (name, word(&one["state"]), word(&one["named"]))
    })
    .collect()
}

fn entry(name: &str, state: &str, named: &str) -> (String, String, String) {
    (name.to_owned(), state.to_owned(), named.to_owned())
}

async fn comes_to_know(proxy: &Sandbox, expected: &[(String, String, String)]) {
    let what = format!("{expected:?}");
    eventually(&what, async || known(proxy).await == expected).await;
}

async fn refused(proxy: &Sandbox, reason: &str) -> f64 {
    let series = "prometheus_proxy_application_descriptions_refused_total";
    proxy.own(&format!("{series}{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn an_application_is_what_it_says_and_each_of_its_targets_is_pulled_for_itself() {
    let proxy = Sandbox::start(&[]).await;
    let mut peer = described(proxy.tcp(), &of(&["a", "b"])).await;
    let connected = |name| entry(name, "connected", "description");
    comes_to_know(&proxy, &[connected("test/a"), connected("test/b")]).await;
    update(&mut peer, of(&["b", "c"]).as_bytes());
    let agent = answering(peer, None);
    let left = entry("test/a", "left", "description");
    comes_to_know(&proxy, &[left, connected("test/b"), connected("test/c")]).await;
    let (b, c, all) = tokio::join!(
        proxy.get("/metrics/app/b"),
        proxy.get("/metrics/app/c?job=test"),
        proxy.scrape()
    );
    assert!(
        b.text().contains("asked_for{target=\"b\"} 1"),
        "{}",
        b.text()
    );
    assert!(
        c.text().contains("asked_for{target=\"c\"} 1"),
        "{}",
        c.text()
    );
    assert_eq!(all, ["asked_for{target=\"all\"} 1"]);
    agent.abort();
}

#[tokio::test]
async fn an_answer_for_all_targets_is_not_taken_for_that_of_one() {
    let proxy = Sandbox::start(&[]).await;
    let peer = described(proxy.tcp(), &of(&["a", "b"])).await;
    let parts = "# rsocket-proxy parts\nup{instance=\"a\"} 1\n\
                 # rsocket-proxy target {instance=\"a\"}\nx 1\n";
    let agent = answering(peer, Some(parts));
    let one = proxy.get("/metrics/app/a").await;
    assert_eq!(one.status, StatusCode::BAD_GATEWAY, "{}", one.text());
    assert_eq!(proxy.scrape().await.len(), 2);
    agent.abort();
}

#[tokio::test]
async fn who_does_not_say_what_it_is_is_known_by_its_samples_once_targets_are_in_use() {
    let proxy = Sandbox::start(&[]).await;
    let text = "a{instance=\"web-1\",job=\"shop\"} 1\nb{job=\"shop\",instance=\"web-1\"} 2\n";
    let named = App::text(proxy.tcp(), text).await;
    let nameless = App::text(proxy.tcp(), "a 1\n").await;
    let failing = App::connect(proxy.tcp(), Answer::Error(ErrorCode::APPLICATION_ERROR)).await;
    proxy.connected(3).await;
    assert_eq!(known(&proxy).await, []);
    assert_eq!(named.seen.pulls(), 0);
    assert_eq!(proxy.get("/targets").await.status, StatusCode::OK);
    eventually("all are known", async || known(&proxy).await.len() == 3).await;
    let all = known(&proxy).await;
    let by = |word: &str| all.iter().filter(|(_, _, named)| named == word).count();
    assert_eq!((by("labels"), by("address")), (1, 2), "{all:?}");
    assert!(
        all.contains(&entry("shop/web-1", "connected", "labels")),
        "{all:?}"
    );
    let pulls = [&named, &nameless, &failing].map(|app| app.seen.pulls());
    assert_eq!(pulls, [1, 1, 1]);
    let served = proxy.get("/metrics/app/web-1").await;
    assert!(
        served
            .text()
            .contains("b{job=\"shop\",instance=\"web-1\"} 2")
    );
    // One that comes now need not be asked for.
    let other = text.replace("web-1", "web-2");
    let _other = App::text(proxy.tcp(), &other).await;
    eventually("the newcomer is known", async || {
        let all = known(&proxy).await;
        all.contains(&entry("shop/web-2", "connected", "labels"))
    })
    .await;
}

#[tokio::test]
async fn what_names_an_application_may_be_several_labels() {
    let proxy = Sandbox::start(&["--targets.by=tenant,instance"]).await;
    let _app = App::text(proxy.tcp(), "a{instance=\"1\",tenant=\"x\"} 1\n").await;
    // The text of a scrape of all serves as well.
    proxy.connected(1).await;
    proxy.scrape().await;
    assert_eq!(known(&proxy).await, [entry("-/x/1", "connected", "labels")]);
    let wrong = prometheus_rsocket_proxy::cli::settings(["--targets.by=le"]);
    assert!(wrong.is_err(), "no name");
}

#[tokio::test]
async fn an_instance_of_the_identities_file_is_its_identitys_alone() {
    let file = format!(
        "anonymous: {{}}\n\
         identities:\n\
         - {{name: payments, tokens_sha256: [{}], instance: pay-1, labels: {{team: payments}}}}\n",
        sha256("token of payments")
    );
    let (proxy, scratch, _) = asking(&file, &[]).await;
    let payments = shown(&bearer("token of payments"));
    let mut honest = Peer::connect_with(proxy.tcp(), payments.clone()).await;
    honest.key().await;
    let own = entry("-/pay-1", "connected", "identity");
    comes_to_know(&proxy, std::slice::from_ref(&own)).await;
    // Without the token it may be called anything but that.
    let _foreign = described(proxy.tcp(), &of(&["pay-1", "mine"])).await;
    let mine = entry("test/mine", "connected", "description");
    comes_to_know(&proxy, &[mine.clone(), own.clone()]).await;
    assert_eq!(refused(&proxy, "instance").await, 1.0);
    // With it, nothing else.
    let mut second = Peer::connect_with(proxy.tcp(), saying(&of(&["other"]), payments)).await;
    second.key().await;
    let superseded = entry("-/pay-1", "superseded", "identity");
    eventually("the newer one has the name", async || {
        let all = known(&proxy).await;
        all.contains(&superseded) && all.contains(&own) && all.contains(&mine)
    })
    .await;
    assert_eq!(refused(&proxy, "instance").await, 2.0);
    // The file may say otherwise at any time.
    scratch.file("identities.yml", &file.replace("pay-1", "pay-2"));
    eventually("it has its new name", async || {
        let all = known(&proxy).await;
        all.contains(&entry("-/pay-2", "connected", "identity"))
    })
    .await;
}

#[tokio::test]
async fn an_application_that_says_goodbye_has_left_and_one_that_vanishes_is_lost() {
    let proxy = Sandbox::start(&[]).await;
    let mut polite = described(proxy.tcp(), &of(&["polite"])).await;
    let lost = described(proxy.tcp(), &of(&["lost"])).await;
    let mut pusher = described(proxy.tcp(), &of(&["pusher"])).await;
    let session = polite.connection.session();
    session.close(ErrorCode::CONNECTION_CLOSE, "goodbye");
    polite.connection.finish().await;
    drop(lost);
    // As the published Java client ends.
    pusher.push("pushed 1\n").await.expect("acknowledged");
    drop(pusher);
    let ended = |name, state| entry(name, state, "description");
    comes_to_know(
        &proxy,
        &[
            ended("test/lost", "lost"),
            ended("test/polite", "left"),
            ended("test/pusher", "left"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_application_whose_packets_vanish_is_lost_soon_after_it_was_not_scraped() {
    let proxy = Sandbox::start(&[]).await;
    // Its system takes what is sent, and nobody reads it.
    let _vanished = described(proxy.tcp(), &of(&["vanished"])).await;
    let alive = described(proxy.tcp(), &of(&["slow"]))
        .await
        .answering(Answer::Never);
    let scrape = async |instance: &str| {
        let path = format!("/metrics/app/{instance}");
        let timeout = [("x-prometheus-scrape-timeout-seconds", "1")];
        proxy.get_with(&path, &timeout).await.status
    };
    let (vanished, slow) = tokio::join!(scrape("vanished"), scrape("slow"));
    assert_eq!(
        (vanished, slow),
        (StatusCode::GATEWAY_TIMEOUT, StatusCode::GATEWAY_TIMEOUT)
    );
    let began = Instant::now();
    let connected = entry("test/slow", "connected", "description");
    let lost = entry("test/vanished", "lost", "description");
    comes_to_know(&proxy, &[connected, lost]).await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(alive.seen.pulls(), 1);
    let failed = "prometheus_proxy_connection_error_total{exception=\"keepalive_timeout\",transport=\"TCP\"}";
    assert_eq!(proxy.own(failed).await, 1.0);
}

#[tokio::test]
async fn whatever_is_said_of_an_application_costs_nobody_else_anything() {
    let proxy = Sandbox::start(&[]).await;
    let good = described(proxy.tcp(), &of(&["good"])).await;
    let _good = good.answering(Answer::Text("good 1\n".into()));
    let label = |bytes: usize| format!(r#","labels":{{"a":"{}"}}"#, "x".repeat(bytes));
    let with = |rest: &str| format!(r#"{{"targets":[{{"instance":"bad"{rest}}}]}}"#);
    let fits = with(&label(0)).len();
    let hostile = [
        with(&label((64 << 10) - fits + 1)),
        with(r#","job":"\u0000""#),
        r#"{"targets":[{"instance":"bad\n"}]}"#.to_owned(),
        "[".repeat(60_000),
        of(&["bad"; 10]),
        "\u{1f4a3}".repeat(1000),
    ];
    let mut peers = Vec::new();
    for description in &hostile {
        peers.push(described(proxy.tcp(), description).await);
    }
    proxy.connected(1 + hostile.len()).await;
    assert_eq!(refused(&proxy, "invalid").await, hostile.len() as f64);
    // So long one may be.
    let _long = described(proxy.tcp(), &with(&label((64 << 10) - fits))).await;
    let mut flooding = described(proxy.tcp(), &of(&["0"])).await;
    let many: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    update(&mut flooding, of(&many).as_bytes());
    let flood = tokio::spawn(async move {
        for number in 0.. {
            update(&mut flooding, of(&[&number.to_string()]).as_bytes());
            let event = flooding.connection.next();
            let _ = tokio::time::timeout(Duration::from_millis(1), event).await;
        }
    });
    eventually("the flood is known", async || {
        refused(&proxy, "invalid").await > hostile.len() as f64
    })
    .await;
    for _ in 0..20 {
        let served = proxy.get("/metrics/app/good").await;
        assert_eq!(
            served.text().lines().last(),
            Some("good 1"),
            "{}",
            served.text()
        );
    }
    // One a second: not one for each that came.
    assert!(known(&proxy).await.len() < 20);
    flood.abort();
}
