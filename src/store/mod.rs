//! The pushes that a cluster of nodes holds: pending, then served to each consumer, then gone.
//!
//! Plain data: no lock, no clock, no socket. The owner of a [`Store`] passes in the time and what came from other nodes,
//! and carries out the [`Effects`]. A node without peers is a cluster of one: the same machine, nobody to call.
//!
//! # One life
//!
//! - **Accept.** The node that took a push owns it. It asks the first peers in the push's rendezvous order to hold a
//!   replica. The push may be acknowledged as soon as one has confirmed, or if there is no peer; where no peer has room or
//!   none answers in time, it is acknowledged as [`Kept::Short`] and the owner keeps trying.
//! - **Claim.** A node that is scraped begins a claim for the consumer that scrapes: it asks every peer, itself included,
//!   for what that peer owns. An owner hands a push to one claim of a consumer at a time, on a lease, with the text unless
//!   the claimant holds it. Pushes with a series in
//!   common never go out in one response: Prometheus would keep the first sample and drop the others. Owner and claimant
//!   both see to it, and what is deferred is given back at once.
//! - **Renew.** While the response is under way the claimant renews, naming what it still wants. A lease that has run out,
//!   because the claimant died or cannot be heard, makes the push available to other claims of the consumer; until one
//!   takes it, it stays with its claim, so that a late commit finds it.
//! - **Close.** A response that was handed over whole is committed, one that broke off is released: both close the claim
//!   at each node that lent to it or may have, and tell every holder what the consumer has had. That is repeated until
//!   answered, at most for two minutes.
//! - **Over.** Once every consumer that counts has had it, and as many as should, the owner says that a push is over. A holder
//!   drops it, and keeps a tombstone for as long as the push could have lived, so that no late replica brings it back.
//! - **Retention.** With one, a push goes out in every scrape of those that have had it until that long after the first. A newer push with
//!   one of its series replaces it: at once if one node owns both, else when a claim that saw both has been committed. A
//!   scrape that cannot reach the newer push's owner may serve the older one again.
//! - **Expiry.** What waits for a consumer yet is dropped after its time to live. Time travels as what is left of it.
//!
//! # Consumers
//!
//! Who scrapes is a consumer, known by a name. It counts from its second scrape on, until it has been silent for three of
//! its intervals. Every claim goes to all nodes and says whose it is, and nodes tell each other in claims what they know of
//! consumers, so all come to know the same; a node that joins is told before it is ready. What a consumer has had is kept
//! with each push, at all holders: a new owner knows it. No push is over before scrapes have been seen for a minute
//! ([`Replication::watch`]): a Prometheus that scrapes three nodes counts within seconds, when another may not have been
//! seen yet.
//!
//! A node of an older release names no consumer. What it serves is over for all, and so is what it lent.
//!
//! # Room
//!
//! A push takes the room of its [`Tenant`](crate::tenant::Tenant), at each node that holds it. A pusher may have at most as many bytes as are free
//! then: one may fill half of the store, n that do what they can leave one part of n + 1, and there is always room for one
//! more. Of a pusher's pushes that wait, at most [`MAX_WAITING`] have a series in common. A node where a pusher's share is
//! used up refuses its replicas, and is asked all the same to hold what others push.
//!
//! # Order
//!
//! Of two pushes with a series in common the older goes first to each consumer, and none goes to it for the first time while
//! a response to it is under way that brings one of its series: Prometheus would drop the older sample as out of order, or take it for the
//! last one. Which is older, a time of the cluster's own says, the same at every node (`nodes::Clock`); so what waits for what
//! is never a circle. Each node that is asked by a claim sees to it, for what it owns and for what it holds for others: it
//! defers its own, and names the others to the claimant ([`Lent::waiting`]).
//!
//! That is what a node knows that holds both, or one while the other is in a response of its own. A push waits for another
//! node's no longer than half of its time to live. In between, a dead owner's push has been taken over, and what was
//! served, the holders have been told or will ask. Not ordered are two pushes of which no node holds both; those of which
//! the nodes that do answer the claim too late; and a push whose application answers pulls again at another node, if the
//! push's owner does not answer that scrape, or another response brings the push at the same time.
//! [`Tally::possibly_out_of_order`] counts what a node sees of it.
//!
//! # One owner
//!
//! [`Ownership`] is a term and a node. A node that makes itself or another node the owner adds one to the term; of two that
//! are known for a push the greater holds, everywhere. So views that differ and partitions end in one owner without a
//! vote. Only the owner hands a push out. There are three ways to become owner: accept; be handed the push by an owner that
//! leaves, which from then on considers itself none; take the push over when its owner is gone. That falls to the first
//! live holder in rendezvous order, which asks the others first, lest one knows a newer owner or the push's end. A node
//! that is in no view yet counts as alive for some seconds: views lag.
//!
//! A partition may make two owners, and an owner that died may have lent what its heir lends again: duplicates over loss.
//! [`Tally::possible_duplicates`] counts each time that it may happen.
//!
//! # Agreement
//!
//! Every few seconds, and when the view changes, an owner tells each holder what it holds, and each holder asks the owner
//! about its replicas ([`Request::Sync`]). The answer is how it stands there: held, with the ownership; gone, which ends
//! it here too; or unknown, which makes an owner replicate again and a holder look for another owner. That heals what
//! was lost on the way: a partition's two owners, an end that a holder was not told of, a replica that is no longer there.
//!
//! An owner replicates further when its push has fewer replicas than it should on nodes that are in service or about to
//! be: as fast as those answer, with new pushes first. A node that joins becomes a holder in that way and needs no more to
//! serve, because claims bring the text; [`Request::Owed`] tells it when its peers are done. A node that leaves hands over
//! each push that another active node holds and that no scrape has; what none holds it replicates first. It may go when
//! every holder knows the new owner and what this node knows to be over ([`Store::may_leave`]).
//!
//! # Disk
//!
//! Where the owner of a store keeps pushes on disk, effects say what is to be written, and acknowledgements wait for that:
//! `durable.rs` tells it.
//!
//! # Bounds
//!
//! | what | at the bound |
//! |---|---|
//! | bytes of pushes, replicas included; those of one pusher; its pushes that wait with one series | a push is refused with a [`Refusal`]; a replica is refused, and its owner asks another node, for a while also to hold what is as long |
//! | replicas, and their bytes, on their way to one node | the next goes with an answer, those of new pushes first |
//! | text, and number, of pushes in one answer to a claim | the rest waits for the next scrape |
//! | claims remembered by a lender | the oldest is forgotten: its pushes come back when the lease runs out |
//! | closings not yet answered | the oldest is given up and counted; agreement repairs it |
//! | pushes looked at for repair, or taken over, in a tick; pushes in one round of agreement | the rest follows with the next |
//! | pushes of other nodes that an answer to a claim names as waiting | the others are not named |
//! | consumers remembered | see `consumers`: one is forgotten, which is counted, or the newcomer is served and takes nothing |
//! | pushers whose refusals are remembered | the one refused longest ago is forgotten |
//! | nodes that no view has named, nodes that are gone | a further one counts as dead; the one gone longest is forgotten |
//! | tombstones | those that are needed least long are forgotten |
//! | pushes that wait for the disk | one that is not on disk in time is withdrawn and refused |
//! | pushes restored from disk | all are taken in, also past the bytes that are allowed now; then new ones are refused |

