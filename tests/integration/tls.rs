//! Applications that come through TLS: the client library, and the published Java client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus_rsocket_client::{Builder, Client, ConnectError, Reason};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::peers::{Program, Scratch, need};
use crate::sandbox::{Sandbox, eventually};

/// Those who issue certificates: one that is trusted, in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) ca_file: String,
}

impl Authority {
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let ca_file = scratch.file(name, &issuer.pem());
        Self { issuer, ca_file }
    }

    fn certificate(&self, host: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new([host.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }

    /// A certificate of this authority, and its key, in files of these names.
    pub(crate) fn issue(&self, scratch: &Scratch, host: &str, name: &str) -> [String; 2] {
        let (certificate, key) = self.certificate(host);
        [
            scratch.file(&format!("{name}.pem"), &certificate.pem()),
            scratch.file(&format!("{name}-key.pem"), &key.serialize_pem()),
        ]
    }

    /// A node that shows a certificate of this authority for `localhost`.
    pub(crate) async fn node(&self, scratch: &Scratch, flags: &[&str]) -> Sandbox {
        let [certificate, key] = self.issue(scratch, "localhost", "node");
        let certificate = format!("--rsocket.tls.cert-file={certificate}");
        let key = format!("--rsocket.tls.key-file={key}");
        Sandbox::start(&[&[certificate.as_str(), &key], flags].concat()).await
    }
}

fn client(scheme: &str, address: SocketAddr) -> Builder {
    let address = format!("{scheme}://localhost:{}", address.port());
    Client::builder(|| "up 1\n")
        .proxy(address.parse().expect("an address"))
        .timeout(Duration::from_secs(30))
}

async fn refused(proxy: &Sandbox, exception: &str) -> f64 {
    let labels = format!("{{exception=\"{exception}\",transport=\"TCP\"}}");
    let series = format!("prometheus_proxy_connection_error_total{labels}");
    proxy.own(&series).await
}

#[tokio::test]
async fn an_application_is_pulled_and_pushes_through_tls() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = authority.node(&scratch, &[]).await;
    for (scheme, address) in [("tls", proxy.tcp()), ("wss", proxy.node.websocket_address)] {
        let builder = client(scheme, address).tls_ca_file(&authority.ca_file);
        let client = builder.unwrap().connect_and_wait().await.unwrap();
        proxy.connected(1).await;
        assert_eq!(proxy.scrape().await, ["up 1"]);
        client.push_and_close().await.unwrap();
        proxy.connected(0).await;
        assert_eq!(proxy.scrape().await, ["up 1"]);
    }
}

#[tokio::test]
async fn a_proxy_of_an_unknown_authority_is_not_trusted() {
    let scratch = Scratch::new();
    let known = Authority::new(&scratch, "known.pem");
    let unknown = Authority::new(&scratch, "unknown.pem");
    let proxy = unknown.node(&scratch, &[]).await;
    let builder = client("tls", proxy.tcp()).max_retries(0);
    let builder = builder.tls_ca_file(&known.ca_file).unwrap();
    let client = builder.clone().connect();
    eventually("the refusal", async || {
        client.metrics().connection_errors == [(Reason::Tls, 1)]
    })
    .await;
    let failed = builder.connect_and_wait().await;
    assert!(matches!(failed, Err(ConnectError::GaveUp(reason)) if reason.contains("certificate")));
    eventually("both counted", async || refused(&proxy, "tls").await == 2.0).await;
}

#[tokio::test]
async fn a_client_without_tls_is_told_what_the_port_speaks() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = authority.node(&scratch, &[]).await;
    let builder = client("tcp", proxy.tcp()).max_retries(0);
    let failed = builder.connect_and_wait().await;
    assert!(matches!(failed, Err(ConnectError::GaveUp(reason)) if reason.contains("tls://")));
}

/// The node's flag to let only those in whose certificate this authority issued.
pub(crate) fn only_clients_of(authority: &Authority) -> String {
    format!("--rsocket.tls.client-ca-file={}", authority.ca_file)
}

#[tokio::test]
async fn an_application_shows_its_certificate_where_one_is_wanted() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = authority
        .node(&scratch, &[&only_clients_of(&authority)])
        .await;
    let [certificate, key] = authority.issue(&scratch, "application", "client");
    let builder = client("tls", proxy.tcp())
        .tls_ca_file(&authority.ca_file)
        .unwrap();
    let with = builder.tls_client_certificate(certificate, key).unwrap();
    with.connect_and_wait().await.unwrap().push().await.unwrap();

    let stranger = Authority::new(&scratch, "stranger.pem");
    let [certificate, key] = stranger.issue(&scratch, "application", "stranger");
    let builder = client("tls", proxy.tcp()).max_retries(0);
    let builder = builder.tls_ca_file(&authority.ca_file).unwrap();
    let other = builder.tls_client_certificate(certificate, key).unwrap();
    let other = other.connect_and_wait().await;
    assert!(matches!(other, Err(ConnectError::GaveUp(_))), "{other:?}");
}

/// Told at once, a Java client would be back at once, again and again.
#[tokio::test]
async fn a_client_with_a_strangers_certificate_is_told_why_later() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let only = only_clients_of(&authority);
    let flags = [only.as_str(), "--rsocket.setup-timeout=1s"];
    let proxy = authority.node(&scratch, &flags).await;
    let stranger = Authority::new(&scratch, "stranger.pem");
    let [certificate, key] = stranger.issue(&scratch, "application", "stranger");
    for (scheme, address) in [("tls", proxy.tcp()), ("wss", proxy.node.websocket_address)] {
        let builder = client(scheme, address)
            .max_retries(0)
            .tls_ca_file(&authority.ca_file)
            .unwrap()
            .tls_client_certificate(&certificate, &key)
            .unwrap();
        let started = Instant::now();
        let refused = builder.connect_and_wait().await;
        assert!(
            matches!(&refused, Err(ConnectError::GaveUp(reason)) if reason.contains(
                "the proxy does not accept this client's certificate"
            )),
            "{refused:?}"
        );
        assert!(started.elapsed() >= Duration::from_secs(1));
    }
    assert_eq!(refused(&proxy, "client_certificate").await, 1.0);
    proxy.connected(0).await;
}

