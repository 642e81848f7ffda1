//! What a string in the manifest may say: names, durations, paths, globs, addresses, moments.
//!
//! Leaves out positions; the caller knows them. Every `Trouble` reads after "KEY: ".
//!
//! Invariant: [`Format::check`] and the readers here accept the same texts, and none of them touches the file system.

use std::net::{IpAddr, SocketAddr};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use delivery::environment::FreezeWindow;
use delivery::network::Network;
use delivery::{ServiceName, TaskName, Timestamp};

/// A kind of string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Anything without control characters, but not nothing.
    Words,
    /// One element of a command: anything without NUL.
    Argument,
    /// A service's, gate's, environment's or the project's name.
    Name,
    /// A task's name.
    TaskName,
    /// `500ms`, `10s`, `5m`, `2h` or `1d`; bounds in milliseconds, included.
    Duration(u64, u64),
    /// A relative directory that does not leave the project.
    Directory,
    /// An absolute path.
    Path,
    /// A name as HAProxy's configuration has it, with `{service}` in it or not.
    Section,
    /// A relative glob that does not leave its directory.
    Glob,
    /// The same; with `!` in front it takes files out again.
    Selection,
    /// The path of a URL.
    UrlPath,
    /// `address:port`.
    Listen,
    /// An address or a range of them, `address/bits`.
    Network,
    /// An e-mail address.
    Email,
    /// The name of an environment variable.
    Variable,
    /// A cookie's or header's name.
    Token,
    /// A git branch.
    Branch,
    /// The address of a PostgreSQL database, without a password.
    Database,
    /// `Fri 16:00` or `2026-12-20T00:00Z`.
    Moment,
}

/// Why a string won't do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// One clause, lower case.
    pub(crate) message: String,
    /// What to do, where that is known.
    pub(crate) hint: Option<String>,
}

impl Trouble {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// The text as it is repeated in a message: escaped, and cut where it is long.
pub(crate) fn shown(text: &str) -> String {
    const BYTES_MAX: usize = 80;
    if text.len() <= BYTES_MAX {
        return text.escape_debug().to_string();
    }
    let start = text.get(..text.floor_char_boundary(BYTES_MAX)).unwrap_or_default();
    format!("{}...", start.escape_debug())
}

/// The longest string in a manifest, bytes. Commands hold small scripts at most.
const TEXT_BYTES_MAX: usize = 32 << 10;

impl Format {
    /// Whether the text is one of this kind.
    pub(crate) fn check(self, text: &str) -> Result<(), Trouble> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Trouble::new(
                "the text is too long",
                format!("keep it under {TEXT_BYTES_MAX} bytes"),
            ));
        }
        match self {
            Self::Words => words(text),
            Self::Argument if text.contains('\0') => {
                Err(Trouble::new("it holds a NUL character", "remove it"))
            }
            Self::Argument => Ok(()),
            Self::Name => name(ServiceName::new(text), text),
            Self::TaskName => name(TaskName::new(text), text),
            Self::Duration(least, most) => bounded_duration(text, least, most),
            Self::Directory => directory(text).map(|_| ()),
            Self::Path => absolute(text),
            Self::Section => section(text),
            Self::Glob if text.starts_with('!') => {
                Err(Trouble::new("a glob can't take files out here", "list what is meant, without `!`"))
            }
            Self::Glob => glob(text),
            Self::Selection => glob(text.strip_prefix('!').unwrap_or(text)),
            Self::UrlPath => url_path(text),
            Self::Listen => listen(text).map(|_| ()),
            Self::Network => network(text),
            Self::Email => email(text),
            Self::Variable => variable(text),
            Self::Token => token(text),
            Self::Branch => branch(text),
            Self::Database => database(text),
            Self::Moment => Moment::parse(text).map(|_| ()),
        }
    }

    /// A regular expression for the JSON Schema; it may let more pass than [`Self::check`].
    pub(crate) fn pattern(self) -> Option<&'static str> {
        Some(match self {
            Self::Words => "\\S",
            Self::Argument => return None,
            Self::Name => "^[a-z0-9][a-z0-9-]{0,62}$",
            Self::TaskName => "^[a-z0-9][a-z0-9:_./-]{0,62}$",
            Self::Duration(..) => "^[0-9]+(ms|s|m|h|d)$",
            Self::Directory | Self::Glob | Self::Selection => "^[^/]",
            Self::Path => "^/[^\\x00]+$",
            Self::Section => "^[A-Za-z0-9_.:{}-]+$",
            Self::UrlPath => "^/\\S*$",
            Self::Listen => "^\\S+:[0-9]{1,5}$",
            Self::Network => "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$",
            Self::Email => "^[^@\\s]+@[^@\\s]+$",
            Self::Variable => "^[A-Za-z_][A-Za-z0-9_]*$",
            Self::Token => "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
            Self::Branch => "^[^\\s-]\\S*$",
            Self::Database => "^postgres(ql)?://\\S*$",
            Self::Moment => "^([A-Za-z]{3,9} [0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}T.+)$",
        })
    }

    /// For the reference page.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Words | Self::Argument => "string",
            Self::Name | Self::TaskName => "name",
            Self::Duration(..) => "duration",
            Self::Directory => "relative directory",
            Self::Path => "absolute path",
            Self::Section => "name",
            Self::Glob | Self::Selection => "glob",
            Self::UrlPath => "URL path",
            Self::Listen => "address:port",
            Self::Network => "address or address/bits",
            Self::Email => "e-mail address",
            Self::Variable => "variable name",
            Self::Token => "name",
            Self::Branch => "branch",
            Self::Database => "postgresql:// address",
            Self::Moment => "moment",
        }
    }
}

