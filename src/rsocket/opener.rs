//! Turns an application's payload into a validated exposition, off the async threads and within bounds.
//!
//! The work (an RSA private operation, AES, Snappy, reading every line) is CPU time. As many short answers are opened at a
//! time as there are processors, as many long ones, and one push fewer; the others wait for their [`Turns`]. Work that
//! nobody waits for any more is not begun, and stops where it has begun. What a scrape does with the texts waits for no
//! turn. The text that all scrapes together hold is bounded: an answer that would pass the bound is refused and costs only
//! its application.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use prometheus_rsocket_exposition::{Exposition, Limits, ParseError};
use prometheus_rsocket_wire::envelope::version2::{Purpose, Unsealer, is_version2};
use prometheus_rsocket_wire::envelope::{Block, Hold, OpenError, plaintext, version1};
use prometheus_rsocket_wire::key::{KeyPair, WRAPPED_BYTES};
use prometheus_rsocket_wire::memory::Reservation;
use prometheus_rsocket_wire::{Envelopes, Payload};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::keys::Key;
use super::naming::shared_name;
use super::parts::{Served, Targets, Texts};
use super::turns::{Flow, Turns, Wanted, run};
use crate::directory::ApplicationId;
use crate::identity::Terms;

/// The longest that a push waits until it is opened, and what another node asks for its turn. Nobody waits for an
/// acknowledgement for that long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer, as it travels, up to which it waits for no longer one: one that has its turn keeps it to its end.
/// That is some 300 kB of text.
const SHORT: usize = 32 << 10;
/// Families of a text beyond which it counts against [`MAX_FAMILIES`].
const MANY_FAMILIES: usize = 10_000;
/// Families that the texts with [`MANY_FAMILIES`] may have together, in all scrapes under way. To merge so many takes a
/// tenth of a second; the response has to wait for it.
const MAX_FAMILIES: usize = 1_000_000;

/// Why a payload is not an exposition that can be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// The envelope does not open.
    #[error(transparent)]
    Envelope(#[from] OpenError),
    /// The text is not a valid exposition.
    #[error(transparent)]
    Exposition(#[from] ParseError),
    /// The scrapes under way hold as much text as they may (`--scrape.max-memory`).
    #[error("the running scrapes hold as much text as --scrape.max-memory allows")]
    Memory,
    /// It has many families, and so have others in the scrapes under way.
    #[error("the running scrapes have as many families as can be merged in time")]
    Families,
    /// So many pushes were before it that its turn did not come.
    #[error("too many pushes wait to be decrypted")]
    Busy,
    /// The node is stopping, or the work failed in a way that is a bug.
    #[error("the node could not process it")]
    Aborted,
}

/// A payload as it came, and where it came.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The envelope's two halves.
    pub payload: Payload,
    /// What its connection opens version 2 with.
    pub unsealer: Arc<Unsealer>,
    /// What it was taken for.
    pub purpose: Purpose,
    /// What holds for its text.
    pub terms: Arc<Terms>,
    /// Whose turn it takes to open it.
    pub flow: Flow,
    /// Keeps it counted.
    pub held: Arc<Reservation>,
    /// Of an answer, what was asked for.
    pub asked: Option<Asked>,
}

/// What the request was of which a payload is the answer.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Labels that are the name of the application, where that is looked for.
    pub name_by: Option<Arc<[String]>>,
    _counted: Arc<()>,
}

impl Asked {
    /// `counted` keeps the answer counted among those of its connection.
    pub(super) fn new(name_by: Option<Arc<[String]>>, counted: Arc<()>) -> Self {
        Self {
            name_by,
            _counted: counted,
        }
    }
}

impl Sealed {
    /// The wrapped key of an envelope of version 1, which any holder of the key pair can unwrap; `None` for what cannot
    /// be one by its length.
    pub fn wrapped_key(&self) -> Option<&Bytes> {
        let metadata = self.payload.metadata.as_ref();
        metadata.filter(|key| WRAPPED_BYTES.contains(&key.len()) && !is_version2(key))
    }
}

