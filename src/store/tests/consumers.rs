//! Each consumer gets each push once, and nobody takes anything from another.

use super::super::consumers::Consumers;
use super::nodes::{Nodes, Word};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(15);

/// A node alone that nobody has scraped.
fn unknown(limits: Limits) -> Nodes {
    let mut nodes = Nodes::new(1, &limits, &Replication::default());
    let store = Store::new(node(0), limits, Replication::default());
    nodes.stores.insert(node(0), store);
    nodes
}

/// Three nodes that these have scraped twice each, and a minute before.
fn known(consumers: &[&str]) -> Nodes {
    let mut nodes = Nodes::new(3, &limits(), &Replication::default());
    let now = nodes.now;
    for number in 0..3 {
        nodes.stores.insert(
            node(number),
            Store::new(node(number), limits(), Replication::default()),
        );
        let known = KnownConsumers {
            consumers: consumers
                .iter()
                .map(|name| KnownConsumer {
                    name: consumer(name),
                    interval: Some(INTERVAL),
                    silent: Duration::ZERO,
                })
                .collect(),
            watched: Duration::from_secs(120),
        };
        nodes.with(&node(number), |store| {
            store.hear_of_consumers(&known, now);
            Effects::default()
        });
    }
    nodes.see(&view(&[0, 1, 2]));
    nodes
}

fn counts(nodes: &Nodes) -> Counts {
    nodes.stores[&node(0)].counts()
}

#[test]
fn each_of_a_pair_gets_each_push_once_at_whichever_node_it_asks() {
    let mut nodes = known(&["a", "b"]);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.scrape_as(&node(1), "a"), std::slice::from_ref(&push));
    for number in 0..3 {
        assert!(nodes.scrape_as(&node(number), "a").is_empty());
    }
    assert_eq!(counts(&nodes).partly_served, 1);
    assert_eq!(nodes.scrape_as(&node(2), "b"), [push]);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally, Tally::default());
}

#[test]
fn two_consumers_may_have_a_push_in_a_response_at_once_and_one_consumer_may_not() {
    let mut nodes = known(&["a", "b"]);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let claims = ["a", "b", "a"].map(|name| nodes.begin_as(&node(1), name));
    nodes.talk();
    let claimed = claims.map(|claim| nodes.choose(&claim).unwrap().pushes.len());
    assert_eq!(claimed, [1, 1, 0]);
}

#[test]
fn who_looks_once_gets_a_push_and_takes_it_from_nobody() {
    let mut nodes = known(&["a"]);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.scrape_as(&node(0), "curl").len(), 1);
    assert_eq!(nodes.scrape_as(&node(1), "a").len(), 1);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn what_the_first_scrape_of_a_consumer_got_is_over_with_its_second_and_not_served_again() {
    let mut nodes = unknown(limits());
    nodes.push(&node(0), &[1]).unwrap();
    nodes.now += Duration::from_secs(1);
    assert_eq!(nodes.scrape_as(&node(0), "a").len(), 1);
    nodes.now += INTERVAL;
    assert!(nodes.scrape_as(&node(0), "a").is_empty());
    assert_eq!(counts(&nodes).partly_served, 1, "others may scrape, too");
    for _ in 0..4 {
        nodes.now += INTERVAL;
        nodes.tick();
        nodes.scrape_as(&node(0), "a");
    }
    assert_eq!(counts(&nodes), Counts::default());
}

#[test]
fn the_second_of_a_pair_gets_what_the_first_one_took_from_three_nodes_after_a_restart() {
    let mut nodes = known(&[]);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    for number in 0..3 {
        nodes.scrape_as(&node(number), "a");
        nodes.now += Duration::from_secs(1);
    }
    nodes.wait(Duration::from_secs(30));
    assert_eq!(nodes.scrape_as(&node(1), "b"), [push]);
}

#[test]
fn a_consumer_that_is_silent_for_three_intervals_holds_nothing_up() {
    let long = Limits {
        ttl: Duration::from_secs(3600),
        ..limits()
    };
    let mut nodes = unknown(long);
    let scrape_all = |nodes: &mut Nodes, names: &[&str]| {
        nodes.now += 2 * INTERVAL;
        nodes.tick();
        for name in names {
            nodes.scrape_as(&node(0), name);
        }
    };
    for _ in 0..4 {
        scrape_all(&mut nodes, &["a", "b"]);
    }
    nodes.push(&node(0), &[1]).unwrap();
    for held in [1, 1] {
        scrape_all(&mut nodes, &["a"]);
        assert_eq!(nodes.held(), held);
    }
    scrape_all(&mut nodes, &["a"]);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.missed, 1);
    assert_eq!(nodes.stores[&node(0)].consumer_counts(nodes.now).stopped, 1);
}

