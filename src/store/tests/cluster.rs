//! What a user can rely on where several nodes hold pushes for each other.

use super::nodes::{Mail, Nodes, Word};
use super::*;
use crate::nodes::NodeState;

fn nodes(number: u64) -> Nodes {
    Nodes::new(number, &limits(), &Replication::default())
}

fn state(nodes: &mut Nodes, who: u64, what: NodeState) {
    let mut view: View = nodes
        .stores
        .keys()
        .map(|id| (id.clone(), NodeState::Active))
        .collect();
    view.insert(node(who), what);
    nodes.see(&view);
}

fn kill(nodes: &mut Nodes, who: u64) {
    nodes.stores.remove(&node(who));
    let view = nodes
        .stores
        .keys()
        .map(|id| (id.clone(), NodeState::Active))
        .collect();
    nodes.see(&view);
    nodes.wait(Duration::from_secs(3));
}

#[test]
fn a_push_is_acknowledged_once_a_peer_holds_it() {
    let mut nodes = nodes(5);
    let push = nodes.push(&node(0), &[1]).unwrap();
    assert!(nodes.acknowledged.is_empty());
    nodes.talk();
    assert_eq!(nodes.acknowledged[&push], Kept::Replicated);
    assert_eq!(nodes.holders(&push).len(), 3);
}

#[test]
fn a_push_that_no_peer_confirms_is_acknowledged_in_time_and_replicated_later() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.lose_all();
    for _ in 0..4 {
        nodes.now += Duration::from_millis(500);
        nodes.tick();
        nodes.lose_all();
    }
    assert_eq!(nodes.acknowledged[&push], Kept::Short);
    nodes.wait(Duration::from_secs(2));
    assert_eq!(nodes.holders(&push).len(), 3);
}

#[test]
fn a_replica_is_not_sent_again_while_the_call_is_under_way_and_later_each_time_it_fails() {
    let mut nodes = nodes(2);
    nodes.push(&node(0), &[1]).unwrap();
    let mut sent_after = Vec::new();
    let calls: Vec<Mail> = nodes.mail.drain(..).collect();
    for second in 1..=20 {
        nodes.now += Duration::from_secs(1);
        nodes.tick();
        assert!(nodes.replicas_sent().is_empty(), "after {second} s");
        nodes.mail.clear();
    }
    nodes.mail.extend(calls);
    nodes.lose_all();
    for second in 1..=20 {
        nodes.now += Duration::from_secs(1);
        nodes.tick();
        if !nodes.replicas_sent().is_empty() {
            sent_after.push(second);
        }
        nodes.lose_all();
    }
    assert_eq!(sent_after, [1, 3, 7, 15]);
}

#[test]
fn a_call_whose_end_nobody_tells_is_made_again_all_the_same() {
    let mut nodes = nodes(2);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.mail.clear();
    nodes.wait(Duration::from_secs(31));
    assert_eq!(nodes.holders(&push).len(), 2);
}

#[test]
fn what_a_node_holds_alone_goes_out_as_fast_as_it_is_taken_and_new_pushes_first() {
    let mut nodes = nodes(1);
    for number in 0..5_000 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    nodes.join(1, NodeState::Active);
    nodes.tick();
    assert_eq!(nodes.replicas_sent().len(), 64);
    let fresh = nodes.push(&node(0), &[5_000]).unwrap();
    let last = nodes.replicas_sent().pop();
    assert_eq!(last, Some((node(1), fresh)));
    nodes.talk();
    assert_eq!(nodes.stores[&node(1)].counts().replicas, 5_001);
}

#[test]
fn a_push_that_finds_no_room_in_what_is_under_way_goes_before_others_that_come_later() {
    let mut nodes = nodes(2);
    for number in 0..300 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    assert_eq!(nodes.replicas_sent().len(), 256);
    assert!(nodes.acknowledged.is_empty());
    nodes.talk();
    let mut acknowledged = nodes.acknowledged.values();
    assert_eq!(acknowledged.len(), 300);
    assert!(acknowledged.all(|kept| *kept == Kept::Replicated));
}