/// A push that came without an envelope.
#[derive(Debug)]
pub struct PlainText {
    /// The text.
    pub text: Bytes,
    /// What holds for it.
    pub terms: Arc<Terms>,
    /// Whose turn it takes to read it.
    pub flow: Flow,
    /// Keeps it counted.
    pub held: Reservation,
}

/// A text that was opened and validated, counted against the memory bound, with all that it costs beside
/// ([`Exposition::memory`]), until it is dropped.
#[derive(Debug)]
pub struct Opened {
    /// The text; of an answer in parts, what stands in front of them.
    pub exposition: Arc<Exposition>,
    /// Of an answer in parts, those that are served.
    pub parts: Vec<Arc<Exposition>>,
    /// How the targets fared whose parts they are.
    pub targets: Targets,
    /// Bytes that it had when it was opened.
    pub bytes: usize,
    /// What it came in: `1`, `2` or `plaintext`.
    pub envelope: &'static str,
    /// The name that its samples share, where that was looked for.
    pub name: Option<ApplicationId>,
    /// The text as it came, compressed, where that was to be kept and nothing is added to it.
    pub block: Option<Bytes>,
    _held: HeldText,
    _long: Option<HeldText>,
    _families: Option<HeldText>,
}

impl Opened {
    /// All that is served of it.
    pub fn expositions(&self) -> impl Iterator<Item = &Arc<Exposition>> + Clone {
        std::iter::once(&self.exposition).chain(&self.parts)
    }
}

/// What is kept of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The text.
    Text,
    /// The block that it came in as well, for another node.
    Block,
}

/// What was in an envelope.
struct Contents {
    text: Bytes,
    /// As it came in the envelope, where that was compressed.
    block: Option<Block>,
    envelope: &'static str,
}

impl Contents {
    fn of(
        block: Block,
        max_text: usize,
        hold: Hold,
        envelope: &'static str,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            text: block.text(max_text, hold)?,
            block: Some(block),
            envelope,
        })
    }
}

/// How a text becomes expositions.
type Validate = fn(Bytes, &Limits, &dyn Fn() -> bool) -> Result<Texts, ParseError>;

/// Opens payloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Opener {
    answers: Turns,
    long_answers: Turns,
    pushes: Turns,
    peers: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
    /// Of these, texts that are longer than their share.
    long: Arc<AtomicUsize>,
    /// Families of those that have many.
    families: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    envelopes: Envelopes,
    max_text: usize,
    max_held: usize,
}

