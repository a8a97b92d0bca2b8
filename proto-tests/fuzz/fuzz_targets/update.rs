//! The body of an UPDATE, in any session.
#![no_main]

use herald_fuzz::{enclose, read, terms};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (octets, context) = terms(input);
    read(&enclose(2, octets), &context);
});
