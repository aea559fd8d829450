//! Envelope version 2 between an application that knows it and a node, and Java's version 1 next to it.

use std::time::{Duration, Instant};

use hyper::Method;
use prometheus_rsocket_client::Client;
use prometheus_rsocket_wire::envelope::version2::{Purpose, Sealer};
use prometheus_rsocket_wire::envelope::{Sealed, version1};
use prometheus_rsocket_wire::key::PublicKey;
use prometheus_rsocket_wire::session::StreamError;
use prometheus_rsocket_wire::{Announcement, ErrorCode, Event, Payload, StreamId};
use tokio::task::JoinHandle;

use crate::app::{App, Peer};
use crate::sandbox::{Sandbox, begin, eventually, long_text};

/// An application that seals by version 2.
struct Modern {
    peer: Peer,
    sealer: Sealer,
}

/// A pull as the application sees it.
struct Pull {
    stream: StreamId,
    announcement: Announcement,
}

impl Pull {
    fn purpose(&self) -> Purpose {
        Purpose::Answer {
            pull: self.announcement.pull.expect("a numbered pull"),
        }
    }
}

impl Modern {
    async fn connect(proxy: &Sandbox) -> Self {
        let mut peer = Peer::connect(proxy.tcp()).await;
        peer.key().await;
        let announcement = peer
            .announcement
            .as_ref()
            .expect("an announcement beside the key");
        assert!(announcement.envelopes.version2);
        let token = announcement.connection.expect("a token");
        Self {
            peer,
            sealer: Sealer::new(token),
        }
    }

    fn seal(&self, text: &str, purpose: Purpose) -> Payload {
        let key: &PublicKey = self.peer.key.as_ref().expect("a key");
        let sealed: Sealed = self
            .sealer
            .seal(text.as_bytes(), key, purpose, Instant::now())
            .expect("sealed");
        sealed.into()
    }

    async fn pull(&mut self) -> Pull {
        loop {
            if let Event::Request { stream, payload } = self.peer.next().await {
                let metadata = payload.metadata.expect("an announcement");
                return Pull {
                    stream,
                    announcement: Announcement::decode(&metadata).expect("an announcement"),
                };
            }
        }
    }

    /// Answers the next pull with whatever `answer` makes of it, and gives the application back when the proxy is done
    /// with it.
    fn answer_next(
        mut self,
        answer: impl FnOnce(&Self, &Pull) -> Payload + Send + 'static,
    ) -> JoinHandle<(Self, Pull)> {
        tokio::spawn(async move {
            let pull = self.pull().await;
            let payload = answer(&self, &pull);
            let session = self.peer.connection.session();
            session.respond(pull.stream, Some(payload));
            // Sends what waits.
            tokio::select! {
                biased;
                event = self.peer.connection.next() => panic!("unexpected {event:?}"),
                () = std::future::ready(()) => {}
            }
            (self, pull)
        })
    }
}

