//! `tls_server_config`: the names that Go has for what TLS can do, and what rustls has of it.

use std::path::Path;

use prometheus_rsocket_config::yaml::{FileError, or_default};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use serde::Deserialize;

use crate::tls::{ClientAuth, Files, Pem, Policy, Role, Tls};

/// All that is spoken above TLS.
const PROTOCOL: &[u8] = b"http/1.1";

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];

const CLIENT_AUTH: [(&str, ClientAuth); 7] = [
    ("NoClientCert", ClientAuth::NoClientCert),
    ("RequestClientCert", ClientAuth::RequestClientCert),
    ("RequireAnyClientCert", ClientAuth::RequireAnyClientCert),
    (
        "VerifyClientCertIfGiven",
        ClientAuth::VerifyClientCertIfGiven,
    ),
    (
        "RequireAndVerifyClientCert",
        ClientAuth::RequireAndVerifyClientCert,
    ),
    // As exporter-toolkit called RequireAnyClientCert once.
    ("RequireClientCert", ClientAuth::RequireAnyClientCert),
    ("", ClientAuth::NoClientCert),
];

fn groups() -> [(&'static str, &'static dyn SupportedKxGroup); 3] {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    [
        ("CurveP256", SECP256R1),
        ("CurveP384", SECP384R1),
        ("X25519", X25519),
    ]
}

