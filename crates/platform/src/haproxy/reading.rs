//! What `show info typed` and `show stat ... typed` say about a backend's slots.
//!
//! A line is `OBJECT.PROXY.ID.POSITION.NAME.PROCESS:TAGS:TYPE:VALUE` (management.txt, 9.1.1). Fields are found by their
//! names, so newer HAProxies may add some.
//!
//! What a server's requests came to: responses of all classes (`hrsp_*`), and requests that ended without one because no
//! connection came about (`econ`) or the response broke or timed out (`eresp`). Errors are `hrsp_5xx`, `econ` and `eresp`.
//! Requests that the client gave up before a response are in none of them. HAProxy has no histogram of latencies per
//! server, so none is made up.
//! Invariant: a field that is missing is an error, not a zero.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use delivery::traffic::{ArmTotals, Weight};

use super::{Error, Haproxy, SLOTS_MAX, share};

/// What HAProxy does with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It gets requests by its weight, whatever a health check thinks of it.
    Ready,
    /// No new requests, but those of users who are bound to it.
    Drain,
    /// No new requests at all.
    Maintenance,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the backend.
    pub name: String,
    /// Where it points; `None` when that is not an IP address with a port.
    pub address: Option<SocketAddr>,
    /// What HAProxy does with it.
    pub state: State,
    /// Its weight, 0 to 256, whether or not it is in force.
    pub weight: u64,
    /// Requests under way on it.
    pub in_flight: u64,
    /// Requests that ended, since HAProxy's start.
    pub requests: u64,
    /// Of these, failed.
    pub errors: u64,
}

/// The slots of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Names HAProxy's process lifetime: its counters start over with it.
    pub boot: String,
    /// Slots of stable, by number.
    pub stable: Vec<Server>,
    /// Slots of the canary, by number.
    pub canary: Vec<Server>,
}

impl Server {
    /// Its weight in force.
    pub fn force(&self) -> u64 {
        if self.state == State::Ready { self.weight } else { 0 }
    }
}

impl Backend {
    /// The canary's share by the weights in force.
    pub fn share(&self) -> Weight {
        share::share(force(&self.stable), force(&self.canary))
    }

    /// Whether the canary has more than this.
    pub fn exceeds(&self, ceiling: Weight) -> bool {
        share::exceeds(force(&self.stable), force(&self.canary), ceiling)
    }

    /// Instances that fit into both groups.
    pub fn slots(&self) -> usize {
        self.stable.len().min(self.canary.len())
    }
}

fn force(servers: &[Server]) -> u64 {
    servers.iter().map(Server::force).sum()
}

/// Totals of a group. Latency is empty: not measured.
pub fn totals(servers: &[Server]) -> ArmTotals {
    let sum = |of: fn(&Server) -> u64| servers.iter().map(of).sum();
    ArmTotals {
        requests: sum(|server| server.requests),
        errors: sum(|server| server.errors),
        latency: Vec::new(),
        in_flight: sum(|server| server.in_flight),
    }
}

/// Fields of one object, by name.
type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// Reads both answers.
pub(super) fn parse(text: &str, config: &Haproxy) -> Result<Backend, Error> {
    let unfit = |reason: String| Error::Unfit { backend: config.backend.clone(), reason };
    if let Some(line) = text.lines().find(|line| line.starts_with("Permission denied")) {
        return Err(unfit(format!("{line}; the socket needs level admin")));
    }
    if text.lines().any(|line| line.starts_with("No such proxy")) {
        return Err(Error::BackendUnknown { backend: config.backend.clone() });
    }
    let (info, objects) = fields(text);
    let named = |name: &str| info.get(name).ok_or_else(|| unfit(format!("HAProxy does not tell its {name}")));
    let boot = format!("haproxy-{}-{}", named("Pid")?, named("Start_time_sec")?);
    let backend = objects
        .iter()
        .find(|(object, _)| object.starts_with("B."))
        .ok_or_else(|| Error::BackendUnknown { backend: config.backend.clone() })?;
    fit(backend.1).map_err(unfit)?;
    let (mut stable, mut canary) = (BTreeMap::new(), BTreeMap::new());
    for (_, fields) in objects.iter().filter(|(object, _)| object.starts_with("S.")) {
        let name = fields.get("svname").copied().unwrap_or_default();
        let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
        let group = match (number(&config.stable), number(&config.canary)) {
            (Some(number), _) => (&mut stable, number),
            (None, Some(number)) => (&mut canary, number),
            (None, None) => {
                if fields.get("status").is_some_and(|status| !status.starts_with("MAINT")) {
                    let reason = format!("server {name} is in neither group, and gets traffic too");
                    return Err(unfit(reason));
                }
                continue;
            }
        };
        group.0.insert(group.1, server(name, fields).map_err(unfit)?);
    }
    for (prefix, group) in [(&config.stable, &stable), (&config.canary, &canary)] {
        if group.is_empty() || group.len() > SLOTS_MAX {
            let count = group.len();
            return Err(unfit(format!("{count} of its servers are named {prefix}1, {prefix}2, ...")));
        }
    }
    Ok(Backend { boot, stable: stable.into_values().collect(), canary: canary.into_values().collect() })
}

