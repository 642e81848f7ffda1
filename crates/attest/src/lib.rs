//! Artifact digests, provenance statements, DSSE signatures and their verification.