impl Opener {
    /// `max_text` bounds one text, `max_held` all texts that are held at a time; both in bytes. Half of the latter is kept
    /// for texts no longer than `max_held` by so many `connections`. An envelope that is not among `envelopes` is
    /// refused.
    pub fn new(
        connections: Arc<AtomicUsize>,
        envelopes: Envelopes,
        max_text: usize,
        max_held: usize,
    ) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            answers: Turns::new(processors),
            long_answers: Turns::new(processors),
            // So that a scrape finds a processor free, where there are several.
            pushes: Turns::new(processors.saturating_sub(1).max(1)),
            // Apart, so that what nodes tell each other does not wait behind what applications send.
            peers: Arc::new(Semaphore::new(1)),
            held: Arc::default(),
            long: Arc::default(),
            families: Arc::default(),
            connections,
            envelopes,
            max_text,
            max_held,
        }
    }

    /// Opens a push that was sealed to one of `keys`, validates its text, and does with it what comes `then`, when its turn
    /// comes.
    pub async fn open<R: Send + 'static>(
        &self,
        sealed: Sealed,
        keys: &[Key],
        then: impl FnOnce(Opened) -> R + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let keys = keys.to_vec();
        let opener = self.clone();
        let (flow, bytes) = (sealed.flow.clone(), sealed.payload.len());
        let open =
            move |wanted: &Wanted| opener.open_now(sealed, &keys, Keep::Text, wanted).map(then);
        self.run_for_push(&flow, bytes, open).await?
    }

    /// As [`Opener::open`], a push of version 1 whose AES key another node has unwrapped.
    pub async fn open_with<R: Send + 'static>(
        &self,
        secret: version1::Secret,
        sealed: Sealed,
        then: impl FnOnce(Opened) -> R + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let opener = self.clone();
        let (flow, bytes) = (sealed.flow.clone(), sealed.payload.len());
        let open = move |wanted: &Wanted| {
            let open = |max_text| {
                let block = version1::open_with(&secret, sealed.payload.data)?;
                Contents::of(block, max_text, Hold::Long, "1")
            };
            let opened = opener.read(&sealed.terms, Texts::whole, Keep::Text, wanted, open);
            opened.map(then)
        };
        self.run_for_push(&flow, bytes, open).await?
    }

    /// As [`Opener::open`], a push that came without an envelope.
    pub async fn read_plain<R: Send + 'static>(
        &self,
        plain: PlainText,
        then: impl FnOnce(Opened) -> R + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let opener = self.clone();
        let (flow, bytes) = (plain.flow.clone(), plain.text.len());
        let open = move |wanted: &Wanted| {
            let PlainText {
                text, terms, held, ..
            } = plain;
            let open = |max_text| match text.len() > max_text {
                true => Err(OpenError::TooLong),
                false => Ok(Contents {
                    text,
                    block: None,
                    envelope: "plaintext",
                }),
            };
            let read = opener.read(&terms, Texts::whole, Keep::Text, wanted, open);
            // Counted by what was read of it from now on.
            drop(held);
            read.map(then)
        };
        self.run_for_push(&flow, bytes, open).await?
    }

    /// Opens an answer that was sealed to `key` and validates its text, when its turn comes. The work stops when what is
    /// returned is dropped.
    pub(super) fn open_answer(
        &self,
        sealed: Sealed,
        key: Key,
        keep: Keep,
    ) -> impl Future<Output = Result<Arc<Opened>, OpenFailure>> + Send + 'static {
        let opener = self.clone();
        async move {
            let bytes = sealed.payload.len();
            let flow = sealed.flow.clone();
            let open = {
                let opener = opener.clone();
                move |wanted: &Wanted| opener.open_now(sealed, &[key], keep, wanted)
            };
            let turns = match bytes > SHORT {
                true => &opener.long_answers,
                false => &opener.answers,
            };
            let opened = turns.run(&flow, bytes, open).await;
            opened.ok_or(OpenFailure::Aborted)?.map(Arc::new)
        }
    }

    /// Undoes the wrapping of a payload's AES key, if one of `keys` does; for another node, which has the payload.
    pub async fn unwrap_key(&self, wrapped: Bytes, keys: &[Key]) -> Option<version1::Secret> {
        if !self.envelopes.version1 {
            return None;
        }
        let keys = keys.to_vec();
        let unwrap = move || version1::unwrap(&wrapped, keys.iter().filter_map(pair)).ok();
        self.run_for_peer(unwrap).await.ok().flatten()
    }

    /// Counts a text that another node has opened as held; `None` where there is no room.
    pub fn hold(&self, bytes: usize) -> Option<HeldText> {
        HeldText::new(&self.held, bytes, self.max_held)
    }

    /// Bytes of the longest text that is opened.
    pub fn max_text(&self) -> usize {
        self.max_text
    }

    /// Runs CPU work for a push of so many bytes when its turn comes.
    async fn run_for_push<R: Send + 'static>(
        &self,
        flow: &Flow,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> R + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let done = timeout(PATIENCE, self.pushes.run(flow, bytes, work)).await;
        done.map_err(|_| OpenFailure::Busy)?
            .ok_or(OpenFailure::Aborted)
    }

    /// Runs CPU work for what other nodes bring and ask, one at a time.
    pub async fn run_for_peer<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, OpenFailure> {
        let turn = timeout(PATIENCE, Arc::clone(&self.peers).acquire_owned()).await;
        let turn = turn.map_err(|_| OpenFailure::Busy)?;
        let done = run(move || {
            // Until it is done, even if nobody waits for it any more.
            let _turn = turn;
            work()
        });
        done.await.ok_or(OpenFailure::Aborted)
    }

    fn open_now(
        &self,
        sealed: Sealed,
        keys: &[Key],
        keep: Keep,
        wanted: &Wanted,
    ) -> Result<Opened, OpenFailure> {
        let terms = Arc::clone(&sealed.terms);
        let validate = match sealed.purpose {
            Purpose::Answer { .. } => Texts::in_parts,
            Purpose::Push => Texts::whole,
        };
        let asked = sealed.asked.clone();
        let mut opened = self.read(&terms, validate, keep, wanted, |max_text| {
            self.open_envelope(sealed, keys, max_text)
        })?;
        if let Some(asked) = asked {
            let by = asked.name_by.as_deref();
            opened.name = by.and_then(|by| shared_name(opened.expositions(), by));
        }
        Ok(opened)
    }

    /// Validates what `open` opens, within the bounds, and adds the labels that are enforced.
    fn read(
        &self,
        terms: &Terms,
        validate: Validate,
        keep: Keep,
        wanted: &Wanted,
        open: impl FnOnce(usize) -> Result<Contents, OpenError>,
    ) -> Result<Opened, OpenFailure> {
        let share = self.max_held / self.connections.load(Ordering::Relaxed).max(1);
        let free = self.room(share);
        let max_text = self.max_text.min(terms.max_text);
        let contents = match open(max_text.min(free)) {
            Err(OpenError::TooLong) if free < max_text => return Err(OpenFailure::Memory),
            contents => contents?,
        };
        let Contents {
            text,
            block,
            envelope,
        } = contents;
        let block = block.filter(|_| keep == Keep::Block && terms.labels.is_empty());
        let block = block.map(Block::into_bytes);
        let bytes = text.len();
        let texts = validate(text, &terms.limits, &|| wanted.is_some())?;
        if !wanted.is_some() {
            return Err(OpenFailure::Aborted);
        }
        let labels = texts.samples() * terms.labels.to_string().len();
        let block_bytes = block.as_ref().map_or(0, Bytes::len);
        let memory = texts.memory().saturating_add(labels + block_bytes);
        let held = HeldText::new(&self.held, memory, self.max_held).ok_or(OpenFailure::Memory)?;
        let long = (memory > share)
            .then(|| {
                HeldText::new(&self.long, memory, self.max_held / 2).ok_or(OpenFailure::Memory)
            })
            .transpose()?;
        let families = texts.families();
        let many = (families > MANY_FAMILIES)
            .then(|| {
                HeldText::new(&self.families, families, MAX_FAMILIES).ok_or(OpenFailure::Families)
            })
            .transpose()?;
        let Served {
            head,
            parts,
            targets,
        } = texts.labelled(&terms.labels)?;
        Ok(Opened {
            exposition: head,
            parts,
            targets,
            bytes,
            envelope,
            name: None,
            block,
            _held: held,
            _long: long,
            _families: many,
        })
    }

    /// Bytes of the longest text that may be held yet. What is longer than its `share` may take up half of all, so that a
    /// few with very long texts do not keep everybody else's out.
    fn room(&self, share: usize) -> usize {
        let free =
            |max: usize, held: &AtomicUsize| max.saturating_sub(held.load(Ordering::Relaxed));
        let for_long = free(self.max_held / 2, &self.long);
        free(self.max_held, &self.held).min(for_long.max(share))
    }

    fn open_envelope(
        &self,
        sealed: Sealed,
        keys: &[Key],
        max_text: usize,
    ) -> Result<Contents, OpenError> {
        let Payload { metadata, data } = sealed.payload;
        let metadata = metadata.unwrap_or_default();
        let pairs = keys.iter().filter_map(pair);
        let hold = sealed.purpose.into();
        if keys.iter().any(|key| matches!(key, Key::Plaintext)) {
            Ok(Contents {
                text: plaintext::open(&metadata, data, max_text)?,
                block: None,
                envelope: "plaintext",
            })
        } else if is_version2(&metadata) {
            let unsealer = sealed.unsealer;
            let block = unsealer.open(&metadata, data, pairs, sealed.purpose)?;
            Contents::of(block, max_text, hold, "2")
        } else if self.envelopes.version1 {
            let block = version1::open(&metadata, data, pairs)?;
            Contents::of(block, max_text, hold, "1")
        } else {
            Err(OpenError::Downgrade)
        }
    }
}

