//! Reads git history: commits, tags, changes, versions.
