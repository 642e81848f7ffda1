//! A connection that breaks at the worst moment: between the server's commit and the client's hearing of it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

/// Forwards connections to a server's socket and loses the answers to some commits.
pub(crate) struct Proxy {
    folder: tempfile::TempDir,
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// Before the server of that socket.
    pub(crate) fn before(socket: Utf8PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let left = Arc::new(AtomicU32::new(0));
        let losing = Arc::clone(&left);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                forward(client, server, &losing);
            }
        });
        Self { folder, left }
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    /// Loses the answers to the next commits.
    pub(crate) fn lose(&self, commits: u32) {
        self.left.store(commits, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub(crate) fn left(&self) -> u32 {
        self.left.load(Ordering::SeqCst)
    }
}

fn forward(client: UnixStream, server: UnixStream, left: &Arc<AtomicU32>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let cut = Arc::new(AtomicU32::new(0));
    let (cutting, left) = (Arc::clone(&cut), Arc::clone(left));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            // A simple query is one message, and one write of ours.
            let commits = buffer[..read].windows(7).any(|bytes| bytes.starts_with(b"COMMIT\0"));
            let lose = commits
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            if lose {
                cutting.store(1, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_server.read(&mut buffer) {
            if cut.load(Ordering::SeqCst) == 1 || to_client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
}
