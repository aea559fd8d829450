//! Pushes with a series in common go out in the order in which their holders know them.

use super::super::members::rank;
use super::nodes::{Nodes, Word};
use super::*;
use crate::nodes::NodeState;

/// Each push has one holder besides its owner.
fn nodes(number: u64) -> Nodes {
    let replication = Replication {
        replicas: 1,
        ..Replication::default()
    };
    let mut nodes = Nodes::new(number, &limits(), &replication);
    nodes.tick();
    nodes.talk();
    nodes
}

fn push(nodes: &mut Nodes, at: u64, series: u64) -> PushId {
    nodes.now += Duration::from_millis(1);
    let push = nodes.push(&node(at), &[series]).unwrap();
    nodes.talk();
    push
}

/// Pushes at a node what another one gets to hold: the push's name decides, so some names are left out.
fn push_held_by(nodes: &mut Nodes, at: u64, holder: u64, series: u64) -> PushId {
    loop {
        let next = PushId {
            acceptor: node(at),
            sequence: nodes.stores[&node(at)].next_push,
        };
        let others = nodes.stores.keys().filter(|id| **id != node(at));
        if others.min_by_key(|id| rank(&next, id)) == Some(&node(holder)) {
            let pushed = push(nodes, at, series);
            assert!(nodes.holders(&pushed).contains(&node(holder)));
            return pushed;
        }
        nodes.stores.get_mut(&node(at)).unwrap().next_push += 1;
    }
}

/// Where an older push is in a response under way at its owner, and a newer one is pushed at another node and scraped
/// there: the older one goes first.
fn the_newer_waits(mut nodes: Nodes, older: &PushId, pushes: impl Fn(&mut Nodes) -> PushId) {
    let (held_up, claimed) = nodes.claim(&node(0));
    assert_eq!(claimed.pushes, std::slice::from_ref(older));
    let newer = pushes(&mut nodes);
    assert!(nodes.scrape(&node(1)).is_empty());
    nodes.commit(&held_up);
    nodes.talk();
    assert_eq!(nodes.scrape(&node(1)), [newer]);
    assert_eq!(nodes.tally.possibly_out_of_order, 0);
}

#[test]
fn a_push_waits_at_its_owner_for_an_older_one_of_which_that_holds_a_replica() {
    let mut nodes = nodes(4);
    let older = push_held_by(&mut nodes, 0, 1, 1);
    the_newer_waits(nodes, &older, |nodes| push_held_by(nodes, 1, 2, 1));
}

#[test]
fn a_push_waits_for_an_older_one_whose_owner_alone_knows_both() {
    let mut nodes = nodes(4);
    let older = push_held_by(&mut nodes, 0, 2, 1);
    the_newer_waits(nodes, &older, |nodes| push_held_by(nodes, 1, 0, 1));
}

#[test]
fn a_push_waits_for_an_older_one_where_a_third_node_alone_knows_both() {
    let mut nodes = nodes(4);
    let older = push_held_by(&mut nodes, 0, 2, 1);
    the_newer_waits(nodes, &older, |nodes| push_held_by(nodes, 1, 2, 1));
}

#[test]
fn what_is_to_wait_is_said_again_to_a_claim_that_comes_again() {
    let mut nodes = nodes(4);
    let older = push_held_by(&mut nodes, 0, 2, 1);
    let (_held_up, claimed) = nodes.claim(&node(0));
    assert_eq!(claimed.pushes, [older]);
    push_held_by(&mut nodes, 1, 2, 1);
    let claim = nodes.begin(&node(1));
    let asked = nodes.mail.iter().find(|mail| mail.to == node(2));
    let asked = asked.unwrap().clone();
    let answers = nodes.mail.len();
    nodes.deliver(asked.clone());
    // Its answer is lost.
    nodes.mail.truncate(answers);
    nodes.talk();
    assert!(nodes.choose(&claim).unwrap().pushes.is_empty());
}

#[test]
fn a_push_waits_for_one_that_a_response_of_its_owner_brings() {
    let mut nodes = nodes(4);
    let older = push_held_by(&mut nodes, 3, 2, 1);
    the_newer_waits(nodes, &older, |nodes| push_held_by(nodes, 1, 0, 1));
}

