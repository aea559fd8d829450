//! SIGTERM, which needs a process of its own: the test binary starts itself again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

use prometheus_rsocket_client::{AfterSigterm, Builder};

use crate::proxy::{acknowledging, client};

const PROXY: &str = "BEHAVIOUR_PROXY";
const SIGTERM: i32 = 15;

/// Runs one of the tests below that are ignored, until it has pushed once and got SIGTERM.
fn terminated(test: &str) -> (Child, String) {
    let (proxy, texts) = acknowledging();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", &format!("sigterm::{test}")])
        .env(PROXY, proxy.to_string())
        .spawn()
        .unwrap();
    let patience = Duration::from_secs(60);
    // It listens to the signal by now.
    assert_eq!(texts.recv_timeout(patience).unwrap(), "up 1\n");
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
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
