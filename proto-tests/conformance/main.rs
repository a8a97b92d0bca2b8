//! What each RFC obliges us to, clause by clause: a file an RFC, a test a clause, and a ledger in which every clause has its
//! test or its reason.
//!
//! The clauses are found in the texts by rule (`extract`). The texts are not part of this tree: where `HERALD_RFCS` names
//! their folder, the ledger is held against them; without it, against itself and against the tests that it names.

mod extract;
mod ledger;
mod rig;

mod rfc10005;
mod rfc1997;
mod rfc2545;
mod rfc2918;
mod rfc4271;
mod rfc4271_sessions;
mod rfc4724;
mod rfc4760;
mod rfc5492;
mod rfc6286;
mod rfc6608;
mod rfc6793;
mod rfc7313;
mod rfc7606;
mod rfc7607;
mod rfc7911;
mod rfc8092;
mod rfc8212;
mod rfc8538;
mod rfc8654;
mod rfc8950;
mod rfc9003;
mod rfc9072;
mod rfc9234;
mod rfc9494;
mod rfc9687;
mod rfc9774;
