//! What nodes say to each other. Every request may be lost, late, repeated or overtaken, and is safe to repeat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_exposition::Exposition;

use super::{ClaimId, ConsumerName, KnownConsumers, PushId};
use crate::nodes::NodeId;
use crate::tenant::Tenant;

/// What an application pushed.
#[derive(Debug)]
pub struct Content {
    /// The text, validated.
    pub text: Arc<Exposition>,
    /// Hashes of its series, each once, as [`Exposition::series`] gives them.
    ///
    /// They are compared within one node only, so each node computes them from the text with a hasher of its own: an
    /// application that knew the hasher could make series of others wait for its own.
    pub series: Vec<u64>,
    /// Who pushed it.
    pub pusher: Tenant,
}

impl Content {
    /// Bytes that it occupies, also while a scrape serves it.
    pub fn bytes(&self) -> usize {
        self.text.memory() + size_of_val(&self.series[..]) + self.pusher.memory()
    }
}

/// Who owns a push. Of two ownerships of one push, the greater holds; see [`super`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ownership {
    /// How many times the push has changed hands.
    pub term: u64,
    /// Who hands the push to scrapes.
    pub owner: NodeId,
    /// An earlier owner was lost, and may have handed it to consumers of which no other node knows.
    pub lost_before: bool,
}

/// A push as it travels to a node that is to hold it.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Which push.
    pub push: PushId,
    /// What it says.
    pub content: Arc<Content>,
    /// Time that is left until it is dropped unserved. Clocks of nodes are never compared.
    pub left: Duration,
    /// Where it stands.
    pub entry: Entry,
    /// Its place among all pushes, by the cluster's own time; `None` from a node of an older release.
    pub order: Option<u64>,
}

/// What a holder knows about a push, without its text.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who owns it.
    pub ownership: Ownership,
    /// Every node that holds it or has been asked to, with the sender.
    pub holders: Vec<NodeId>,
    /// The consumers that have had it.
    pub had: Vec<ConsumerName>,
    /// For a push that is over and retained: how much longer.
    pub retained: Option<Duration>,
}

/// What a node has of a push.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It holds the push.
    Held {
        /// Who owns it, as the node knows now.
        ownership: Ownership,
        /// As in [`Entry`].
        had: Vec<ConsumerName>,
        /// As in [`Entry`].
        retained: Option<Duration>,
    },
    /// The push's life is over: served, replaced or expired.
    Gone,
    /// The node does not have it.
    Unknown,
    /// The node has no room for it.
    Full {
        /// For its pusher alone, whose share is used up.
        share: bool,
    },
}

/// A push handed to a scrape.
#[derive(Debug, Clone)]
pub struct Handed {
    /// Which push.
    pub push: PushId,
    /// What it says; `None` where the claimant holds the push itself.
    pub content: Option<Arc<Content>>,
    /// Time that is left until it is dropped unserved; the less, the older it is.
    pub left: Duration,
    /// Who is to be told once it has been served.
    pub holders: Vec<NodeId>,
    /// The consumer has had it, and it goes to every scrape.
    pub retained: bool,
    /// Some consumer has had it.
    pub served_before: bool,
    /// As in [`Replica`].
    pub order: Option<u64>,
}

/// A call from one node to another.
#[derive(Debug, Clone)]
pub enum Request {
    /// Hold this. Answered by [`Reply::Replicate`].
    Replicate(Replica),
    /// This is what I hold of what you hold. Answered by [`Reply::Sync`].
    Sync(Vec<(PushId, Entry)>),
    /// Hand me what is to be scraped. Repeated, it gives the same pushes. Answered by [`Reply::Claim`].
    Claim {
        /// The claim that the pushes are to belong to.
        claim: ClaimId,
        /// The cluster's time where the claim is made.
        clock: u64,
        /// Who scrapes; `None` from a node of an older release, which serves each push once.
        consumer: Option<ConsumerName>,
        /// What the claimant knows of consumers.
        known: KnownConsumers,
    },
    /// The claim goes on for `kept` and gives the others back. Answered by [`Reply::Renew`].
    Renew {
        /// Which claim.
        claim: ClaimId,
        /// What is still wanted.
        kept: Vec<PushId>,
    },
    /// The claim is over; what was not served is given back. Answered by [`Reply::Told`].
    Close {
        /// To be repeated in the reply.
        ticket: u64,
        /// Which claim.
        claim: ClaimId,
        /// What came of its pushes.
        over: Over,
    },
    /// Pushes have been served. Answered by [`Reply::Told`].
    Served {
        /// To be repeated in the reply.
        ticket: u64,
        /// Which.
        over: Over,
    },
    /// How many of your pushes are still on their way to further holders? Answered by [`Reply::Owed`].
    ///
    /// A node that joins asks this of its peers before it says it is ready.
    Owed,
}

