//! `CONNECT` (RFC 9110, section 9.3.6): an HTTP proxy forwards a connection to another address.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::Address;
use crate::failure::Failure;
use crate::http_proxy::HttpProxy;
use crate::metrics::Reason;

/// Maximum bytes of the answer's head. Some proxies add many headers.
const MAX_HEAD: usize = 8 << 10;
/// The port that HTTP proxies allow `CONNECT` to by default.
const HTTPS_PORT: u16 = 443;
/// Characters of a status that are shown.
const MAX_PHRASE: usize = 64;
const AGENT: &str = concat!("prometheus-rsocket-client/", env!("CARGO_PKG_VERSION"));

/// Why there is no tunnel, after the words "the HTTP proxy HOST:PORT".
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("closed the connection")]
    Closed,
    #[error("broke the connection: {0}")]
    Broken(io::Error),
    #[error("did not answer as an HTTP proxy does")]
    NotHttp,
    #[error("asks for credentials")]
    Wanted,
    #[error("refused the credentials")]
    Refused,
    #[error("asks for credentials of another kind than name and password (Basic)")]
    OtherKind,
    #[error("answered {status} to CONNECT {target} ({})", cause(*port))]
    Forbidden {
        status: String,
        target: String,
        port: u16,
    },
    #[error("answered {status} to CONNECT {target}")]
    Status { status: String, target: String },
}

/// What an HTTP proxy most likely forbids.
fn cause(port: u16) -> String {
    match port {
        HTTPS_PORT => "does it allow connections to this host?".to_owned(),
        port => format!(
            "HTTP proxies often allow CONNECT to port 443 only: allow port {port} there, or let the node listen on 443"
        ),
    }
}

impl Refusal {
    fn reason(&self) -> Reason {
        match self {
            Self::Wanted | Self::Refused | Self::OtherKind => Reason::Credentials,
            Self::Closed
            | Self::Broken(_)
            | Self::NotHttp
            | Self::Forbidden { .. }
            | Self::Status { .. } => Reason::HttpProxy,
        }
    }

    /// Whether somebody has to change something first.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Wanted | Self::Refused | Self::OtherKind | Self::Forbidden { .. } => true,
            Self::Closed | Self::Broken(_) | Self::NotHttp | Self::Status { .. } => false,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}

/// Asks the HTTP proxy at the other end of `stream` to connect to `address`.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &HttpProxy,
    address: &Address,
) -> Result<(), Failure> {
    let opened = exchange(stream, proxy, address).await;
    opened.map_err(|refusal| {
        let text = format!("the HTTP proxy {proxy} {refusal}");
        if refusal.is_lasting() {
            Failure::lasting(refusal.reason(), text)
        } else {
            Failure::new(refusal.reason(), text)
        }
    })
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &HttpProxy,
    address: &Address,
) -> Result<(), Refusal> {
    let target = address.authority().to_string();
    let authorization = proxy.authorization();
    let credentials = authorization
        .as_ref()
        .map_or(Zeroizing::default(), |value| {
            Zeroizing::new(format!("Proxy-Authorization: {}\r\n", value.as_str()))
        });
    let request = Zeroizing::new(format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {AGENT}\r\n{}\r\n",
        credentials.as_str()
    ));
    stream.write_all(request.as_bytes()).await?;
    let head = head(stream).await?;
    let head = String::from_utf8_lossy(&head);
    match status(&head).ok_or(Refusal::NotHttp)? {
        (200..=299, _) => Ok(()),
        (407, _) if !takes_basic(&head) => Err(Refusal::OtherKind),
        // tinyproxy answers 401 to wrong ones.
        (401 | 407, _) if authorization.is_some() => Err(Refusal::Refused),
        (407, _) => Err(Refusal::Wanted),
        (code, phrase) => {
            let status = format!("{code} {}", shown(phrase)).trim_end().to_owned();
            let port = address.port;
            Err(match code {
                403 => Refusal::Forbidden {
                    status,
                    target,
                    port,
                },
                _ => Refusal::Status { status, target },
            })
        }
    }
}

/// Everything up to the empty line. Read byte by byte, because what follows belongs to the tunnel.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Refusal> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == MAX_HEAD {
            return Err(Refusal::NotHttp);
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// The status code and reason phrase of an answer in HTTP/1.0 or 1.1.
fn status(head: &str) -> Option<(u16, &str)> {
    let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
    let (_minor, status) = line.split_once(' ')?;
    let (code, phrase) = status.split_once(' ').unwrap_or((status, ""));
    let code = code.parse().ok()?;
    (100..1000).contains(&code).then_some((code, phrase))
}

/// Whether the proxy asks for `Basic` credentials, among others, or names no kind.
fn takes_basic(head: &str) -> bool {
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let mut asked = headers
        .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"))
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|challenge| challenge.split_whitespace().next())
        .peekable();
    asked.peek().is_none() || asked.any(|kind| kind.eq_ignore_ascii_case("basic"))
}

