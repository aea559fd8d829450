//! A client as environment variables have it: what the Spring Boot starter calls properties, and more.

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use prometheus_rsocket_wire::description::DescriptionError;

use crate::address::{Address, AddressError};
use crate::http_proxy::{HttpProxy, HttpProxyError};
use crate::no_proxy::NoProxy;
use crate::render::IntoText;
use crate::{Builder, Client};

const PREFIX: &str = "PROXY_CLIENT_";

/// Which variable has a value that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct EnvError {
    variable: String,
    reason: String,
}

impl EnvError {
    fn new(name: &str, reason: impl Display) -> Self {
        Self::of(format!("{PREFIX}{name}"), reason)
    }

    fn of(variable: impl Into<String>, reason: impl Display) -> Self {
        Self {
            variable: variable.into(),
            reason: reason.to_string(),
        }
    }

    /// The variable's name.
    pub fn variable(&self) -> &str {
        &self.variable
    }
}

impl Client {
    /// [`Client::builder`], then [`Builder::env`].
    ///
    /// # Errors
    ///
    /// When a variable has a value that cannot be used; the error names it.
    pub fn from_env<T: IntoText>(
        render: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<Builder, EnvError> {
        Self::builder(render).env()
    }
}

impl Builder {
    /// Takes settings from environment variables. One that is not set, or empty, changes nothing.
    ///
    /// | `PROXY_CLIENT_…` | Spring Boot starter | |
    /// |---|---|---|
    /// | `ENABLED` | `enabled` | `true` or `false`, see [`Builder::enabled`] |
    /// | `HOST`, `PORT` | `host`, `port` | the proxy, if not `localhost` and the port of the transport |
    /// | `TRANSPORT` | `transport` | `tcp` or `websocket` |
    /// | `SECURE` | `secure` | `true` for TLS |
    /// | `PROXIES` | | instead of the four: several addresses with commas between them |
    /// | `HTTP_PROXY` | | `http://[USER:PASSWORD@]HOST[:PORT]`, see [`Builder::http_proxy`] |
    /// | `INSTANCE`, `JOB` | `instance`, `job` | see [`Builder::instance`], [`Builder::job`] |
    /// | `LABELS` | `labels` | `zone=b,team=shop`, see [`Builder::label`] |
    /// | `MAX_RETRIES` | `max-retries` | see [`Builder::max_retries`] |
    /// | `FIRST_BACKOFF`, `MAX_BACKOFF` | `first-backoff`, `max-backoff` | such as `10s`, see [`Builder::backoff`] |
    /// | `TIMEOUT` | | see [`Builder::timeout`] |
    /// | `PREFER_FIRST` | | an interval, see [`Builder::prefer_first`] |
    /// | `OWN_METRICS` | | `true` or `false`, see [`Builder::own_metrics`] |
    /// | `PUSH_ON_DROP` | | `true`, see [`Builder::push_on_drop`] |
    /// | `MIN_ENVELOPE_VERSION` | | `2`: see [`Builder::forbid_downgrade`] |
    /// | `BEARER_TOKEN`, `BEARER_TOKEN_FILE` | | see [`Builder::bearer_token`], [`Builder::bearer_token_file`] |
    /// | `USERNAME` with `PASSWORD` or `PASSWORD_FILE` | | see [`Builder::password`], [`Builder::password_file`] |
    /// | `TLS_CA_FILE` | | a PEM file, see `Builder::tls_ca_file` |
    /// | `TLS_CERT_FILE`, `TLS_KEY_FILE` | | PEM files, see `Builder::tls_client_certificate` |
    ///
    /// The starter's port is 7001 for WebSocket too.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, or what it asks for is not built in; the error names the variable.
    pub fn env(self) -> Result<Self, EnvError> {
        self.env_from(variable)
    }

    /// [`Builder::http_proxy`] with [`HttpProxy::from_env`]. Where the environment names none, this changes nothing.
    ///
    /// # Errors
    ///
    /// As [`HttpProxy::from_env`].
    pub fn http_proxy_from_env(self) -> Result<Self, EnvError> {
        Ok(match HttpProxy::from_env()? {
            Some(proxy) => self.http_proxy(proxy),
            None => self,
        })
    }

