//! Who may call, where the operator hands out certificates: nodes with one that the authority issued for the name that all
//! nodes have, and nobody else.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;

use super::identity::{CallIdentity, Ends};
use crate::files::{Followed, Found, Source};
use crate::tls::{self, ClientAuth, Files, Pem, Policy, Role, Tls, TlsFilesError};

/// A node's certificate, and the authority of all nodes' certificates.
#[derive(Clone)]
pub struct Certificates {
    tls: Tls,
    ends: Arc<Ends>,
    files: Files,
    name: ServerName<'static>,
    /// The files have changed, and the client's end has not.
    behind: bool,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.files).finish()
    }
}

impl Certificates {
    /// Reads the files. `name` is one of the names in the certificate of every node. The error says which file is of no
    /// use.
    pub fn read(
        certificate: PathBuf,
        key: PathBuf,
        authority: PathBuf,
        name: ServerName<'static>,
    ) -> Result<Self, TlsFilesError> {
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
        let tls = Tls::read(files.clone(), policy)?;
        Ok(Self {
            ends: ends(&tls, &files)?,
            tls,
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

    /// What a node shows and believes; changes while the second of the two runs.
    pub(crate) fn followed(self) -> (CallIdentity, Followed<Self>) {
        let name = self.name.clone();
        let (ends, followed) = Followed::new(self);
        (CallIdentity::followed(ends, name), followed)
    }
}

impl Source for Certificates {
    type Value = Ends;
    type Error = TlsFilesError;
    const NAME: &'static str = "certificate of this node";

    fn value(&self) -> &Arc<Ends> {
        &self.ends
    }

    fn file(&self) -> String {
        format!("{:?}", self.files.certificate)
    }

    fn look(&mut self) -> Result<Found, TlsFilesError> {
        let found = self.tls.look()?;
        self.behind |= found == Found::Taken;
        if !self.behind {
            return Ok(found);
        }
        self.ends = ends(&self.tls, &self.files)?;
        self.behind = false;
        Ok(found.max(Found::Taken))
    }

    fn certificate_ends(&self) -> Option<i64> {
        self.tls.certificate_ends()
    }
}

fn ends(tls: &Tls, files: &Files) -> Result<Arc<Ends>, TlsFilesError> {
    let own: (Pem, Pem) = (files.certificate.clone(), files.key.clone());
    let config = tls::client_config(files.client_ca.as_ref(), Some(&own))?;
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![super::identity::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let ends = Ends::new(Arc::clone(tls.config()), Arc::new(config));
    Ok(Arc::new(ends))
}