/// Told at once, a Java client would be back at once, again and again.
#[tokio::test]
async fn a_client_without_the_certificate_that_is_wanted_is_told_why_later() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let only = only_clients_of(&authority);
    let flags = [only.as_str(), "--rsocket.setup-timeout=1s"];
    let proxy = authority.node(&scratch, &flags).await;
    for (scheme, address) in [("tls", proxy.tcp()), ("wss", proxy.node.websocket_address)] {
        let builder = client(scheme, address).max_retries(0);
        let builder = builder.tls_ca_file(&authority.ca_file).unwrap();
        let started = Instant::now();
        let without = builder.connect_and_wait().await;
        assert!(
            matches!(&without, Err(ConnectError::GaveUp(reason)) if reason.ends_with(
                "the proxy requires a client certificate, and this client sent none"
            )),
            "{without:?}"
        );
        assert!(started.elapsed() >= Duration::from_secs(1));
    }
    assert_eq!(refused(&proxy, "client_certificate").await, 1.0);
    proxy.connected(0).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_and_the_others_stay() {
    let scratch = Scratch::new();
    let (before, after) = (
        Authority::new(&scratch, "before.pem"),
        Authority::new(&scratch, "after.pem"),
    );
    let proxy = before.node(&scratch, &[]).await;
    let early = client("tls", proxy.tcp()).tls_ca_file(&before.ca_file);
    let early = early.unwrap().connect_and_wait().await.unwrap();
    after.issue(&scratch, "localhost", "node");
    let mut late = None;
    eventually("the renewed certificate", async || {
        let client = client("tls", proxy.tcp()).tls_ca_file(&after.ca_file);
        late = client.unwrap().connect_and_wait().await.ok();
        late.is_some()
    })
    .await;
    proxy.connected(2).await;
    assert_eq!(early.metrics().connects, 1);
    let ends = "prometheus_proxy_certificate_expiry_timestamp_seconds{use=\"rsocket\"}";
    assert!(proxy.own(ends).await > 0.0);
    drop(late);
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_keeps_nobody_out() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let flags = ["--rsocket.setup-timeout=1s"];
    let proxy = authority.node(&scratch, &flags).await;
    let mut silent = TcpStream::connect(proxy.tcp()).await.unwrap();
    let client = client("tls", proxy.tcp()).tls_ca_file(&authority.ca_file);
    let _client = client.unwrap().connect_and_wait().await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
    eventually("the silent one counted", async || {
        refused(&proxy, "tls").await == 1.0
    })
    .await;
    proxy.connected(1).await;
}

#[tokio::test]
async fn the_java_client_is_scraped_and_pushes_through_tls() {
    need!(Java);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = authority
        .node(&scratch, &[&only_clients_of(&authority)])
        .await;
    let [certificate, key] = authority.issue(&scratch, "application", "client");
    for (transport, address) in [("tcp", proxy.tcp()), ("ws", proxy.node.websocket_address)] {
        let port = address.port().to_string();
        let mut java = Program::interop(
            "client",
            &[
                "--host",
                "localhost",
                "--port",
                &port,
                "--transport",
                transport,
                "--name",
                "app",
                "--ca",
                &authority.ca_file,
                "--cert",
                &certificate,
                "--key",
                &key,
            ],
        );
        java.line("READY app").await;
        assert!(!proxy.scrape().await.is_empty());
        java.say("pushblocking").await;
        java.line("PUSHED app").await;
        eventually("the push", async || {
            proxy.own("prometheus_proxy_pushes_accepted_total").await >= 1.0
        })
        .await;
        java.kill().await;
        proxy.connected(0).await;
    }
}

/// A file in which Java trusts this authority.
async fn trust_store(scratch: &Scratch, authority: &Authority) -> String {
    let store = scratch.path("trust.p12");
    let made = Command::new("keytool")
        .args([
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-file",
            &authority.ca_file,
        ])
        .args([
            "-keystore",
            &store,
            "-storetype",
            "PKCS12",
            "-storepass",
            "changeit",
        ])
        .output();
    let made = made.await.expect("keytool");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stdout)
    );
    store
}

#[tokio::test]
async fn a_spring_boot_app_comes_through_tls_and_pushes_at_its_end() {
    need!(Java);
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let proxy = authority.node(&scratch, &[]).await;
    let store = trust_store(&scratch, &authority).await;
    let trust = format!(
        "-XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"
    );
    let prefix = "--management.metrics.export.prometheus.rsocket";
    let mut app = Program::start(Program::peer("spring").env("JAVA_OPTS", trust).args([
        format!("{prefix}.host=localhost"),
        format!("{prefix}.port={}", proxy.tcp().port()),
        format!("{prefix}.secure=true"),
        "--spring.application.name=shop".into(),
    ]));
    app.line_with("READY http=").await;
    proxy.connected(1).await;
    assert!(!proxy.scrape().await.is_empty());
    app.terminate();
    app.ended().await;
    proxy.connected(0).await;
    let last = proxy.scrape().await;
    assert!(
        last.iter().any(|sample| sample.contains("app=\"shop\"")),
        "{last:?}"
    );
}
