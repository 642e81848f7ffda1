//! Starts the guard's daemon detached from whoever starts it, and waits until it answers.
//!
//! Two starts at once are harmless: the second daemon finds the state directory locked and ends, and both callers reach the
//! first.

use std::time::Duration;

use super::client::Guard;
use super::{Error, GuardConfig};
use crate::edge::{launch, private_folder, write_atomically};

/// From the start to the first answer.
const START_MS_MAX: u64 = 10_000;
const POLL: Duration = Duration::from_millis(15);

/// The running guard, or one that is started now as `program... --config FILE`.
pub async fn ensure(config: &GuardConfig, program: &[String]) -> Result<Guard, Error> {
    let guard = Guard::at(&config.socket);
    if !matches!(guard.status().await, Err(Error::NotRunning { .. })) {
        // One that hangs is not replaced: it holds the lock.
        return Ok(guard);
    }
    let refuse = |reason: String| Error::Start { reason, log: config.log.clone() };
    let folders = [Some(config.state_directory.as_path()), config.log.parent()];
    for folder in folders.into_iter().flatten() {
        private_folder(folder).map_err(|error| refuse(error.to_string()))?;
    }
    let path = config.state_directory.join("guard.json");
    let text = serde_json::to_vec_pretty(config).map_err(|error| refuse(error.to_string()))?;
    write_atomically(&path, &text).map_err(Error::start("write", &path, &config.log))?;
    let mut child = launch::spawn(program, &path, &config.log).map_err(|error| refuse(error.to_string()))?;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(START_MS_MAX);
    loop {
        match guard.status().await {
            Err(Error::NotRunning { .. }) => {}
            _ => return Ok(guard),
        }
        if let Ok(Some(status)) = child.try_wait()
            && !status.success()
        {
            return Err(refuse(format!("it ended with {status}")));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(refuse(format!("it did not answer within {START_MS_MAX} ms")));
        }
        tokio::time::sleep(POLL).await;
    }
}
