//! Being asked to stop: Ctrl-C and SIGTERM mean the same everywhere.

use std::time::Duration;

use rollout::driver::Wish;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Resolves when the process is asked to stop.
pub(crate) async fn stopped() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Ctrl-C: once takes the release back and ends, twice ends at once (the splitter's grant then takes it back).
pub(crate) fn wishes(by: String, cancel: Option<pipeline::CancelHandle>) -> watch::Receiver<Wish> {
    let (sender, receiver) = watch::channel(Wish::Continue);
    tokio::spawn(async move {
        let mut count = 0_u8;
        loop {
            stopped().await;
            count += 1;
            if let Some(cancel) = &cancel {
                cancel.escalate();
            }
            if count == 1 {
                let _ = sender.send(Wish::TakeBack { by: by.clone() });
                continue;
            }
            // Tasks get a moment to be killed; a rollout is left to the splitter's dead-man's grant.
            tokio::time::sleep(Duration::from_millis(300)).await;
            end_now();
        }
    });
    receiver
}

#[expect(clippy::exit, reason = "the second Ctrl-C ends the process wherever it is")]
fn end_now() -> ! {
    std::process::exit(i32::from(delivery::exit::Exit::Infrastructure as u8))
}
