//! Encryption of the way to the server, asked for in libpq's words: `sslmode` and `sslrootcert`
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html>), in the address or as PGSSLMODE and PGSSLROOTCERT.
//!
//! Two defaults differ from libpq's: to this machine nothing is encrypted, and to any other one the server must show that it is
//! who the address names. Left out: client certificates, lists of revoked ones, and `sslmode=allow`.
//!
//! Invariant: nothing crosses a network unencrypted or to an unknown server unless the mode says so in as many words.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use percent_encoding::percent_decode_str;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much is asked of the server, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whose signature under the server's certificate counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Roots {
    /// The authorities that this machine trusts.
    System,
    /// Those of a file.
    File(Utf8PathBuf),
}

/// Where the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distance {
    /// Behind a unix socket, where there is no TLS.
    Socket,
    /// On this machine.
    Loopback,
    /// Across a network.
    Far,
}

/// What is asked for, before the rest of the address is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    mode: Option<String>,
    roots: Option<String>,
}

/// How the way to a server is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encryption {
    mode: Mode,
    /// `None` where no certificate is looked at.
    roots: Option<Roots>,
}

impl Wish {
    /// Takes what is ours out of an address, and gives the rest of it.
    pub(super) fn taken_from(text: &str) -> (String, Self) {
        let mut wish = Self::default();
        let Some((place, parameters)) = text.split_once('?') else { return (text.to_owned(), wish) };
        let mut rest = Vec::new();
        for parameter in parameters.split('&') {
            let value = |text: &str| Some(percent_decode_str(text).decode_utf8_lossy().into_owned());
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => wish.mode = value(mode),
                Some(("sslrootcert", roots)) => wish.roots = value(roots),
                _ => rest.push(parameter),
            }
        }
        let rest = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        (rest, wish)
    }

    /// What comes of it for a server at that distance. The error says what can't be had.
    pub(super) fn decided(
        self,
        distance: Distance,
        given: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Encryption, String> {
        let named = self.roots.or_else(|| given("PGSSLROOTCERT"));
        let wanted = self.mode.or_else(|| given("PGSSLMODE"));
        let mode = match wanted.as_deref() {
            Some("disable") => Mode::Disable,
            Some("prefer") => Mode::Prefer,
            Some("require") => Mode::Require,
            Some("verify-ca") => Mode::VerifyCa,
            Some("verify-full") => Mode::VerifyFull,
            None if named.is_none() && distance != Distance::Far => Mode::Disable,
            None => Mode::VerifyFull,
            Some(other) => {
                return Err(format!(
                    "sslmode is {other:?}; it can be disable, prefer, require, verify-ca or verify-full"
                ));
            }
        };
        if distance == Distance::Socket || mode == Mode::Disable {
            return Ok(Encryption { mode: Mode::Disable, roots: None });
        }
        let usual = || {
            let file = Utf8PathBuf::from(given("HOME")?).join(".postgresql/root.crt");
            file.exists().then_some(Roots::File(file))
        };
        let roots = match named.as_deref() {
            Some("system") => Some(Roots::System),
            Some(file) => Some(Roots::File(file.into())),
            None => usual(),
        };
        match (mode, roots) {
            (Mode::Disable | Mode::Prefer, _) => Ok(Encryption { mode, roots: None }),
            // Whoever has any certificate at all would be let in.
            (Mode::Require | Mode::VerifyCa, Some(Roots::System)) => {
                Err("with sslrootcert=system only sslmode=verify-full is safe".to_owned())
            }
            (Mode::Require, None) => Ok(Encryption { mode, roots: None }),
            // As libpq does it: who names an authority wants it to be asked.
            (Mode::Require, roots) => Ok(Encryption { mode: Mode::VerifyCa, roots }),
            (Mode::VerifyCa, None) => Err("sslmode=verify-ca needs sslrootcert=FILE, or \
                                           ~/.postgresql/root.crt: the certificate of the authority that \
                                           signed the server's"
                .to_owned()),
            (Mode::VerifyFull, None) => Ok(Encryption { mode, roots: Some(Roots::System) }),
            (Mode::VerifyCa | Mode::VerifyFull, roots) => Ok(Encryption { mode, roots }),
        }
    }
}

impl Encryption {
    /// As the driver names it, which leaves certificates to us.
    pub(super) fn ssl_mode(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }

    /// What makes encrypted connections; `None` when they are not encrypted. Reads the authorities anew each time, so that a
    /// renewed file counts. The error says what is wrong with them.
    pub(super) fn connector(&self) -> Result<Option<MakeRustlsConnect>, String> {
        if self.mode == Mode::Disable {
            return Ok(None);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = match &self.roots {
            None => None,
            Some(roots) => {
                let store = Arc::new(roots.read()?);
                let chain = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider)).build();
                Some(chain.map_err(|error| error.to_string())?)
            }
        };
        let asked_for_its_name = self.mode == Mode::VerifyFull;
        let verifier = Verifier { chain, asked_for_its_name, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(config)))
    }

    /// What to tell about a connection that failed because of its encryption; `None` when it failed for another reason.
    pub(super) fn complaint(&self, error: &tokio_postgres::Error) -> Option<String> {
        let cause = std::error::Error::source(error)?;
        // The driver has no kind for this one.
        if cause.to_string() == "server does not support TLS" {
            return Some(
                "the server does not speak TLS, so records and password would cross the network in clear; \
                 switch it on there (ssl = on), or say sslmode=disable where the network itself is safe"
                    .to_owned(),
            );
        }
        let cause = cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match cause {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let trusted = match &self.roots {
                    Some(Roots::File(file)) => format!("in {file}"),
                    _ => "among those that this machine trusts".to_owned(),
                };
                format!(
                    "the authority that signed the server's certificate is not {trusted}; \
                     name the file with its certificate: sslrootcert=FILE"
                )
            }
            rustls::Error::InvalidCertificate(
                reason
                @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            ) => format!("the server's certificate is for another host: {reason}"),
            other => format!("the encrypted connection was not made: {other}"),
        })
    }
}

impl Roots {
    fn read(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    return Err("this machine has no list of trusted authorities; \
                                name the server's: sslrootcert=FILE"
                        .to_owned());
                }
            }
            Self::File(file) => {
                for certificate in certificates(file)? {
                    store.add(certificate).map_err(|error| format!("sslrootcert {file}: {error}"))?;
                }
            }
        }
        Ok(store)
    }
}

fn certificates(file: &Utf8Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| format!("sslrootcert {file}: {error}");
    let read = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if read.is_empty() { Err(format!("sslrootcert {file}: there is no certificate in it")) } else { Ok(read) }
}

/// Asks a server for as much as its mode says.
#[derive(Debug)]
struct Verifier {
    /// `None` when any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    asked_for_its_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verified = chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, when all else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.asked_for_its_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
