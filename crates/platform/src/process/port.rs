//! Free ports for instances, and who holds a port that is taken.
//!
//! A free port is found by binding and closing it, so another process can take it before the instance does: the supervisor
//! tries again with another port when an instance says "address already in use" before it was ready. To make that rare,
//! ports are drawn below the range from which the kernel takes ports for outgoing connections (a busy proxy would otherwise
//! take them itself), and a port is not drawn twice in a row. Invariant: nothing is kept open.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

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

/// Bound on all addresses, as many services do; what listens on loopback alone is in the way of that too.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
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
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    super::pids().into_iter().find_map(|pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path())
                .is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        });
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        holds.then(|| Holder { pid, program: program.trim().to_owned() })
    })
}

/// Inodes of the sockets in state LISTEN (0A) on the port, from `/proc/net/tcp`'s text.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A")
                .then(|| fields.get(9)?.parse().ok())?
        })
        .collect()
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
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 77 1\n   \
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000 0 78 1\n";
        assert_eq!(listening_inodes(table, 8080), [77]);
        assert_eq!(listening_inodes(table, 8081), Vec::<u64>::new());
    }
}
