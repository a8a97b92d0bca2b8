//! The allocator: scenarios by name, a model that scans, two leaders over one API server, and figures.

mod leaders;
mod model;
mod rig;
mod scenarios;
