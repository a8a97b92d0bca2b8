//! The codec from outside: round trips and packing as properties, hostile octets, and messages that nobody here wrote.
//!
//! The corpora are not part of the tree. `HERALD_CORPORA` names the folder that holds them; without it they are left out,
//! and that is said aloud. With it, a folder that yields no case is a failure.

mod attack;
mod corpora;
mod differential;
mod generate;
mod hostile;
mod mrt;
mod oracle;
mod oracle_netgauze;
mod oracle_rustbgpd;
mod packing;
mod packing_tables;
mod printed;
mod round_trips;
mod sayable;
mod tar;
mod verdicts;