fn absolute(text: &str) -> Result<(), Trouble> {
    // The longest path that fits into a unix socket's address.
    const BYTES_MAX: usize = 107;
    if !text.starts_with('/') || text.contains('\0') {
        return Err(Trouble::new("it is no absolute path", "begin it with `/`"));
    }
    if text.len() > BYTES_MAX {
        return Err(Trouble::new(format!("it is longer than {BYTES_MAX} bytes"), "move the socket"));
    }
    Ok(())
}

fn section(text: &str) -> Result<(), Trouble> {
    let plain = text.replace("{service}", "s");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if plain.is_empty() || !plain.chars().all(allowed) {
        let hint = "use letters, digits, `-`, `_`, `.` and `:`; `{service}` stands for the service's name";
        return Err(Trouble::new("HAProxy has no such names", hint));
    }
    Ok(())
}

fn words(text: &str) -> Result<(), Trouble> {
    if text.trim().is_empty() {
        return Err(Trouble { message: "it is empty".into(), hint: None });
    }
    if text.chars().any(char::is_control) {
        return Err(Trouble::new("it holds a control character", "write it on one line"));
    }
    Ok(())
}

fn name<T>(made: Result<T, delivery::id::NameError>, text: &str) -> Result<(), Trouble> {
    made.map(|_| ()).map_err(|error| {
        let slug = slug(text);
        let hint = (!slug.is_empty()).then(|| format!("for example `{slug}`"));
        Trouble { message: format!("the name is not valid: {error}"), hint }
    })
}

/// The nearest valid name: lower case, everything else a dash. Empty when nothing is left.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(delivery::limits::NAME_BYTES_MAX) {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// The duration in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, Trouble> {
    let hint = "write a whole number and its unit: \"500ms\", \"10s\", \"5m\", \"2h\" or \"1d\"";
    let trouble = || Trouble::new(format!("\"{}\" is not a duration", shown(text)), hint);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (amount, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(trouble()),
    };
    if amount.is_empty() {
        return Err(trouble());
    }
    let ms = amount.parse::<u64>().ok().and_then(|amount| amount.checked_mul(factor));
    ms.ok_or_else(|| Trouble::new("the duration is too long", "write a shorter one"))
}

fn bounded_duration(text: &str, least: u64, most: u64) -> Result<(), Trouble> {
    let ms = duration_ms(text)?;
    let allowed = || format!("it may be from {} to {}", shortest(least), shortest(most));
    if ms < least {
        return Err(Trouble::new("the duration is too short", allowed()));
    }
    if ms > most {
        return Err(Trouble::new("the duration is too long", allowed()));
    }
    Ok(())
}