    /// [`Builder::env`] with variables from elsewhere: `lookup` gives the value of a name.
    ///
    /// # Errors
    ///
    /// As [`Builder::env`].
    pub fn env_from(mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, EnvError> {
        let env = Env(&lookup);
        self.enabled = env.get("ENABLED", boolean)?.unwrap_or(self.enabled);
        let proxies = env.proxies()?;
        if !proxies.is_empty() {
            self = self.proxies(proxies);
        }
        if let Some(proxy) = env.get("HTTP_PROXY", http_proxy)? {
            self = self.http_proxy(proxy);
        }
        let first = env.get("FIRST_BACKOFF", duration)?;
        let max = env.get("MAX_BACKOFF", duration)?;
        let (first, max) = (
            first.unwrap_or(self.first_backoff),
            max.unwrap_or(self.max_backoff),
        );
        self = self.backoff(first, max);
        self.max_retries = env.get("MAX_RETRIES", number)?.or(self.max_retries);
        if let Some(timeout) = env.get("TIMEOUT", duration)? {
            self = self.timeout(timeout);
        }
        if let Some(interval) = env.get("PREFER_FIRST", duration)? {
            self = self.prefer_first(interval);
        }
        if let Some(wanted) = env.get("OWN_METRICS", boolean)? {
            self = self.own_metrics(wanted);
        }
        if env.get("PUSH_ON_DROP", boolean)? == Some(true) {
            self = self.push_on_drop();
        }
        if env.get("MIN_ENVELOPE_VERSION", envelope_version)? == Some(2) {
            self = self.forbid_downgrade();
        }
        let builder = env.description(self)?;
        let builder = env.credentials(builder)?;
        env.tls(builder)
    }
}

impl HttpProxy {
    /// The HTTP proxy of the first of `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY` that is set and not empty, as
    /// curl has it for what goes through `CONNECT`, whatever the scheme; `HTTP_PROXY`, which is for plain HTTP, is not
    /// read. Addresses that `no_proxy`, else `NO_PROXY`, lists are reached directly: host names and domains (`example.com`
    /// and `.example.com` are the same), IP addresses, networks (`10.0.0.0/8`) with commas between them, `*` for all.
    ///
    /// # Errors
    ///
    /// When the variable has a value that cannot be used, such as a SOCKS proxy; the error does not contain the value.
    pub fn from_env() -> Result<Option<Self>, EnvError> {
        http_proxy_from(variable)
    }
}

/// What is not set is the same as what is empty.
fn http_proxy_from(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<HttpProxy>, EnvError> {
    let set = |name: &&str| {
        Some((
            name.to_string(),
            lookup(name).filter(|value| !value.is_empty())?,
        ))
    };
    let first = |names: &[&str]| names.iter().find_map(set);
    let Some((name, url)) = first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]) else {
        return Ok(None);
    };
    let proxy: HttpProxy = url
        .trim()
        .parse()
        .map_err(|error| EnvError::of(name, error))?;
    let direct = first(&["no_proxy", "NO_PROXY"]);
    let direct = direct.map(|(_, list)| NoProxy::parse(&list));
    Ok(Some(proxy.except(direct.unwrap_or_default())))
}

/// What is not UTF-8 is no valid value, and is not taken for unset.
fn variable(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

struct Env<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Env<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let value = (self.0)(&format!("{PREFIX}{name}"))?.trim().to_owned();
        Some(value).filter(|value| !value.is_empty())
    }

    fn get<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, EnvError> {
        let value = self.text(name).map(|value| parse(&value));
        value
            .transpose()
            .map_err(|reason| EnvError::new(name, reason))
    }

