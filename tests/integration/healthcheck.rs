//! `healthcheck` as a container's runtime calls it.

use std::process::{Output, Stdio};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::Peer;
use crate::sandbox::{PATIENCE, Sandbox, eventually, request};

async fn healthcheck(arguments: &[&str], environment: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus-rsocket-proxy"));
    command
        .arg("healthcheck")
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(PATIENCE, command.output())
        .await
        .expect("an end")
        .expect("the program")
}

/// Unhealthy, with one line that has this part.
fn assert_unhealthy(output: &Output, part: &str) {
    let said = std::str::from_utf8(&output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(part), "{said}");
}

async fn ready(proxy: &Sandbox) {
    eventually("readiness", async || {
        proxy.get("/-/ready").await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn a_ready_node_is_healthy_however_its_address_is_said() {
    let proxy = Sandbox::start(&["--web.listen-address=0.0.0.0:0"]).await;
    ready(&proxy).await;
    let flag = format!("--web=http://127.0.0.1:{}", proxy.web().port());
    let listens = ("PROXY_WEB_LISTEN_ADDRESS", proxy.web().to_string());
    let nobody = ("PROXY_WEB_LISTEN_ADDRESS", "127.0.0.1:1".to_owned());
    let web = ("PROXY_HEALTHCHECK_WEB", format!("http://{}", proxy.web()));
    for (arguments, environment) in [
        (&[&*flag][..], &[][..]),
        (&[], &[listens]),
        (&[], &[nobody, web]),
    ] {
        let output = healthcheck(arguments, environment).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[tokio::test]
async fn a_node_that_drains_is_unhealthy() {
    let proxy = Sandbox::start(&[]).await;
    ready(&proxy).await;
    let mut app = Peer::connect(proxy.tcp()).await;
    app.key().await;
    app.push("jobs_total 1\n").await.unwrap();
    let web = proxy.web();
    // The push keeps it from ending.
    let drain = tokio::spawn(proxy.node.drain(Duration::from_secs(3600)));
    eventually("the drain", async || {
        let ready = request(web, Method::GET, "/-/ready", &[]).await;
        ready.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let output = healthcheck(&["--web", &format!("http://{web}")], &[]).await;
    assert_unhealthy(&output, "prometheus-rsocket-proxy is draining");
    drain.abort();
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_unhealthy() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = format!("http://{}", silent.local_addr().unwrap());
    let output = healthcheck(&["--web", &web, "--timeout=50ms"], &[]).await;
    assert_unhealthy(&output, "no answer within 50ms");
    let output = healthcheck(&["--web", "http://127.0.0.1:1"], &[]).await;
    assert_unhealthy(&output, "cannot connect");
}