/// The duration as it would be written: the largest unit that divides it.
pub(crate) fn shortest(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.iter().find(|(factor, _)| ms >= *factor && ms.is_multiple_of(*factor));
    whole.map_or_else(|| format!("{ms}ms"), |(factor, unit)| format!("{}{unit}", ms / factor))
}

fn relative(text: &str) -> Result<(), Trouble> {
    if text.is_empty() {
        return Err(Trouble::new("the path is empty", "write \".\" for the manifest's own directory"));
    }
    if text.chars().any(char::is_control) {
        return Err(Trouble::new("the path holds a control character", "remove it"));
    }
    let drive = text.as_bytes().get(1) == Some(&b':') && text.as_bytes()[0].is_ascii_alphabetic();
    if text.starts_with('/') || text.starts_with('~') || drive {
        return Err(Trouble::new("the path is absolute", "write it relative to the project's directory"));
    }
    if text.split(['/', '\\']).any(|part| part == "..") {
        return Err(Trouble::new("the path leaves the project", "paths can't hold `..`"));
    }
    Ok(())
}

/// The directory without `./` and trailing slashes; `.` for the project itself.
pub(crate) fn directory(text: &str) -> Result<Utf8PathBuf, Trouble> {
    relative(text)?;
    let normal = |component| match component {
        Utf8Component::Normal(part) => Some(part),
        _ => None,
    };
    let path: Utf8PathBuf = Utf8Path::new(text).components().filter_map(normal).collect();
    Ok(if path.as_str().is_empty() { Utf8PathBuf::from(".") } else { path })
}

fn glob(text: &str) -> Result<(), Trouble> {
    relative(text)?;
    // Only these characters can make a glob malformed; most globs have none, and compiling thousands is slow.
    if text.contains(['[', ']', '{', '}', '\\'])
        && let Err(error) = globset::Glob::new(text)
    {
        return Err(Trouble::new(
            format!("\"{}\" is not a glob: {}", shown(text), error.kind()),
            "`*` is any name, `**` any directories, `?` one character, `[ab]` and `{a,b}` a choice",
        ));
    }
    Ok(())
}

fn url_path(text: &str) -> Result<(), Trouble> {
    if !text.starts_with('/') {
        return Err(Trouble::new("a URL path starts with `/`", "for example \"/healthz\""));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Trouble::new("a URL path holds no blanks", "write them as %20"));
    }
    Ok(())
}

/// The socket address; `localhost` is 127.0.0.1.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Trouble> {
    let hint = "write an address and a port, for example \"127.0.0.1:8080\"";
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    if let Ok(address) = numeric.as_deref().unwrap_or(text).parse() {
        return Ok(address);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok() {
        return Err(Trouble::new("the address is missing", format!("write \"127.0.0.1:{text}\"")));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(Trouble::new("the port is missing", format!("write \"{text}:8080\"")));
    }
    Err(Trouble::new(format!("\"{}\" is not an address to listen on", shown(text)), hint))
}

fn network(text: &str) -> Result<(), Trouble> {
    text.parse::<Network>().map(|_| ()).map_err(|_| {
        let message = format!("\"{}\" is not a range of addresses", shown(text));
        Trouble::new(message, "write an address or address/bits, for example \"10.0.0.0/8\"")
    })
}

fn database(text: &str) -> Result<(), Trouble> {
    let example =
        "for example \"postgresql:///trimtab\"; host, port and user may come from PGHOST, PGPORT and PGUSER";
    let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    let Some(rest) = rest else {
        return Err(Trouble::new("a database's address begins with postgresql://", example));
    };
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Trouble::new("the address holds a blank", "write it as %20"));
    }
    let user = rest.split(['/', '?']).next().and_then(|authority| authority.rsplit_once('@'));
    let password = user.is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=");
    if password {
        return Err(Trouble::new(
            "the address holds a password",
            "take it out; it belongs into ~/.pgpass or the variable PGPASSWORD",
        ));
    }
    Ok(())
}

