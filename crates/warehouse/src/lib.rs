//! Folds events and git history into facts: the DORA figures, each with n, an interval and a reason when empty.
