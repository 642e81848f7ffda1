//! Where the server is, from an address and PostgreSQL's own variables.
//!
//! The address is a `postgresql://` URL. What it leaves out comes from the variables that every PostgreSQL client knows (PGHOST,
//! PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGPASSFILE, PGOPTIONS), and the password from there or from the password file alone.
//!
//! How the connection is encrypted is said in it too; `tls` reads that.
//!
//! Invariant: an address in hand holds no password that was written in it.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::tls::{Distance, Encryption, Wish};
use crate::error::Error;

const PORT: u16 = 5_432;
/// Where Debian and PostgreSQL itself put the socket.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A password file larger than this is not read.
const PASSWORD_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The address of a PostgreSQL database that holds a ledger. Its text and its `Debug` show no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    config: Config,
    encryption: Encryption,
    name: Utf8PathBuf,
}

impl Address {
    /// Whether the text is meant as an address.
    pub fn looks_like(text: &str) -> bool {
        text.starts_with("postgresql://") || text.starts_with("postgres://")
    }

    /// Reads an address; `variable` gives the environment's variables. [`Error::Address`] when it can't be used.
    pub fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let refused = |detail: String| Error::Address { address: shown(text).into(), detail };
        if !Self::looks_like(text) {
            return Err(refused("an address begins with postgresql://".to_owned()));
        }
        let (place, wish) = Wish::taken_from(text);
        let mut config: Config =
            place.parse().map_err(|error| refused(format!("it is not an address: {error}")))?;
        if config.get_password().is_some() {
            let detail = "it holds a password; put it into the variable PGPASSWORD or into ~/.pgpass";
            return Err(refused(detail.to_owned()));
        }
        complete(&mut config, &given).map_err(&refused)?;
        let encryption = wish.decided(distance(&config), &given).map_err(&refused)?;
        let password = match given("PGPASSWORD") {
            Some(password) => Some(password),
            None => password_from_file(&config, &given).map_err(&refused)?,
        };
        if let Some(password) = password {
            config.password(password);
        }
        config
            .ssl_mode(encryption.ssl_mode())
            .application_name("trimtab")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10));
        let name = Utf8PathBuf::from(name(&config));
        Ok(Self { config, encryption, name })
    }

    /// As messages name it.
    pub fn name(&self) -> &Utf8Path {
        &self.name
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn encryption(&self) -> &Encryption {
        &self.encryption
    }
}

/// An address without whatever may be a password in it.
fn shown(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) => {
            format!("{scheme}://{}@{rest}", user.split(':').next().unwrap_or_default())
        }
        None => text.to_owned(),
    }
}

/// Fills in what the address leaves out.
fn complete(config: &mut Config, given: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    if config.get_hosts().is_empty() {
        let there = |folder: &&str| Utf8Path::new(folder).exists();
        match given("PGHOST") {
            Some(host) => config.host(host),
            None => config.host_path(SOCKET_FOLDERS.into_iter().find(there).unwrap_or(SOCKET_FOLDERS[1])),
        };
    }
    if config.get_ports().is_empty() {
        let port = given("PGPORT").map_or(Ok(PORT), |port| port.parse());
        config.port(port.map_err(|_| "PGPORT is not a port".to_owned())?);
    }
    if config.get_user().is_none() {
        let user = given("PGUSER").or_else(|| given("USER")).or_else(|| given("LOGNAME"));
        config.user(user.ok_or("it names no user, and neither do PGUSER and USER")?);
    }
    if config.get_dbname().is_none() {
        let user = config.get_user().unwrap_or_default().to_owned();
        config.dbname(given("PGDATABASE").unwrap_or(user));
    }
    if let (None, Some(options)) = (config.get_options(), given("PGOPTIONS")) {
        config.options(options);
    }
    Ok(())
}

/// How far the farthest of its hosts is.
fn distance(config: &Config) -> Distance {
    let near = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    };
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    if !hosts.iter().all(near) || !addresses.iter().all(IpAddr::is_loopback) {
        return Distance::Far;
    }
    let sockets = addresses.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)));
    if sockets { Distance::Socket } else { Distance::Loopback }
}

fn first_host(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
        None => String::new(),
    }
}

fn name(config: &Config) -> String {
    let port = config.get_ports().first().unwrap_or(&PORT);
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or_default();
    format!("postgresql://{user}@{}:{port}/{database}", first_host(config))
}

