//! A configuration, and what is said about a bad one.
#![no_main]

use herald::config::Config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::parse("fuzz.yaml", text) {
        Ok((_, diagnostics)) => {
            let _ = diagnostics.to_string();
        }
        Err(diagnostics) => assert!(!diagnostics.to_string().is_empty(), "refused without a word"),
    }
});