#[test]
fn what_a_node_takes_after_a_scrape_of_others_is_newer_however_long_it_has_been_there() {
    let mut nodes = nodes(3);
    nodes.now += Duration::from_secs(20);
    nodes.join(3, NodeState::Active);
    let older = push_held_by(&mut nodes, 0, 2, 1);
    let (claim, _) = nodes.claim(&node(3));
    nodes.release(&claim);
    nodes.talk();
    let newer = push_held_by(&mut nodes, 3, 1, 1);
    assert_eq!(nodes.scrape(&node(1)), [older]);
    assert_eq!(nodes.scrape(&node(1)), [newer]);
}

#[test]
fn an_older_push_whose_owner_died_goes_first_once_it_has_been_taken_over() {
    let mut nodes = nodes(3);
    let older = push_held_by(&mut nodes, 0, 1, 1);
    let newer = push_held_by(&mut nodes, 1, 2, 1);
    nodes.stores.remove(&node(0));
    assert!(nodes.scrape(&node(2)).is_empty(), "its owner may be alive");
    nodes.see(&view(&[1, 2]));
    nodes.wait(Duration::from_secs(2));
    assert_eq!(nodes.scrape(&node(2)), [older]);
    assert_eq!(nodes.scrape(&node(2)), [newer]);
    assert_eq!(nodes.tally.possibly_out_of_order, 0);
}

#[test]
fn a_push_waits_for_another_nodes_no_longer_than_half_of_its_time_and_that_is_counted() {
    let mut nodes = nodes(3);
    push_held_by(&mut nodes, 0, 1, 1);
    let newer = push_held_by(&mut nodes, 1, 2, 1);
    // Whom no scrape of the third node reaches, though the others do.
    let scrape = |nodes: &mut Nodes| {
        let claim = nodes.begin(&node(2));
        nodes.mail.retain(|mail| {
            !(mail.to == node(0) && matches!(mail.word, Word::Call(Request::Claim { .. })))
        });
        nodes.talk();
        let claimed = nodes.choose(&claim).unwrap();
        nodes.commit(&claim);
        nodes.talk();
        claimed.pushes
    };
    assert!(scrape(&mut nodes).is_empty());
    nodes.wait(TTL / 2 - Duration::from_secs(1));
    assert!(scrape(&mut nodes).is_empty());
    nodes.wait(Duration::from_secs(1));
    assert_eq!(scrape(&mut nodes), [newer]);
    assert_eq!(nodes.tally.possibly_out_of_order, 1);
}

#[test]
fn that_a_newer_push_went_first_is_counted_by_the_owner_of_the_older_one() {
    let mut nodes = nodes(4);
    push_held_by(&mut nodes, 0, 2, 1);
    let newer = push_held_by(&mut nodes, 1, 0, 1);
    let claim = nodes.begin(&node(1));
    // The only one that knows both answers too late.
    nodes.mail.retain(|mail| mail.to != node(0));
    nodes.talk();
    assert_eq!(nodes.choose(&claim).unwrap().pushes, [newer]);
    assert_eq!(nodes.tally.possibly_out_of_order, 0);
    nodes.commit(&claim);
    nodes.talk();
    assert_eq!(nodes.tally.possibly_out_of_order, 1);
}

#[test]
fn a_claim_is_renewed_at_each_lender_with_what_that_one_lent() {
    let mut nodes = nodes(4);
    let first = push_held_by(&mut nodes, 1, 0, 1);
    let second = push_held_by(&mut nodes, 2, 0, 2);
    let claim = nodes.begin(&node(3));
    nodes.talk();
    nodes.choose(&claim).unwrap();
    let renewals = nodes.mail.iter().filter_map(|mail| match &mail.word {
        Word::Call(Request::Renew { kept, .. }) => Some((mail.to.clone(), kept.clone())),
        _ => None,
    });
    let expected = [(node(1), vec![first]), (node(2), vec![second])];
    assert_eq!(Vec::from_iter(renewals), expected);
}