#[test]
fn a_node_that_leaves_soon_after_another_joined_loses_nothing() {
    let mut nodes = nodes(1);
    for number in 0..5_000 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    nodes.join(1, NodeState::Active);
    state(&mut nodes, 0, NodeState::Draining);
    nodes.wait(Duration::from_secs(5));
    assert!(nodes.stores[&node(0)].may_leave(nodes.now));
    assert_eq!(nodes.stores[&node(1)].counts().pending, 5_000);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn one_scraped_node_serves_what_all_took() {
    let mut nodes = nodes(5);
    for number in 0..30 {
        nodes.push(&node(number % 5), &[number]).unwrap();
    }
    nodes.talk();
    assert_eq!(nodes.scrape(&node(2)).len(), 30);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally, Tally::default());
}

#[test]
fn scrapes_of_all_nodes_at_the_same_moment_serve_each_push_once() {
    let mut nodes = nodes(3);
    for number in 0..30 {
        nodes.push(&node(number % 3), &[number]).unwrap();
    }
    nodes.talk();
    let claims: Vec<_> = (0..3).map(|number| nodes.begin(&node(number))).collect();
    nodes.talk();
    let mut served = Vec::new();
    for claim in &claims {
        served.extend(nodes.choose(claim).unwrap().pushes);
        nodes.commit(claim);
    }
    nodes.talk();
    served.sort();
    served.dedup();
    assert_eq!(served.len(), 30);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn pushes_with_a_series_in_common_go_out_one_scrape_after_the_other_wherever_they_are_held() {
    let mut nodes = nodes(3);
    let first = nodes.push(&node(0), &[1]).unwrap();
    nodes.now += Duration::from_millis(10);
    let second = nodes.push(&node(1), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.scrape(&node(2)), [first]);
    assert_eq!(nodes.scrape(&node(2)), [second]);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn an_acknowledged_push_outlives_its_owner() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    kill(&mut nodes, 0);
    assert_eq!(nodes.owner(&push).len(), 1);
    assert_eq!(nodes.tally.possible_duplicates, 1);
    assert_eq!(nodes.scrape(&node(1)), [push]);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn what_a_dead_holder_held_is_held_by_another_node_soon() {
    let mut nodes = nodes(5);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let replica = nodes.holders(&push).into_iter().find(|id| *id != node(0));
    nodes.stores.remove(&replica.unwrap());
    let view = nodes
        .stores
        .keys()
        .map(|id| (id.clone(), NodeState::Active))
        .collect();
    nodes.see(&view);
    nodes.wait(Duration::from_secs(1));
    assert_eq!(nodes.holders(&push).len(), 3);
}

#[test]
fn a_late_replica_does_not_bring_back_what_has_been_served() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    let late: Vec<Mail> = nodes.mail.drain(..).collect();
    assert_eq!(nodes.scrape(&node(0)).len(), 1);
    nodes.mail.extend(late);
    nodes.talk();
    assert_eq!(nodes.held(), 0);
}

#[test]
fn a_claim_whose_node_died_gives_its_pushes_back() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    nodes.begin(&node(1));
    nodes.talk();
    kill(&mut nodes, 1);
    assert!(nodes.scrape(&node(2)).is_empty());
    nodes.wait(Duration::from_secs(11));
    assert_eq!(nodes.scrape(&node(2)), [push]);
    assert_eq!(nodes.tally.possible_duplicates, 1);
}

