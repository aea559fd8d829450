//! The hardened configuration of `docs/security.md`, as it stands there.

use std::net::SocketAddr;
use std::time::Duration;

use prometheus_rsocket_client::{Address, Builder, Client};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::identities::sha256;
use crate::nodes::{BINARY, Ports};
use crate::peers::{Program, Scratch, need, reserved_port};
use crate::tls::Authority;
use crate::web_config::{Visit, credentials, user, visitor};

const SECRET: &str = "correct horse battery staple, hardened";
const TOKEN: &str = "a token that nobody may see";
const PASSWORD: &str = "a password that nobody may see";

/// The flags of the command in the manual.
fn manual() -> Vec<String> {
    let manual = include_str!("../../docs/security.md");
    let command = manual.split("    prometheus-rsocket-proxy \\\n").nth(1);
    let command = command.and_then(|rest| rest.split("\n\n").next());
    let words = command.expect("a command").split_whitespace();
    words
        .filter(|word| *word != "\\")
        .map(str::to_owned)
        .collect()
}

struct Hardened {
    program: Program,
    scratch: Scratch,
    authority: Authority,
    applications: Authority,
    ports: Ports,
}

impl Hardened {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let authority = Authority::new(&scratch, "ca.pem");
        authority.issue(&scratch, "localhost", "node");
        let applications = Authority::new(&scratch, "applications-ca.pem");
        let nodes = Authority::new(&scratch, "nodes-ca.pem");
        nodes.issue(&scratch, "prometheus-rsocket-proxy", "proxy");
        scratch.file("cluster-secret", SECRET);
        let token = sha256(TOKEN);
        let identities = format!(
            "identities:\n\
             - {{name: shop, tokens_sha256: [{token}], certificates: [shop.internal], labels: {{tenant: shop}}}}\n"
        );
        scratch.file("identities.yml", &identities);
        let user = user("prometheus", PASSWORD);
        let web = format!(
            "tls_server_config: {{cert_file: node.pem, key_file: node-key.pem}}\n\
             basic_auth_users: {{{user}}}\n"
        );
        scratch.file("web.yml", &web);

        let gossip = reserved_port();
        let peer = format!("127.0.0.1:{gossip}");
        let ports = ["web", "rsocket.tcp", "rsocket.websocket", "cluster.grpc"];
        let mut command = Command::new(BINARY);
        command
            .current_dir(scratch.path(""))
            .args(manual().iter().map(|word| match word.as_str() {
                "proxies.internal" => &peer,
                word => word,
            }))
            .args(ports.map(|port| format!("--{port}.listen-address=127.0.0.1:0")))
            .arg(format!("--cluster.listen-address={peer}"))
            .args(["--log.level=trace", "--rsocket.setup-timeout=2s"]);
        let mut program = Program::start(&mut command);
        Self {
            ports: Ports::of(&mut program).await,
            program,
            scratch,
            authority,
            applications,
        }
    }

    fn client(&self, scheme: &str, port: u16) -> Builder {
        let address: Address = format!("{scheme}://localhost:{port}")
            .parse()
            .expect("an address");
        Client::builder(|| "up{tenant=\"bank\"} 1\n")
            .own_metrics(false)
            .proxy(address)
            .max_retries(0)
            .timeout(Duration::from_secs(20))
    }

    fn trusting(&self, builder: Builder) -> Builder {
        builder
            .tls_ca_file(&self.authority.ca_file)
            .expect("an authority")
    }

    async fn visit(&self) -> Visit {
        let visitor = visitor(&self.scratch, &self.authority, None);
        Visit::secured(self.ports.web, &visitor).await.expect("TLS")
    }
}

