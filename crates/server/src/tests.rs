//! Requests against a real server over a real ledger.
