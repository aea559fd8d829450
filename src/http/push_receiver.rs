//! `POST /api/v1/push`: an exposition in, held as a push over RSocket is; for what has nothing but an HTTP client.
//!
//! What a text may hold, whose turn it is, how much is held for whom, and when a push is acknowledged: all that is
//! [`Pushes`]' to say, as for every push. Here is what HTTP adds: who sends, how often, and how much of it is under way.
//!
//! | what | bound | at the bound |
//! |---|---|---|
//! | pushes under way | half of `--web.max-connections`, an eighth from one identity or address | 503 |
//! | a body | `--scrape.max-payload`, or what its identity may send | 413 |
//! | bodies not read yet, together with what RSocket connections hold | `--rsocket.max-unfinished` | the one unfinished for longest: 503 |
//! | time without a byte of the body, and for all of it | `--web.io-timeout`, and twice that | 408 |
//! | identities and addresses whose rates are remembered | [`MAX_RATES`] that pushed within a second | 429 for a further one |

mod body;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_ENCODING, HeaderMap, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_rsocket_wire::ErrorCode;
use prometheus_rsocket_wire::memory::Memory;
use tokio::sync::watch;

use self::body::Unreceived;
use super::refusal::refusal;
use super::{Settings, Site};
use crate::identity::{Identity, Table, Unknown};
use crate::limits::rate::{Buckets, Rate};
use crate::push::{Pushes, Sender, Taken};
use crate::rsocket::{ConnectionId, Flow, PlainText, PushRefusal, Rejection, Shares};
use crate::store::Kept;
use crate::tenant::Tenant;

/// Identities and addresses whose rates are remembered.
const MAX_RATES: usize = 4096;
/// Who is refused for what may be otherwise soon, is told to try again after so many seconds.
const RETRY_SECONDS: &str = "5";
/// What a browser says of the page that sends a request.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Takes pushes over HTTP.
pub struct PushReceiver {
    senders: Senders,
    rates: Option<Buckets<Tenant>>,
    /// Pushes under way.
    all: Arc<Shares<()>>,
    max: usize,
    of_one: Arc<Shares<Tenant>>,
    max_of_one: usize,
    io_timeout: Duration,
    requests: AtomicU64,
}

/// What pushes over HTTP have in common with those over RSocket.
pub struct Senders {
    /// Where they go.
    pub pushes: Arc<Pushes>,
    /// Who sends them.
    pub identities: watch::Receiver<Arc<Table>>,
    /// What is held of those that are not read yet.
    pub memory: Arc<Memory>,
    /// How often one may push whose identity says nothing of that; `None`: as often as it likes.
    pub rate: Option<Rate>,
}

impl PushReceiver {
    /// As these settings of the HTTP side say.
    pub fn new(settings: &Settings, senders: Senders) -> Self {
        Self {
            rates: senders.rate.map(|rate| Buckets::new(rate, MAX_RATES)),
            senders,
            all: Arc::default(),
            max: (settings.max_connections / 2).max(1),
            of_one: Arc::default(),
            max_of_one: (settings.max_connections / 8).max(1),
            io_timeout: settings.io_timeout,
            requests: AtomicU64::default(),
        }
    }

    /// Whether those who push are to show who they are.
    pub(super) fn asks(&self) -> bool {
        self.senders.identities.borrow().asks()
    }

    async fn receive(&self, peer: SocketAddr, request: Request) -> Result<Taken, Refused> {
        let unknown = Sender::unknown(peer);
        let (parts, body) = request.into_parts();
        acceptable(&parts.headers).map_err(|refused| self.note(refused, &unknown))?;
        let table = Arc::clone(&self.senders.identities.borrow());
        let identity = sender::identify(&table, &parts.headers).await;
        let identity = identity.map_err(|reason| self.note(reason.into(), &unknown))?;
        let sender = Sender::new(&identity.terms, peer);
        let pushed = self.take(&identity, body, &sender).await;
        pushed.map_err(|why| match why {
            // That was noted where it was refused.
            NotTaken::Rejected(rejection) => rejection.into(),
            NotTaken::Refused(refused) => self.note(refused, &sender),
        })
    }

    async fn take(
        &self,
        identity: &Identity,
        body: axum::body::Body,
        sender: &Sender,
    ) -> Result<Taken, NotTaken> {
        if !self.may_push(identity, sender) {
            return Err(RATE.into());
        }
        let places = (
            self.all.take(&(), self.max),
            self.of_one.take(&sender.tenant(), self.max_of_one),
        );
        let (Some(_), Some(_)) = &places else {
            return Err(PLACES.into());
        };
        let memory = &self.senders.memory;
        let received = body::receive(body, identity.terms.max_text, memory, self.io_timeout);
        let text = received.await.map_err(Refused::from)?;
        let held = memory.reserve(text.len()).ok_or(MEMORY)?;
        let plain = PlainText {
            text,
            terms: Arc::clone(&identity.terms),
            flow: Flow {
                tenant: sender.tenant(),
                connection: self.flow(),
            },
            held,
        };
        let taken = Box::pin(self.senders.pushes.take_plain(plain, sender));
        taken.await.map_err(NotTaken::Rejected)
    }

    /// Whether one more push is not too often.
    fn may_push(&self, identity: &Identity, sender: &Sender) -> bool {
        match (&identity.pushes, &self.rates) {
            (Some(shared), _) => shared.take(),
            (None, Some(rates)) => rates.take(sender.tenant()),
            (None, None) => true,
        }
    }