mod accept;
mod accounts;
mod agreement;
mod changes;
mod claim;
mod consumers;
mod durable;
mod holders;
mod id;
mod ledger;
mod lend;
mod listing;
mod loans;
mod members;
mod message;
mod outbox;
mod ownership;
mod replicate;
mod selection;
mod served;
mod standstill;
mod tombstones;
mod underway;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use prometheus_rsocket_config::values::{any_duration, bytes, duration};

pub use accounts::{Holdings, MAX_WAITING, Refusals};
pub use claim::{Claimed, Delivered};
pub use consumers::{
    ConsumerCounts, ConsumerName, ConsumerStatus, KnownConsumer, KnownConsumers, MAX_NAME,
};
pub use id::{ClaimId, PushId};
pub use listing::{Listed, Listing, PushState};
pub use members::View;
pub use message::{
    Content, Effects, Entry, Handed, Kept, Lent, Over, Ownership, Replica, Reply, Request,
    Restored, Standing, StoredStanding, Tally, Write,
};

use claim::Scrape;
use consumers::{Consumers, Deciders};
use durable::Durable;
use ledger::Ledger;
use loans::Loans;
use members::Members;
use outbox::Outbox;
use replicate::FullPeers;
use standstill::Doubts;
use underway::Underway;

use crate::nodes::{Clock, NodeId};