#[test]
fn a_push_is_not_over_before_as_many_have_it_as_should() {
    let pair = Limits {
        consumers: 2,
        ..limits()
    };
    let mut nodes = unknown(pair);
    for _ in 0..5 {
        nodes.now += INTERVAL;
        nodes.scrape_as(&node(0), "a");
    }
    nodes.push(&node(0), &[1]).unwrap();
    nodes.scrape_as(&node(0), "a");
    assert_eq!(counts(&nodes).partly_served, 1);
    nodes.wait(TTL);
    assert_eq!(nodes.held(), 0);
    assert_eq!((nodes.tally.expired, nodes.tally.missed), (0, 1));
}

#[test]
fn the_older_push_of_a_series_goes_first_to_each_consumer() {
    let mut nodes = known(&["a", "b"]);
    let older = nodes.push(&node(0), &[1]).unwrap();
    nodes.now += Duration::from_millis(1);
    let newer = nodes.push(&node(1), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.scrape_as(&node(2), "a"), std::slice::from_ref(&older));
    assert_eq!(nodes.scrape_as(&node(2), "a"), std::slice::from_ref(&newer));
    assert_eq!(nodes.scrape_as(&node(2), "b"), [older]);
    assert_eq!(nodes.scrape_as(&node(2), "b"), [newer]);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn a_new_owner_knows_who_has_had_a_push() {
    let mut nodes = known(&["a", "b"]);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    nodes.scrape_as(&node(1), "a");
    nodes.stores.remove(&node(0));
    nodes.see(&view(&[1, 2]));
    nodes.wait(Duration::from_secs(3));
    assert_eq!(nodes.tally.possible_duplicates, 1, "to b");
    assert!(nodes.scrape_as(&node(2), "a").is_empty());
    assert_eq!(nodes.scrape_as(&node(2), "b"), [push]);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn a_node_that_joins_knows_the_consumers_before_it_is_ready() {
    let mut nodes = known(&["a", "b"]);
    let now = nodes.now;
    let old = nodes.stores.get_mut(&node(0)).unwrap();
    let (reply, _) = old.serve(&node(3), Request::Owed, now);
    let mut joiner = Store::new(node(3), limits(), Replication::default());
    joiner.answered(&node(0), reply, now);
    assert_eq!(joiner.consumer_counts(now).counting, 2);
}

#[test]
fn what_is_retained_is_served_again_to_those_that_have_had_it_and_as_new_to_others() {
    let retaining = Limits {
        retention: TTL / 2,
        ..limits()
    };
    let mut nodes = unknown(retaining);
    for _ in 0..5 {
        nodes.now += INTERVAL;
        nodes.scrape_as(&node(0), "a");
        nodes.scrape_as(&node(0), "b");
    }
    nodes.push(&node(0), &[1]).unwrap();
    for (name, texts, again) in [("a", 1, 0), ("a", 0, 1), ("b", 1, 0), ("b", 0, 1)] {
        let claim = nodes.begin_as(&node(0), name);
        let claimed = nodes.choose(&claim).unwrap();
        assert_eq!((claimed.texts.len(), claimed.again.len()), (texts, again));
        nodes.commit(&claim);
    }
    assert_eq!(counts(&nodes).retained, 1);
    nodes.wait(TTL / 2);
    assert_eq!(nodes.held(), 0);
}

/// As a node of the release before this one claims, and closes.
#[test]
fn what_a_node_of_an_older_release_serves_is_over() {
    let mut nodes = known(&["a", "b"]);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let claim = ClaimId {
        scraper: node(1),
        sequence: 100,
    };
    let now = nodes.now;
    let owner = nodes.stores.get_mut(&node(0)).unwrap();
    let asked = Request::Claim {
        claim: claim.clone(),
        clock: 0,
        consumer: None,
        known: KnownConsumers::default(),
    };
    let (reply, _) = owner.serve(&node(1), asked, now);
    assert!(matches!(reply, Reply::Claim { lent, .. } if lent.handed.len() == 1));
    let (_, claimed) = nodes.claim_as(&node(2), "a");
    assert!(claimed.pushes.is_empty(), "an older node has it");
    let closed = Request::Close {
        ticket: 0,
        claim,
        over: Over::served(&push),
    };
    nodes.with(&node(0), |store| store.serve(&node(1), closed, now).1);
    nodes.talk();
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.missed, 2, "each of them may have been served");
}

#[test]
fn what_a_node_of_an_older_release_lends_is_over_once_it_has_been_served() {
    let mut nodes = known(&["a", "b"]);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let claim = nodes.begin_as(&node(1), "a");
    while let Some(mut mail) = nodes.mail.pop_front() {
        if let Word::Answer(Reply::Claim { known, .. }) = &mut mail.word {
            *known = None;
        }
        nodes.deliver(mail);
    }
    assert_eq!(nodes.choose(&claim).unwrap().pushes, [push]);
    nodes.commit(&claim);
    nodes.talk();
    assert_eq!(nodes.held(), 0);
}

#[test]
fn names_in_requests_neither_fill_memory_nor_throw_out_who_counts() {
    let mut consumers = Consumers::new(TTL);
    let mut now = Instant::now();
    let prometheus = prometheus();
    for _ in 0..3 {
        consumers.scrapes(&prometheus, now);
        now += INTERVAL;
    }
    let mut forgotten = 0;
    for number in 0..1_000 {
        let (slot, before) = consumers.scrapes(&consumer(&number.to_string()), now);
        assert!(slot.is_some());
        let before = before.map(|(_, name)| name);
        assert_ne!(before, Some(prometheus.clone()));
        forgotten += usize::from(before.is_some());
        now += Duration::from_millis(1);
    }
    assert_eq!(forgotten, 1_000 - 15);
    assert_eq!(consumers.known(now).consumers.len(), 16);
    assert_eq!(consumers.counts(now).counting, 1);
}

#[test]
fn where_all_count_a_newcomer_is_served_and_takes_nothing() {
    let mut nodes = unknown(limits());
    for _ in 0..6 {
        nodes.now += INTERVAL;
        for number in 0..16 {
            nodes.scrape_as(&node(0), &number.to_string());
        }
    }
    nodes.push(&node(0), &[1]).unwrap();
    for _ in 0..2 {
        assert_eq!(nodes.scrape_as(&node(0), "newcomer").len(), 1);
    }
    assert_eq!(nodes.tally.possible_duplicates, 2);
    for number in 0..16 {
        assert_eq!(nodes.scrape_as(&node(0), &number.to_string()).len(), 1);
    }
    assert_eq!(nodes.held(), 0);
}

#[test]
fn what_is_forgotten_of_a_consumer_may_be_served_to_it_again_and_is_counted() {
    let mut nodes = unknown(limits());
    nodes.push(&node(0), &[1]).unwrap();
    nodes.scrape_as(&node(0), "first");
    for number in 0..16 {
        nodes.now += Duration::from_millis(1);
        nodes.scrape_as(&node(0), &number.to_string());
    }
    assert_eq!(nodes.forgotten, [consumer("first")]);
    assert_eq!(nodes.tally.possible_duplicates, 1);
    assert_eq!(nodes.scrape_as(&node(0), "first").len(), 1);
}

#[test]
fn the_interval_is_the_longest_gap_and_what_others_say_of_the_same_scrape_is_no_second_one() {
    let mut consumers = Consumers::new(Duration::from_secs(3600));
    let prometheus = prometheus();
    let told = KnownConsumers {
        consumers: vec![KnownConsumer {
            name: prometheus.clone(),
            interval: None,
            silent: Duration::ZERO,
        }],
        watched: Duration::ZERO,
    };
    let mut now = Instant::now();
    consumers.hear(&told, now);
    now += Duration::from_millis(20);
    consumers.scrapes(&prometheus, now);
    assert_eq!(consumers.counts(now).new, 1);
    for gap in [1, 1, 58, 1, 1, 58, 1, 1, 58] {
        consumers.hear(&told, now + Duration::from_millis(3));
        now += gap * SECOND;
        consumers.scrapes(&prometheus, now);
    }
    let known = consumers.known(now).consumers;
    assert_eq!(known[0].interval, Some(58 * SECOND));
    let counts =
        |consumers: &Consumers, after: u32| consumers.counts(now + after * SECOND).counting;
    assert_eq!((counts(&consumers, 173), counts(&consumers, 175)), (1, 0));
}

#[test]
fn what_another_node_says_is_never_out_of_range() {
    let mut consumers = Consumers::new(TTL);
    let now = Instant::now();
    let absurd = KnownConsumers {
        consumers: vec![KnownConsumer {
            name: prometheus(),
            interval: Some(Duration::MAX),
            silent: Duration::ZERO,
        }],
        watched: Duration::MAX,
    };
    consumers.hear(&absurd, now);
    consumers.scrapes(&prometheus(), now + TTL);
    assert_eq!(consumers.known(now).consumers[0].interval, Some(TTL));
}

#[test]
fn a_restart_of_prometheus_does_not_make_its_interval_longer() {
    let mut consumers = Consumers::new(Duration::from_secs(3600));
    let mut now = Instant::now();
    for gap in [15, 15, 600, 15] {
        consumers.scrapes(&prometheus(), now);
        now += gap * SECOND;
    }
    consumers.scrapes(&prometheus(), now);
    assert_eq!(consumers.known(now).consumers[0].interval, Some(INTERVAL));
    for _ in 0..2 {
        now += 300 * SECOND;
        consumers.scrapes(&prometheus(), now);
    }
    let changed = consumers.known(now).consumers[0].interval;
    assert_eq!(changed, Some(300 * SECOND));
}
