//! Who may call, where the operator hands out certificates: nodes with one that the authority issued for the name that all
//! nodes have, and nobody else.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::sync::watch;

use super::identity::{Ends, Identity};
use crate::follow::{self, Found, follow};
use crate::metrics::Reloads;
use crate::tls::{self, ClientAuth, Files, Pem, Policy, Role, Tls, Unusable};

/// A node's certificate, and the authority of all nodes' certificates.
#[derive(Debug, Clone)]
pub struct Certificates {
    tls: Tls,
    client: Arc<ClientConfig>,
    files: Files,
    name: ServerName<'static>,
    /// The files have changed, and the client's end has not.
    behind: bool,
}

impl Certificates {
    /// Reads the files. `name` is one of the names in the certificate of every node. The error says which file is of no
    /// use.
    pub fn read(
        certificate: PathBuf,
        key: PathBuf,
        authority: PathBuf,
        name: ServerName<'static>,
    ) -> Result<Self, Unusable> {
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: Some(authority.into()),
        };
        let policy = Policy {
            versions: vec![&rustls::version::TLS13],
            client_auth: ClientAuth::RequireAndVerifyClientCert,
            allowed_names: Some(vec![name.to_str().into_owned()]),
            protocols: vec![super::identity::ALPN.to_vec()],
            ..Policy::default()
        };
        Ok(Self {
            tls: Tls::read(files.clone(), policy)?,
            client: client(&files)?,
            files,
            name,
            behind: false,
        })
    }

    /// The words of the flag that names this file, without its dashes.
    pub fn flag(role: Role) -> &'static str {
        match role {
            Role::Certificate | Role::Policy => "cluster.tls.cert-file",
            Role::Key => "cluster.tls.key-file",
            Role::ClientCa => "cluster.tls.ca-file",
        }
    }

    fn ends(&self) -> Ends {
        Ends::new(Arc::clone(self.tls.config()), Arc::clone(&self.client))
    }

    /// What a node shows and believes; changes as long as the task of `follow` runs.
    pub fn followed(self) -> (Identity, Followed) {
        let (told, ends) = watch::channel(self.ends());
        let identity = Identity::followed(ends, self.name.clone());
        let certificates = self;
        (identity, Followed { certificates, told })
    }
}

/// Files to look at again and again.
pub struct Followed {
    certificates: Certificates,
    told: watch::Sender<Ends>,
}

impl Followed {
    /// Reads the files when they change, for ever. What is of no use is logged, and the last good ones go on.
    pub async fn follow(self, reloads: Reloads) {
        let Self { certificates, told } = self;
        let file = format!("{:?}", certificates.files.certificate);
        follow(
            certificates,
            "certificate of this node",
            file,
            reloads,
            |latest: &Certificates| {
                told.send_replace(latest.ends());
            },
        )
        .await;
    }
}

impl follow::Source for Certificates {
    type Error = Unusable;

    fn look(&mut self) -> Result<Found, Unusable> {
        let found = self.tls.look()?;
        self.behind |= found == Found::Taken;
        if !self.behind {
            return Ok(found);
        }
        self.client = client(&self.files)?;
        self.behind = false;
        Ok(found.max(Found::Taken))
    }

    fn certificate_ends(&self) -> Option<i64> {
        self.tls.certificate_ends()
    }
}

fn client(files: &Files) -> Result<Arc<ClientConfig>, Unusable> {
    let own: (Pem, Pem) = (files.certificate.clone(), files.key.clone());
    let config = tls::client_config(files.client_ca.as_ref(), Some(&own))?;
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![super::identity::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