/// Bounds of a store.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Limits {
    /// Drop a push that has not been scraped after this
    #[arg(id = "push.ttl", long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// Serve a push in every scrape until this long after the first; 0s: once to each consumer
    #[arg(id = "push.retention", long, value_name = "DURATION", default_value = "0s", value_parser = any_duration)]
    pub retention: Duration,
    /// Number of consumers that must have scraped a push before it is dropped
    #[arg(id = "push.consumers", long, value_name = "N", default_value = "1", value_parser = consumers)]
    pub consumers: usize,
    /// Maximum memory for the pushes held, replicas included; when it is full, pushes are rejected
    #[arg(id = "push.max-bytes", long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    pub max_bytes: usize,
}

fn consumers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=consumers::MAX_CONSUMERS).contains(number));
    number.ok_or_else(|| format!("must be a number from 1 to {}", consumers::MAX_CONSUMERS))
}

/// How nodes hold pushes for each other. All nodes of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct Replication {
    /// Nodes that hold a push besides its owner.
    pub replicas: usize,
    /// An acknowledgement waits no longer than this for a replica to be confirmed.
    pub acknowledge_within: Duration,
    /// A call without a reply is made again after this, and after twice as long each time.
    pub resend: Duration,
    /// How often holders compare what they hold.
    pub agree_every: Duration,
    /// How long a claim keeps a push without being renewed. Claims are renewed after a third of it.
    pub lease: Duration,
    /// No push is over before scrapes have been seen for this long, by this node or one that told it: until then not all
    /// consumers are known.
    pub watch: Duration,
    /// Pushes looked at for repair in one [`Store::tick`].
    pub max_repairs: usize,
    /// Replicas on their way to one node at a time; those of pushes that are acknowledged already take a quarter of it.
    pub max_sent: usize,
    /// Bytes of them, as [`Counts::bytes`] counts; one goes whatever its size.
    pub max_sent_bytes: usize,
    /// Bytes of text in one answer to a claim; one push goes out whatever its size.
    pub max_claim_bytes: usize,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            replicas: 2,
            acknowledge_within: Duration::from_secs(2),
            resend: Duration::from_secs(1),
            agree_every: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            watch: Duration::from_secs(60),
            max_repairs: 2_000,
            max_sent: 256,
            max_sent_bytes: 64 << 20,
            max_claim_bytes: 64 << 20,
        }
    }
}

/// Why a push was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few bytes are free for any pusher.
    #[error(
        "the proxy has no room for this push (--push.max-bytes); push again after the next scrape"
    )]
    Full,
    /// With this push its pusher would have more bytes than are free for all others.
    #[error(
        "the waiting pushes of this identity, or of this address, would take more than what is free for all \
         others (--push.max-bytes); push again after the next scrape, or push less"
    )]
    Share,
    /// [`MAX_WAITING`] pushes of this pusher with one of the series wait.
    #[error(
        "{MAX_WAITING} pushes with one of these series wait, and each scrape takes one of them; push less often, or \
         give each process labels of its own"
    )]
    Backlog,
}

/// How many pushes are in which state, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Owned, and waiting for a scrape.
    pub pending: usize,
    /// Owned, had by some consumers, and waiting for others.
    pub partly_served: usize,
    /// Owned, and handed to a scrape whose response is not over as far as is known.
    pub claimed: usize,
    /// Owned, over, and kept for the retention.
    pub retained: usize,
    /// Held for another node.
    pub replicas: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

impl Counts {
    fn owned(&self) -> usize {
        self.pending + self.partly_served + self.claimed + self.retained
    }
}

/// The pushes of one node, and its part in those of the others.
#[derive(Debug)]
pub struct Store {
    me: NodeId,
    limits: Limits,
    replication: Replication,
    members: Members,
    ledger: Ledger,
    consumers: Consumers,
    /// As of the last look.
    deciders: Deciders,
    next_push: u64,
    clock: Clock,
    /// Accepted and not acknowledged; until when the acknowledgement waits.
    unacknowledged: BTreeMap<PushId, Instant>,
    /// Owned pushes that have too few replicas or are to be handed over.
    unsettled: BTreeSet<PushId>,
    settled_to: Option<PushId>,
    /// Of the unacknowledged, those to be settled first: they wait for room in what is on its way, or for another node.
    queued: BTreeSet<PushId>,
    underway: Underway,
    full: FullPeers,
    loans: Loans,
    next_claim: u64,
    scrapes: BTreeMap<ClaimId, Scrape>,
    outbox: Outbox,
    /// Handed over; the holders that do not know yet.
    handing: BTreeMap<PushId, BTreeSet<NodeId>>,
    /// Pushes without an owner that fall to this node, and when it need not wait for the other holders any more.
    orphans: BTreeSet<(Instant, PushId)>,
    /// What to tell whom with the next effects.
    words: BTreeMap<NodeId, BTreeSet<PushId>>,
    served_words: BTreeMap<NodeId, Over>,
    agreed_to: Option<PushId>,
    next_agreement: Option<Instant>,
    next_resend: Option<Instant>,
    durable: Durable,
    doubts: Doubts,
    out: Effects,
}