#[test]
fn a_slow_reader_keeps_its_claim() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let (slow, _) = nodes.claim(&node(1));
    nodes.wait(Duration::from_secs(40));
    assert!(nodes.scrape(&node(2)).is_empty());
    nodes.release(&slow);
    nodes.talk();
    assert_eq!(nodes.scrape(&node(2)), [push]);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn a_commit_whose_message_is_lost_is_told_again() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    // The nodes agree now, and not again within the time of this test.
    nodes.wait(Duration::from_millis(100));
    let (claim, _) = nodes.claim(&node(1));
    nodes.commit(&claim);
    nodes.mail.clear();
    assert!(nodes.held() > 0);
    nodes.wait(Duration::from_millis(1_500));
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn what_died_with_its_owner_but_was_served_is_not_served_again_if_one_holder_knows() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let (claim, _) = nodes.claim(&node(0));
    nodes.commit(&claim);
    let one = nodes.mail[0].to.clone();
    nodes.mail.retain(|mail| mail.to == one);
    while nodes.mail.front().is_some_and(|mail| mail.to == one) {
        let told = nodes.mail.pop_front().unwrap();
        nodes.deliver(told);
    }
    nodes.mail.clear();
    assert_eq!(nodes.holders(&push).len(), 1);
    kill(&mut nodes, 0);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn a_claim_that_comes_after_its_own_end_is_lent_nothing() {
    let mut nodes = nodes(2);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let claim = nodes.begin(&node(1));
    let late = nodes.mail.pop_front().unwrap();
    nodes.release(&claim);
    nodes.talk();
    nodes.deliver(late);
    assert_eq!(nodes.stores[&node(0)].counts().pending, 1);
}

#[test]
fn a_replica_that_a_full_peer_refuses_goes_to_another() {
    let mut nodes = nodes(4);
    let push = nodes.push(&node(0), &[1]).unwrap();
    let [full, other] = [1, 2].map(|at| nodes.mail.get(at - 1).unwrap().to.clone());
    nodes.stores.insert(
        full.clone(),
        known_store(
            full.clone(),
            Limits {
                max_bytes: 0,
                ..limits()
            },
            Replication::default(),
        ),
    );
    nodes.talk();
    assert_eq!(nodes.tally.refused, 1);
    assert_eq!(nodes.holders(&push).len(), 3);
    assert!(nodes.holders(&push).contains(&other));
    assert!(!nodes.holders(&push).contains(&full));
}

#[test]
fn a_push_that_a_peer_has_no_room_for_does_not_keep_shorter_ones_from_it() {
    let mut nodes = nodes(1);
    nodes
        .push(&node(0), &(0..1_000).collect::<Vec<_>>())
        .unwrap();
    let small = Limits {
        max_bytes: 6_000,
        ..limits()
    };
    let store = known_store(node(1), small, Replication::default());
    nodes.stores.insert(node(1), store);
    nodes.see(&view(&[0, 1]));
    nodes.tick();
    nodes.talk();
    assert_eq!(nodes.tally.refused, 1);
    let short = nodes.push(&node(0), &[1_000]).unwrap();
    nodes
        .push(&node(0), &(1_000..2_000).collect::<Vec<_>>())
        .unwrap();
    nodes.talk();
    assert_eq!(nodes.holders(&short).len(), 2);
    assert_eq!(nodes.tally.refused, 1, "as long a one is not even sent");
    nodes.wait(Duration::from_secs(6));
    assert!(nodes.tally.refused > 1, "it is, after a while");
}

#[test]
fn where_every_peer_is_full_a_push_is_acknowledged_as_held_by_fewer() {
    let none = Limits {
        max_bytes: 0,
        ..limits()
    };
    let mut nodes = Nodes::new(3, &none, &Replication::default());
    let all = view(&[0, 1, 2]);
    let mut roomy = known_store(node(0), limits(), Replication::default());
    roomy.members(all, nodes.now);
    nodes.stores.insert(node(0), roomy);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.acknowledged[&push], Kept::Short);
}

