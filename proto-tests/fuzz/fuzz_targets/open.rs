//! The body of an OPEN: optional parameters in both encodings, and the capabilities in them.
#![no_main]

use herald::wire::Context;
use herald_fuzz::{enclose, read};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    read(&enclose(1, input), &Context::before_open());
});
