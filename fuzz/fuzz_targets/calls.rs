//! Calls of other nodes in any order, with whatever they say, mixed with what a node does by itself: no panic, no more bytes
//! than may be held, and no more words in return than were said.
//!
//! The input is a sequence of steps: what is done, a number of two bytes, and for a call as many bytes of its message.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_exposition::{Encoding, Exposition};
use prometheus_rsocket_proxy::cluster::calls::fuzzing::{answer, directory};
use prometheus_rsocket_proxy::cluster::calls::{
    Calling, Holder, Host, Secret, Unpulled, UnpulledKind, pack, unpack,
};
use prometheus_rsocket_proxy::cluster::Metrics;
use prometheus_rsocket_proxy::directory::{ApplicationId, Asked, Changes, SharedDirectory};
use prometheus_rsocket_proxy::metrics::OwnMetrics;
use prometheus_rsocket_proxy::nodes::{NodeId, NodeState};
use prometheus_rsocket_proxy::tenant::Tenant;
use prometheus_rsocket_proxy::store::{
    ClaimId, ConsumerName, Content, Limits, Replication, Reply, Request, Store, View,
};

const MAX_BYTES: usize = 40_000;
const MAX_TEXT: usize = 1000;
const TTL: Duration = Duration::from_secs(60);

/// Made once: it takes longer than all the rest.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::register(&OwnMetrics::new().unwrap()).unwrap()));

struct Node {
    store: Store,
    now: Instant,
    scrapes: Vec<ClaimId>,
}

struct Here(Mutex<Node>, SharedDirectory);

impl Host for Here {
    fn changes(&self, asked: Asked, clock: u64, _: Duration) -> BoxFuture<'_, Changes> {
        let changes = self
            .1
            .with(|directory, now| directory.changes_since(&asked, clock, now));
        ready(changes).boxed()
    }

    fn pull(
        &self,
        _: ApplicationId,
        _: Encoding,
        _: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unpulled>> {
        let kind = UnpulledKind::NotHere;
        let reason = String::new();
        ready(Err(Unpulled { kind, reason })).boxed()
    }
}

impl Holder for Here {
    fn serve(&self, from: &NodeId, request: Request) -> Reply {
        let mut node = self.0.lock().unwrap();
        let now = node.now;
        node.store.serve(from, request, now).0
    }

    fn answered(&self, _: &NodeId, _: Reply) {}

    fn unanswered(&self, _: &NodeId, _: &Request) {}

    fn pack(&self, texts: Vec<Arc<Content>>) -> BoxFuture<'static, Vec<Bytes>> {
        let packed = texts.iter().filter_map(|content| pack(&text(content)));
        ready(packed.collect()).boxed()
    }

    fn unpack(
        &self,
        packed: Vec<(Bytes, Tenant)>,
    ) -> BoxFuture<'static, Vec<Option<Arc<Content>>>> {
        let unpacked = packed
            .into_iter()
            .map(|(packed, pusher)| content(unpack(&packed, MAX_TEXT)?, pusher));
        ready(unpacked.collect()).boxed()
    }

    fn unwrap_key(&self, _: Bytes) -> BoxFuture<'static, Option<Secret>> {
        ready(None).boxed()
    }
}

fn text(content: &Arc<Content>) -> Vec<u8> {
    let merged = prometheus_rsocket_exposition::merge(vec![Arc::clone(&content.text).into()]);
    merged.into_chunks(MAX_TEXT).flatten().collect()
}

fn content(text: Bytes, pusher: Tenant) -> Option<Arc<Content>> {
    let text = Arc::new(Exposition::parse(text).ok()?);
    let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new();
    let series = text.series(&hasher).collect();
    Some(Arc::new(Content {
        text,
        series,
        pusher,
    }))
}

fn node(name: &str) -> NodeId {
    NodeId::new(name, 1)
}

fuzz_target!(|input: &[u8]| {
    let limits = Limits {
        ttl: TTL,
        retention: Duration::ZERO,
        consumers: 1,
        max_bytes: MAX_BYTES,
    };
    let here = Arc::new(Here(Mutex::new(Node {
        store: Store::new(node("me"), limits, Replication::default()),
        now: Instant::now(),
        scrapes: Vec::new(),
    }), SharedDirectory::new(node("me"), TTL)));
    let calling = Calling {
        me: node("me"),
        identity: None,
        holder: Arc::clone(&here) as _,
        host: Arc::clone(&here) as _,
        metrics: Arc::clone(&METRICS),
        max_message: MAX_TEXT,
    };
    let mut rest = input;
    while let [step, high, low, after @ ..] = rest {
        let number = u16::from_be_bytes([*high, *low]);
        rest = after;
        if *step < 11 {
            let (message, after) = rest.split_at(usize::from(number).min(rest.len()));
            rest = after;
            let answered = match step {
                0..8 => answer(&calling, *step, message).now_or_never(),
                8..10 => directory::answer(&calling, *step, message).now_or_never(),
                _ => {
                    directory::takes(message);
                    continue;
                }
            };
            assert!(answered.is_some(), "a call waits for something");
        } else {
            act(&mut here.0.lock().unwrap(), *step, number);
        }
        let node = here.0.lock().unwrap();
        assert!(node.store.counts().bytes <= MAX_BYTES);
    }
});

/// What the node does by itself.
fn act(node: &mut Node, step: u8, number: u16) {
    let Node {
        store,
        now,
        scrapes,
    } = node;
    match step % 6 {
        0 => {
            *now += Duration::from_millis(u64::from(number));
            let effects = store.tick(*now);
            assert!(effects.calls.len() < 10_000);
        }
        1 => {
            let text = format!("pushed_{} 1\n", number % 4);
            let content = content(text.into(), Tenant::Unknown);
            if let Some(content) = content.and_then(Arc::into_inner) {
                let _ = store.accept(content, *now);
            }
        }
        2 => {
            let names = ["me", "a", "b", "c"].into_iter().enumerate();
            let alive = names.filter(|(bit, _)| *bit == 0 || number >> bit & 1 == 1);
            let view: View = alive
                .map(|(_, name)| (self::node(name), NodeState::Active))
                .collect();
            store.members(view, *now);
        }
        3 => {
            let consumer = ConsumerName::new(&format!("consumer-{}", number % 20)).unwrap();
            scrapes.push(store.begin(&consumer, *now).0);
        }
        4 => {
            if let Some(claim) = scrapes.last() {
                let _ = store.choose(claim, *now);
            }
        }
        _ => {
            if let Some(claim) = scrapes.pop() {
                if number & 1 == 0 {
                    let _ = store.commit(&claim, *now);
                } else {
                    let _ = store.release(&claim, *now);
                }
            }
        }
    }
}