#[test]
fn a_node_that_leaves_hands_its_pushes_over_and_nothing_is_served_twice() {
    let mut nodes = nodes(4);
    let before = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    state(&mut nodes, 0, NodeState::Draining);
    nodes.talk();
    let during = nodes.push(&node(0), &[2]).unwrap();
    nodes.wait(Duration::from_secs(4));
    assert_eq!(nodes.tally.handed_over, 2);
    assert!(nodes.stores[&node(0)].may_leave(nodes.now));
    kill(&mut nodes, 0);
    let mut served = nodes.scrape(&node(1));
    served.sort();
    assert_eq!(served, [before, during]);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.possible_duplicates, 0);
}

#[test]
fn a_node_that_leaves_hands_over_what_no_other_node_was_to_hold() {
    let alone = Replication {
        replicas: 0,
        ..Replication::default()
    };
    let mut nodes = Nodes::new(2, &limits(), &alone);
    let before = nodes.push(&node(0), &[1]).unwrap();
    assert_eq!(nodes.acknowledged[&before], Kept::Alone);
    state(&mut nodes, 0, NodeState::Draining);
    let during = nodes.push(&node(0), &[2]).unwrap();
    nodes.wait(Duration::from_secs(4));
    assert_eq!(nodes.tally.handed_over, 2);
    assert!(nodes.stores[&node(0)].may_leave(nodes.now));
    kill(&mut nodes, 0);
    assert_eq!(nodes.scrape(&node(1)), [before, during]);
}

#[test]
fn a_node_does_not_leave_under_a_scrape_that_has_its_pushes() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let (claim, _) = nodes.claim(&node(1));
    state(&mut nodes, 0, NodeState::Draining);
    nodes.wait(Duration::from_secs(4));
    assert!(!nodes.stores[&node(0)].may_leave(nodes.now));
    nodes.commit(&claim);
    nodes.talk();
    assert!(nodes.stores[&node(0)].may_leave(nodes.now));
    assert_eq!(nodes.held(), 0);
}

