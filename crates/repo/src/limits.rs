//! The limits of reading a repository, each with its unit.

/// One field that git prints, such as a commit's message; the rest of it is dropped.
pub const FIELD_BYTES_MAX: u64 = 1 << 20;
/// The output of a command that answers one short question.
pub const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What is kept of git's complaints.
pub const COMPLAINT_BYTES_MAX: u64 = 64 << 10;
/// Paths that [`crate::Repository::dirty`] lists.
pub const DIRTY_PATHS_MAX: usize = 100;
/// Commits read in one go. Linux has about 1.4 million.
pub const COMMITS_MAX: usize = 4_000_000;
/// Tags read in one go.
pub const TAGS_MAX: usize = 200_000;
/// Co-authors kept of one commit.
pub const CO_AUTHORS_MAX: usize = 64;
/// People asked of the mailmap in one call; more take several.
pub(crate) const CONTACTS_MAX: usize = 200;