impl Store {
    /// An empty store of the node `me`, which knows no other node yet.
    pub fn new(me: NodeId, limits: Limits, replication: Replication) -> Self {
        Self {
            members: Members::new(me.clone()),
            ledger: Ledger::new(me.clone(), limits.max_bytes),
            consumers: Consumers::new(limits.ttl),
            deciders: Deciders::default(),
            me,
            limits,
            replication,
            next_push: 0,
            clock: Clock::default(),
            unacknowledged: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            settled_to: None,
            queued: BTreeSet::new(),
            underway: Underway::default(),
            full: FullPeers::default(),
            loans: Loans::default(),
            next_claim: 0,
            scrapes: BTreeMap::new(),
            outbox: Outbox::default(),
            handing: BTreeMap::new(),
            orphans: BTreeSet::new(),
            words: BTreeMap::new(),
            served_words: BTreeMap::new(),
            agreed_to: None,
            next_agreement: None,
            next_resend: None,
            durable: Durable::default(),
            doubts: Doubts::default(),
            out: Effects::default(),
        }
    }

    /// Answers a call of another node.
    pub fn serve(&mut self, from: &NodeId, request: Request, now: Instant) -> (Reply, Effects) {
        self.note_step(now);
        self.members.heard_of(from, now);
        let reply = match request {
            Request::Replicate(replica) => {
                let push = replica.push.clone();
                Reply::Replicate(push, self.hold(from, replica, now))
            }
            Request::Sync(entries) => Reply::Sync(self.compare(from, entries, now)),
            Request::Claim {
                claim,
                clock,
                consumer,
                known,
            } => {
                self.clock.hear(clock, now);
                let lent = self.lend(from, &claim, consumer.as_ref(), now);
                self.hear_of_consumers(&known, now);
                Reply::Claim {
                    claim,
                    lent,
                    clock: self.clock.read(now),
                    known: Some(self.consumers.known(now)),
                }
            }
            Request::Renew { claim, kept } => {
                self.renew_loan(&claim, &kept.into_iter().collect(), now);
                Reply::Renew
            }
            Request::Close {
                ticket,
                claim,
                over,
            } => {
                self.close_loan(&claim, over, now);
                Reply::Told { ticket }
            }
            Request::Served { ticket, over } => {
                self.note_over(&over, now);
                Reply::Told { ticket }
            }
            Request::Owed => Reply::Owed {
                pushes: self.owed(from),
                clock: self.clock.read(now),
                known: self.consumers.known(now),
            },
        };
        (reply, self.effects(now))
    }

    /// Takes the reply to one of the calls of earlier [`Effects`].
    pub fn answered(&mut self, from: &NodeId, reply: Reply, now: Instant) -> Effects {
        self.note_step(now);
        self.members.heard_of(from, now);
        match reply {
            Reply::Replicate(push, standing) => {
                self.underway.end(from, &push);
                self.heed(from, &push, &standing, now);
                self.replicate_next(now);
            }
            Reply::Sync(standings) => {
                for (push, standing) in standings {
                    self.heed(from, &push, &standing, now);
                }
            }
            Reply::Claim {
                claim,
                lent,
                clock,
                known,
            } => {
                self.clock.hear(clock, now);
                let is_older = known.is_none();
                self.hear_of_consumers(&known.unwrap_or_default(), now);
                self.take(from, &claim, lent, is_older, now);
            }
            Reply::Told { ticket } => self.outbox.told(ticket),
            Reply::Owed { clock, known, .. } => {
                self.clock.hear(clock, now);
                self.hear_of_consumers(&known, now);
            }
            Reply::Renew => {}
        }
        self.effects(now)
    }

    /// Takes a new view of who lives, this node included with its own state.
    pub fn members(&mut self, view: View, now: Instant) -> Effects {
        self.note_step(now);
        if self.members.update(view, now) {
            self.underway.retain(|node| self.members.is_alive(node));
            self.ask_about_restored(now);
            self.review_all(now);
            self.next_agreement = None;
        }
        self.effects(now)
    }