#[test]
fn a_node_that_joins_is_given_what_is_held_by_too_few_and_told_when_that_is_done() {
    let mut nodes = nodes(1);
    for number in 0..250 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    assert!(nodes.acknowledged.values().all(|kept| *kept == Kept::Alone));
    let call = |nodes: &mut Nodes| {
        let now = nodes.now;
        let (reply, _) =
            nodes
                .stores
                .get_mut(&node(0))
                .unwrap()
                .serve(&node(1), Request::Owed, now);
        match reply {
            Reply::Owed { pushes, .. } => pushes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(call(&mut nodes), None, "not seen yet");
    nodes.join(1, NodeState::Starting);
    assert_eq!(call(&mut nodes), Some(250));
    nodes.wait(Duration::from_secs(2));
    assert_eq!(call(&mut nodes), Some(0));
    assert_eq!(nodes.stores[&node(1)].counts().replicas, 250);
}

#[test]
fn a_node_that_is_not_ready_yet_is_given_what_others_in_service_are_too_few_to_hold() {
    let mut nodes = nodes(2);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    assert_eq!(nodes.holders(&push).len(), 2);
    nodes.join(2, NodeState::Starting);
    let now = nodes.now;
    let owner = nodes.stores.get_mut(&node(0)).unwrap();
    assert!(matches!(
        owner.serve(&node(2), Request::Owed, now).0,
        Reply::Owed {
            pushes: Some(1),
            ..
        }
    ));
    nodes.wait(Duration::from_millis(500));
    assert_eq!(nodes.holders(&push).len(), 3);
}

#[test]
fn a_node_that_no_view_names_yet_keeps_its_pushes() {
    let mut nodes = nodes(2);
    let mut joiner = known_store(node(2), limits(), Replication::default());
    joiner.members(view(&[0, 1, 2]), nodes.now);
    nodes.stores.insert(node(2), joiner);
    let push = nodes.push(&node(2), &[1]).unwrap();
    nodes.wait(Duration::from_secs(6));
    assert_eq!(nodes.owner(&push), [node(2)]);
    nodes.see(&view(&[0, 1, 2]));
    nodes.wait(Duration::from_secs(60));
    assert_eq!(nodes.tally.taken_over, 0);
}

#[test]
fn an_owner_that_came_back_is_missed_anew_when_it_is_lost_again() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let now = nodes.now;
    let lose = |nodes: &mut Nodes, now| {
        for number in [1, 2] {
            nodes.with(&node(number), |store| store.members(view(&[1, 2]), now));
        }
        nodes.mail.clear();
    };
    lose(&mut nodes, now);
    nodes.see(&view(&[0, 1, 2]));
    nodes.wait(Duration::from_secs(3));
    let now = nodes.now;
    lose(&mut nodes, now);
    assert_eq!(nodes.tally.taken_over, 0, "the other holder is asked first");
}

#[test]
fn two_owners_that_a_partition_made_agree_when_it_heals() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let now = nodes.now;
    nodes.with(&node(0), |store| store.members(view(&[0]), now));
    for number in [1, 2] {
        nodes.with(&node(number), |store| store.members(view(&[1, 2]), now));
    }
    nodes.mail.clear();
    nodes.tick();
    nodes
        .mail
        .retain(|mail| mail.from != node(0) && mail.to != node(0));
    nodes.talk();
    nodes.now += Duration::from_secs(2);
    nodes.tick();
    assert_eq!(nodes.owner(&push).len(), 2);
    nodes.mail.clear();
    nodes.see(&view(&[0, 1, 2]));
    nodes.wait(Duration::from_secs(3));
    assert_eq!(nodes.owner(&push).len(), 1);
    assert_eq!(nodes.scrape(&node(0)), [push]);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn what_one_side_of_a_partition_served_is_dropped_on_the_other_when_it_heals() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let now = nodes.now;
    for number in [1, 2] {
        nodes.with(&node(number), |store| store.members(view(&[1, 2]), now));
    }
    let cut = |nodes: &mut Nodes| {
        nodes
            .mail
            .retain(|mail| mail.from != node(0) && mail.to != node(0));
        nodes.talk();
    };
    for _ in 0..2 {
        nodes.now += Duration::from_secs(2);
        nodes.tick();
        cut(&mut nodes);
    }
    let claim = nodes.begin(&node(1));
    cut(&mut nodes);
    assert_eq!(nodes.choose(&claim).unwrap().pushes.len(), 1);
    nodes.commit(&claim);
    cut(&mut nodes);
    nodes.see(&view(&[0, 1, 2]));
    nodes.wait(Duration::from_secs(3));
    assert_eq!(nodes.held(), 0);
}

#[test]
fn a_newer_push_replaces_a_retained_one_of_another_owner() {
    let retaining = Limits {
        retention: TTL,
        ..limits()
    };
    let mut nodes = Nodes::new(3, &retaining, &Replication::default());
    let older = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    for number in 0..3 {
        assert_eq!(nodes.scrape(&node(number)), std::slice::from_ref(&older));
    }
    nodes.now += Duration::from_secs(1);
    let newer = nodes.push(&node(1), &[1]).unwrap();
    nodes.talk();
    for number in 0..3 {
        assert_eq!(nodes.scrape(&node(number)), std::slice::from_ref(&newer));
    }
    assert_eq!(nodes.held(), 3);
    nodes.wait(TTL + TTL);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.expired, 0);
}

#[test]
fn what_is_served_again_does_not_crowd_out_what_was_never_served() {
    let retaining = Limits {
        retention: TTL,
        ..limits()
    };
    let small = Replication {
        replicas: 0,
        max_claim_bytes: 3 * TEXT.len(),
        ..Replication::default()
    };
    let mut nodes = Nodes::new(2, &retaining, &small);
    for series in 0..3 {
        nodes.push(&node(0), &[series]).unwrap();
    }
    assert_eq!(nodes.scrape(&node(1)).len(), 3);
    nodes.now += Duration::from_secs(1);
    let fresh = nodes.push(&node(0), &[3]).unwrap();
    let served = nodes.scrape(&node(1));
    assert_eq!(served.len(), 3);
    assert!(served.contains(&fresh));
}