    /// A number that no RSocket connection has: those count from the other end.
    fn flow(&self) -> ConnectionId {
        ConnectionId::MAX - self.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn note(&self, refused: Refused, sender: &Sender) -> Refused {
        if let Some(label) = refused.label {
            let (code, reason) = (ErrorCode::REJECTED, refused.reason.clone());
            self.senders.pushes.refuse(label, code, reason, sender);
        }
        refused
    }
}

/// `POST /api/v1/push`
pub(super) async fn push(
    State(site): State<Site>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Some(receiver) = &site.push_receiver else {
        let how = "Pushes over HTTP are disabled. Enable them with --web.enable-push-receiver.";
        return refusal(StatusCode::NOT_FOUND, how);
    };
    match Box::pin(receiver.receive(peer, request)).await {
        Ok(taken) => held(taken).into_response(),
        Err(refused) => refused.into(),
    }
}

fn held(taken: Taken) -> String {
    let Taken {
        samples,
        series,
        bytes,
        kept,
    } = taken;
    let by = match kept {
        Kept::Replicated => "by this node and at least one other",
        Kept::Alone => "by this node",
        Kept::Short => "by this node; no other node has confirmed it yet",
    };
    format!("push held {by}: samples {samples}, series {series}, bytes {bytes}\n")
}

/// Why a push is not held.
#[derive(Debug, Clone)]
struct Refused {
    status: StatusCode,
    /// What it counts as; `None`: it was counted.
    label: Option<PushRefusal>,
    reason: String,
}

/// Why a push is not held whose sender is known.
enum NotTaken {
    Refused(Refused),
    Rejected(Rejection),
}

/// A refusal whose reason is always the same.
struct Fixed(StatusCode, PushRefusal, &'static str);

const PAGE: Fixed = Fixed(
    StatusCode::FORBIDDEN,
    PushRefusal::Origin,
    "web pages cannot push: the request has an Origin or Sec-Fetch-Site header, as browsers send them",
);
const ENCODING: Fixed = Fixed(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    PushRefusal::Encoding,
    "the body has a Content-Encoding; send it uncompressed",
);
const RATE: Fixed = Fixed(
    StatusCode::TOO_MANY_REQUESTS,
    PushRefusal::Rate,
    "too many pushes in a second",
);
const PLACES: Fixed = Fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    PushRefusal::Busy,
    "too many pushes over HTTP at a time",
);
const MEMORY: Fixed = Fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    PushRefusal::Memory,
    "no memory for another push (--rsocket.max-unfinished)",
);
const TOO_LONG: Fixed = Fixed(
    StatusCode::PAYLOAD_TOO_LARGE,
    PushRefusal::Payload,
    "the body is longer than --scrape.max-payload, or than what its identity may push",
);
const LATE: Fixed = Fixed(
    StatusCode::REQUEST_TIMEOUT,
    PushRefusal::Payload,
    "the body did not arrive in time (--web.io-timeout)",
);
const BROKEN: Fixed = Fixed(
    StatusCode::BAD_REQUEST,
    PushRefusal::Payload,
    "the body ended early",
);
const NO_CREDENTIALS: Fixed = Fixed(
    StatusCode::UNAUTHORIZED,
    PushRefusal::Credentials,
    "the proxy requires a token or a password",
);
const CREDENTIALS: Fixed = Fixed(
    StatusCode::UNAUTHORIZED,
    PushRefusal::Credentials,
    "the proxy does not know these credentials (see its --rsocket.auth.file)",
);
const UNVERIFIED: Fixed = Fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    PushRefusal::Credentials,
    "the proxy has too many passwords to verify, try again later",
);

impl From<Fixed> for Refused {
    fn from(Fixed(status, label, reason): Fixed) -> Self {
        Self {
            status,
            label: Some(label),
            reason: reason.to_owned(),
        }
    }
}

impl From<Fixed> for NotTaken {
    fn from(fixed: Fixed) -> Self {
        Self::Refused(fixed.into())
    }
}

impl From<Refused> for NotTaken {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Unreceived> for Refused {
    fn from(unreceived: Unreceived) -> Self {
        match unreceived {
            Unreceived::TooLong => TOO_LONG,
            Unreceived::Late => LATE,
            Unreceived::Memory => MEMORY,
            Unreceived::Broken => BROKEN,
        }
        .into()
    }
}

impl From<Unknown> for Refused {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Nothing => NO_CREDENTIALS,
            Unknown::Wrong => CREDENTIALS,
            Unknown::Busy => UNVERIFIED,
        }
        .into()
    }
}

impl From<Rejection> for Refused {
    fn from(Rejection { code, reason }: Rejection) -> Self {
        let status = if code == ErrorCode::INVALID {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self {
            status,
            label: None,
            reason,
        }
    }
}

impl From<Refused> for Response {
    fn from(Refused { status, reason, .. }: Refused) -> Self {
        let mut response = refusal(status, &reason);
        let header = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer, Basic")),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some((RETRY_AFTER, RETRY_SECONDS))
            }
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A browser sends a form, or what a script asks for, to any address that it can reach, with the password that it has for
/// that. It says so in these headers, which nothing else sends, and which no page can leave out.
fn acceptable(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) {
        return Err(PAGE.into());
    }
    let plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        true => Ok(()),
        false => Err(ENCODING.into()),
    }
}
