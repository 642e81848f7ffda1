//! The way to a server, encrypted: who is let in, and what is said about everybody else.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use store::{Access, Address, Error, Ledger};
use testbed::{PostgresServer, ServerCertificate};

use crate::ground::open_at;
use crate::{actor, at, event};

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file with its own certificate.
    file: PathBuf,
}

impl Authority {
    fn new(folder: &tempfile::TempDir, name: &str) -> Self {
        let mut about = CertificateParams::new(Vec::<String>::new()).unwrap();
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        about.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, about.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(about, key), file }
    }

    /// A server for which it signs.
    fn server(&self, host: &str) -> PostgresServer {
        let key = KeyPair::generate().unwrap();
        let about = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = about.signed_by(&key, &self.issuer).unwrap().pem();
        let shown = ServerCertificate { certificate: &certificate, key: &key.serialize_pem() };
        PostgresServer::start_on_loopback(Some(shown)).unwrap()
    }

    fn named(&self) -> String {
        format!("&sslrootcert={}", self.file.to_str().unwrap().replace('/', "%2F"))
    }
}

/// As if the server were on the machine of that name.
fn far(server: &PostgresServer, host: &str, more: &str) -> String {
    format!("postgresql://trimtab@{host}:{}/postgres?hostaddr=127.0.0.1{more}", server.port())
}

fn opened(address: &str) -> Ledger {
    open_at(address, Access::ReadWrite).unwrap()
}

/// What is said about a server that is not used. It is said at once, not after a wait for better times.
fn refused(address: &str) -> String {
    match open_at(address, Access::ReadWrite) {
        Err(Error::Unavailable { detail, .. }) => detail,
        other => panic!("{address}: {other:?}"),
    }
}

/// Whether the ledger's connections are encrypted, by the server's word.
fn encrypted(server: &PostgresServer) -> bool {
    let ask = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'trimtab'";
    server.sql(ask).unwrap() == "t"
}

#[test]
fn a_server_is_believed_when_its_authority_and_its_name_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| Authority::new(&folder, name));
    let server = right.server("db.example.org");
    let roots = right.named();

    // Nothing is said of the mode: to another machine it is the strictest one.
    let ledger = opened(&far(&server, "db.example.org", &roots));
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    assert!(encrypted(&server));
    drop(ledger);

    let unknown = refused(&far(&server, "db.example.org", &wrong.named()));
    assert!(unknown.contains("is not in ") && unknown.contains("/wrong"), "{unknown}");
    // The authorities of this machine don't know ours.
    let unknown = refused(&far(&server, "db.example.org", "&sslrootcert=system"));
    assert!(unknown.contains("authorit"), "{unknown}");
    let other = refused(&far(&server, "db.example.com", &roots));
    assert!(other.contains("for another host") && other.contains("db.example.com"), "{other}");
    let missing = refused(&far(&server, "db.example.org", "&sslrootcert=%2Fnowhere"));
    assert!(missing.contains("sslrootcert /nowhere"), "{missing}");
}

#[test]
fn weaker_modes_ask_for_less() {
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| Authority::new(&folder, name));
    let server = right.server("db.example.org");
    let with = |mode: &str, roots: &str| far(&server, "other.example", &format!("&sslmode={mode}{roots}"));

    for address in [
        with("verify-ca", &right.named()),
        with("require", ""),
        with("require", &right.named()),
        with("prefer", &wrong.named()),
    ] {
        let ledger = opened(&address);
        assert!(encrypted(&server), "{address}");
        drop(ledger);
        server
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trimtab'")
            .unwrap();
    }
    for address in [with("verify-ca", &wrong.named()), with("require", &wrong.named())] {
        let unknown = refused(&address);
        assert!(unknown.contains("/wrong"), "{address}: {unknown}");
    }
    let plain = opened(&with("disable", ""));
    assert!(!encrypted(&server));
    drop(plain);
}

#[test]
fn a_server_without_tls_gets_no_password_over_a_network() {
    let server = PostgresServer::start_on_loopback(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&folder, "right");
    // There is a password to lose.
    let sees = |mode: &str| {
        let text = far(&server, "db.example.org", mode);
        let secret = |name: &str| (name == "PGPASSWORD").then(|| "hush".to_owned());
        let place = store::Place::Postgres(Box::new(Address::parse(&text, &secret).unwrap()));
        Ledger::open_at(&place, Access::ReadWrite, store::Committer::Thread)
    };
    for mode in [authority.named(), "&sslmode=require".to_owned()] {
        match sees(&mode) {
            Err(Error::Unavailable { detail, .. }) => {
                assert!(detail.contains("does not speak TLS") && detail.contains("ssl = on"), "{detail}");
                assert!(!detail.contains("hush"));
            }
            other => panic!("{mode}: {other:?}"),
        }
    }
    for mode in ["&sslmode=prefer", "&sslmode=disable"] {
        sees(mode).unwrap().append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    }
}