/// Go's names of the suites: rustls writes those of TLS 1.3 differently.
fn suites() -> Vec<(String, SupportedCipherSuite)> {
    let all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
    all.map(|suite| (name(suite).replace("TLS13_", "TLS_"), *suite))
        .collect()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsServer {
    #[serde(deserialize_with = "or_default")]
    cert: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    client_ca: String,
    #[serde(deserialize_with = "or_default")]
    cert_file: String,
    #[serde(deserialize_with = "or_default")]
    key_file: String,
    #[serde(deserialize_with = "or_default")]
    client_ca_file: String,
    #[serde(deserialize_with = "or_default")]
    client_auth_type: String,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

impl TlsServer {
    /// `None` where nothing in it asks for TLS.
    pub(super) fn tls(self, directory: &Path) -> Result<Option<Tls>, FileError> {
        let policy = self.policy()?;
        let asks = [
            &self.cert_file,
            &self.cert,
            &self.key_file,
            &self.key,
            &self.client_ca_file,
            &self.client_ca,
            &self.client_auth_type,
        ];
        if asks.iter().all(|said| said.is_empty()) {
            return Ok(None);
        }
        let pem = |inline, file: &String, text: &str| pem(inline, directory, file, text);
        let (certificate, key, client_ca) = (
            pem("cert", &self.cert_file, &self.cert)?.ok_or_else(|| missing("cert"))?,
            pem("key", &self.key_file, &self.key)?.ok_or_else(|| missing("key"))?,
            pem("client_ca", &self.client_ca_file, &self.client_ca)?,
        );
        if policy.client_auth == ClientAuth::NoClientCert {
            self.nobody_is_asked(client_ca.is_some())?;
        }
        let inline = |pem: &Pem| matches!(pem, Pem::Text(_));
        let inline = [
            inline(&certificate),
            inline(&key),
            client_ca.as_ref().is_some_and(inline),
        ];
        let files = Files {
            certificate,
            key,
            client_ca,
        };
        let tls = Tls::read(files, policy).map_err(|unusable| {
            let [certificate, key, client_ca] = inline;
            let key = match unusable.role {
                Role::Certificate if certificate => "cert",
                Role::Certificate => "cert_file",
                Role::Key if key => "key",
                Role::Key => "key_file",
                Role::ClientCa if client_ca => "client_ca",
                Role::ClientCa => "client_ca_file",
                Role::Policy => "cipher_suites",
            };
            refused(key, unusable.to_string())
        })?;
        Ok(Some(tls))
    }

    fn nobody_is_asked(&self, has_authorities: bool) -> Result<(), FileError> {
        let key = match &self.client_allowed_sans {
            _ if has_authorities => "client_ca_file",
            Some(_) => "client_allowed_sans",
            None => return Ok(()),
        };
        Err(refused(key, "has no effect without a client_auth_type"))
    }

    fn policy(&self) -> Result<Policy, FileError> {
        let auth = self.client_auth_type.as_str();
        Ok(Policy {
            versions: self.versions()?,
            cipher_suites: self.suites()?,
            groups: match self.curve_preferences.as_deref() {
                None | Some([]) => Policy::default().groups,
                Some(names) => all_of("curve_preferences", names, &groups())?,
            },
            own_order: self.prefer_server_cipher_suites.unwrap_or(true),
            client_auth: one_of("client_auth_type", auth, &CLIENT_AUTH)?,
            allowed_names: self.client_allowed_sans.clone(),
            verify_late: false,
            protocols: vec![PROTOCOL.to_vec()],
        })
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, FileError> {
        let place = |key, said: &Option<String>, otherwise: usize| match said {
            None => Ok(otherwise),
            Some(name) => one_of(key, name, &[("TLS12", 0), ("TLS13", 1)]),
        };
        let least = place("min_version", &self.min_version, 0)?;
        let most = place("max_version", &self.max_version, VERSIONS.len() - 1)?;
        if least > most {
            return Err(refused("min_version", "is above max_version"));
        }
        let chosen = VERSIONS.iter().take(most + 1).skip(least);
        Ok(chosen.map(|(_, version)| *version).collect())
    }

    /// The list is about TLS 1.2: in TLS 1.3 there is nothing to choose, as in Go.
    fn suites(&self) -> Result<Vec<SupportedCipherSuite>, FileError> {
        let listed = self.cipher_suites.as_deref().unwrap_or_default();
        if listed.is_empty() {
            return Ok(Policy::default().cipher_suites);
        }
        let suites = suites();
        let possible: Vec<_> = suites
            .iter()
            .map(|(name, suite)| (name.as_str(), *suite))
            .collect();
        let listed = all_of("cipher_suites", listed, &possible)?;
        let every = Policy::default().cipher_suites.into_iter();
        let newer = every.filter(|suite| suite.tls13().is_some());
        let older = listed.into_iter().filter(|suite| suite.tls13().is_none());
        Ok(newer.chain(older).collect())
    }
}

/// The text that is said inline, or the file that holds it, or neither.
fn pem(
    inline: &'static str,
    directory: &Path,
    file: &str,
    text: &str,
) -> Result<Option<Pem>, FileError> {
    match (file.is_empty(), text.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Ok(Some(Pem::File(directory.join(file)))),
        (true, false) => Ok(Some(Pem::Text(text.to_owned().into()))),
        (false, false) => Err(refused(inline, format!("{inline}_file is set as well"))),
    }
}

fn missing(inline: &str) -> FileError {
    FileError::value(
        "tls_server_config",
        format!("neither {inline}_file nor {inline} is set"),
    )
}

fn refused(key: &str, reason: impl Into<String>) -> FileError {
    FileError::value(format!("tls_server_config.{key}"), reason)
}

fn one_of<T: Copy>(key: &str, name: &str, possible: &[(&str, T)]) -> Result<T, FileError> {
    let found = possible.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names = possible.iter().map(|(known, _)| *known);
        let names: Vec<_> = names.filter(|known| !known.is_empty()).collect();
        FileError::not_one_of(format!("tls_server_config.{key}"), name, &names)
    })
}

fn all_of<T: Copy>(
    key: &str,
    names: &[String],
    possible: &[(&str, T)],
) -> Result<Vec<T>, FileError> {
    names
        .iter()
        .map(|name| one_of(key, name, possible))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    /// A directory with `cert.pem` and `key.pem`.
    struct Folder {
        path: PathBuf,
        certificate: String,
        key: String,
    }

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("access-{name}-{}", std::process::id()));
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
            fs::create_dir_all(path.join("tls")).unwrap();
            fs::write(path.join("tls/cert.pem"), &certificate).unwrap();
            fs::write(path.join("tls/key.pem"), &key).unwrap();
            Self {
                path,
                certificate,
                key,
            }
        }

        fn tls(&self, text: &str) -> Result<Option<Tls>, FileError> {
            let server: TlsServer = serde_saphyr::from_str(text).unwrap();
            server.tls(&self.path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    const FILES: &str = "cert_file: tls/cert.pem\nkey_file: tls/key.pem\n";

    #[test]
    fn files_are_looked_for_beside_the_configuration() {
        let folder = Folder::new("relative");
        assert!(folder.tls(FILES).unwrap().is_some());
        let absolute = FILES.replace("tls/", &format!("{}/tls/", folder.path.display()));
        assert!(folder.tls(&absolute).unwrap().is_some());
    }

    #[test]
    fn what_go_can_do_and_rustls_too_is_taken() {
        let folder = Folder::new("good");
        for more in [
            "min_version: TLS13\n",
            "max_version: TLS12\ncipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
            "cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]\n",
            "cipher_suites: []\ncurve_preferences: []\nprefer_server_cipher_suites: false\n",
            "curve_preferences: [X25519, CurveP384, CurveP256]\n",
            "client_ca_file:\nclient_ca: ~\ncert:\nkey:\nclient_auth_type:\nclient_allowed_sans:\n",
            "min_version:\nmax_version:\ncipher_suites:\ncurve_preferences:\nprefer_server_cipher_suites:\n",
            "client_auth_type: RequestClientCert\n",
            "client_auth_type: RequireClientCert\n",
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: tls/cert.pem\n",
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: tls/cert.pem\nclient_allowed_sans: [one]\n",
        ] {
            let tls = folder.tls(&format!("{FILES}{more}"));
            assert!(tls.unwrap().is_some(), "{more}");
        }
    }

    #[test]
    fn pem_may_stand_in_the_configuration() {
        let folder = Folder::new("inline");
        let inline = |text: &str| text.replace('\n', "\n  ");
        let (certificate, key) = (inline(&folder.certificate), inline(&folder.key));
        let text = format!("cert: |\n  {certificate}\nkey: |\n  {key}\n");
        assert!(folder.tls(&text).unwrap().is_some());
        let text = format!("cert: |\n  {certificate}\nkey: rubbish\n");
        let refused = folder.tls(&text).unwrap_err().to_string();
        assert!(refused.starts_with("tls_server_config.key: "), "{refused}");
    }

    #[test]
    fn an_unsupported_setting_is_named_by_its_key() {
        let folder = Folder::new("bad");
        for (more, words) in [
            (
                "min_version: TLS10\n",
                "min_version: TLS10 is not supported; supported: TLS12, TLS13",
            ),
            ("max_version: SSL30\n", "max_version: "),
            (
                "min_version: TLS13\nmax_version: TLS12\n",
                "min_version: is above",
            ),
            (
                "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n",
                "cipher_suites: TLS_RSA_WITH_AES_128_CBC_SHA",
            ),
            (
                "cipher_suites: [TLS_AES_128_GCM_SHA256]\nmax_version: TLS12\n",
                "cipher_suites: ",
            ),
            (
                "curve_preferences: [CurveP521]\n",
                "curve_preferences: CurveP521 is not supported",
            ),
            ("client_auth_type: Nobody\n", "client_auth_type: Nobody"),
            (
                "client_ca_file: tls/cert.pem\n",
                "client_ca_file: has no effect",
            ),
            (
                "client_allowed_sans: [one]\n",
                "client_allowed_sans: has no effect",
            ),
            (
                "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: tls/key.pem\n",
                "client_ca_file: /",
            ),
            ("cert: rubbish\n", "cert: cert_file is set as well"),
        ] {
            let refused = folder
                .tls(&format!("{FILES}{more}"))
                .unwrap_err()
                .to_string();
            assert!(
                refused.starts_with(&format!("tls_server_config.{words}")),
                "{refused}"
            );
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
        for (text, words) in [
            (
                "cert_file: tls/cert.pem\n",
                "tls_server_config: neither key_file nor key",
            ),
            (
                "key_file: tls/key.pem\n",
                "tls_server_config: neither cert_file nor cert",
            ),
            (
                "client_auth_type: NoClientCert\n",
                "tls_server_config: neither cert_file",
            ),
            (
                "cert_file: absent\nkey_file: tls/key.pem\n",
                "tls_server_config.cert_file: /",
            ),
            (
                "cert_file: tls/cert.pem\nkey_file: tls/cert.pem\n",
                "tls_server_config.key_file: /",
            ),
        ] {
            let refused = folder.tls(text).unwrap_err().to_string();
            assert!(refused.starts_with(words), "{refused}");
        }
    }
}
