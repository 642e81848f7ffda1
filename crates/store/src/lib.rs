//! One ledger and its projections over SQLite; Merkle tree and proofs; leases; content-addressed blobs.
