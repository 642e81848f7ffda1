//! What PostgreSQL's failures mean to the ledger.
//!
//! Invariant: [`Error::Interrupted`] is given only for what can pass by itself: a connection that was lost or ended by the
//! server, a server that is starting or stopping, a transaction that lost against another one.

use camino::Utf8Path;
use tokio_postgres::error::SqlState;

use crate::error::Error;

/// What writers set as `lock_timeout`, in milliseconds.
const LOCK_TIMEOUT_MS: u64 = 5_000;

/// What the error means.
pub(crate) fn meaning(place: &Utf8Path, error: &tokio_postgres::Error) -> Error {
    let path = place.to_owned();
    let Some(database) = error.as_db_error() else {
        return Error::Interrupted { path, detail: causes(error) };
    };
    let detail = format!("{} (SQLSTATE {})", database.message(), database.code().code());
    let state = database.code();
    match &state.code()[..2] {
        _ if *state == SqlState::LOCK_NOT_AVAILABLE => {
            Error::Locked { waited_ms: LOCK_TIMEOUT_MS, holder: None }
        }
        _ if *state == SqlState::DISK_FULL => Error::Full { path },
        _ if *state == SqlState::READ_ONLY_SQL_TRANSACTION => Error::ReadOnly { path },
        // Lost connections, lost races, a server that ends or begins or has no room for another client.
        "08" | "40" => Error::Interrupted { path, detail },
        _ if [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::QUERY_CANCELED,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(state) =>
        {
            Error::Interrupted { path, detail }
        }
        "53" | "58" => Error::Disk { path, detail },
        // Data or index corrupted; a table or column that should be there is not.
        "XX" | "42" if *state != SqlState::INSUFFICIENT_PRIVILEGE => Error::Damaged { detail },
        _ => Error::Unavailable { path, detail },
    }
}

/// Whether damage was found by the server in its own files, so that other rows may still be readable.
pub(crate) fn is_corruption(detail: &str) -> bool {
    detail.contains("(SQLSTATE XX")
}

/// The error with its causes, which its own text leaves out.
fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
