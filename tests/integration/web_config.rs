//! The HTTP side behind `--web.config.file`: whom it answers, and how.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_rsocket_proxy::cli;
use prometheus_rsocket_proxy::tls::{Pem, client_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::app::{App, Peer};
use crate::nodes::{BINARY, Node};
use crate::peers::{Scratch, need};
use crate::prometheus::Prometheus;
use crate::sandbox::{PATIENCE, Response, Sandbox, eventually, long_text, samples};
use crate::tls::Authority;

/// `name: hash` of a password, at the least cost.
pub(crate) fn user(name: &str, password: &str) -> String {
    let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).expect("a hash");
    format!("{name}: {hash}")
}

pub(crate) fn credentials(name: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{name}:{password}"))
    )
}

/// The flag for a file with this text.
fn web_config(scratch: &Scratch, text: &str) -> String {
    format!("--web.config.file={}", scratch.file("web.yml", text))
}

/// `tls_server_config` with a certificate of `authority`, in files beside the configuration.
fn tls(scratch: &Scratch, authority: &Authority, more: &str) -> String {
    authority.issue(scratch, "localhost", "node");
    format!("tls_server_config: {{cert_file: node.pem, key_file: node-key.pem{more}}}\n")
}

/// Trusts this authority, and shows a certificate for `name` of that one.
pub(crate) fn visitor(
    scratch: &Scratch,
    trusted: &Authority,
    shown: Option<(&Authority, &str)>,
) -> Arc<ClientConfig> {
    let own = shown.map(|(authority, name)| {
        let [certificate, key] = authority.issue(scratch, name, &format!("visitor-{name}"));
        (PathBuf::from(certificate).into(), PathBuf::from(key).into())
    });
    let trusted = Pem::File(trusted.ca_file.clone().into());
    client_config(Some(&trusted), own.as_ref()).expect("certificates")
}

/// A connection that asks more than once.
pub(crate) struct Visit(SendRequest<Empty<Bytes>>);

impl Visit {
    /// The error is what came instead of TLS, or of an answer to the first request.
    pub(crate) async fn secured(
        web: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(web).await.expect("a listening node");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut visit = Self(sender);
        // In TLS 1.3 a client learns only now what is thought of its certificate.
        visit.begin("/-/healthy", "").await?;
        Ok(visit)
    }

    async fn begin(
        &mut self,
        path: &str,
        authorization: &str,
    ) -> Result<hyper::Response<Incoming>, String> {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("authorization", authorization)
            .body(Empty::new())
            .expect("a valid request");
        self.0.ready().await.map_err(|error| error.to_string())?;
        let response = self.0.send_request(request).await;
        response.map_err(|error| error.to_string())
    }

    pub(crate) async fn get(&mut self, path: &str, authorization: &str) -> Response {
        let response = self.begin(path, authorization).await.expect("a response");
        let (parts, body) = response.into_parts();
        Response {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.expect("a body").to_bytes().to_vec(),
        }
    }

    async fn scrape(&mut self) -> Vec<String> {
        samples(self.get("/metrics/connected", "").await.text())
    }

    async fn pushes(&mut self, state: &str) -> u64 {
        let status = self.get("/api/v1/status", "").await;
        let status: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
        status["pushes"][state].as_u64().expect("a number")
    }
}

