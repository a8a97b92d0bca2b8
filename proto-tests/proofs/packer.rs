//! What the suite `wire` says about the packing of UPDATEs, without the codecs of others that it is compared with.

#[path = "../wire/generate.rs"]
#[allow(dead_code, reason = "another suite's, which needs more of it")]
mod generate;
#[path = "../wire/packing.rs"]
mod packing;
#[path = "../wire/packing_tables.rs"]
mod packing_tables;
