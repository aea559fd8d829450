//! Whose password is right. What bcrypt said yes to is remembered, so that it costs no scrape; what it said no to is not,
//! so that guesses cannot push anything out.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bcrypt::HashParts;
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// Costs that bcrypt is defined for: the logarithm of its rounds.
const COSTS: RangeInclusive<u32> = 4..=31;
/// The end of a hash that is nobody's, behind its cost.
const NOBODYS: &str = "JoXmNRTpJBGKqmDWxVWzFuhWHcBF0jPKrN0XqwWoqFhAUn6YpLVMi";
/// Requests that wait for bcrypt; further ones are answered 503. A good password waits for so many bad ones at most, and
/// only the first time.
const MAX_WAITING: usize = 16;

type Tag = CtOutput<Hmac<Sha256>>;

/// What is thought of a name and a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many others wait for an answer.
    Busy,
}

/// What runs bcrypt: one password at a time, so that guesses take one core at most.
pub(crate) struct Verifier {
    turn: Arc<Semaphore>,
    waiting: Semaphore,
    /// Of this process: passwords are remembered by what they hash to under it.
    secret: [u8; 64],
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(MAX_WAITING),
            secret: rand::random(),
        }
    }
}

/// Those who may ask.
pub(crate) struct Users {
    known: BTreeMap<String, Arc<User>>,
    /// The highest of the hashes' costs: each wrong password costs as much, so that the time tells no name.
    cost: u32,
    verifier: Arc<Verifier>,
}

struct User {
    hash: String,
    cost: u32,
    /// The password that was right the last time.
    remembered: Mutex<Option<Tag>>,
}

impl User {
    fn remembers(&self, tag: &Tag) -> bool {
        self.remembered.lock().as_ref() == Some(tag)
    }

    fn remember(&self, tag: Tag) {
        *self.remembered.lock() = Some(tag);
    }
}

impl Users {
    /// Users and their bcrypt hashes. The error says whose hash is none.
    pub(crate) fn new(
        hashes: BTreeMap<String, String>,
        verifier: Arc<Verifier>,
    ) -> Result<Self, String> {
        let mut highest = *COSTS.start();
        let mut known = BTreeMap::new();
        for (name, hash) in hashes {
            let cost = cost_of(&hash).map_err(|reason| format!("{name}: {reason}"))?;
            highest = highest.max(cost);
            let user = User {
                hash,
                cost,
                remembered: Mutex::default(),
            };
            known.insert(name, Arc::new(user));
        }
        Ok(Self {
            known,
            cost: highest,
            verifier,
        })
    }

    /// Keeps what `before` remembers of users whose hash is the same.
    pub(crate) fn keep(&mut self, before: &Self) {
        for (name, user) in &mut self.known {
            match before.known.get(name) {
                Some(known) if known.hash == user.hash => *user = Arc::clone(known),
                _ => {}
            }
        }
    }

    /// Whether `name` has this password.
    pub(crate) async fn verify(&self, name: &str, password: Zeroizing<Vec<u8>>) -> Verdict {
        let user = self.known.get(name);
        let tag = self.verifier.tag(&password);
        let remembered = || user.is_some_and(|user| user.remembers(&tag));
        if remembered() {
            return Verdict::Right;
        }
        let Ok(_waiting) = self.verifier.waiting.try_acquire() else {
            return Verdict::Busy;
        };
        let Ok(turn) = Arc::clone(&self.verifier.turn).acquire_owned().await else {
            return Verdict::Busy;
        };
        // By one whose turn it was before.
        if remembered() {
            return Verdict::Right;
        }
        let (hash, padding) = self.work(user.map(AsRef::as_ref));
        let verify = move || {
            // Held until bcrypt is done, even if nobody waits for it any more.
            let _turn = turn;
            let fits = |hash: &str| bcrypt::verify(password.as_slice(), hash).unwrap_or(false);
            let right = fits(&hash);
            if !right {
                // Whatever comes of it: somebody may know a password for these.
                for cost in padding {
                    black_box(fits(&nobodys(cost)));
                }
            }
            right
        };
        let right = spawn_blocking(verify).await.unwrap_or(false);
        match user.filter(|_| right) {
            None => Verdict::Wrong,
            Some(user) => {
                user.remember(tag);
                Verdict::Right
            }
        }
    }

    /// The hash that decides, and the costs of further ones that a wrong password is held against: all together they
    /// take as long as one of the highest cost, as two of one cost take as long as one of the next.
    fn work(&self, user: Option<&User>) -> (String, Range<u32>) {
        match user {
            None => (nobodys(self.cost), 0..0),
            Some(user) => (user.hash.clone(), user.cost..self.cost),
        }
    }
}

/// A hash that is verified for its time alone.
fn nobodys(cost: u32) -> String {
    format!("$2y${cost:02}${NOBODYS}")
}

impl Verifier {
    fn tag(&self, password: &[u8]) -> Tag {
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&self.secret.into());
        mac.update(password);
        mac.finalize()
    }
}