fn shown(phrase: &str) -> String {
    let visible = phrase.chars().filter(|c| !c.is_control());
    visible.take(MAX_PHRASE).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const OPEN: &str = "http://proxy:3128";
    const WITH_PASSWORD: &str = "http://user:secret@proxy:3128";

    /// What is asked of a proxy that answers this, and what comes of it, with what is behind the head.
    async fn asked(url: &str, address: &str, answer: &str) -> (String, Result<String, Failure>) {
        let (mut ours, mut theirs) = duplex(64 << 10);
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let (proxy, address) = (url.parse().unwrap(), address.parse().unwrap());
        let answering = async {
            let request = head(&mut theirs).await.unwrap();
            theirs.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let opening = open(&mut ours, &proxy, &address);
        let (request, opened) = tokio::join!(answering, opening);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.unwrap();
        (request, opened.map(|()| rest))
    }

    async fn refused(url: &str, answer: &str) -> (Reason, String) {
        let (_, opened) = asked(url, "tcp://node:7001", answer).await;
        let failure = opened.expect_err(answer);
        (failure.reason, failure.to_string())
    }

    #[tokio::test]
    async fn the_host_is_named_to_the_proxy_and_what_follows_its_answer_is_the_tunnels() {
        let answer = "HTTP/1.0 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n\0\0first";
        let (request, opened) = asked(OPEN, "tcp://node.internal", answer).await;
        assert_eq!(opened.unwrap(), "\0\0first");
        let expected = format!(
            "CONNECT node.internal:7001 HTTP/1.1\r\nHost: node.internal:7001\r\nUser-Agent: {AGENT}\r\n\r\n"
        );
        assert_eq!(request, expected);

        let (request, opened) = asked(WITH_PASSWORD, "tcp://[::1]:1", "HTTP/1.1 204\n\n").await;
        assert_eq!(opened.unwrap(), "");
        assert!(
            request.starts_with("CONNECT [::1]:1 HTTP/1.1\r\n"),
            "{request}"
        );
        let credentials = "\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n";
        assert!(request.contains(credentials), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_is_said_in_plain_words() {
        let basic = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: basic realm=\"a\"\r\n\r\n";
        let ntlm =
            "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        let (credentials, http_proxy) = (Reason::Credentials, Reason::HttpProxy);
        let forbidden = "HTTP/1.1 403 Forbidden\r\n\r\n<html>";
        for (url, answer, reason, words) in [
            (OPEN, basic, credentials, "asks for credentials"),
            (WITH_PASSWORD, basic, credentials, "refused the credentials"),
            (
                WITH_PASSWORD,
                "HTTP/1.0 401 Unauthorized\r\n\r\n",
                credentials,
                "refused the credentials",
            ),
            (
                WITH_PASSWORD,
                ntlm,
                credentials,
                "asks for credentials of another kind than name and password (Basic)",
            ),
            (
                OPEN,
                forbidden,
                http_proxy,
                "answered 403 Forbidden to CONNECT node:7001 (HTTP proxies often allow CONNECT to port 443 only: \
                 allow port 7001 there, or let the node listen on 443)",
            ),
            (
                OPEN,
                "HTTP/1.1 502\r\n\r\n",
                http_proxy,
                "answered 502 to CONNECT node:7001",
            ),
            (
                OPEN,
                "HTTP/1.1 500 a\u{1b}[2Jb\r\n\r\n",
                http_proxy,
                "answered 500 a[2Jb to CONNECT node:7001",
            ),
            (OPEN, "", http_proxy, "closed the connection"),
            (
                OPEN,
                "HTTP/1.1 200 OK\r\n",
                http_proxy,
                "closed the connection",
            ),
            (
                OPEN,
                "SSH-2.0-x\r\n\r\n",
                http_proxy,
                "did not answer as an HTTP proxy does",
            ),
        ] {
            let (got, text) = refused(url, answer).await;
            assert_eq!(text, format!("the HTTP proxy proxy:3128 {words}"));
            assert_eq!(got, reason, "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_an_http_proxy_forbids_is_not_waited_for() {
        let answer = "HTTP/1.1 403 Forbidden\r\n\r\n";
        let (_, opened) = asked(OPEN, "tcp://node:443", answer).await;
        let failure = opened.expect_err(answer);
        assert!(failure.is_lasting);
        let words = "CONNECT node:443 (does it allow connections to this host?)";
        assert!(failure.to_string().ends_with(words), "{failure}");

        let (_, opened) = asked(OPEN, "tcp://node:443", "HTTP/1.1 503 No\r\n\r\n").await;
        assert!(!opened.expect_err("no tunnel").is_lasting);
    }

    #[tokio::test]
    async fn a_head_without_end_is_given_up() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        let (_, text) = refused(OPEN, &endless).await;
        assert!(
            text.ends_with("did not answer as an HTTP proxy does"),
            "{text}"
        );
    }
}
