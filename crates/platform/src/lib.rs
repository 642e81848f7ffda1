//! Where software runs: host processes, and the embedded proxy that splits traffic between revisions.
