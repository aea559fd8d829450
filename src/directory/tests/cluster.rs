//! Nodes that tell each other what is connected to them.

use super::*;

/// Directories that see each other, and ask each other until nothing is new.
struct Cluster(Vec<Directory>);

impl Cluster {
    fn new(nodes: u64, now: Instant) -> Self {
        let mut cluster = Self(
            (1..=nodes)
                .map(|number| Directory::new(node(number), LINGER))
                .collect(),
        );
        cluster.see_all(now);
        cluster.talk(now);
        cluster
    }

    fn see_all(&mut self, now: Instant) {
        let alive: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|directory| (directory.me.clone(), NodeState::Active))
            .collect();
        for directory in &mut self.0 {
            directory.members(&alive, now);
        }
    }

    /// How many questions it took.
    fn talk(&mut self, now: Instant) -> usize {
        let mut questions = 0;
        loop {
            let mut news = false;
            for from in 0..self.0.len() {
                for to in (0..self.0.len()).filter(|to| *to != from) {
                    let node = self.0[to].me.clone();
                    let Some((asked, clock)) = self.0[from].question(&node, now) else {
                        continue;
                    };
                    news |= self.0[to].has_news(&asked);
                    let changes = self.0[to].changes_since(&asked, clock, now);
                    self.0[from].answered(&node, &asked, &changes, now);
                    questions += 1;
                }
            }
            if !news {
                return questions;
            }
        }
    }
}

#[test]
fn every_node_lists_what_is_connected_to_any() {
    let now = Instant::now();
    let mut cluster = Cluster::new(3, now);
    assert_eq!(cluster.0[0].missing(now), None);
    cluster.0[0].connected(1, vec![target("a", None)], now);
    cluster.0[1].connected(1, vec![target("b", None)], now);
    cluster.talk(now);
    for directory in &cluster.0 {
        let expected = ["a connected node-1", "b connected node-2"];
        assert_eq!(said(directory, now), expected);
    }
    let there = cluster.0[2].find(&id("b"), now);
    assert!(matches!(there, Place::There { node: found, .. } if found == node(2)));
}

#[test]
fn a_list_of_many_comes_in_pieces_and_is_not_shown_before_it_is_whole() {
    let now = Instant::now();
    let mut nodes = Cluster::new(2, now);
    let many: Vec<_> = (0..5_000)
        .map(|number| target(&format!("application-{number}"), None))
        .collect();
    nodes.0[0].connected(1, many, now);
    let mut late = Directory::new(node(3), LINGER);
    let alive = BTreeMap::from([(node(1), NodeState::Active)]);
    late.members(&alive, now);
    let mut pieces = 0;
    while late.missing(now).is_some() {
        assert!(said(&late, now).is_empty());
        let (asked, clock) = late.question(&node(1), now).unwrap();
        let changes = nodes.0[0].changes_since(&asked, clock, now);
        late.answered(&node(1), &asked, &changes, now);
        // Late and repeated: it says nothing new.
        late.answered(&node(1), &asked, &changes, now);
        pieces += 1;
        // Meanwhile the first of them leave, those that were told among them.
        nodes.0[0].connected(1, Vec::new(), now);
    }
    assert!(pieces > 2, "{pieces}");
    assert_eq!(said(&late, now), [""; 0]);
    let (asked, _) = late.question(&node(1), now).unwrap();
    assert!(!nodes.0[0].has_news(&asked));
}

#[test]
fn who_missed_many_removals_is_told_the_whole_list_and_shows_the_old_one_meanwhile() {
    let now = Instant::now();
    let mut cluster = Cluster::new(2, now);
    let address = |number: u64| named(&format!("192.0.2.1:{number}"), None, Named::Address);
    cluster.0[0].connected(1, vec![target("a", None)], now);
    cluster.talk(now);
    for number in 0..20_000 {
        cluster.0[0].connected(2, vec![address(number)], now);
    }
    cluster.0[0].connected(3, vec![target("b", None)], now);
    let (asked, clock) = cluster.0[1].question(&node(1), now).unwrap();
    assert!(cluster.0[0].changes_since(&asked, clock, now).from_start);
    cluster.talk(now);
    assert_eq!(said(&cluster.0[1], now), said(&cluster.0[0], now));
    assert_eq!(said(&cluster.0[1], now).len(), 3);
}

#[test]
fn what_was_connected_to_a_node_that_dies_is_lost_and_to_one_that_left_moved() {
    let now = Instant::now();
    for (state, end) in [(NodeState::Active, "lost"), (NodeState::Draining, "moved")] {
        let mut cluster = Cluster::new(2, now);
        let address = named("192.0.2.1:1", None, Named::Address);
        cluster.0[0].connected(1, vec![target("a", None), address], now);
        cluster.talk(now);
        let here = &mut cluster.0[1];
        here.members(&BTreeMap::from([(node(1), state)]), now);
        here.members(&BTreeMap::new(), now);
        assert_eq!(said(here, now), [format!("a {end} node-1")]);
        assert_eq!(here.missing(now), None);
        assert_eq!(said(here, now + LINGER), [""; 0]);
        // It connects to another.
        here.connected(1, vec![target("a", None)], now);
        assert_eq!(said(here, now), ["a connected node-2"]);
    }
}