#[tokio::test]
async fn the_hardened_configuration_accepts_only_those_it_names() {
    let mut node = Hardened::start().await;
    let authorization = credentials("prometheus", PASSWORD);

    // Applications: by token, by certificate; over both transports.
    let by_token = node
        .trusting(node.client("tls", node.ports.tcp.port()))
        .bearer_token(TOKEN);
    let by_token = by_token.connect_and_wait().await.expect("accepted");
    let [certificate, key] = node
        .applications
        .issue(&node.scratch, "shop.internal", "shop");
    let by_certificate = node.trusting(node.client("wss", node.ports.websocket.port()));
    let by_certificate = by_certificate.tls_client_certificate(certificate, key);
    let by_certificate = by_certificate
        .expect("a certificate")
        .connect_and_wait()
        .await;
    let by_certificate = by_certificate.expect("accepted");

    // Others: in the clear, without credentials, with a wrong token, with a certificate of another authority.
    let in_the_clear = node
        .client("tcp", node.ports.tcp.port())
        .bearer_token(TOKEN);
    assert!(in_the_clear.connect_and_wait().await.is_err());
    let nobody = node.trusting(node.client("tls", node.ports.tcp.port()));
    assert!(nobody.clone().connect_and_wait().await.is_err());
    assert!(
        nobody
            .clone()
            .bearer_token("wrong")
            .connect_and_wait()
            .await
            .is_err()
    );
    let [certificate, key] = node
        .authority
        .issue(&node.scratch, "shop.internal", "other");
    let other = nobody
        .tls_client_certificate(certificate, key)
        .expect("a certificate");
    assert!(other.connect_and_wait().await.is_err());

    // Prometheus: with the password, and nobody without.
    let mut visit = node.visit().await;
    for wrong in [
        String::new(),
        credentials("prometheus", "wrong"),
        credentials("eve", PASSWORD),
    ] {
        for path in ["/metrics/connected", "/api/v1/status", "/metrics", "/"] {
            assert_eq!(visit.get(path, &wrong).await.status, 401, "{path}");
        }
    }
    let scraped = visit.get("/metrics/connected", &authorization).await;
    let sample = "up{tenant=\"shop\",exported_tenant=\"bank\"} 1";
    assert_eq!(
        scraped.text().matches(sample).count(),
        2,
        "{}",
        scraped.text()
    );
    by_token.push_and_close().await.expect("acknowledged");
    drop(by_certificate);
    let plain = TcpStream::connect(node.ports.web).await.expect("a port");
    assert!(hyper_answers_nothing(plain).await);

    // No secret stands anywhere.
    let mut said = Vec::new();
    for path in ["/api/v1/status", "/metrics", "/"] {
        said.push(visit.get(path, &authorization).await.text().to_owned());
    }
    node.program.terminate();
    assert!(node.program.ended().await.success());
    said.push(node.program.all_lines().await);
    let hash = user("prometheus", PASSWORD);
    let hash = hash.split(": ").nth(1).expect("a hash");
    let key = std::fs::read_to_string(node.scratch.path("node-key.pem")).expect("a key");
    let key_line = key.lines().nth(1).expect("a line of the key");
    let token_hash = sha256(TOKEN);
    let basic = authorization.split(' ').nth(1).expect("credentials");
    for secret in [
        SECRET,
        TOKEN,
        PASSWORD,
        hash,
        key_line,
        token_hash.as_str(),
        basic,
    ] {
        assert!(
            said.iter().all(|text| !text.contains(secret)),
            "{secret:?} stands in it"
        );
    }
    assert!(said.last().is_some_and(|log| log.contains("level=debug")));
}

/// Whether HTTP in the clear is answered with nothing that can be read as such.
async fn hyper_answers_nothing(mut stream: TcpStream) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("written");
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    !heard.starts_with(b"HTTP")
}

/// What `openssl s_client` makes of a port: the protocol and cipher, or `None` if there is no handshake.
async fn s_client(address: SocketAddr, arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-brief"])
        .args(["-servername", "any.name"])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("openssl");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.contains("CONNECTION ESTABLISHED").then_some(said)
}

/// What `testssl` asks of a server.
#[tokio::test]
async fn openssl_finds_no_old_version_and_no_weak_cipher_on_any_port() {
    need!(Openssl);
    let node = Hardened::start().await;
    // At security level 0 openssl itself would offer them.
    let weak = [
        "aNULL",
        "eNULL",
        "EXPORT",
        "RC4",
        "3DES",
        "MD5",
        "PSK",
        "kRSA",
        "SHA1",
        "CAMELLIA",
        "AES128-SHA",
        "ECDHE-RSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-SHA",
    ];
    for (name, port) in [
        ("rsocket", node.ports.tcp),
        ("websocket", node.ports.websocket),
        ("web", node.ports.web),
    ] {
        for old in ["-tls1", "-tls1_1"] {
            let spoken = s_client(port, &[old, "-cipher", "ALL:@SECLEVEL=0"]).await;
            assert_eq!(spoken, None, "{name} {old}");
        }
        let mut tried = 0;
        for cipher in weak {
            let list = format!("{cipher}:@SECLEVEL=0");
            if !offers(&list).await {
                continue;
            }
            tried += 1;
            let spoken = s_client(port, &["-tls1_2", "-cipher", &list]).await;
            assert_eq!(spoken, None, "{name} {cipher}");
        }
        assert!(tried >= 5, "openssl itself has only {tried} of them");
        let spoken = s_client(port, &["-tls1_2"]).await.expect("TLS 1.2");
        assert!(
            spoken.contains("TLSv1.2") && spoken.contains("ECDHE"),
            "{name}: {spoken}"
        );
        let spoken = s_client(port, &["-tls1_3"]).await.expect("TLS 1.3");
        assert!(spoken.contains("TLSv1.3"), "{name}: {spoken}");
        // A curve that nobody should use.
        assert_eq!(
            s_client(port, &["-tls1_2", "-groups", "secp224r1"]).await,
            None,
            "{name}"
        );
    }
    assert_eq!(s_client(node.ports.grpc, &["-tls1_2"]).await, None);
}

/// Whether this openssl has ciphers of that kind itself.
async fn offers(list: &str) -> bool {
    let mut command = Command::new("openssl");
    let listed = command
        .args(["ciphers", "-s", "-tls1_2", list])
        .output()
        .await;
    let listed = listed.expect("openssl");
    listed.status.success() && !listed.stdout.trim_ascii().is_empty()
}
