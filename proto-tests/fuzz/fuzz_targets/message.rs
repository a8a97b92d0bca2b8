//! A message, whatever its header says.
#![no_main]

use herald_fuzz::{read, terms};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (octets, context) = terms(input);
    read(octets, &context);
});
