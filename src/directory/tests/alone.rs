//! What one node says of what is connected to it.

use super::*;

const ME: &str = "node-1";

fn alone() -> (Directory, Instant) {
    (Directory::new(node(1), LINGER), Instant::now())
}

fn why() -> Arc<str> {
    "it broke".into()
}

#[test]
fn one_that_is_lost_or_moved_lingers_and_one_that_left_is_gone_at_once() {
    for (end, lingers) in [(End::Lost, true), (End::Moved, true), (End::Left, false)] {
        let (mut directory, now) = alone();
        directory.connected(7, vec![target("a", None)], now);
        assert_eq!(said(&directory, now), [format!("a connected {ME}")]);
        directory.ended(7, end, &why(), now);
        let gone = format!("a {} {ME}", end.name());
        let expected: Vec<_> = lingers.then_some(gone).into_iter().collect();
        assert_eq!(said(&directory, now), expected);
        let soon = now + LINGER - seconds(1);
        assert_eq!(said(&directory, soon), expected);
        assert_eq!(said(&directory, now + LINGER), [""; 0]);
        let all = directory.applications(now + LINGER, SystemTime::now());
        assert_eq!(all.len(), 1, "shown for a while yet");
        directory.tick(now + LINGER + REMEMBERED);
        assert!(directory.applications(now, SystemTime::now()).is_empty());
    }
}

#[test]
fn a_name_that_is_an_address_does_not_linger_and_gives_way_to_a_better_one() {
    let (mut directory, now) = alone();
    let address = named("192.0.2.1:1", None, Named::Address);
    directory.connected(1, vec![address.clone()], now);
    directory.ended(1, End::Lost, &why(), now);
    assert_eq!(said(&directory, now), [""; 0]);
    directory.connected(2, vec![address], now);
    directory.connected(2, vec![target("a", None)], now);
    assert_eq!(said(&directory, now), [format!("a connected {ME}")]);
    let all = directory.applications(now, SystemTime::now());
    assert_eq!(all.len(), 1);
}

#[test]
fn the_newer_connection_is_the_application_and_the_older_one_again_once_that_is_over() {
    let (mut directory, now) = alone();
    let place = |connection| Place::Here { connection };
    directory.connected(1, vec![target("a", None)], now);
    directory.connected(2, vec![target("a", None)], now);
    assert_eq!(directory.find(&id("a"), now), place(2));
    assert_eq!(directory.counts(now).superseded, 1);
    assert_eq!(said(&directory, now).len(), 1);
    let shown = directory.applications(now, SystemTime::now());
    assert_eq!(shown.iter().filter(|one| one.superseded).count(), 1);
    directory.ended(2, End::Lost, &why(), now);
    assert_eq!(directory.find(&id("a"), now), place(1));
    assert_eq!(directory.counts(now).superseded, 0);
    // It says goodbye last: it is the newest that counts, and not one that was lost before.
    directory.connected(3, vec![target("a", None)], now);
    directory.ended(1, End::Lost, &why(), now);
    directory.ended(3, End::Left, &why(), now);
    assert_eq!(said(&directory, now), [""; 0]);
}

#[test]
fn another_identity_does_not_take_a_name_over_before_it_is_free() {
    let (mut directory, now) = alone();
    directory.connected(1, vec![target("a", Some("x"))], now);
    directory.connected(2, vec![target("a", None)], now);
    let owner = |directory: &Directory, now| match directory.find(&id("a"), now) {
        Place::Here { connection, .. } => Some(connection),
        _ => None,
    };
    assert_eq!(owner(&directory, now), Some(1));
    // It connects again, and is the newest of its own.
    directory.ended(1, End::Lost, &why(), now);
    assert_eq!(
        owner(&directory, now),
        None,
        "it lingers, and holds its name"
    );
    assert_eq!(said(&directory, now), [format!("a lost {ME}")]);
    directory.connected(3, vec![target("a", Some("x"))], now + seconds(9));
    assert_eq!(owner(&directory, now + seconds(9)), Some(3));
    directory.ended(3, End::Lost, &why(), now + seconds(9));
    let later = now + seconds(9) + LINGER;
    assert_eq!(owner(&directory, later), Some(2), "the name is free");
    // The one that has it now keeps it.
    directory.connected(4, vec![target("a", Some("x"))], later);
    assert_eq!(owner(&directory, later), Some(2));
    directory.ended(2, End::Left, &why(), later);
    assert_eq!(owner(&directory, later), Some(4));
}