fn cost_of(hash: &str) -> Result<u32, String> {
    let parts: HashParts = hash
        .parse()
        .map_err(|error| format!("not a bcrypt hash: {error}"))?;
    let cost = parts.get_cost();
    if COSTS.contains(&cost) {
        Ok(cost)
    } else {
        Err(format!(
            "not a bcrypt hash: the cost {cost} is not between 4 and 31"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(known: &[(&str, &str)]) -> Users {
        let hashes = known.iter().map(|(name, password)| {
            let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
            (
                (*name).to_owned(),
                hash.format_for_version(bcrypt::Version::TwoY),
            )
        });
        Users::new(hashes.collect(), Arc::default()).unwrap()
    }

    fn password(text: &str) -> Zeroizing<Vec<u8>> {
        text.as_bytes().to_vec().into()
    }

    #[tokio::test]
    async fn names_and_passwords_go_together() {
        let users = users(&[("ann", "one"), ("bob", "two")]);
        for (name, text, verdict) in [
            ("ann", "one", Verdict::Right),
            ("ann", "one", Verdict::Right),
            ("ann", "two", Verdict::Wrong),
            ("bob", "two", Verdict::Right),
            ("bob", "one", Verdict::Wrong),
            ("eve", "one", Verdict::Wrong),
            ("", "", Verdict::Wrong),
        ] {
            assert_eq!(
                users.verify(name, password(text)).await,
                verdict,
                "{name}:{text}"
            );
        }
    }

    #[tokio::test]
    async fn users_whose_hashes_cost_less_have_their_own_passwords_too() {
        let hash = |cost| {
            let hash = bcrypt::hash_with_salt("one", cost, [7; 16]).unwrap();
            hash.format_for_version(bcrypt::Version::TwoY)
        };
        let hashes = [("ann", 4), ("bob", 6)].map(|(name, cost)| (name.to_owned(), hash(cost)));
        let users = Users::new(hashes.into(), Arc::default()).unwrap();
        for name in ["ann", "bob"] {
            assert_eq!(users.verify(name, password("two")).await, Verdict::Wrong);
            assert_eq!(users.verify(name, password("one")).await, Verdict::Right);
        }
    }

    #[tokio::test]
    async fn a_flood_of_guesses_keeps_only_new_passwords_out() {
        let users = users(&[("ann", "one"), ("bob", "two")]);
        assert_eq!(users.verify("ann", password("one")).await, Verdict::Right);
        let _bcrypt_is_at_work = users.verifier.turn.acquire().await.unwrap();
        let guesses =
            (0..MAX_WAITING).map(|guess| users.verify("ann", password(&guess.to_string())));
        let guesses = futures_util::future::join_all(guesses);
        tokio::select! {
            biased;
            _ = guesses => panic!("bcrypt is at work"),
            busy = users.verify("bob", password("two")) => assert_eq!(busy, Verdict::Busy),
        }
        assert_eq!(users.verify("ann", password("one")).await, Verdict::Right);
    }

    #[tokio::test]
    async fn what_is_known_of_a_user_outlives_a_change_of_the_others() {
        let before = users(&[("ann", "one"), ("bob", "two")]);
        for (name, text) in [("ann", "one"), ("bob", "two")] {
            assert_eq!(before.verify(name, password(text)).await, Verdict::Right);
        }
        let mut after = users(&[("ann", "one"), ("bob", "three")]);
        after.keep(&before);
        let remembers = |name: &str, text: &str| {
            let tag = before.verifier.tag(text.as_bytes());
            after.known[name].remembers(&tag)
        };
        assert!(remembers("ann", "one"));
        assert!(!remembers("bob", "two"));
    }

    #[test]
    fn a_wrong_password_costs_the_same_whatever_the_name() {
        let hash = |cost: u32| {
            let hash = bcrypt::hash_with_salt("one", 4, [7; 16]).unwrap();
            let hash = hash.format_for_version(bcrypt::Version::TwoY);
            hash.replacen("$04$", &format!("${cost:02}$"), 1)
        };
        let hashes = [("ann", 10), ("bob", 12)].map(|(name, cost)| (name.to_owned(), hash(cost)));
        let users = Users::new(hashes.into(), Arc::default()).unwrap();
        for name in ["ann", "bob", "eve"] {
            let (hash, padding) = users.work(users.known.get(name).map(AsRef::as_ref));
            let rounds = [cost_of(&hash).unwrap()].into_iter().chain(padding);
            let rounds: u64 = rounds.map(|cost| 1 << cost).sum();
            assert_eq!(rounds, 1 << 12, "{name}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_with_its_name() {
        for hash in [
            "",
            "secret",
            "$2y$03$JoXmNRTpJBGKqmDWxVWzFuhWHcBF0jPKrN0XqwWoqFhAUn6YpLVMi",
            "$1$x$y",
        ] {
            let hashes = BTreeMap::from([("ann".to_owned(), hash.to_owned())]);
            let refused = Users::new(hashes, Arc::default()).err().unwrap();
            assert!(refused.starts_with("ann: not a bcrypt hash"), "{refused}");
            assert!(hash.is_empty() || !refused.contains(hash), "{refused}");
        }
    }
}