/// What has become of pushes.
#[derive(Debug, Clone, Default)]
pub struct Over {
    /// Consumers have had these.
    pub had: BTreeMap<ConsumerName, Vec<PushId>>,
    /// All have had these that they waited for: dropped, or retained if the node retains.
    pub served: Vec<PushId>,
    /// Retained and replaced by a newer one, or over for another reason: dropped.
    pub replaced: Vec<PushId>,
}

impl Over {
    /// This one push is over.
    pub(super) fn served(push: &PushId) -> Self {
        Self {
            served: vec![push.clone()],
            ..Self::default()
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone)]
pub enum Reply {
    /// What became of a replica.
    Replicate(PushId, Standing),
    /// What this node has of what was listed, in the same order.
    Sync(Vec<(PushId, Standing)>),
    /// What the scrape gets.
    Claim {
        /// Which claim.
        claim: ClaimId,
        /// What this node hands out.
        lent: Lent,
        /// The cluster's time here.
        clock: u64,
        /// What this node knows of consumers; `None` from a node of an older release.
        known: Option<KnownConsumers>,
    },
    /// Done.
    Renew,
    /// Done.
    Told {
        /// As in the request.
        ticket: u64,
    },
    /// What is still to come.
    Owed {
        /// How many; `None` from a node that does not know the one that asks yet.
        pushes: Option<usize>,
        /// The cluster's time here.
        clock: u64,
        /// What this node knows of consumers.
        known: KnownConsumers,
    },
}

/// What a node hands to a claim.
#[derive(Debug, Clone, Default)]
pub struct Lent {
    /// Oldest first; no two have a series in common.
    pub handed: Vec<Handed>,
    /// Pushes that wait because one with a series of theirs goes first.
    pub deferred: usize,
    /// Pushes of other nodes that are not to go out yet, as this one knows: an older one with a series in common is not
    /// over, or a response under way has one of their series.
    pub waiting: Vec<PushId>,
}

/// How a push is held when it is acknowledged: the value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// By the owner and at least one other node, or served already.
    Replicated,
    /// By the owner, which knows no other node or is to keep no replicas.
    Alone,
    /// By the owner, because no peer had room for it or confirmed it in time. The owner keeps trying.
    Short,
}

/// What the disk is to have of a push from now on. Later ones of the same push replace earlier ones.
#[derive(Debug, Clone)]
pub enum Write {
    /// It is held.
    Held {
        /// What it says; `None` where only the standing has changed.
        content: Option<Arc<Content>>,
        /// How it stands.
        standing: StoredStanding,
    },
    /// Its life is over, which is to be remembered for so long.
    Over {
        /// From now.
        left: Duration,
    },
    /// Another node has the say.
    Removed,
}

/// How a push stands, as the disk keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStanding {
    /// Its place among all pushes, by the cluster's own time.
    pub order: u64,
    /// Time that is left until it is dropped unserved.
    pub left: Duration,
    /// Who owns it.
    pub ownership: Ownership,
    /// The consumers that have had it.
    pub had: Vec<ConsumerName>,
    /// For a push that is over and retained: how much longer.
    pub retained: Option<Duration>,
}

/// What comes back from disk.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Which push.
    pub push: PushId,
    /// What it says.
    pub content: Arc<Content>,
    /// How it stood.
    pub standing: StoredStanding,
}

/// What is to be done after an input to the store.
#[derive(Debug, Default)]
pub struct Effects {
    /// Calls to make. A reply goes to `Store::answered`; that a call to hold a push failed, to `Store::unreplicated`. Others
    /// that fail need no word, they are made again if need be.
    pub calls: Vec<(NodeId, Request)>,
    /// Pushes that may be acknowledged now.
    pub acknowledged: Vec<(PushId, Kept)>,
    /// Consumers that were forgotten for others.
    pub forgotten: Vec<ConsumerName>,
    /// Pushes that were accepted and are refused now, because the disk has not taken them.
    pub refused: Vec<PushId>,
    /// What the disk is to have; always in the order of the effects.
    pub writes: Vec<(PushId, Write)>,
    /// What has happened, to be added to counters.
    pub tally: Tally,
}

/// Numbers of what has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pushes dropped by their owner because no consumer that counts scraped in time.
    pub expired: usize,
    /// Times that a push was over although a consumer that counts, or has counted and is remembered, had not had it, or
    /// that one was dropped because fewer had it than should.
    pub missed: usize,
    /// Pushes that this node owns now because their owner is gone.
    pub taken_over: usize,
    /// Pushes given to another owner because this node leaves.
    pub handed_over: usize,
    /// Times that a consumer may get a push twice: claimed anew after a lease had run out, taken over from an owner that may
    /// have handed it out, or served to a consumer that was forgotten or is not remembered. No consumer gets a push twice
    /// without that having been counted here.
    pub possible_duplicates: usize,
    /// Pushes handed out although an older one with a series in common waits at another node, because they have waited for
    /// it for too long; and pushes that wait while a newer one with a series in common has been served, as far as their
    /// owners know.
    pub possibly_out_of_order: usize,
    /// Replicas refused for want of room.
    pub refused: usize,
    /// Ends of claims that a node was not told of in spite of repetition.
    pub untold: usize,
}
