//! Promotion through environments; strategies; sequential analysis; rollback.
