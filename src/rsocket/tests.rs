//! Connections, from the application's end and from the directory's.

use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_wire::connection::Connection;
use prometheus_rsocket_wire::session::Event;
use prometheus_rsocket_wire::transport::tcp::Tcp;
use prometheus_rsocket_wire::{ErrorCode, Session};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::PullError;
use super::connection::run;
use super::pair::{HOUR, Pair, SECOND, applications, arrival};

const TICK: Duration = Duration::from_millis(1);

fn of(instances: &[&str]) -> String {
    let targets = instances.iter();
    let targets: Vec<_> = targets
        .map(|instance| format!(r#"{{"instance":"{instance}"}}"#))
        .collect();
    format!(r#"{{"client":"rust 1","targets":[{}]}}"#, targets.join(","))
}

/// What the directory knows, once the node has had time for what was said.
async fn known(pair: &mut Pair) -> Vec<(String, &'static str)> {
    pair.stays(TICK).await;
    pair.known()
}

fn all(names: &[&str], state: &'static str) -> Vec<(String, &'static str)> {
    names.iter().map(|&name| (name.to_owned(), state)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_application_is_known_from_the_beginning_by_what_it_says_and_by_what_it_says_later() {
    let mut pair = Pair::described(&of(&["a", "b"])).await;
    assert_eq!(pair.known(), all(&["a", "b"], "connected"));
    pair.update(&of(&["b", "c"]));
    let mut expected = all(&["a", "b", "c"], "connected");
    expected[0].1 = "left";
    assert_eq!(known(&mut pair).await, expected);
    // What cannot be read changes nothing.
    pair.stays(SECOND).await;
    pair.update("nonsense");
    assert_eq!(known(&mut pair).await, expected);
    let refused = &pair.metrics.descriptions_refused;
    assert_eq!(refused.with_label_values(&["invalid"]).get(), 1);
    assert!(
        pair.gate.try_acquire().is_err(),
        "none was taken for a push"
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_what_it_is_is_not_known_before_it_is_asked() {
    for undescribed in [Pair::new().await, Pair::described("nonsense").await] {
        assert_eq!(undescribed.known(), []);
        assert!(undescribed.handle.needs_name());
        undescribed.handle.note_name(None, None);
        assert_eq!(undescribed.known(), all(&["127.0.0.1:0"], "connected"));
        assert!(!undescribed.handle.needs_name());
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_flood_of_updates_the_newest_is_taken_each_second() {
    let mut pair = Pair::described(&of(&["0"])).await;
    for number in 1..=100 {
        pair.update(&of(&[&number.to_string()]));
        pair.stays(TICK).await;
    }
    let connected = |pair: &Pair| {
        let known = pair.known().into_iter();
        let mut connected = known.filter(|(_, state)| *state == "connected");
        connected.next().map(|(name, _)| name)
    };
    assert_eq!(connected(&pair).as_deref(), Some("1"));
    pair.stays(SECOND).await;
    assert_eq!(connected(&pair).as_deref(), Some("100"));
    // The others were never known.
    assert_eq!(pair.known().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn targets_are_pulled_at_the_same_time_each_for_itself() {
    let mut pair = Pair::described(&of(&["a", "b"])).await;
    let pulls = [pair.pull_one("a", HOUR), pair.pull_one("b", HOUR)];
    let whole = pair.pull();
    let mut streams = Vec::new();
    for expected in [Some("a"), Some("b"), None] {
        let (stream, target) = pair.asked_for().await;
        let instance = target.map(|target| target.instance);
        assert_eq!(instance.as_deref(), expected);
        streams.push(stream);
    }
    // In another order.
    let [a, b] = pulls;
    pair.answer(streams[1]);
    pair.stays(TICK).await;
    assert!(!b.await.unwrap().unwrap().of_all);
    pair.answer(streams[2]);
    pair.stays(TICK).await;
    assert!(whole.await.unwrap().unwrap().of_all);
    a.abort();
    assert!(
        matches!(pair.app.next().await, Event::RequestCancelled { stream } if stream == streams[0])
    );
}

#[tokio::test(start_paused = true)]
async fn who_has_one_name_that_it_did_not_say_is_not_told_it() {
    let mut pair = Pair::new().await;
    pair.handle.note_name(None, None);
    let one = pair.pull_one("127.0.0.1:0", HOUR);
    let whole = pair.pull();
    let (stream, target) = pair.asked_for().await;
    assert_eq!(target, None);
    pair.answer(stream);
    pair.stays(TICK).await;
    assert!(
        one.await.unwrap().is_ok() && whole.await.unwrap().is_ok(),
        "one answer for both"
    );
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_a_break_and_a_move_are_told_apart() {
    let state = |pair: &Pair| pair.known()[0].1;
    let mut pair = Pair::described(&of(&["a"])).await;
    let session = pair.app.session();
    session.close(ErrorCode::CONNECTION_CLOSE, "goodbye");
    pair.app.finish().await;
    assert_eq!(state(&pair), "left");

    let mut pair = Pair::described(&of(&["a"])).await;
    pair.app.finish().await;
    assert_eq!(state(&pair), "lost");

    let mut pair = Pair::described(&of(&["a"])).await;
    pair.gate.add_permits(1);
    pair.push(1);
    assert!(matches!(pair.app.next().await, Event::Response { .. }));
    pair.app.finish().await;
    assert_eq!(state(&pair), "left");

    let mut pair = Pair::described(&of(&["a"])).await;
    pair.retire(Duration::ZERO, Duration::ZERO);
    pair.is_let_go().await;
    assert_eq!(state(&pair), "moved");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_pull_learns_of_a_move_after_the_directory() {
    let mut pair = Pair::described(&of(&["a"])).await;
    let pull = pair.pull_one("a", HOUR);
    pair.asked().await;
    pair.leaving.cancel();
    pair.app.finish().await;
    assert_eq!(pull.await.unwrap().err(), Some(PullError::Closed));
    assert_ne!(pair.known()[0].1, "connected");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_pulled_all_the_time_moves_all_the_same() {
    let mut pair = Pair::described(&of(&["a", "b"])).await;
    let first = pair.pull_one("a", HOUR);
    let (of_a, _) = pair.asked_for().await;
    pair.retire(Duration::ZERO, Duration::ZERO);
    pair.stays(SECOND / 2).await;
    // As long as its time has just passed, it is pulled as before.
    let second = pair.pull_one("b", HOUR);
    let (of_b, _) = pair.asked_for().await;
    pair.stays(SECOND).await;
    // Then what comes is for the node to which it moves.
    let third = pair.pull_one("a", HOUR);
    let fourth = pair.pull();
    pair.stays(SECOND).await;
    pair.answer(of_a);
    pair.stays(SECOND).await;
    assert!(
        first.await.unwrap().is_ok() && third.await.unwrap().is_ok(),
        "it joined the first"
    );
    pair.answer(of_b);
    pair.is_let_go().await;
    assert!(second.await.unwrap().is_ok());
    assert_eq!(fourth.await.unwrap().err(), Some(PullError::Closed));
    assert_eq!(pair.known(), all(&["a", "b"], "moved"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_and_gives_no_sign_of_life_is_lost_within_seconds() {
    let mut pair = Pair::described(&of(&["a"])).await;
    let pull = pair.pull_one("a", 10 * SECOND);
    pair.asked().await;
    // Nothing it is sent arrives any more.
    let began = Instant::now();
    assert_eq!(pull.await.unwrap().err(), Some(PullError::Timeout));
    while pair.known()[0].1 == "connected" {
        sleep(SECOND / 10).await;
    }
    assert_eq!(pair.known()[0].1, "lost");
    assert_eq!(began.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_and_alive_stays() {
    let mut pair = Pair::described(&of(&["a"])).await;
    for _ in 0..3 {
        let pull = pair.pull_one("a", 10 * SECOND);
        let stream = pair.asked().await;
        let event = pair.app.next().await;
        assert!(matches!(event, Event::RequestCancelled { stream: late } if late == stream));
        assert_eq!(pull.await.unwrap().err(), Some(PullError::Timeout));
        pair.stays(60 * SECOND).await;
    }
    assert_eq!(pair.known(), all(&["a"], "connected"));
}

#[tokio::test(start_paused = true)]
async fn who_never_was_an_application_is_remembered_with_the_reason() {
    let apps = applications(&Arc::new(Semaphore::new(0)));
    for bytes in [
        &b"\0\0\x10GET / HTTP/1.1\r\n"[..],
        b"\0\0\x10GET / HTTP/1.1\r\n",
        b"",
    ] {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(bytes).await.unwrap();
        drop(theirs);
        let session = Session::accepting(apps.limits, Instant::now().into_std());
        let connection = Box::new(Connection::new(session, Tcp::new(ours, 1 << 20)));
        run(connection, arrival(&apps), &apps).await;
    }
    // Who asks whether the port is open has done nothing.
    let refused = apps.registry.refused();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        (refused[0].exception, refused[0].times),
        ("protocol_violation", 2)
    );
    assert!(refused[0].reason.contains("SETUP"), "{}", refused[0].reason);
}