    /// None where nothing says where the proxy is.
    fn proxies(&self) -> Result<Vec<Address>, EnvError> {
        if let Some(addresses) = self.get("PROXIES", addresses)? {
            return Ok(addresses);
        }
        let host = self.text("HOST");
        let port = self.get("PORT", number::<u16>)?;
        let websocket = self.get("TRANSPORT", transport)?;
        let secure = self.get("SECURE", boolean)?;
        if host.is_none() && port.is_none() && websocket.is_none() && secure.is_none() {
            return Ok(Vec::new());
        }
        let scheme = match (websocket, secure) {
            (Some(true), Some(true)) => "wss",
            (Some(true), _) => "ws",
            (_, Some(true)) => "tls",
            _ => "tcp",
        };
        let host = host.unwrap_or_else(|| "localhost".into());
        address(scheme, &host, port).map(|address| vec![address])
    }

    fn description(&self, mut builder: Builder) -> Result<Builder, EnvError> {
        let at = |name: &'static str| move |error: DescriptionError| EnvError::new(name, error);
        if let Some(instance) = self.text("INSTANCE") {
            builder = builder.instance(instance).map_err(at("INSTANCE"))?;
        }
        if let Some(job) = self.text("JOB") {
            builder = builder.job(job).map_err(at("JOB"))?;
        }
        for (name, value) in self.get("LABELS", labels)?.unwrap_or_default() {
            builder = builder.label(name, value).map_err(at("LABELS"))?;
        }
        Ok(builder)
    }

    fn credentials(&self, builder: Builder) -> Result<Builder, EnvError> {
        let token = self.text("BEARER_TOKEN");
        let token_file = self.text("BEARER_TOKEN_FILE");
        let name = self.text("USERNAME");
        let password = self.text("PASSWORD");
        let password_file = self.text("PASSWORD_FILE");
        let needs_one = "needs one of PASSWORD and PASSWORD_FILE, and no token";
        match (token, token_file, name, password, password_file) {
            (None, None, None, None, None) => Ok(builder),
            (Some(token), None, None, None, None) => Ok(builder.bearer_token(token)),
            (None, Some(path), None, None, None) => Ok(builder.bearer_token_file(path)),
            (None, None, Some(name), Some(word), None) => Ok(builder.password(name, word)),
            (None, None, Some(name), None, Some(path)) => Ok(builder.password_file(name, path)),
            (_, _, Some(_), _, _) => Err(EnvError::new("USERNAME", needs_one)),
            (_, _, None, Some(_), _) => Err(EnvError::new("PASSWORD", "needs USERNAME")),
            (_, _, None, None, Some(_)) => Err(EnvError::new("PASSWORD_FILE", "needs USERNAME")),
            (Some(_), Some(_), None, None, None) => Err(EnvError::new(
                "BEARER_TOKEN",
                "cannot be combined with BEARER_TOKEN_FILE",
            )),
        }
    }

