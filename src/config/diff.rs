//! What a new configuration means for what runs.
