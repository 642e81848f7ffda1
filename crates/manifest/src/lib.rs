//! Reads trimtab.toml into checked, spanned, versioned types; says what is wrong and where.
