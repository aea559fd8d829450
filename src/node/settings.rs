//! All of a node's settings, and what the files that they name hold.

use clap::Args;

use crate::access::Access;
use crate::cluster::Introduction;
use crate::identity::Identities;
use crate::tls::Tls;
use crate::{cluster, drain, http, push, rebalance, rsocket, scrape, targets};

/// All of a node's settings, part by part.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// The HTTP side.
    #[command(flatten)]
    pub web: http::Settings,
    /// The applications' side.
    #[command(flatten)]
    pub rsocket: rsocket::Settings,
    /// Pulling.
    #[command(flatten)]
    pub scrape: scrape::Settings,
    /// Applications as targets of their own.
    #[command(flatten)]
    pub targets: targets::Settings,
    /// Pushes held for the next scrape.
    #[command(flatten)]
    pub push: push::Settings,
    /// The nodes' side.
    #[command(flatten)]
    pub cluster: cluster::Settings,
    /// Moving connections to other nodes.
    #[command(flatten)]
    pub rebalance: rebalance::Settings,
    /// Leaving.
    #[command(flatten)]
    pub shutdown: drain::Settings,
}

/// Settings that go together, and what the files that they name hold.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The settings.
    pub settings: Settings,
    /// Of `--web.config.file`; `None`: everybody may ask, in the clear.
    pub access: Option<Access>,
    /// Of `--rsocket.tls.*`; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Of `--rsocket.auth.file`; `None`: nobody is asked who they are.
    pub identities: Option<Identities>,
    /// Of `--cluster.*`; `None`: a cluster of one.
    pub introduction: Option<Introduction>,
}

impl Settings {
    /// Reads the files. The error is one line that names the flag.
    pub fn check(self) -> Result<Checked, String> {
        let tls = self.rsocket.tls()?;
        self.rsocket.check_envelope()?;
        if self.rsocket.max_unfinished < self.scrape.max_payload {
            return Err(
                "--rsocket.max-unfinished is less than --scrape.max-payload: no payload of that size could be received"
                    .into(),
            );
        }
        if self.push.dir.is_some() && self.scrape.max_payload > push::MAX_DISK_TEXT {
            return Err(
                "--scrape.max-payload is more than the 1GiB that a push in --push.dir may have"
                    .into(),
            );
        }
        Ok(Checked {
            access: self.web.access()?,
            tls,
            identities: self.rsocket.identities(self.scrape.terms())?,
            introduction: self.cluster.introduction()?,
            settings: self,
        })
    }
}