fn reason(outcome: Result<(), StreamError>) -> String {
    match outcome {
        Err(StreamError::Application { message, .. }) => message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn last_scrape(proxy: &Sandbox, field: &str) -> String {
    let status = proxy.status().await;
    let scrape = &status["connections"][0]["last_scrape"];
    scrape[field].as_str().expect("a string").to_owned()
}

#[tokio::test]
async fn an_application_that_knows_version_2_is_scraped_beside_one_that_does_not() {
    let proxy = Sandbox::start(&[]).await;
    let _java = App::text(proxy.tcp(), "java_up 1\n").await;
    let mut modern = Modern::connect(&proxy).await;
    for _ in 0..3 {
        let answered = modern.answer_next(|app, pull| app.seal("modern_up 1\n", pull.purpose()));
        assert_eq!(proxy.scrape().await, ["java_up 1", "modern_up 1"]);
        (modern, _) = answered.await.expect("an answer");
    }
    let opened = "prometheus_proxy_envelopes_opened_total";
    assert_eq!(proxy.own(&format!("{opened}{{version=\"1\"}}")).await, 3.0);
    assert_eq!(proxy.own(&format!("{opened}{{version=\"2\"}}")).await, 3.0);
}

#[tokio::test]
async fn an_application_is_told_how_long_the_scrape_waits() {
    let proxy = Sandbox::start(&["--scrape.timeout-offset=500ms"]).await;
    let modern = Modern::connect(&proxy).await;
    let answered = modern.answer_next(|app, pull| app.seal("up 1\n", pull.purpose()));
    let timeout = [("x-prometheus-scrape-timeout-seconds", "4.5")];
    proxy.get_with("/metrics/connected", &timeout).await;
    let (_, pull) = answered.await.expect("an answer");
    let told = pull.announcement.timeout.expect("a timeout");
    assert!(
        told <= Duration::from_secs(4) && told > Duration::from_secs(1),
        "{told:?}"
    );
}

#[tokio::test]
async fn the_time_that_a_response_took_is_kept_back_from_the_next_pull() {
    // Beside one application that hangs, a response of some hundred megabytes came too late for Prometheus each time.
    let proxy = Sandbox::start(&["--scrape.timeout-offset=0s"]).await;
    let modern = Modern::connect(&proxy).await;
    let timeout = [("x-prometheus-scrape-timeout-seconds", "60")];
    let long = App::text(proxy.tcp(), &long_text()).await;
    let answered = modern.answer_next(|app, pull| app.seal("up 1\n", pull.purpose()));
    let reading = begin(proxy.web(), Method::GET, "/metrics/connected", &timeout).await;
    let took = Duration::from_millis(200);
    tokio::time::sleep(took).await;
    drop((reading, long));
    let (modern, _) = answered.await.expect("an answer");
    eventually("the response's end", async || {
        proxy.own("prometheus_proxy_scrapes_active").await == 0.0
    })
    .await;
    let answered = modern.answer_next(|app, pull| app.seal("up 1\n", pull.purpose()));
    proxy.get_with("/metrics/connected", &timeout).await;
    let (_, pull) = answered.await.expect("an answer");
    let told = pull.announcement.timeout.expect("a timeout");
    assert!(told <= Duration::from_secs(60) - took * 3 / 2, "{told:?}");
}

#[tokio::test]
async fn an_answer_of_an_earlier_pull_or_of_another_connection_is_not_taken() {
    let proxy = Sandbox::start(&[]).await;
    let first = Modern::connect(&proxy).await;
    let kept = first.seal("up 1\n", Purpose::Answer { pull: 0 });
    let early = kept.clone();
    let (first, _) = {
        let answered = first.answer_next(move |_, _| early);
        assert_eq!(proxy.scrape().await, ["up 1"]);
        answered.await.expect("an answer")
    };
    let replayed = kept.clone();
    let answered = first.answer_next(move |_, _| replayed);
    assert!(proxy.scrape().await.is_empty());
    assert_eq!(last_scrape(&proxy, "outcome").await, "invalid");
    drop(answered.await);
    proxy.connected(0).await;

    let second = Modern::connect(&proxy).await;
    let answered = second.answer_next(move |_, _| kept);
    assert!(proxy.scrape().await.is_empty());
    let forged = "prometheus_proxy_scrape_seconds_count{outcome=\"invalid\",exception=\"forged\"}";
    assert_eq!(proxy.own(forged).await, 2.0);
    drop(answered);
}

#[tokio::test]
async fn a_push_is_taken_once_and_on_its_own_connection() {
    let proxy = Sandbox::start(&[]).await;
    let mut app = Modern::connect(&proxy).await;
    let push = app.seal("jobs_total 1\n", Purpose::Push);
    app.peer.push_payload(push.clone()).await.unwrap();
    let refused = app.peer.push_payload(push.clone()).await;
    assert_eq!(reason(refused), "the envelope was used before");
    let answer = app.seal("jobs_total 1\n", Purpose::Answer { pull: 0 });
    let refused = app.peer.push_payload(answer).await;
    assert!(reason(refused).contains("belongs to another connection"));
    let mut other = Modern::connect(&proxy).await;
    let refused = other.peer.push_payload(push).await;
    assert!(reason(refused).contains("belongs to another connection"));
    drop((app, other));
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
}

#[tokio::test]
async fn version_1_can_be_forbidden() {
    let proxy = Sandbox::start(&["--rsocket.min-envelope-version=2"]).await;
    let mut modern = Modern::connect(&proxy).await;
    assert!(
        !modern
            .peer
            .announcement
            .as_ref()
            .unwrap()
            .envelopes
            .version1
    );
    let push = modern.seal("jobs_total 1\n", Purpose::Push);
    modern.peer.push_payload(push).await.unwrap();
    let key = modern.peer.key.as_ref().expect("a key");
    let old = version1::seal(b"jobs_total 2\n", key).unwrap();
    let refused = modern.peer.push_payload(old.into()).await;
    assert!(reason(refused).contains("refuses this envelope version"));
    drop(modern);
    proxy.connected(0).await;
    let _java = App::text(proxy.tcp(), "java_up 1\n").await;
    assert_eq!(proxy.scrape().await, ["jobs_total 1"]);
    assert!(
        last_scrape(&proxy, "reason")
            .await
            .contains("refuses this envelope version")
    );
}

#[tokio::test]
async fn an_earlier_key_still_opens_a_push() {
    let proxy = Sandbox::rotating(Duration::from_millis(300)).await;
    let mut app = Modern::connect(&proxy).await;
    let push = app.seal("jobs_total 1\n", Purpose::Push);
    let before = app.peer.key.clone().map(|key| key.id());
    app.peer.key().await;
    assert_ne!(app.peer.key.clone().map(|key| key.id()), before);
    app.peer.push_payload(push).await.unwrap();
}

#[tokio::test]
async fn the_client_library_seals_by_version_2_and_is_told_the_deadline() {
    let proxy = Sandbox::start(&["--rsocket.min-envelope-version=2"]).await;
    let (deadline, told) = tokio::sync::watch::channel(None);
    let address = format!("tcp://{}", proxy.tcp()).parse().unwrap();
    let client = Client::builder_async(move |request| {
        deadline.send_replace(request.deadline);
        std::future::ready("client_up 1\n")
    });
    let client = client.proxy(address).forbid_downgrade().connect();
    client.ready().await.unwrap();
    assert_eq!(proxy.scrape().await, ["client_up 1"]);
    let left = told.borrow().expect("a deadline") - Instant::now();
    assert!(left <= Duration::from_secs(10), "{left:?}");
    client.push_and_close().await.unwrap();
    proxy.connected(0).await;
    assert_eq!(proxy.scrape().await, ["client_up 1"]);
    let opened = "prometheus_proxy_envelopes_opened_total{version=\"2\"}";
    assert_eq!(proxy.own(opened).await, 2.0);
}

#[tokio::test]
async fn a_client_that_forbids_a_downgrade_sends_nothing_to_a_proxy_that_offers_less() {
    let plaintext = [
        "--rsocket.envelope=plaintext",
        "--rsocket.insecure-plaintext",
    ];
    let proxy = Sandbox::start(&plaintext).await;
    let address = format!("tcp://{}", proxy.tcp()).parse().unwrap();
    let client = Client::builder(|| "client_up 1\n").proxy(address);
    let connecting = client.forbid_downgrade().max_retries(0).connect_and_wait();
    let gave_up = connecting.await.unwrap_err().to_string();
    assert!(gave_up.contains("version 2"), "{gave_up}");
    assert!(proxy.scrape().await.is_empty());
}

#[tokio::test]
async fn an_application_that_says_goodbye_is_no_failure() {
    let proxy = Sandbox::start(&[]).await;
    for code in [ErrorCode::CONNECTION_CLOSE, ErrorCode::CONNECTION_ERROR] {
        let mut peer = Peer::connect(proxy.tcp()).await;
        peer.key().await;
        peer.connection.session().close(code, "the job is done");
        peer.connection.finish().await;
    }
    eventually("both have left", async || {
        proxy.status().await["left"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    let failed =
        "prometheus_proxy_connection_error_total{exception=\"peer_error\",transport=\"TCP\"}";
    assert_eq!(proxy.own(failed).await, 1.0);
}