#[test]
fn what_nobody_scrapes_is_dropped_everywhere_and_counted_once() {
    let mut nodes = nodes(3);
    nodes.push(&node(0), &[1]).unwrap();
    nodes.wait(TTL * 2);
    assert_eq!(nodes.held(), 0);
    assert_eq!(nodes.tally.expired, 1);
}

#[test]
fn another_nodes_claim_is_lent_no_more_pushes_than_a_message_can_name() {
    let mut nodes = nodes(2);
    for number in 0..9_000 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    nodes.talk();
    assert_eq!(nodes.scrape(&node(1)).len(), 8_192);
    assert_eq!(nodes.scrape(&node(1)).len(), 9_000 - 8_192);
    assert_eq!(nodes.held(), 0);
}

#[test]
fn one_answer_to_a_claim_carries_no_more_text_than_it_may() {
    let small = Replication {
        replicas: 0,
        max_claim_bytes: 5 * TEXT.len(),
        ..Replication::default()
    };
    let mut nodes = Nodes::new(2, &limits(), &small);
    for number in 0..20 {
        nodes.push(&node(0), &[number]).unwrap();
    }
    let claim = nodes.begin(&node(1));
    let call = nodes.mail.pop_front().unwrap();
    nodes.deliver(call);
    let Word::Answer(Reply::Claim { lent, .. }) = &nodes.mail[0].word else {
        panic!("no answer to the claim");
    };
    let bytes: usize = lent
        .handed
        .iter()
        .flat_map(|handed| &handed.content)
        .map(|content| content.text.text().len())
        .sum();
    assert_eq!(bytes, 5 * TEXT.len());
    nodes.talk();
    nodes.choose(&claim).unwrap();
    nodes.commit(&claim);
    let mut scrapes = 1;
    while nodes.held() > 0 {
        nodes.scrape(&node(1));
        scrapes += 1;
    }
    assert_eq!(scrapes, 20 / 5);
}

#[test]
fn what_others_served_while_a_node_stood_still_is_not_served_again() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    let still = nodes.stores.remove(&node(0)).unwrap();
    nodes.see(&view(&[1, 2]));
    nodes.wait(Duration::from_secs(25));
    assert_eq!(nodes.scrape(&node(1)), std::slice::from_ref(&push));
    nodes.stores.insert(node(0), still);
    assert_eq!(nodes.scrape(&node(0)), []);
    // It hears of nobody at first.
    nodes.see(&view(&[0]));
    nodes.tick();
    nodes.lose_all();
    assert_eq!(nodes.scrape(&node(0)), []);
    nodes.see(&view(&[0, 1, 2]));
    nodes.wait(Duration::from_secs(2));
    assert_eq!(nodes.scrape(&node(0)), []);
    assert!(nodes.holders(&push).is_empty());
}

#[test]
fn a_node_that_stood_still_serves_its_own_once_the_others_have_answered() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    nodes.now += Duration::from_secs(25);
    assert_eq!(nodes.scrape(&node(0)), []);
    nodes.tick();
    nodes.talk();
    assert_eq!(nodes.scrape(&node(0)), [push]);
}

#[test]
fn a_node_that_stood_still_and_hears_nothing_serves_its_own_after_15_seconds() {
    let mut nodes = nodes(3);
    let push = nodes.push(&node(0), &[1]).unwrap();
    nodes.talk();
    nodes.stores.retain(|id, _| *id == node(0));
    nodes.now += Duration::from_secs(25);
    nodes.wait(Duration::from_secs(15));
    assert_eq!(nodes.scrape(&node(0)), []);
    nodes.wait(Duration::from_secs(1));
    assert_eq!(nodes.scrape(&node(0)), [push]);
}