    #[cfg(feature = "tls")]
    fn tls(&self, mut builder: Builder) -> Result<Builder, EnvError> {
        if let Some(path) = self.text("TLS_CA_FILE") {
            let trusting = builder.tls_ca_file(path);
            builder = trusting.map_err(|error| EnvError::new("TLS_CA_FILE", error))?;
        }
        match (self.text("TLS_CERT_FILE"), self.text("TLS_KEY_FILE")) {
            (None, None) => Ok(builder),
            (Some(certificates), Some(key)) => builder
                .tls_client_certificate(certificates, key)
                .map_err(|error| EnvError::new("TLS_CERT_FILE", error)),
            (Some(_), None) => Err(EnvError::new("TLS_KEY_FILE", "needed with TLS_CERT_FILE")),
            (None, Some(_)) => Err(EnvError::new("TLS_CERT_FILE", "needed with TLS_KEY_FILE")),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn tls(&self, builder: Builder) -> Result<Builder, EnvError> {
        for name in ["TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"] {
            if self.text(name).is_some() {
                return Err(EnvError::new(name, "TLS is not built in"));
            }
        }
        Ok(builder)
    }
}

fn address(scheme: &str, host: &str, port: Option<u16>) -> Result<Address, EnvError> {
    // As the starter takes an IPv6 address: without brackets, or with them.
    let in_brackets = host.starts_with('[') && host.ends_with(']');
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) if host.contains(':') && !in_brackets => {
            let reason =
                "must be a name or an IP address; the port is in PORT, a whole address in PROXIES";
            return Err(EnvError::new("HOST", reason));
        }
        Err(_) => host.to_owned(),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let address = format!("{scheme}://{host}{port}").parse();
    address.map_err(|error| {
        let name = match error {
            AddressError::Host => "HOST",
            AddressError::Port => "PORT",
            AddressError::Scheme if scheme.starts_with("ws") => "TRANSPORT",
            AddressError::Scheme => "SECURE",
        };
        EnvError::new(name, error)
    })
}

fn addresses(text: &str) -> Result<Vec<Address>, String> {
    let addresses = text.split(',').map(|address| {
        let parsed = address.trim().parse();
        parsed.map_err(|error: AddressError| format!("{address}: {error}"))
    });
    addresses.collect()
}

fn http_proxy(text: &str) -> Result<HttpProxy, String> {
    text.parse()
        .map_err(|error: HttpProxyError| error.to_string())
}

fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let labels = text.split(',').map(|label| {
        let parts = label
            .split_once('=')
            .ok_or("labels are written NAME=VALUE,NAME=VALUE")?;
        Ok((parts.0.trim().to_owned(), parts.1.trim().to_owned()))
    });
    labels.collect()
}

fn transport(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(false),
        "websocket" => Ok(true),
        _ => Err("tcp or websocket is expected".into()),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    let lower = text.to_ascii_lowercase();
    lower
        .parse()
        .map_err(|_| "true or false is expected".into())
}

