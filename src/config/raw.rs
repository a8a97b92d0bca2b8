//! The schema of the file, as written.
