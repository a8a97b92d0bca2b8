//! The session's machine: compared with a table that people can review, and held to its laws.

mod collisions;
mod laws;
mod rig;
mod table;
