//! What a client says that the application is, and that it ends.

use std::sync::Arc;

use prometheus_rsocket_client::{Client, Description, Request, TargetDescription, TargetName};
use prometheus_rsocket_wire::description::MIME;
use prometheus_rsocket_wire::session::CloseReason;
use prometheus_rsocket_wire::{Announcement, ErrorCode, Event};
use tokio::sync::Semaphore;

use crate::proxy::{Peer, Proxy, client};

const CLIENT: &str = concat!("rust ", env!("CARGO_PKG_VERSION"));

fn description(instances: &[&str]) -> Description {
    let target = |instance: &&str| TargetDescription {
        instance: (*instance).to_owned(),
        ..TargetDescription::default()
    };
    Description {
        client: "test".to_owned(),
        targets: instances.iter().map(target).collect(),
    }
}

async fn said_goodbye(peer: &mut Peer) {
    let goodbye = CloseReason::PeerError {
        code: ErrorCode::CONNECTION_CLOSE,
        message: "the application ends".to_owned(),
    };
    assert_eq!(peer.closed().await, goodbye);
}

#[tokio::test]
async fn the_setup_says_what_the_application_is() {
    let proxy = Proxy::bind().await;
    let _client = client([proxy.address()])
        .instance("web-1")
        .and_then(|builder| builder.job("shop")?.label("zone", "b"))
        .unwrap()
        .connect();
    let (_peer, setup) = proxy.accept_setup().await;
    assert_eq!(setup.data_mime, MIME);
    let target = r#"{"instance":"web-1","job":"shop","labels":{"zone":"b"}}"#;
    let json = format!(r#"{{"client":"{CLIENT}","targets":[{target}]}}"#);
    assert_eq!(setup.payload.data, json);
    assert_eq!(setup.payload.metadata, None);
}

#[tokio::test]
async fn a_changed_description_is_said_at_once_and_on_the_next_connection() {
    let proxy = Proxy::bind().await;
    let client = client([proxy.address()])
        .description(description(&["a"]))
        .unwrap()
        .connect();
    let mut peer = proxy.accept_with_key().await;
    client.ready().await.unwrap();
    let changed = description(&["a", "b"]);
    client.describe(&changed).unwrap();
    client.describe(&changed).unwrap();
    match peer.next().await {
        Event::FireAndForget { payload } => {
            assert_eq!(payload.metadata.unwrap(), MIME);
            assert_eq!(payload.data, changed.encode().unwrap());
        }
        other => panic!("expected a description, got {other:?}"),
    }
    client.describe(&description(&[""])).unwrap_err();
    // Neither what did not change nor what cannot be said is said.
    peer.pull();
    assert_eq!(peer.answer().await, "up 1\n");
    drop(peer);
    let (_peer, setup) = proxy.accept_setup().await;
    assert_eq!(setup.payload.data, changed.encode().unwrap());
}

#[tokio::test]
async fn an_application_that_ends_says_goodbye() {
    let proxy = Proxy::bind().await;
    let builder = client([proxy.address()]);
    let closed = builder.clone().connect();
    let mut peer = proxy.accept_with_key().await;
    closed.ready().await.unwrap();
    tokio::join!(closed.close(), said_goodbye(&mut peer));
    let dropped = builder.clone().connect();
    let mut peer = proxy.accept_with_key().await;
    dropped.ready().await.unwrap();
    drop(dropped);
    said_goodbye(&mut peer).await;
    let pushing = builder.connect();
    let mut peer = proxy.accept_with_key().await;
    let script = async {
        let (stream, _) = peer.push().await;
        peer.acknowledge(stream);
        said_goodbye(&mut peer).await;
    };
    let (pushed, ()) = tokio::join!(pushing.push_and_close(), script);
    pushed.unwrap();
}

#[tokio::test]
async fn a_pull_of_one_target_says_so_to_the_closure() {
    let proxy = Proxy::bind().await;
    let render = |request: Request| async move {
        match request.target {
            Some(target) if target.job.is_none() => Err("it is down"),
            target => Ok(format!("{target:?}\n")),
        }
    };
    let _client = Client::builder_async(render)
        .own_metrics(true)
        .proxy(proxy.address())
        .connect();
    let mut peer = proxy.accept_with_key().await;
    let target = Some(TargetName {
        instance: "a".to_owned(),
        job: Some("b".to_owned()),
    });
    peer.pull_saying(&Announcement {
        target: target.clone(),
        ..Announcement::default()
    });
    // Alone, without the metrics of the client.
    assert_eq!(peer.answer().await, format!("{target:?}\n"));
    peer.pull();
    assert!(peer.answer().await.starts_with("None\n# "));
    peer.pull_saying(&Announcement {
        target: target.map(|target| TargetName {
            job: None,
            ..target
        }),
        ..Announcement::default()
    });
    match peer.next().await {
        Event::Response { result, .. } => {
            let reason = result.unwrap_err().to_string();
            assert!(reason.ends_with(": it is down"), "{reason}");
        }
        other => panic!("expected an error, got {other:?}"),
    }
}

#[tokio::test]
async fn as_many_texts_are_rendered_at_a_time_as_was_said() {
    let proxy = Proxy::bind().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let render = move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("an open gate").forget();
            "up 1\n"
        }
    };
    let _client = Client::builder_async(render)
        .max_renders(20)
        .proxy(proxy.address())
        .connect();
    let mut peer = proxy.accept_with_key().await;
    for _ in 0..21 {
        peer.pull();
    }
    match peer.next().await {
        Event::Response { result, .. } => assert!(result.is_err()),
        other => panic!("expected a refusal, got {other:?}"),
    }
    opened.add_permits(20);
    for _ in 0..20 {
        assert_eq!(peer.answer().await, "up 1\n");
    }
}
