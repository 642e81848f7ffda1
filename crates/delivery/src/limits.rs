//! Every limit, by name, with its unit last. Checked before anything is allocated for the input.

/// A service's, environment's, task's or gate's name.
pub const NAME_BYTES_MAX: usize = 63;
/// A manifest file. Larger is refused unread.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Tasks in one manifest.
pub const TASKS_MAX: usize = 20_000;
/// Services in one manifest.
pub const SERVICES_MAX: usize = 1_000;
/// Environments in one manifest.
pub const ENVIRONMENTS_MAX: usize = 64;
/// Steps in one strategy.
pub const STEPS_MAX: usize = 64;
/// One ledger record's payload. A tlog-tiles leaf is at most 65,535 bytes; larger payloads go by hash.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// Records in one group commit.
pub const BATCH_RECORDS_MAX: usize = 512;
/// One line of captured output; the rest of the line is cut, and the cut is marked.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
/// Captured output of one task attempt; the rest is counted and dropped.
pub const TASK_OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Captured output of one running revision, kept as a ring of two files.
pub const REVISION_LOG_BYTES_MAX: u64 = 16 << 20;
/// A JUnit or other report file.
pub const REPORT_BYTES_MAX: u64 = 64 << 20;
/// Findings kept from one report.
pub const FINDINGS_MAX: usize = 50_000;
/// Files in one artifact.
pub const ARTIFACT_FILES_MAX: usize = 100_000;
/// Bytes in one artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 2 << 30;
/// One API request's body.
pub const REQUEST_BODY_BYTES_MAX: usize = 1 << 20;
/// Concurrent connections of one server; more wait for a place.
pub const CONNECTIONS_MAX: usize = 12_288;
/// Concurrent live-update streams of one server. Below [`CONNECTIONS_MAX`], so that streams leave room for requests.
pub const STREAMS_MAX: usize = 10_240;
/// Live-update streams that may be told each record, however far back. With more of them, one that falls behind is told of a
/// gap instead.
pub const STREAMS_EXACT_MAX: usize = 256;
/// Requests of one server that only read, at once; a few more wait, the rest is refused.
pub const READS_MAX: usize = 32;
/// Requests that wait until others have read.
pub const READS_WAITING_MAX: usize = 256;
/// Requests that change something, at once. They have places of their own, so that no other work keeps a rollback waiting.
pub const CHANGES_MAX: usize = 32;
/// Requests that report, at once.
pub const REPORTS_MAX: usize = 256;
/// Bytes of the bodies of all requests that report.
pub const REPORT_BODIES_BYTES_MAX: usize = 32 << 20;
/// Open files that a server asks to be allowed: its connections, and what it needs beside them.
pub const FILES_WANTED: u64 = 16_384;
/// Events in one report from outside, and in one commit of them.
pub const REPORT_EVENTS_MAX: usize = 256;
/// One name in a report: a source, an id, a service, an environment, an artifact.
pub const REPORT_NAME_BYTES_MAX: usize = 1_024;
/// A report's description; the rest is cut, and the cut is marked.
pub const REPORT_SUMMARY_BYTES_MAX: usize = 2_000;
/// Reported events that wait to be recorded; more are refused until there is room.
pub const REPORTS_WAITING_MAX: usize = 4_096;
