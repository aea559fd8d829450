//! Nodes that show each other certificates which the operator handed out.

use crate::nodes::local;
use crate::peers::{Scratch, reserved_port};
use crate::sandbox::eventually;
use crate::tls::Authority;

/// What a node with a certificate of this authority is started with.
fn certified(
    authority: &Authority,
    scratch: &Scratch,
    name: &str,
    trusted: &Authority,
) -> [String; 3] {
    let [certificate, key] = authority.issue(scratch, "prometheus-rsocket-proxy", name);
    [
        format!("--cluster.tls.cert-file={certificate}"),
        format!("--cluster.tls.key-file={key}"),
        format!("--cluster.tls.ca-file={}", trusted.ca_file),
    ]
}

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_share_pushes_and_others_do_not() {
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let stranger = Authority::new(&scratch, "stranger.pem");
    let ports = [reserved_port(), reserved_port(), reserved_port()];
    let first = certified(&authority, &scratch, "first", &authority);
    let first = local(ports[0], ports[1], &first.each_ref().map(String::as_str)).await;
    let second = certified(&authority, &scratch, "second", &authority);
    let second = local(ports[1], ports[0], &second.each_ref().map(String::as_str)).await;
    first.sees(2, "active").await;
    second.sees(2, "active").await;
    first.pushed("held_total 1\n").await;
    eventually("a replica", async || {
        first.own("prometheus_proxy_pushes_replicated_total").await == 1.0
    })
    .await;
    assert_eq!(second.scrape().await, ["held_total 1"]);

    // It trusts them, and they do not trust it.
    let third = certified(&stranger, &scratch, "third", &authority);
    let third = local(ports[2], ports[0], &third.each_ref().map(String::as_str)).await;
    third.sees(3, "active").await;
    first.pushed("held_total 2\n").await;
    assert!(third.scrape().await.is_empty());
    let refused = "prometheus_proxy_cluster_connection_errors_total{reason=\"handshake\"}";
    eventually("refusals", async || first.own(refused).await > 0.0).await;
    assert_eq!(second.scrape().await, ["held_total 2"]);
}

#[test]
fn certificates_that_cannot_be_used_are_one_line_that_names_the_flag() {
    use prometheus_rsocket_proxy::cli::settings;
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch, "ca.pem");
    let [certificate, key, ca] = certified(&authority, &scratch, "node", &authority);
    let rubbish = scratch.file("rubbish.pem", "rubbish");
    for (flags, part) in [
        (
            [&format!("--cluster.tls.cert-file={rubbish}"), &key, &ca],
            "--cluster.tls.cert-file: ",
        ),
        (
            [
                &certificate,
                &format!("--cluster.tls.key-file={rubbish}"),
                &ca,
            ],
            "--cluster.tls.key-file: ",
        ),
        (
            [
                &certificate,
                &key,
                &format!("--cluster.tls.ca-file={rubbish}"),
            ],
            "--cluster.tls.ca-file: ",
        ),
    ] {
        let said = settings(flags.map(String::as_str)).expect_err("a mistake");
        assert!(said.starts_with(part), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
