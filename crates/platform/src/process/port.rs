//! Free ports for instances, and who holds a port that is taken.
//!
//! A free port is found by binding and closing it, so another process can take it before the instance does: the supervisor
//! tries again with another port when an instance says "address already in use" before it was ready. To make that rare,
//! ports are drawn below the range from which the kernel takes ports for outgoing connections (a busy proxy would otherwise
//! take them itself), and a port is not drawn twice in a row. Invariant: nothing is kept open.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Identity;

/// First port that is drawn.
const PORT_MIN: u16 = 15_000;
/// Draws before falling back to the kernel's choice.
const DRAWS_MAX: usize = 64;
/// Ports that are not drawn again soon: those of instances that are just starting.
const RECENT_PORTS: usize = 256;

static RECENT: Mutex<VecDeque<u16>> = Mutex::new(VecDeque::new());

/// No port is free.
#[derive(Debug, thiserror::Error)]
#[error("no loopback port is free")]
pub struct PortError(#[from] std::io::Error);

/// A loopback port on which nobody listens now.
pub fn free_port() -> Result<u16, PortError> {
    let outgoing_from = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_ascii_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(0);
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut chosen = None;
    if outgoing_from > PORT_MIN + 1_000 {
        chosen = (0..DRAWS_MAX)
            .map(|_| draw(PORT_MIN, outgoing_from))
            .find(|port| !recent.contains(port) && is_free(*port));
    }
    let port = match chosen {
        Some(port) => port,
        None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
    };
    if recent.len() == RECENT_PORTS {
        recent.pop_front();
    }
    recent.push_back(port);
    Ok(port)
}

/// Evenly enough: the range is far smaller than 2^32. Without entropy the kernel's choice is the fallback.
fn draw(from: u16, until: u16) -> u16 {
    let mut random = [0_u8; 4];
    if getrandom::fill(&mut random).is_err() {
        return from;
    }
    from + (u32::from_le_bytes(random) % u32::from(until - from)) as u16
}

/// Bound on all addresses, as many services do; what listens on loopback alone is in the way of that too. A machine without
/// IPv6 has nobody there.
fn is_free(port: u16) -> bool {
    let taken = |address: Ipv6Addr| {
        TcpListener::bind((address, port)).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && !taken(Ipv6Addr::UNSPECIFIED)
        && !taken(Ipv6Addr::LOCALHOST)
}

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// The program's name.
    pub program: String,
}

/// Who listens on the port, as far as we may see it: processes of other users are hidden.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    let sockets = listening(&|local, port| local.is_some() && port == address.port());
    super::pids().into_iter().find_map(|pid| {
        if held(pid, &sockets).is_empty() {
            return None;
        }
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(Holder { pid, program: program.trim().to_owned() })
    })
}

/// Whether a stranger answers at a loopback address, so that what it says is not this family's word: a process that is not
/// one of them listens there. Those that are hidden from us are not called strangers.
pub fn is_strangers(address: SocketAddr, family: &BTreeSet<Identity>) -> bool {
    let reached = |local: IpAddr| {
        let local = local.to_canonical();
        local == address.ip() || local.is_unspecified() && (local.is_ipv6() || address.is_ipv4())
    };
    let mut sockets = listening(&|local, port| port == address.port() && local.is_some_and(reached));
    for member in family {
        let own = held(member.pid, &sockets);
        sockets.retain(|socket| !own.contains(socket));
    }
    !sockets.is_empty() && super::pids().into_iter().any(|pid| !held(pid, &sockets).is_empty())
}

/// The sockets of these that the process has open, as far as we may see it.
fn held(pid: u32, sockets: &[String]) -> Vec<String> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    targets
        .filter_map(|target| sockets.iter().find(|socket| target.as_os_str() == socket.as_str()))
        .cloned()
        .collect()
}

/// The listening sockets whose address and port are wanted, as `/proc/PID/fd` names them.
fn listening(wanted: &dyn Fn(Option<IpAddr>, u16) -> bool) -> Vec<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, wanted))
        .map(|inode| format!("socket:[{inode}]"))
        .collect()
}

/// Inodes of the wanted sockets in state LISTEN (0A), from `/proc/net/tcp`'s text.
fn listening_inodes(table: &str, wanted: &dyn Fn(Option<IpAddr>, u16) -> bool) -> Vec<u64> {
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<&str>>());
    rows.filter_map(|fields| {
        let (address, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*fields.get(3)? == "0A" && wanted(local_address(address), port))
            .then(|| fields.get(9)?.parse().ok())?
    })
    .collect()
}

/// An address in the kernel's words of 32 bits, each a number in the machine's own byte order.
fn local_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let v4 = || <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from);
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from).or_else(v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let first = free_port().unwrap();
        let second = free_port().unwrap();
        assert_ne!(first, second);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).is_ok());
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(holder(address).unwrap().pid, std::process::id());
        }
        drop(listener);
        assert_eq!(holder(address), None);
    }

    #[test]
    fn a_listener_of_another_process_is_a_strangers() {
        let own = super::super::identity(std::process::id()).unwrap();
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().unwrap().port();
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            let seen = cfg!(target_os = "linux");
            // What is reached at an address: all addresses of IPv6 are those of IPv4 too.
            assert_eq!(is_strangers(v4, &BTreeSet::new()), seen && bound != "[::1]:0", "{bound}");
            assert_eq!(is_strangers(v6, &BTreeSet::new()), seen && bound.starts_with('['), "{bound}");
            assert!(!is_strangers(v4, &BTreeSet::from([own])) && !is_strangers(v6, &BTreeSet::from([own])));
            assert!(!is_free(port));
        }
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 77 1\n   \
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000 0 78 1\n";
        let at = |wanted: u16| {
            listening_inodes(table, &|address, port| {
                address == Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) && port == wanted
            })
        };
        assert_eq!((at(8080), at(8081)), (vec![77], vec![]));
        let v6 = local_address("00000000000000000000000001000000");
        assert_eq!(v6, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
}