    /// Does what is due. To be called every some hundred milliseconds.
    pub fn tick(&mut self, now: Instant) -> Effects {
        self.note_step(now);
        self.clock.read(now);
        self.renew_scrapes(now);
        self.reconsider(now);
        self.expire(now);
        self.forget_silent(now);
        self.members.forget(now);
        self.ledger.forget(now);
        self.loans.forget(now);
        self.underway.forget(now);
        self.full.forget(now);
        self.resend(now);
        self.acknowledge_late(now);
        self.withdraw_late(now);
        self.take_over(now);
        self.repair(now);
        self.agree(now);
        self.ask_in_doubt(now);
        self.effects(now)
    }

    /// How many pushes are in which state.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// The `most` pushers with the most bytes, and as many of those that were refused something last; the greatest first.
    pub fn pushers(&self, most: usize) -> Vec<Holdings> {
        self.ledger.accounts().greatest(most)
    }

    /// The consumers, by name.
    pub fn consumers(&self, now: Instant) -> Vec<ConsumerStatus> {
        let waiting = |slot| {
            let taker = ledger::Taker::Consumer(slot);
            let owned = self
                .ledger
                .iter()
                .filter(|(_, held)| held.ownership().owner == self.me && !held.is_had_by(taker));
            owned.count()
        };
        self.consumers.status(waiting, now)
    }

    /// How many consumers are in which state.
    pub fn consumer_counts(&self, now: Instant) -> ConsumerCounts {
        self.consumers.counts(now)
    }

    /// Whether nothing is lost, and nothing served twice, by this node's end.
    pub fn may_leave(&self, now: Instant) -> bool {
        let since = self.members.draining_since();
        // Time for the holders of what was served before to ask about it.
        let asked = since.is_some_and(|since| now >= since + 2 * self.replication.agree_every);
        (asked || self.members.peers().next().is_none())
            && self.scrapes.is_empty()
            && self.unacknowledged.is_empty()
            && self.handing.is_empty()
            && self.outbox.is_done(&self.members)
            && self.ledger.counts().owned() == 0
    }

    /// Drops what has outlived its time. A claimed push is left to its scrape, which may be about to deliver it.
    fn expire(&mut self, now: Instant) {
        let due = self.ledger.due(now);
        let due: Vec<_> = due.map(|(push, _)| push.clone()).collect();
        for push in due {
            if self.owns(&push) {
                self.expire_owned(&push, now);
            } else {
                // Its owner may have a reason to keep it, such as a scrape that has it.
                self.ledger.remove(&push);
                self.durable.let_go(&push);
                self.handing.remove(&push);
            }
        }
    }

    fn expire_owned(&mut self, push: &PushId, now: Instant) {
        let Some(held) = self.ledger.get(push) else {
            return;
        };
        let counted = self.deciders.counted;
        let tally = &mut self.out.tally;
        let is_kept = held.is_kept(now) && !held.is_over();
        if !held.is_over() {
            if held.had().and(counted).is_empty() {
                tally.expired += 1;
            } else {
                tally.missed += counted.without(held.had()).len().max(1);
            }
        }
        if is_kept {
            self.end_for_all(push, now);
        } else {
            self.end_everywhere(push, now);
        }
    }

    /// Ends an owned push's life, here and at the other holders.
    fn end_everywhere(&mut self, push: &PushId, now: Instant) {
        if let Some(held) = self.ledger.get(push) {
            let others: Vec<_> = held.holders.nodes().cloned().collect();
            let gone = Over {
                replaced: vec![push.clone()],
                ..Over::default()
            };
            self.relay(others, &gone);
        }
        self.end(push, now);
    }

    /// Ends a push's life here.
    fn end(&mut self, push: &PushId, now: Instant) {
        self.ledger.end(push, now, self.limits.ttl);
        self.unsettled.remove(push);
        self.handing.remove(push);
        self.durable.let_go(push);
        self.acknowledge(push, Kept::Replicated);
    }

    fn acknowledge(&mut self, push: &PushId, kept: Kept) {
        self.queued.remove(push);
        if self.durable.puts_off(push, kept) {
            return;
        }
        if self.unacknowledged.remove(push).is_some() {
            self.out.acknowledged.push((push.clone(), kept));
        }
    }

    fn call(&mut self, node: &NodeId, request: Request) {
        self.out.calls.push((node.clone(), request));
    }

    fn effects(&mut self, now: Instant) -> Effects {
        self.say_words(now);
        self.take_writes(now);
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests;