#[test]
fn a_node_that_is_back_after_a_partition_is_heard_before_there_is_a_list() {
    let now = Instant::now();
    let mut cluster = Cluster::new(2, now);
    cluster.0[0].connected(1, vec![target("a", None)], now);
    cluster.talk(now);
    cluster.0[1].members(&BTreeMap::new(), now);
    assert_eq!(said(&cluster.0[1], now), ["a lost node-1"]);
    cluster.0[0].connected(2, vec![target("b", None)], now);
    cluster.see_all(now);
    assert_eq!(cluster.0[1].missing(now), Some(Missing::Silent(node(1))));
    cluster.talk(now);
    assert_eq!(cluster.0[1].missing(now), None);
    let expected = ["a connected node-1", "b connected node-1"];
    assert_eq!(said(&cluster.0[1], now), expected);
    assert_eq!(
        cluster.0[1].missing(now + SILENT),
        Some(Missing::Silent(node(1)))
    );
}

#[test]
fn a_node_of_an_older_release_is_told_apart_from_one_that_is_silent() {
    let now = Instant::now();
    let mut directory = Directory::new(node(1), LINGER);
    directory.members(&BTreeMap::from([(node(2), NodeState::Active)]), now);
    assert_eq!(directory.missing(now), Some(Missing::Silent(node(2))));
    assert!(directory.knows_none(&node(2)));
    assert!(!directory.knows_none(&node(2)), "no news");
    assert_eq!(directory.missing(now), Some(Missing::OlderRelease(node(2))));
    directory.members(&BTreeMap::new(), now);
    assert_eq!(directory.missing(now), None);
}

#[test]
fn a_node_that_has_heard_nobody_takes_no_name_from_those_it_hears_later() {
    let start = Instant::now();
    let now = start + seconds(3600);
    let mut old = Directory::new(node(1), LINGER);
    old.connected(1, vec![target("a", Some("x"))], start);
    // A stranger, at a node that was just started: its clock is an hour behind.
    let mut cluster = Cluster(vec![old, Directory::new(node(2), LINGER)]);
    cluster.0[1].connected(1, vec![target("a", None)], now);
    cluster.0[1].connected(2, vec![target("b", None)], now);
    cluster.0[0].connected(3, vec![target("b", None)], now - seconds(60));
    cluster.see_all(now);
    cluster.talk(now);
    for directory in &cluster.0 {
        let expected = ["a connected node-1", "b connected node-2"];
        assert_eq!(said(directory, now), expected, "b is newer at node 2");
    }
}

#[test]
fn targets_are_in_use_everywhere_for_a_while_after_somebody_asked_anywhere() {
    let now = Instant::now();
    let mut cluster = Cluster::new(3, now);
    cluster.0[0].ask(now);
    cluster.talk(now);
    assert!(cluster.0.iter().all(|directory| directory.in_use(now)));
    let later = now + IN_USE;
    cluster.talk(later);
    assert!(!cluster.0.iter().any(|directory| directory.in_use(later)));
}

#[test]
fn an_idle_cluster_has_nothing_to_tell() {
    let now = Instant::now();
    let mut cluster = Cluster::new(3, now);
    cluster.0[0].connected(1, vec![target("a", None)], now);
    cluster.talk(now);
    assert_eq!(cluster.talk(now + seconds(100)), 6, "each asks each once");
}

#[test]
fn ten_thousand_applications_are_listed_and_one_is_found_in_no_time() {
    let now = Instant::now();
    let mut cluster = Cluster::new(3, now);
    for number in 0..10_000 {
        let instance = format!("application-{number}.service.internal:8080");
        cluster.0[number % 3].connected(number as u64, vec![target(&instance, None)], now);
    }
    cluster.talk(now);
    let wall = SystemTime::now();
    let best = |step: &dyn Fn() -> usize| {
        let times = (0..10).map(|_| {
            let began = Instant::now();
            assert_ne!(std::hint::black_box(step()), 0);
            began.elapsed()
        });
        times.min().unwrap()
    };
    let here = &cluster.0[0];
    let listing = best(&|| here.targets(now, wall).len());
    let counting = best(&|| here.counts(now).connected);
    let finding = best(&|| {
        let id = id("application-5000.service.internal:8080");
        usize::from(here.find(&id, now) != Place::Unknown)
    });
    println!("listed in {listing:?}, counted in {counting:?}, one found in {finding:?}");
    assert!(listing < Duration::from_millis(50), "{listing:?}");
    assert!(finding < Duration::from_millis(1), "{finding:?}");
}
