//! Who may send HTTP requests, and how: what `--web.config.file` says, in the format of exporter-toolkit.
//!
//! The file is read at start, and again when it or a file that it names changes. It holds for every path, those for
//! probes too, as in every program with exporter-toolkit.

mod file;
mod guard;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderMap;
use file::Parsed;
pub(crate) use guard::{Guard, User, credentials, guard};
use prometheus_rsocket_config::yaml::FileError;
use prometheus_rsocket_config::{ReadError, read_text};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::files::{Followed, Found, Settled, Source};
use crate::limits::rate::Bucket;
use crate::passwords::{Users, Verifier};
use crate::tls::Tls;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WebConfigError(#[from] Problem);

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0} needs a restart of the node")]
    Settled(&'static str),
    #[error("{0}")]
    Certificates(crate::tls::TlsFilesError),
}

/// A file, and what it said when it was last of use.
#[derive(Clone)]
pub struct Access {
    path: PathBuf,
    text: Settled<String>,
    tls: Option<Tls>,
    active: Arc<Active>,
    verifier: Arc<Verifier>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.path).finish()
    }
}

/// What holds for a request.
struct Rules {
    headers: HeaderMap,
    /// `None`: everybody may ask.
    users: Option<Users>,
    /// `None`: as often as they like.
    bucket: Option<Arc<Bucket>>,
}

/// What holds for the next connection, and for the next request of every one.
pub struct Active {
    /// `None`: in the clear.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    rules: Arc<Rules>,
}

impl Access {
    /// Reads the file, and those that it names.
    pub fn read(path: PathBuf) -> Result<Self, WebConfigError> {
        let text = read_text(&path).map_err(Problem::from)?;
        let verifier = Arc::default();
        let Parsed {
            tls,
            headers,
            users,
            rate,
        } = file::parse(&text, directory(&path)).map_err(Problem::from)?;
        let rules = Rules {
            headers,
            users: known(users, &verifier)?,
            bucket: rate.map(|rate| Arc::new(Bucket::new(rate))),
        };
        Ok(Self {
            path,
            text: Settled::new(text),
            active: active(tls.as_ref(), Arc::new(rules)),
            tls,
            verifier,
        })
    }

    /// What holds at the moment; changes while the second of the two runs.
    pub(crate) fn followed(self) -> (watch::Receiver<Arc<Active>>, Followed<Self>) {
        Followed::new(self)
    }
}

impl Source for Access {
    type Value = Active;
    type Error = WebConfigError;
    const NAME: &'static str = "web configuration";

    fn value(&self) -> &Arc<Active> {
        &self.active
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn look(&mut self) -> Result<Found, WebConfigError> {
        let reread = self.reread();
        // A certificate is renewed even while the file that names it is invalid.
        let renewed = match &mut self.tls {
            Some(tls) => tls.look().map_err(Problem::Certificates),
            None => Ok(Found::Same),
        };
        if matches!(renewed, Ok(Found::Taken)) {
            self.active = active(self.tls.as_ref(), Arc::clone(&self.active.rules));
        }
        Ok(reread?.max(renewed?))
    }

    fn certificate_ends(&self) -> Option<i64> {
        self.tls.as_ref().and_then(Source::certificate_ends)
    }
}

impl Access {
    /// Takes the file as it is now, unless it requires less of clients: half a file must not open the port, and may be
    /// all there is for long.
    fn reread(&mut self) -> Result<Found, Problem> {
        let text = read_text(&self.path)?;
        let found = self.text.look(&text);
        if found != Found::Taken {
            return Ok(found);
        }
        let Parsed {
            tls,
            headers,
            users,
            rate,
        } = file::parse(&text, directory(&self.path))?;
        if let Some(what) = self.settled_otherwise(tls.as_ref()) {
            return Err(Problem::Settled(what));
        }
        let mut users = known(users, &self.verifier)?;
        match (&mut users, &self.active.rules.users) {
            (Some(users), Some(before)) => users.keep(before),
            (None, Some(_)) => {
                return Err(Problem::Settled(
                    "removing the last user of basic_auth_users",
                ));
            }
            (_, None) => {}
        }
        let before = self.active.rules.bucket.as_ref();
        let bucket = rate.map(|rate| match before.filter(|before| before.rate == rate) {
            Some(before) => Arc::clone(before),
            None => Arc::new(Bucket::new(rate)),
        });
        let rules = Rules {
            headers,
            users,
            bucket,
        };
        self.active = active(tls.as_ref(), Arc::new(rules));
        self.tls = tls;
        self.text.take(text);
        Ok(found)
    }

    /// What `tls` would change that stays as it was when the node started.
    fn settled_otherwise(&self, tls: Option<&Tls>) -> Option<&'static str> {
        let Some((before, after)) = self.tls.as_ref().zip(tls) else {
            return (self.tls.is_some() != tls.is_some()).then_some("turning TLS on or off");
        };
        if before.verifies_clients() && !after.verifies_clients() {
            Some("turning off the verification of client certificates")
        } else if before.names_clients() && !after.names_clients() {
            Some("removing client_allowed_sans")
        } else {
            None
        }
    }
}

fn active(tls: Option<&Tls>, rules: Arc<Rules>) -> Arc<Active> {
    let tls = tls.map(|tls| Arc::clone(tls.config()));
    Arc::new(Active { tls, rules })
}

/// What relative paths in the file are relative to.
fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn known(
    users: BTreeMap<String, String>,
    verifier: &Arc<Verifier>,
) -> Result<Option<Users>, Problem> {
    if users.is_empty() {
        return Ok(None);
    }
    let users = Users::new(users, Arc::clone(verifier))
        .map_err(|reason| FileError::value("basic_auth_users", reason))?;
    Ok(Some(users))
}

/// What a fuzz target enters by.
#[cfg(fuzzing)]
pub mod fuzzing {
    use axum::http::HeaderMap;

    /// Whether a text is a web configuration.
    pub fn reads(text: &str) -> bool {
        super::file::parse(text, std::path::Path::new("/")).is_ok()
    }

    /// The name and the password that a request shows.
    pub fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
        let (name, password) = super::guard::credentials(headers)?;
        Some((name, password.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    #[test]
    fn half_a_file_lets_nobody_in_without_the_certificate_that_was_asked_for() {
        let folder = std::env::temp_dir().join(format!("access-half-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
        let path = folder.join("web.yml");
        let server = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
        let verified = format!(
            "{server}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n"
        );
        let named = format!("{verified}  client_allowed_sans: [one]\n");
        fs::write(&path, &named).unwrap();
        let mut access = Access::read(path.clone()).unwrap();
        let mut look = |text: &str| {
            fs::write(&path, text).unwrap();
            assert_eq!(access.look().unwrap(), Found::Unsettled);
            access.look().map_err(|unusable| unusable.to_string())
        };
        for (half, settled) in [
            (server, "verification of client certificates"),
            (
                &format!("{server}  client_auth_type:\n"),
                "verification of client certificates",
            ),
            (&verified, "client_allowed_sans"),
            ("", "TLS"),
        ] {
            let refused = look(half).unwrap_err();
            assert!(refused.contains(settled), "{refused}");
        }
        assert_eq!(look(&named.replace("one", "two")), Ok(Found::Taken));
        let _ = fs::remove_dir_all(&folder);
    }
}
