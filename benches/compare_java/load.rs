//! The load: applications on a Java client, all in one JVM.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Options;
use crate::Result;
use crate::proxy::{Kind, peer};

/// A thousand applications that connect to the Java proxy at once take two minutes on two cores.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Default)]
struct Progress {
    /// Every application is made, and none has connected.
    held: bool,
    /// Applications that have had the proxy's key.
    ready: HashSet<String>,
    /// Connections that ended.
    closed: usize,
}

/// Applications under way. They are killed when this is dropped.
pub(crate) struct Load {
    child: Child,
    commands: ChildStdin,
    progress: watch::Receiver<Progress>,
    apps: usize,
}

impl Load {
    /// Makes the applications, which do not connect yet: otherwise their start would space out their connecting.
    pub(crate) async fn hold(kind: &Kind, proxy: u16, options: &Options) -> Result<Self> {
        let (program, arguments) = kind.client();
        let mut child = peer(program)
            .args(arguments)
            .args(["--held", "--wide", "--port", &proxy.to_string()])
            .args(["--count", &options.apps.to_string()])
            .args(["--series", &options.series.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take().ok_or("no standard input")?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let (sender, progress) = watch::channel(Progress::default());
        tokio::spawn(follow(BufReader::new(output).lines(), sender));
        let mut load = Self {
            child,
            commands,
            progress,
            apps: usize::try_from(options.apps)?,
        };
        load.wait("made", |progress| progress.held).await?;
        Ok(load)
    }

    /// Has all applications connect at once, and returns when each has the proxy's key.
    pub(crate) async fn connect(&mut self) -> Result<()> {
        self.commands.write_all(b"connect\n").await?;
        let apps = self.apps;
        self.wait("connected", |progress| progress.ready.len() == apps)
            .await
    }

    /// How many connections have ended so far.
    pub(crate) fn closed(&self) -> usize {
        self.progress.borrow().closed
    }

    /// Ends them, and returns when the machine is free of them.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn wait(&mut self, what: &str, until: impl Fn(&Progress) -> bool) -> Result<()> {
        let reached = timeout(PATIENCE, self.progress.wait_for(|progress| until(progress))).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the applications' JVM has ended".into()),
            Err(_) => Err(format!("the applications are not {what} after {PATIENCE:?}").into()),
        }
    }
}

async fn follow(mut lines: Lines<BufReader<ChildStdout>>, progress: watch::Sender<Progress>) {
    while let Ok(Some(line)) = lines.next_line().await {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("HELD", _) => progress.send_modify(|progress| progress.held = true),
            ("READY", words) => progress.send_modify(|progress| {
                let name = words.split(' ').next().unwrap_or_default();
                progress.ready.insert(name.to_owned());
            }),
            ("CLOSED", _) => progress.send_modify(|progress| progress.closed += 1),
            _ => {}
        }
    }
}
