//! SIGTERM, which needs a process of its own: the test binary starts itself again.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

use prometheus_rsocket_client::{Address, AfterSigterm, Builder};

use tokio::time::timeout;

use crate::proxy::{Proxy, acknowledging, client, nobody};

const PROXY: &str = "BEHAVIOUR_PROXY";
const SIGTERM: i32 = 15;

/// This binary, to run one of the tests below that are ignored.
fn again(test: &str) -> Vec<String> {
    let binary = std::env::current_exe().unwrap();
    let binary = binary.to_str().unwrap().to_owned();
    let test = format!("sigterm::{test}");
    vec![binary, "--ignored".into(), "--exact".into(), test]
}

fn start(command: &[String], proxy: &Address) -> Child {
    Command::new(&command[0])
        .args(&command[1..])
        .env(PROXY, proxy.to_string())
        .spawn()
        .unwrap()
}

fn terminate(process: u32) {
    let kill = Command::new("kill")
        .args(["-TERM", &process.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// What a process does that has got SIGTERM and should be gone: it ends, after a while, as if nothing had happened.
fn outlive() {
    std::thread::sleep(Duration::from_secs(10));
}

/// Runs one of the tests below that are ignored, until it has pushed once and got SIGTERM.
fn terminated(test: &str) -> (Child, String) {
    let (proxy, texts) = acknowledging();
    let mut child = start(&again(test), &proxy);
    let patience = Duration::from_secs(60);
    // It listens to the signal by now.
    assert_eq!(texts.recv_timeout(patience).unwrap(), "up 1\n");
    terminate(child.id());
    let pushed = texts.recv_timeout(patience);
    if pushed.is_err() {
        let _ = child.kill();
    }
    (child, pushed.unwrap())
}

fn in_child(afterwards: AfterSigterm) -> Builder {
    let proxy = std::env::var(PROXY).expect("started by the other test");
    client([proxy.parse().unwrap()]).push_on_sigterm(afterwards)
}

#[test]
fn sigterm_pushes_and_then_ends_the_process_as_it_would_have() {
    let (mut child, pushed) = terminated("child_that_leaves_the_end_to_the_client");
    assert_eq!(pushed, "up 1\n");
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
#[ignore = "a process that the test above starts"]
fn child_that_leaves_the_end_to_the_client() {
    let client = in_child(AfterSigterm::EndProcess)
        .connect_and_wait_blocking()
        .unwrap();
    client.push_blocking().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn sigterm_pushes_and_leaves_the_end_to_the_application() {
    let (mut child, pushed) = terminated("child_that_ends_by_itself");
    assert_eq!(pushed, "up 1\n");
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "a process that the test above starts"]
async fn child_that_ends_by_itself() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = signal(SignalKind::terminate()).unwrap();
    let builder = in_child(AfterSigterm::LeaveToApplication).push_on_drop();
    let client = builder.connect_and_wait().await.unwrap();
    client.push().await.unwrap();
    signals.recv().await;
    // Waits for the push that the signal began.
    drop(client);
}

#[tokio::test]
async fn sigterm_ends_a_process_whose_clients_have_ended() {
    let mut child = start(&again("child_without_a_client_left"), &nobody().await);
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[tokio::test]
#[ignore = "a process that the test above starts"]
async fn child_without_a_client_left() {
    let gives_up = in_child(AfterSigterm::EndProcess).max_retries(0).connect();
    let closed = in_child(AfterSigterm::EndProcess).connect();
    gives_up.ended().await;
    closed.close().await;
    terminate(std::process::id());
    outlive();
}

#[tokio::test]
async fn the_last_of_several_clients_to_have_pushed_ends_the_process() {
    let (first, last) = (Proxy::bind().await, Proxy::bind().await);
    let addresses = format!("{},{}", first.address(), last.address());
    let command = again("child_with_two_clients");
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env(PROXY, addresses)
        .spawn()
        .unwrap();
    let mut peer = first.accept_with_key().await;
    let mut broken = last.accept_with_key().await;
    for peer in [&mut peer, &mut broken] {
        // It listens to the signal by now.
        let (ready, _) = peer.push().await;
        peer.acknowledge(ready);
    }
    terminate(child.id());
    assert_eq!(broken.push().await.1, "up 1\n");
    drop(broken);
    let (stream, _) = peer.push().await;
    peer.acknowledge(stream);
    peer.closed().await;
    // The process goes on, and pushes over the next connection.
    let again = timeout(Duration::from_secs(60), last.accept_with_key());
    let mut peer = again.await.unwrap();
    let (stream, _) = peer.push().await;
    peer.acknowledge(stream);
    peer.closed().await;
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[tokio::test]
#[ignore = "a process that the test above starts"]
async fn child_with_two_clients() {
    let proxies = std::env::var(PROXY).expect("started by the other test");
    let clients = proxies.split(',').map(|proxy| {
        client([proxy.parse().unwrap()])
            .timeout(Duration::from_secs(60))
            .push_on_sigterm(AfterSigterm::EndProcess)
            .connect()
    });
    let clients: Vec<_> = clients.collect();
    for client in &clients {
        client.push().await.unwrap();
    }
    std::future::pending::<()>().await;
}

/// Where the system lets nobody make a namespace of processes, there is nothing to see.
#[test]
fn the_first_process_of_a_container_ends_with_the_status_of_sigterm() {
    let unshare = ["unshare", "--pid", "--fork"].map(str::to_owned);
    let allowed = Command::new(&unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        // Not `eprintln!`, which shows nothing of a test that passes.
        let line = "SKIPPED: sigterm: namespaces of processes are not permitted";
        return writeln!(std::io::stderr(), "{line}").unwrap();
    }
    let (proxy, texts) = acknowledging();
    let command = [&unshare[..], &again("child_that_is_the_first_process")].concat();
    let mut child = start(&command, &proxy);
    assert_eq!(child.wait().unwrap().code(), Some(128 + SIGTERM));
    assert_eq!(texts.try_recv().unwrap(), "up 1\n");
}

#[test]
#[ignore = "a process that the test above starts"]
fn child_that_is_the_first_process() {
    assert_eq!(std::process::id(), 1);
    let _client = in_child(AfterSigterm::EndProcess)
        .connect_and_wait_blocking()
        .unwrap();
    terminate(1);
    outlive();
}
