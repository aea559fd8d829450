//! The client library through TLS, which something in front of the node ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_rsocket_client::{Builder, Client, ConnectError, Reason};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::peers::Scratch;
use crate::sandbox::{Sandbox, eventually};

/// Those who issue certificates: one that is trusted, in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    ca_file: String,
}

impl Authority {
    fn new(scratch: &Scratch, name: &str) -> Self {
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

    /// A terminator for `localhost` before this address; with `mutual` it wants certificates of its own authority.
    async fn terminate(&self, behind: SocketAddr, mutual: bool) -> SocketAddr {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.certificate("localhost");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(forward(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            behind,
        ));
        address
    }
}

async fn forward(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut plain = TcpStream::connect(behind).await?;
            let mut secure = acceptor.accept(stream).await?;
            copy_bidirectional(&mut secure, &mut plain).await
        });
    }
}

fn client(scheme: &str, terminator: SocketAddr) -> Builder {
    let address = format!("{scheme}://localhost:{}", terminator.port());
    Client::builder(|| "up 1\n")
        .proxy(address.parse().expect("an address"))
        .timeout(Duration::from_secs(30))
}

#[tokio::test]
async fn an_application_is_pulled_and_pushes_through_tls() {
    let (proxy, scratch) = (Sandbox::start(&[]).await, Scratch::new());
    let authority = Authority::new(&scratch, "ca.pem");
    for (scheme, behind) in [
        ("tls", proxy.node.tcp_address),
        ("wss", proxy.node.websocket_address),
    ] {
        let terminator = authority.terminate(behind, false).await;
        let builder = client(scheme, terminator).tls_ca_file(&authority.ca_file);
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
    let (proxy, scratch) = (Sandbox::start(&[]).await, Scratch::new());
    let known = Authority::new(&scratch, "known.pem");
    let unknown = Authority::new(&scratch, "unknown.pem");
    let terminator = unknown.terminate(proxy.tcp(), false).await;
    let builder = client("tls", terminator).max_retries(0);
    let builder = builder.tls_ca_file(&known.ca_file).unwrap();
    let client = builder.clone().connect();
    eventually("the refusal", async || {
        client.metrics().connection_errors == [(Reason::Tls, 1)]
    })
    .await;
    let failed = builder.connect_and_wait().await;
    assert!(matches!(failed, Err(ConnectError::GaveUp(reason)) if reason.contains("certificate")));
}

#[tokio::test]
async fn an_application_shows_its_certificate_where_one_is_wanted() {
    let (proxy, scratch) = (Sandbox::start(&[]).await, Scratch::new());
    let authority = Authority::new(&scratch, "ca.pem");
    let terminator = authority.terminate(proxy.tcp(), true).await;
    let (certificate, key) = authority.certificate("application");
    let certificate = scratch.file("cert.pem", &certificate.pem());
    let key = scratch.file("key.pem", &key.serialize_pem());
    let builder = client("tls", terminator)
        .tls_ca_file(&authority.ca_file)
        .unwrap();
    let without = builder.clone().max_retries(0).connect_and_wait().await;
    assert!(
        matches!(without, Err(ConnectError::GaveUp(_))),
        "{without:?}"
    );
    let with = builder.tls_client_certificate(certificate, key).unwrap();
    with.connect_and_wait().await.unwrap().push().await.unwrap();
}