/// Information by name, and each object of the statistics with its fields.
fn fields(text: &str) -> (Fields<'_>, BTreeMap<String, Fields<'_>>) {
    let (mut info, mut objects): (Fields<'_>, BTreeMap<String, Fields<'_>>) = Default::default();
    for line in text.lines() {
        let Some((path, rest)) = line.split_once(':') else { continue };
        let Some(value) = rest.splitn(3, ':').nth(2) else { continue };
        match path.split('.').collect::<Vec<_>>()[..] {
            [_, name, _] => {
                info.insert(name, value);
            }
            [kind, proxy, id, _, name, _] => {
                objects.entry(format!("{kind}.{proxy}.{id}")).or_default().insert(name, value);
            }
            _ => {}
        }
    }
    (info, objects)
}

/// Whether requests are counted, and fall by weights that can be changed.
fn fit(backend: &Fields<'_>) -> Result<(), String> {
    if backend.get("mode") != Some(&"http") {
        return Err("it is not in `mode http`, so failed requests can't be counted".into());
    }
    match backend.get("algo").copied() {
        Some("roundrobin" | "random") => Ok(()),
        Some(other) => Err(format!("it balances by {other}, not by weight; write `balance roundrobin`")),
        None => Err("HAProxy does not tell how it balances; the socket needs level admin".into()),
    }
}

fn server(name: &str, fields: &Fields<'_>) -> Result<Server, String> {
    let number = |field: &str| {
        let text = fields.get(field).ok_or_else(|| format!("server {name} has no {field}"))?;
        text.parse::<u64>().map_err(|_| format!("{field} of server {name} is {text:?}"))
    };
    let status = *fields.get("status").ok_or_else(|| format!("server {name} has no status"))?;
    let state = match status.split_ascii_whitespace().next() {
        Some("MAINT") => State::Maintenance,
        Some("DRAIN") => State::Drain,
        _ => State::Ready,
    };
    let classes = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"];
    let mut responses = 0;
    for class in classes {
        responses += number(class)?;
    }
    let broken = number("econ")? + number("eresp")?;
    Ok(Server {
        name: name.to_owned(),
        address: fields.get("addr").and_then(|address| address.parse().ok()),
        state,
        weight: number("uweight")?,
        in_flight: number("scur")?,
        requests: responses + broken,
        errors: number("hrsp_5xx")? + broken,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write as _;

    use super::*;

    pub(in super::super) fn config() -> Haproxy {
        Haproxy {
            socket: "/run/haproxy.sock".into(),
            backend: "shop".into(),
            stable: "stable".into(),
            canary: "canary".into(),
        }
    }

    /// What HAProxy would say of these (name, state, weight, port).
    pub(in super::super) fn said(servers: &[(&str, &str, u64, u16)]) -> String {
        let mut text = "6.Pid.1:SGP:u32:42\n70.Start_time_sec.1:MDP:u32:7\n\n\
            B.3.0.75.mode.1:CGS:str:http\nB.3.0.76.algo.1:CGS:str:roundrobin\n"
            .to_owned();
        for (id, (name, status, weight, port)) in servers.iter().enumerate() {
            let mut line = |field: &str, value: &str| {
                let _ = writeln!(text, "S.3.{id}.1.{field}.1:KNS:str:{value}");
            };
            line("svname", name);
            line("status", status);
            line("uweight", &weight.to_string());
            line("addr", &format!("127.0.0.1:{port}"));
            for (at, field) in
                ["scur", "econ", "eresp", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx"].iter().enumerate()
            {
                line(field, &(at + 1).to_string());
            }
            for field in ["hrsp_4xx", "hrsp_5xx", "hrsp_other"] {
                line(field, "10");
            }
        }
        text
    }

    fn refusal(text: &str) -> String {
        parse(text, &config()).unwrap_err().to_string()
    }

    #[test]
    fn slots_are_read_with_their_totals() {
        let text = said(&[
            ("canary1", "MAINT", 5, 1),
            ("stable10", "no check", 19, 1010),
            ("stable2", "UP", 19, 1002),
            ("backup", "MAINT", 1, 1),
        ]);
        let backend = parse(&text, &config()).unwrap();
        let names: Vec<&str> = backend.stable.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["stable2", "stable10"], "by number");
        assert_eq!((backend.boot.as_str(), backend.slots()), ("haproxy-42-7", 1));
        let stable = &backend.stable[0];
        assert_eq!((stable.requests, stable.errors, stable.in_flight), (2 + 3 + 4 + 5 + 6 + 30, 15, 1));
        assert_eq!(stable.address, "127.0.0.1:1002".parse().ok());
        assert_eq!((backend.canary[0].force(), backend.share()), (0, Weight::ZERO));
        assert!(totals(&backend.stable).latency.is_empty(), "no latency is made up");
    }

    #[test]
    fn what_is_not_fit_is_refused_with_its_reason() {
        let good = said(&[("stable1", "UP", 1, 1), ("canary1", "MAINT", 1, 1)]);
        parse(&good, &config()).unwrap();
        assert!(refusal("No such proxy.\n").contains("no backend \"shop\""));
        assert!(refusal("Permission denied\n").contains("level admin"));
        assert!(refusal(&good.replace("roundrobin", "source")).contains("balances by source"));
        assert!(refusal(&good.replace(":http", ":tcp")).contains("mode http"));
        assert!(refusal(&good.replace("canary1", "other1")).contains("0 of its servers are named canary1"));
        let stray = said(&[("stable1", "UP", 1, 1), ("canary1", "MAINT", 1, 1), ("old", "UP", 1, 1)]);
        assert!(refusal(&stray).contains("server old is in neither group"));
        assert!(refusal(&good.replace("eresp", "gone")).contains("stable1 has no eresp"));
    }
}
