//! Being asked to stop: Ctrl-C, SIGTERM and SIGHUP (the terminal was closed, the connection broke) mean the same everywhere.

use std::sync::LazyLock;
use std::time::Duration;

use rollout::driver::Wish;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Resolves when the process is asked to stop.
pub(crate) async fn stopped() {
    let hangup = async {
        if *HANGUP_IGNORED {
            std::future::pending::<()>().await;
        }
        heard(SignalKind::hangup()).await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = heard(SignalKind::terminate()) => {}
        () = hangup => {}
    }
}

async fn heard(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Whether we were started to outlive the terminal (`nohup`). Looked up once, since listening to a signal ends that.
static HANGUP_IGNORED: LazyLock<bool> = LazyLock::new(|| {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1, the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
});

/// Ctrl-C and its like: once takes the release back and ends, twice ends at once (the splitter's grant then takes it back).
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