#[tokio::test]
async fn nobody_is_answered_without_the_password() {
    let scratch = Scratch::new();
    let users = format!("basic_auth_users: {{{}}}\n", user("ann", "one"));
    let proxy = Sandbox::start(&[&web_config(&scratch, &users)]).await;
    let right = credentials("ann", "one");
    for path in [
        "/metrics/connected",
        "/metrics/pushes",
        "/metrics/app/a",
        "/targets",
        "/api/v1/applications",
        "/api/v1/pushes",
        "/api/v1/push",
        "/pushes",
        "/-/healthy",
        "/",
        "/applications",
        "/no/such/path",
    ] {
        let response = proxy.get(path).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers["www-authenticate"], "Basic");
        for wrong in [
            credentials("ann", "two"),
            credentials("eve", "one"),
            "Bearer one".into(),
        ] {
            let response = proxy.get_with(path, &[("authorization", &wrong)]).await;
            assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        let response = proxy.get_with(path, &[("authorization", &right)]).await;
        assert_ne!(response.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_scrape_through_tls_takes_its_pushes_exactly_once() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = Sandbox::start(&[&web_config(&scratch, &tls(&scratch, &authority, ""))]).await;
    let mut pusher = Peer::connect(proxy.tcp()).await;
    pusher.key().await;
    pusher.push("jobs_total 1\n").await.unwrap();
    drop(pusher);
    let config = visitor(&scratch, &authority, None);
    let mut visit = Visit::secured(proxy.web(), &config).await.unwrap();

    let app = App::text(proxy.tcp(), &long_text()).await;
    let mut away = Visit::secured(proxy.web(), &config).await.unwrap();
    let unread = away.begin("/metrics/connected", "").await.unwrap();
    assert_eq!(visit.pushes("claimed").await, 1);
    drop((unread, away, app));
    eventually("the push to come back", async || {
        visit.pushes("pending").await == 1
    })
    .await;

    eventually("the application to go", async || {
        visit.scrape().await == ["jobs_total 1"]
    })
    .await;
    eventually("the claim to be committed", async || {
        visit.pushes("claimed").await == 0
    })
    .await;
    assert_eq!(visit.scrape().await, [""; 0]);
}

#[tokio::test]
async fn who_has_no_certificate_of_the_authority_is_kept_out() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let stranger = Authority::new(&scratch, "stranger.pem");
    let more = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [one, two]";
    let proxy = Sandbox::start(&[&web_config(&scratch, &tls(&scratch, &authority, more))]).await;
    let welcome = visitor(&scratch, &authority, Some((&authority, "two")));
    Visit::secured(proxy.web(), &welcome).await.unwrap();
    for shown in [None, Some((&authority, "three")), Some((&stranger, "one"))] {
        let config = visitor(&scratch, &authority, shown);
        assert!(Visit::secured(proxy.web(), &config).await.is_err());
    }
}

#[tokio::test]
async fn any_certificate_will_do_where_it_is_not_verified() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let stranger = Authority::new(&scratch, "stranger.pem");
    let more = ", client_auth_type: RequireAnyClientCert";
    let proxy = Sandbox::start(&[&web_config(&scratch, &tls(&scratch, &authority, more))]).await;
    let unknown = visitor(&scratch, &authority, Some((&stranger, "one")));
    Visit::secured(proxy.web(), &unknown).await.unwrap();
    let without = visitor(&scratch, &authority, None);
    assert!(Visit::secured(proxy.web(), &without).await.is_err());
}

#[tokio::test]
async fn users_and_certificates_change_under_scrapes_that_go_on() {
    let scratch = Scratch::new();
    let (before, after) = (
        Authority::new(&scratch, "before.pem"),
        Authority::new(&scratch, "after.pem"),
    );
    let users = |names: &str| {
        let server = tls(&scratch, &before, "");
        format!("{server}basic_auth_users: {{{names}}}\n")
    };
    let ann = user("ann", "one");
    let proxy = Sandbox::start(&[&web_config(&scratch, &users(&ann))]).await;
    let _app = App::text(proxy.tcp(), "up 1\n").await;
    let config = visitor(&scratch, &before, None);
    let mut visit = Visit::secured(proxy.web(), &config).await.unwrap();

    web_config(&scratch, &users(&format!("{ann}, {}", user("bob", "two"))));
    after.issue(&scratch, "localhost", "node");
    let renewed = visitor(&scratch, &after, None);
    eventually("both changes", async || {
        let response = visit
            .get("/metrics/connected", &credentials("ann", "one"))
            .await;
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(samples(response.text()), ["up 1"]);
        let bob = visit.get("/-/healthy", &credentials("bob", "two")).await;
        bob.status == StatusCode::OK && Visit::secured(proxy.web(), &renewed).await.is_ok()
    })
    .await;

    web_config(&scratch, &users(&user("bob", "two")));
    eventually("the farewell", async || {
        let ann = visit.get("/-/healthy", &credentials("ann", "one")).await;
        ann.status == StatusCode::UNAUTHORIZED
    })
    .await;
}