#[test]
fn a_connection_may_speak_for_several_and_say_so_again() {
    let (mut directory, now) = alone();
    let targets = |names: &[&str]| names.iter().map(|name| target(name, None)).collect();
    directory.connected(1, targets(&["a", "b", "a"]), now);
    assert_eq!(said(&directory, now).len(), 2);
    let here = Place::Here { connection: 1 };
    assert_eq!(directory.find(&id("a"), now), here);
    directory.connected(1, targets(&["b", "c"]), now);
    let expected = ["b", "c"].map(|name| format!("{name} connected {ME}"));
    assert_eq!(said(&directory, now), expected);
    directory.connected(1, Vec::new(), now);
    assert_eq!(said(&directory, now), [""; 0]);
}

#[test]
fn a_list_has_room_for_so_many_and_what_has_ended_makes_room() {
    let now = Instant::now();
    let mut directory = Directory::with_room(node(1), LINGER, 20 << 10);
    let name = |number: u64| format!("application-{number}");
    for connection in 0..100 {
        directory.connected(connection, vec![target(&name(connection), None)], now);
    }
    let listed = said(&directory, now).len();
    assert!((10..30).contains(&listed), "{listed}: half of the room");
    assert_eq!(directory.counts(now).tally.refused, 100 - listed as u64);
    directory.ended(0, End::Lost, &why(), now);
    directory.connected(100, vec![target(&name(100), None)], now);
    assert_eq!(said(&directory, now).len(), listed);
    assert_eq!(directory.counts(now).tally.forgotten, 1);
    let mut long = target("a", None);
    let about = Arc::make_mut(&mut long.about);
    about.client = Some("x".repeat(MAX_ENTRY).into());
    directory.ended(1, End::Left, &why(), now);
    directory.connected(101, vec![long], now);
    assert_eq!(directory.find(&id("a"), now), Place::Unknown);
}

#[test]
fn who_gives_an_instance_alone_means_those_that_are_there() {
    let (mut directory, now) = alone();
    let with_job = |job: &str| {
        let mut target = target("a", None);
        target.id.job = Some(job.into());
        target
    };
    directory.connected(1, vec![with_job("x")], now);
    directory.connected(2, vec![with_job("y")], now);
    directory.connected(3, vec![target("b", None)], now);
    let jobs = |directory: &Directory| {
        let known = directory.with_instance("a", now);
        let jobs = known.iter().map(|id| id.job.clone().unwrap_or_default());
        jobs.map(|job| job.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(jobs(&directory), ["x", "y"]);
    directory.ended(1, End::Left, &why(), now);
    assert_eq!(jobs(&directory), ["y"]);
    directory.ended(2, End::Left, &why(), now);
    assert_eq!(jobs(&directory), ["x", "y"], "as far as anybody remembers");
}

#[test]
fn an_outcome_is_news_where_it_is_another_than_before() {
    let (mut directory, now) = alone();
    directory.connected(1, vec![target("a", None)], now);
    let outcome = |outcome, reason: &str| Outcome {
        outcome,
        reason: reason.into(),
    };
    let mut news = |outcome| {
        let before = directory.revision();
        directory.pulled(1, &id("a"), outcome);
        directory.revision() > before
    };
    assert!(news(outcome("success", "")));
    assert!(!news(outcome("success", "")));
    let long = "é".repeat(1000);
    assert!(news(outcome("invalid", &long)));
    assert!(!news(outcome("invalid", &long)));
    let all = directory.applications(now, SystemTime::now());
    let reason = all[0].last.as_ref().unwrap().reason.len();
    assert!((150..=200).contains(&reason), "{reason}");
}