fn pair(key: &Key) -> Option<&KeyPair> {
    match key {
        Key::Pair(pair) => Some(pair),
        Key::Plaintext => None,
    }
}

/// Bytes, or families, counted as held until dropped.
#[derive(Debug)]
pub struct HeldText {
    counter: Arc<AtomicUsize>,
    amount: usize,
}

impl HeldText {
    /// `None` if there would be more than `max`, however many ask at once.
    fn new(counter: &Arc<AtomicUsize>, amount: usize, max: usize) -> Option<Self> {
        let with = |held: usize| held.checked_add(amount).filter(|&held| held <= max);
        let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with);
        added.is_ok().then(|| Self {
            counter: Arc::clone(counter),
            amount,
        })
    }
}

impl Drop for HeldText {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Mutex, mpsc};

    use prometheus_rsocket_wire::ConnectionToken;
    use prometheus_rsocket_wire::memory::Memory;
    use tokio::task::JoinSet;

    use super::super::ConnectionId;
    use super::*;
    use crate::tenant::Tenant;

    const ALL: Envelopes = Envelopes {
        version1: true,
        version2: true,
    };

    /// Opens texts of 1 MiB for so many connections, and holds so many bytes.
    pub(in super::super) fn opener(connections: usize, max_held: usize) -> Opener {
        Opener::new(Arc::new(connections.into()), ALL, 1 << 20, max_held)
    }

    /// What came from the connection of this token.
    pub(in super::super) fn sealed(
        payload: Payload,
        token: ConnectionToken,
        purpose: Purpose,
    ) -> Sealed {
        let memory = Memory::new(64 << 20, Duration::from_secs(1));
        Sealed {
            unsealer: Arc::new(Unsealer::new(token)),
            purpose,
            terms: Arc::new(Terms {
                max_text: 1 << 20,
                ..Terms::default()
            }),
            flow: flow(0),
            held: Arc::new(memory.reserve(payload.len()).unwrap()),
            asked: None,
            payload,
        }
    }

    fn flow(connection: ConnectionId) -> Flow {
        let peer = ([127, 0, 0, 1], 1).into();
        Flow {
            tenant: Tenant::of(None, peer),
            connection,
        }
    }

    fn answer(text: &'static str) -> Sealed {
        let payload = plaintext::seal(text.into()).into();
        let purpose = Purpose::Answer { pull: 0 };
        sealed(payload, ConnectionToken::random(), purpose)
    }

    /// Pushes that are being opened until the gate is dropped, and more that wait.
    fn endless_pushes(opener: &Opener) -> (mpsc::Sender<()>, JoinSet<Result<bool, OpenFailure>>) {
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut pushes = JoinSet::new();
        for connection in 0..20 {
            let (opener, gate) = (opener.clone(), Arc::clone(&gate));
            pushes.spawn(async move {
                let endless =
                    move |_: &Wanted| gate.lock().map(|gate| gate.recv().is_err()).is_ok();
                opener.run_for_push(&flow(connection), 1, endless).await
            });
        }
        (go, pushes)
    }

    #[tokio::test]
    async fn a_scrape_waits_behind_no_push() {
        let opener = opener(1, 1 << 20);
        let (go, mut pushes) = endless_pushes(&opener);
        // All of them are in line.
        tokio::task::yield_now().await;
        let opened = opener
            .open_answer(answer("up 1\n"), Key::Plaintext, Keep::Text)
            .await;
        assert_eq!(opened.unwrap().exposition.samples(), 1);
        drop(go);
        while let Some(push) = pushes.join_next().await {
            assert_eq!(push.unwrap(), Ok(true));
        }
    }

    #[tokio::test]
    async fn a_short_answer_waits_for_no_long_one_and_a_merge_for_none() {
        let opener = opener(1, 1 << 20);
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut long = JoinSet::new();
        for connection in 0..20 {
            let (turns, gate) = (opener.long_answers.clone(), Arc::clone(&gate));
            let endless = move |_: &Wanted| drop(gate.lock().map(|gate| gate.recv()));
            long.spawn(async move { turns.run(&flow(connection), 1, endless).await });
        }
        tokio::task::yield_now().await;
        let short = opener
            .open_answer(answer("up 1\n"), Key::Plaintext, Keep::Text)
            .await;
        assert!(short.is_ok());
        assert_eq!(run(|| "merged").await, Some("merged"));
        drop(go);
        long.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_push_waits_without_end() {
        let opener = opener(1, 1 << 20);
        let (go, mut pushes) = endless_pushes(&opener);
        tokio::task::yield_now().await;
        tokio::time::advance(PATIENCE).await;
        while let Some(push) = pushes.join_next().await {
            assert_eq!(push.unwrap(), Err(OpenFailure::Busy));
        }
        drop(go);
    }

    #[tokio::test]
    async fn a_few_texts_of_very_many_families_leave_time_to_merge() {
        let opener = Opener::new(Arc::default(), ALL, 64 << 20, 1 << 30);
        let (_asked, wanted) = Wanted::new();
        let open = |families: usize| {
            let text: String = (0..families).map(|n| format!("a{n:x} 1\n")).collect();
            let payload = plaintext::seal(text.into()).into();
            let mut sealed = sealed(payload, ConnectionToken::random(), Purpose::Push);
            sealed.terms = Arc::new(Terms {
                max_text: 64 << 20,
                ..Terms::default()
            });
            opener.open_now(sealed, &[Key::Plaintext], Keep::Text, &wanted)
        };
        let first = open(MAX_FAMILIES - 1).unwrap();
        let many = open(MANY_FAMILIES + 1);
        assert!(matches!(many, Err(OpenFailure::Families)), "{many:?}");
        let few = open(MANY_FAMILIES);
        assert!(few.is_ok(), "{few:?}");
        drop(first);
        assert!(open(MANY_FAMILIES + 1).is_ok());
    }

    #[tokio::test]
    async fn long_texts_of_a_few_leave_room_for_everybody_elses() {
        let opener = opener(10, 1000);
        let (_asked, wanted) = Wanted::new();
        let open = |bytes: usize| {
            let text = format!("#{}\n", "a".repeat(bytes - 2));
            let payload = plaintext::seal(text.into()).into();
            let purpose = Purpose::Answer { pull: 0 };
            let sealed = sealed(payload, ConnectionToken::random(), purpose);
            opener.open_now(sealed, &[Key::Plaintext], Keep::Text, &wanted)
        };
        let texts = |bytes: usize| -> Vec<_> { std::iter::from_fn(|| open(bytes).ok()).collect() };
        let long = texts(101);
        assert_eq!(long.len(), 4, "half of the memory");
        assert!(matches!(open(101), Err(OpenFailure::Memory)));
        let normal = texts(50);
        assert_eq!(normal.len(), (1000 - 4 * 101) / 50);
        drop(long);
        assert!(open(101).is_ok());
    }
}