#[tokio::test]
async fn what_is_no_configuration_any_more_is_logged_and_changes_nothing() {
    let scratch = Scratch::new();
    let file = format!("basic_auth_users: {{{}}}\n", user("ann", "one"));
    let flag = web_config(&scratch, &file);
    let mut command = Command::new(BINARY);
    command.args([
        "--web.listen-address=127.0.0.1:0",
        "--rsocket.tcp.listen-address=127.0.0.1:0",
        "--rsocket.websocket.listen-address=127.0.0.1:0",
        &flag,
    ]);
    let mut node = Node::start(&mut command, [127, 0, 0, 1].into()).await;
    let authority = Authority::new(&scratch, "ca.pem");
    let with_tls = tls(&scratch, &authority, "") + &file;
    let refusals = [
        (with_tls.as_str(), "turning TLS on or off"),
        ("basic_auth_user: {}\n", "unknown field"),
        // As a file is for a moment while it is written.
        ("", "basic_auth_users"),
        (
            "tls_server_config: {cert_file: absent, key_file: absent}\n",
            "absent",
        ),
    ];
    for (text, words) in refusals {
        web_config(&scratch, text);
        let line = node
            .program
            .line_with("keeping the last good web configuration")
            .await;
        assert!(line.contains(words), "{line}");
        assert_eq!(node.get("/-/healthy").await, "Unauthorized\n");
    }
    web_config(&scratch, &file.replace("ann", "bob"));
    node.program.read_files();
    let line = node.program.line_with("signal=SIGHUP").await;
    assert!(line.contains(" files=1"), "{line}");
    node.program.line_with("web configuration reloaded").await;
    assert!(!node.program.has_said("stderr: panic"));
}

#[tokio::test]
async fn responses_have_the_headers_that_are_asked_for() {
    let scratch = Scratch::new();
    let file = format!(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: \"default-src https:\"\n\
         basic_auth_users: {{{}}}\n",
        user("ann", "one")
    );
    let proxy = Sandbox::start(&[&web_config(&scratch, &file)]).await;
    let right = credentials("ann", "one");
    for headers in [&[][..], &[("authorization", right.as_str())]] {
        let response = proxy.get_with("/metrics", headers).await;
        assert_eq!(response.headers["x-frame-options"], "deny");
        assert_eq!(
            response.headers["content-security-policy"],
            "default-src https:"
        );
    }
    // The page has a stricter one of its own.
    let page = proxy.get_with("/", &[("authorization", &right)]).await;
    let policies: Vec<_> = page
        .headers
        .get_all("content-security-policy")
        .iter()
        .collect();
    assert_eq!(policies.len(), 1);
    assert_ne!(policies[0], "default-src https:");
}