fn email(text: &str) -> Result<(), Trouble> {
    let (person, host) = text.split_once('@').unwrap_or((text, ""));
    let fine = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control())
    };
    if fine(person) && fine(host) {
        return Ok(());
    }
    Err(Trouble::new(
        format!("\"{}\" is not an e-mail address", shown(text)),
        "write it as git knows the person, for example \"ana@example.com\"",
    ))
}

fn variable(text: &str) -> Result<(), Trouble> {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(Trouble::new(
        format!("\"{}\" is not the name of an environment variable", shown(text)),
        "use letters, digits and `_`, not starting with a digit",
    ))
}

fn token(text: &str) -> Result<(), Trouble> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(allowed) {
        return Ok(());
    }
    let message = format!("\"{}\" is not the name of a cookie or header", shown(text));
    Err(Trouble::new(message, "use letters, digits, `-` and `_`"))
}

fn branch(text: &str) -> Result<(), Trouble> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let edges = text.starts_with(['-', '/']) || text.ends_with(['/', '.']);
    if text.is_empty() || edges || text.contains(bad) || text.contains("..") || text.contains("//") {
        let message = format!("\"{}\" is not a branch name", shown(text));
        return Err(Trouble::new(message, "for example \"main\""));
    }
    Ok(())
}

/// One end of a freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Minutes since Monday 00:00 UTC.
    Weekly(u32),
    /// An instant.
    Dated(Timestamp),
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Moment {
    /// `Fri 16:00`, `Friday 16:00` or an RFC 3339 instant (seconds may be left out).
    pub(crate) fn parse(text: &str) -> Result<Self, Trouble> {
        let hint = "write a day and time in UTC (\"Fri 16:00\") or an instant (\"2026-12-20T00:00Z\")";
        let trouble = || Trouble::new(format!("\"{}\" is not a moment", shown(text)), hint);
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return match text.parse() {
                Ok(instant) => Ok(Self::Dated(instant)),
                Err(_) if text.len() == 10 && text.matches('-').count() == 2 => {
                    Err(Trouble::new("the time of day is missing", format!("write \"{text}T00:00Z\"")))
                }
                Err(_) if text.contains('T') && !text.contains(['Z', 'z', '+']) => {
                    Err(Trouble::new("the time zone is missing", format!("write \"{text}Z\" for UTC")))
                }
                Err(_) => Err(trouble()),
            };
        }
        let (day, time) = text.split_once(' ').ok_or_else(trouble)?;
        let day = day.to_ascii_lowercase();
        let position = DAYS.iter().position(|name| *name == day || name.get(..3) == Some(day.as_str()));
        let day = u32::try_from(position.ok_or_else(trouble)?).map_err(|_| trouble())?;
        let (hours, minutes) = time.split_once(':').ok_or_else(trouble)?;
        let number = |text: &str, below: u32| match text.parse::<u32>() {
            Ok(number) if text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && number < below => {
                Ok(number)
            }
            _ => Err(Trouble::new(
                format!("\"{}\" is not a time of day", shown(time)),
                "write it as \"16:00\"",
            )),
        };
        Ok(Self::Weekly(day * 1440 + number(hours, 24)? * 60 + number(minutes, 60)?))
    }
}

/// The window between two moments.
pub(crate) fn window(from: Moment, until: Moment) -> Result<FreezeWindow, Trouble> {
    match (from, until) {
        (Moment::Dated(from), Moment::Dated(until)) if from < until => {
            Ok(FreezeWindow::Dates { from, until })
        }
        (Moment::Dated(_), Moment::Dated(_)) => {
            Err(Trouble::new("the freeze ends before it starts", "`until` must be later than `from`"))
        }
        (Moment::Weekly(from_minute), Moment::Weekly(until_minute)) if from_minute != until_minute => {
            Ok(FreezeWindow::Weekly { from_minute, until_minute })
        }
        (Moment::Weekly(_), Moment::Weekly(_)) => {
            Err(Trouble::new("the freeze ends when it starts", "give `from` and `until` different times"))
        }
        _ => Err(Trouble::new(
            "one end of the freeze is weekly and the other is dated",
            "give both as a day of the week, or both as an instant",
        )),
    }
}