/// The password for this address from the password file, if there is a line for it. The format is libpq's: `host:port:database:user:
/// password`, `*` for any, a backslash before a colon or backslash.
fn password_from_file(
    config: &Config,
    given: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let path = match given("PGPASSFILE") {
        Some(path) => Utf8PathBuf::from(path),
        None => match given("HOME") {
            Some(home) => Utf8PathBuf::from(home).join(".pgpass"),
            None => return Ok(None),
        },
    };
    let Ok(metadata) = std::fs::metadata(&path) else { return Ok(None) };
    if !metadata.is_file() || metadata.len() > PASSWORD_FILE_BYTES_MAX {
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("the password file {path} can be read by others: chmod 600 {path}"));
    }
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("the password file {path}: {error}"))?;
    let host = match config.get_hosts().first() {
        Some(Host::Unix(_)) => "localhost".to_owned(),
        _ => first_host(config),
    };
    let port = config.get_ports().first().unwrap_or(&PORT).to_string();
    let wanted = [
        host.as_str(),
        &port,
        config.get_dbname().unwrap_or_default(),
        config.get_user().unwrap_or_default(),
    ];
    Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (password, place) = fields.split_last()?;
        let fits = place.len() == wanted.len()
            && place.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| password.clone())
    }))
}

/// The fields of a line; the fifth takes the rest.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            other => fields[last].push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn what_an_address_leaves_out_comes_from_the_usual_variables() {
        let variables = |name: &str| {
            Some(match name {
                "PGHOST" => "127.0.0.1".to_owned(),
                "PGPORT" => "6000".to_owned(),
                "PGUSER" => "ana".to_owned(),
                "PGPASSWORD" => "secret".to_owned(),
                _ => return None,
            })
        };
        let address = Address::parse("postgresql:///ledger", &variables).unwrap();
        assert_eq!(address.name(), "postgresql://ana@127.0.0.1:6000/ledger");
        assert!(!format!("{address:?}").contains("secret"));
        let whole = Address::parse("postgresql://eve@localhost:1/other", &variables).unwrap();
        assert_eq!(whole.name(), "postgresql://eve@localhost:1/other");
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let error =
            Address::parse("postgresql://ana:hush@localhost/ledger", &nothing).unwrap_err().to_string();
        assert!(error.contains("PGPASSWORD") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn nothing_crosses_a_network_in_clear_unless_that_was_said() {
        let mode = |text: &str| {
            let address = Address::parse(&format!("postgresql://ana@{text}"), &nothing)?;
            Ok::<_, Error>(address.config().get_ssl_mode())
        };
        for far in ["db.example.org", "192.0.2.1", "[2001:db8::1]"] {
            assert_eq!(mode(&format!("{far}/ledger")), Ok(SslMode::Require), "{far}");
            assert_eq!(mode(&format!("{far}/ledger?sslmode=disable")), Ok(SslMode::Disable), "{far}");
        }
        for near in ["localhost", "127.0.0.1", "[::1]", "%2Ftmp"] {
            assert_eq!(mode(&format!("{near}/ledger")), Ok(SslMode::Disable), "{near}");
        }
        assert_eq!(mode("localhost/x?sslmode=require"), Ok(SslMode::Require));
        assert_eq!(mode("localhost/x?sslmode=prefer&connect_timeout=3"), Ok(SslMode::Prefer));
        assert_eq!(mode("localhost/x?hostaddr=192.0.2.1"), Ok(SslMode::Require));
        // As with every client, a socket has no TLS.
        assert_eq!(mode("%2Ftmp/x?sslmode=verify-full"), Ok(SslMode::Disable));
        for (wrong, word) in [
            ("db/x?sslmode=allow", "verify-full"),
            ("db/x?sslmode=verify-ca", "sslrootcert"),
            ("db/x?sslmode=require&sslrootcert=system", "verify-full"),
        ] {
            let error = mode(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_asked_of_the_server_may_come_from_variables() {
        let variables = |name: &str| (name == "PGSSLMODE").then(|| "disable".to_owned());
        let address = Address::parse("postgresql://ana@db.example.org/x", &variables).unwrap();
        assert_eq!(address.config().get_ssl_mode(), SslMode::Disable);
        let address =
            Address::parse("postgresql://ana@db.example.org/x?sslmode=verify-full", &variables).unwrap();
        assert_eq!(address.config().get_ssl_mode(), SslMode::Require, "the address comes first");
    }

    #[test]
    fn the_password_file_is_read_as_every_client_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        std::fs::write(&path, "# comment\nother:*:*:*:no\nlocalhost:*:ledger:ana:a\\:b:c\n").unwrap();
        let file = path.to_str().unwrap().to_owned();
        let variables = |name: &str| (name == "PGPASSFILE").then(|| file.clone());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = Address::parse("postgresql://ana@localhost/ledger", &variables).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let password = |text: &str| {
            Address::parse(text, &variables).unwrap().config().get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(password("postgresql://ana@localhost/ledger").as_deref(), Some(b"a:b:c".as_slice()));
        assert_eq!(password("postgresql://ana@%2Ftmp/ledger").as_deref(), Some(b"a:b:c".as_slice()));
        assert_eq!(password("postgresql://eve@localhost/ledger"), None);
    }
}