#[tokio::test]
async fn a_client_that_asks_too_often_gets_429() {
    let scratch = Scratch::new();
    let limit = web_config(&scratch, "rate_limit: {interval: 1h, burst: 2}\n");
    let proxy = Sandbox::start(&[&limit]).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(proxy.get("/-/healthy").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_given_up() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let file = web_config(&scratch, &tls(&scratch, &authority, ""));
    let proxy = Sandbox::start(&[&file, "--web.io-timeout=200ms", "--web.max-connections=1"]).await;
    let mut silent = TcpStream::connect(proxy.web()).await.unwrap();
    let end = timeout(PATIENCE, silent.read(&mut [0; 16])).await;
    assert_eq!(end.expect("an end").unwrap(), 0);
    let config = visitor(&scratch, &authority, None);
    Visit::secured(proxy.web(), &config).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_one_line_that_names_flag_and_file_and_exit_2() {
    let scratch = Scratch::new();
    let absent = format!("--web.config.file={}", scratch.path("absent.yml"));
    for (flag, words) in [
        (absent, "absent.yml"),
        (
            web_config(&scratch, "basic_auth_users: {ann: one}\n"),
            "ann: not a bcrypt hash",
        ),
    ] {
        // This address cannot be bound: the file is checked first.
        let arguments = [&flag, "--web.listen-address=192.0.2.1:1"];
        let output = Command::new(BINARY).args(arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("--web.config.file ") && said.contains(words),
            "{said}"
        );
    }
}

#[tokio::test]
async fn healthcheck_asks_through_tls_with_a_certificate_and_a_password() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let more = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
    let users = format!("basic_auth_users: {{{}}}\n", user("ann", "one"));
    let file = tls(&scratch, &authority, more) + &users;
    let proxy = Sandbox::start(&[&web_config(&scratch, &file)]).await;
    let [certificate, key] = authority.issue(&scratch, "probe", "probe");
    let secured = [
        format!("--web=https://{}", proxy.web()),
        "--tls.server-name=localhost".into(),
        format!("--tls.ca-file={}", authority.ca_file),
        format!("--tls.cert-file={certificate}"),
        format!("--tls.key-file={key}"),
    ];
    let password = [
        "--basic-auth.user=ann".to_owned(),
        format!(
            "--basic-auth.password-file={}",
            scratch.file("password", "one\n")
        ),
    ];
    let healthcheck = async |flags: &[String]| {
        let output = Command::new(BINARY)
            .arg("healthcheck")
            .args(flags)
            .output()
            .await;
        let output = output.expect("the program");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("UTF-8"),
        )
    };
    let all = [&secured[..], &password].concat();
    eventually("readiness", async || healthcheck(&all).await.0 == Some(0)).await;
    let (code, said) = healthcheck(&secured).await;
    assert!(
        code == Some(1) && said.contains("401 Unauthorized"),
        "{said}"
    );
    let (code, said) = healthcheck(&[&secured[..2], &password].concat()).await;
    assert!(code == Some(1) && said.contains("TLS: "), "{said}");
}

#[tokio::test]
async fn prometheus_scrapes_through_tls_with_a_password() {
    need!(Prometheus);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let users = format!("basic_auth_users: {{{}}}\n", user("prometheus", "one"));
    let file = tls(&scratch, &authority, "") + &users;
    let proxy = Sandbox::start(&[&web_config(&scratch, &file)]).await;
    let _app = App::text(proxy.tcp(), "answer 42\n").await;
    let target = format!("localhost:{}", proxy.web().port());
    let ca_file = &authority.ca_file;
    let job = |name: &str, password: &str| {
        format!(
            "- {{job_name: {name}, scheme: https, metrics_path: /metrics/connected, honor_labels: true, \
             tls_config: {{ca_file: {ca_file}}}, basic_auth: {{username: prometheus, password: {password}}}, \
             static_configs: [{{targets: ['{target}']}}]}}\n"
        )
    };
    let jobs = job("right", "one") + &job("wrong", "two");
    let global = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n";
    let prometheus = Prometheus::with(&format!("{global}{jobs}")).await;
    prometheus.shows("up{job=\"right\"}", 1.0).await;
    prometheus.shows("answer", 42.0).await;
    prometheus.shows("up{job=\"wrong\"}", 0.0).await;
}

#[test]
fn the_example_of_the_manual_is_taken() {
    let manual = include_str!("../../docs/web-configuration.md");
    let (_, example) = manual.split_once("```yaml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "client-ca.pem");
    authority.issue(&scratch, "localhost", "tls");
    let checked = cli::settings([web_config(&scratch, example).as_str()]);
    assert!(checked.unwrap().access.is_some());
}
