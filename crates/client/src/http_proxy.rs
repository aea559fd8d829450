//! Which HTTP proxy to connect through, with which credentials, and to where.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::Address;
use crate::address::{AddressError, Authority, host_and_port};
use crate::no_proxy::NoProxy;

/// curl's.
const DEFAULT_PORT: u16 = 1080;

/// An HTTP proxy that connections are made through: `http://[USER:PASSWORD@]HOST[:PORT]`, or without `http://`. As in
/// curl, the default port is 1080. Special characters in name and password are percent-encoded (`%40` for `@`). `Display` and
/// `Debug` show neither of them.
#[derive(Clone)]
pub struct HttpProxy {
    host: String,
    port: u16,
    /// Name and password, as they are sent.
    basic: Option<Zeroizing<String>>,
    direct: NoProxy,
}

/// Why a text is not the URL of an HTTP proxy. The error does not contain the text, which may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpProxyError {
    /// It begins with `https://`, `socks5://` or another such word.
    #[error("only HTTP proxies are supported: http://[USER:PASSWORD@]HOST[:PORT]")]
    Scheme,
    /// There is no host, or it is not valid.
    #[error("an HTTP proxy is written http://[USER:PASSWORD@]HOST[:PORT]")]
    Host,
    /// What follows the host's colon is not a port.
    #[error("the HTTP proxy's port is not a number between 1 and 65535")]
    Port,
}

impl HttpProxy {
    /// A name or an IP address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which may be the default.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<Zeroizing<String>> {
        let basic = self.basic.as_ref()?;
        Some(Zeroizing::new(format!("Basic {}", basic.as_str())))
    }

    pub(crate) fn except(mut self, direct: NoProxy) -> Self {
        self.direct = direct;
        self
    }

    /// Whether connections to this address go through it.
    pub(crate) fn serves(&self, address: &Address) -> bool {
        !self.direct.contains(&address.host)
    }
}

impl FromStr for HttpProxy {
    type Err = HttpProxyError;

    fn from_str(text: &str) -> Result<Self, HttpProxyError> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(HttpProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (credentials, place),
            None => ("", rest),
        };
        let (host, port) = host_and_port(place).map_err(|error| match error {
            AddressError::Port => HttpProxyError::Port,
            AddressError::Scheme | AddressError::Host => HttpProxyError::Host,
        })?;
        Ok(Self {
            host: host.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
            basic: (!credentials.is_empty()).then(|| basic(credentials)),
            direct: NoProxy::default(),
        })
    }
}

fn basic(credentials: &str) -> Zeroizing<String> {
    let (name, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain = Zeroizing::new(Vec::with_capacity(credentials.len() + 1));
    plain.extend(percent_decode_str(name));
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    Zeroizing::new(STANDARD.encode(&*plain))
}

impl fmt::Display for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.host.as_str(), self.port);
        Authority { host, port }.fmt(f)
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("credentials", &self.basic.is_some())
            .field("direct", &self.direct)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> HttpProxy {
        text.parse().expect(text)
    }

    #[test]
    fn a_url_is_read_as_curl_reads_it() {
        for (text, expected) in [
            ("http://proxy:3128", "proxy:3128"),
            ("HTTP://proxy:3128/", "proxy:3128"),
            ("proxy:3128", "proxy:3128"),
            ("proxy", "proxy:1080"),
            ("http://[::1]:3128", "[::1]:3128"),
            ("http://user:a@b@proxy:3128", "proxy:3128"),
        ] {
            assert_eq!(parsed(text).to_string(), expected);
        }
        for (text, error) in [
            ("https://proxy", HttpProxyError::Scheme),
            ("socks5h://proxy", HttpProxyError::Scheme),
            ("", HttpProxyError::Host),
            ("http://user@", HttpProxyError::Host),
            ("http://proxy/path", HttpProxyError::Host),
            ("http://proxy:0", HttpProxyError::Port),
            ("http://proxy:port", HttpProxyError::Port),
        ] {
            assert_eq!(text.parse::<HttpProxy>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn name_and_password_are_decoded_and_sent_as_basic_credentials() {
        let sent = |text| parsed(text).authorization().map(|sent| sent.to_string());
        assert_eq!(sent("http://proxy"), None);
        // RFC 7617, section 2.
        let aladdin = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!(sent("http://Aladdin:open%20sesame@proxy"), aladdin);
        assert_eq!(sent("http://user@proxy"), Some("Basic dXNlcjo=".into()));
        assert_eq!(
            sent("http://a%40b:c%3Ad@proxy"),
            Some("Basic YUBiOmM6ZA==".into())
        );
    }

    #[test]
    fn the_password_is_not_shown() {
        let proxy = parsed("http://user:secret@proxy:3128");
        let encoded = STANDARD.encode("user:secret");
        for shown in [proxy.to_string(), format!("{proxy:?}")] {
            assert!(
                !shown.contains("secret") && !shown.contains(&encoded),
                "{shown}"
            );
        }
    }
}