fn envelope_version(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(version @ 1..=2) => Ok(version),
        _ => Err("must be 1 or 2".into()),
    }
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be more than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; 500ms, 10s, 5m are valid")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn builder(variables: &[(&str, &str)]) -> Result<Builder, EnvError> {
        Client::builder(|| "").env_from(|name| {
            let short = name.strip_prefix(PREFIX).expect("the prefix");
            let found = variables.iter().find(|(name, _)| *name == short);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxies(variables: &[(&str, &str)]) -> Vec<String> {
        let builder = builder(variables).unwrap();
        builder.addresses().iter().map(Address::to_string).collect()
    }

    #[test]
    fn variables_that_are_not_set_or_empty_change_nothing() {
        let unset = builder(&[]).unwrap();
        assert!(unset.enabled);
        assert_eq!(unset.first_backoff, Duration::from_secs(10));
        assert_eq!(unset.max_retries, None);
        assert!(proxies(&[("HOST", ""), ("PORT", " ")]).is_empty());
    }

    #[test]
    fn the_properties_of_the_starter_have_their_effect() {
        let set = builder(&[
            ("ENABLED", "false"),
            ("MAX_RETRIES", "3"),
            ("FIRST_BACKOFF", "500ms"),
            ("MAX_BACKOFF", "1m"),
        ])
        .unwrap();
        assert!(!set.enabled);
        assert_eq!(set.max_retries, Some(3));
        assert_eq!(set.first_backoff, Duration::from_millis(500));
        assert_eq!(set.max_backoff, Duration::from_secs(60));
        assert_eq!(proxies(&[("HOST", "proxy")]), ["tcp://proxy:7001"]);
        assert_eq!(proxies(&[("PORT", "7002")]), ["tcp://localhost:7002"]);
        assert_eq!(proxies(&[("HOST", "::1")]), ["tcp://[::1]:7001"]);
    }

    #[test]
    fn several_proxies_take_the_place_of_host_and_port() {
        let set = [("PROXIES", "tcp://a:1, tcp://b:2"), ("HOST", "c")];
        assert_eq!(proxies(&set), ["tcp://a:1", "tcp://b:2"]);
    }

    #[test]
    fn what_the_application_is_can_be_set() {
        let set = [
            ("INSTANCE", "web-1"),
            ("JOB", "shop"),
            ("LABELS", "zone=b, team=x=y"),
        ];
        let json = builder(&set)
            .unwrap()
            .state(Arc::default())
            .description
            .borrow()
            .clone();
        let target = r#"{"instance":"web-1","job":"shop","labels":{"team":"x=y","zone":"b"}}"#;
        assert!(
            json.ends_with(format!("[{target}]}}").as_bytes()),
            "{json:?}"
        );
    }

    #[cfg(all(feature = "tls", feature = "websocket"))]
    #[test]
    fn transport_and_secure_make_the_scheme() {
        let scheme =
            |transport, secure| proxies(&[("TRANSPORT", transport), ("SECURE", secure)]).remove(0);
        assert_eq!(scheme("tcp", "true"), "tls://localhost:7001");
        assert_eq!(scheme("websocket", "false"), "ws://localhost:8081");
        assert_eq!(scheme("WEBSOCKET", "TRUE"), "wss://localhost:8081");
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_variable() {
        for (name, value) in [
            ("ENABLED", "yes"),
            ("HOST", "proxy:7001"),
            ("HOST", "tcp://proxy"),
            ("HOST", "[::1]:7001"),
            ("PORT", "70000"),
            ("PORT", "0"),
            ("TRANSPORT", "udp"),
            ("SECURE", "1"),
            ("PROXIES", "tcp://a:1,b:2"),
            ("HTTP_PROXY", "socks5://proxy:1080"),
            ("MAX_RETRIES", "-1"),
            ("FIRST_BACKOFF", "10"),
            ("FIRST_BACKOFF", "0s"),
            ("TIMEOUT", "0ms"),
            ("TIMEOUT", "soon"),
            ("INSTANCE", "a\u{7}b"),
            ("LABELS", "zone"),
            ("LABELS", "instance=a"),
            ("TLS_CERT_FILE", "/nonexistent/cert.pem"),
            ("TLS_CA_FILE", "/nonexistent/ca.pem"),
        ] {
            let error = builder(&[(name, value)]).err().expect(value);
            let names = [name.to_owned(), name.replace("CERT", "KEY")];
            assert!(
                names
                    .iter()
                    .any(|name| error.variable() == format!("{PREFIX}{name}")),
                "{error}"
            );
        }
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Option<HttpProxy>, EnvError> {
        http_proxy_from(|name| {
            let found = variables.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_http_proxy_is_that_of_the_first_variable_that_is_set() {
        let all = [
            ("https_proxy", "http://a:1"),
            ("HTTPS_PROXY", "b:2"),
            ("all_proxy", "http://c"),
            ("ALL_PROXY", "http://d:4/"),
        ];
        for (unset, expected) in [(0, "a:1"), (1, "b:2"), (2, "c:1080"), (3, "d:4")] {
            let proxy = from_variables(&all[unset..]).unwrap().unwrap();
            assert_eq!(proxy.to_string(), expected);
        }
        let other = [
            ("https_proxy", ""),
            ("HTTP_PROXY", "http://a:1"),
            ("http_proxy", "http://a:1"),
        ];
        assert!(from_variables(&other).unwrap().is_none());
    }

    #[test]
    fn what_no_proxy_lists_is_reached_directly() {
        let serves = |variables: &[(&str, &str)], address: &str| {
            let set = [&[("ALL_PROXY", "http://a:1")], variables].concat();
            let proxy = from_variables(&set).unwrap().unwrap();
            proxy.serves(&address.parse().unwrap())
        };
        let near = "tcp://node.near:7001";
        assert!(serves(&[], near));
        assert!(!serves(&[("NO_PROXY", "near")], near));
        assert!(serves(&[("no_proxy", "far"), ("NO_PROXY", "near")], near));
    }

    #[test]
    fn an_error_in_a_variable_names_it_without_its_password() {
        for value in [
            "https://user:secret@proxy",
            "http://user:secret@:1",
            "user:secret@proxy:x",
        ] {
            let error = from_variables(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(error.variable(), "HTTPS_PROXY");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
