//! What a daemon does about signals: SIGTERM and SIGINT end it, and SIGHUP, which a closing terminal sends, does nothing.
//!
//! Invariant: a daemon whose terminal goes away keeps its services and its grants.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Waits for a signal that ends the daemon, and says so.
pub(crate) async fn watch(stop: watch::Sender<bool>) {
    let kinds = (SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup());
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(kinds.0), signal(kinds.1), signal(kinds.2))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
        }
    }
    stop.send_replace(true);
}
