//! What a NOTIFICATION says is one safe line, and what it wraps can be taken out and wrapped again.
#![no_main]

use herald::wire::{Context, Message};
use herald_fuzz::{enclose, is_a_line, read};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let context = Context { max_len: 65_535, ..Context::before_open() };
    let octets = enclose(3, input);
    read(&octets, &context);
    if let Ok(Message::Notification(told)) = Message::decode(&octets, &context) {
        is_a_line(&told.to_string());
        if let Some(text) = told.shutdown_text() {
            is_a_line(&text);
        }
        let inner = told.wrapped();
        assert!(inner.is_none() || told.is_hard_reset());
        if let Some(inner) = inner.filter(|inner| !inner.is_hard_reset()) {
            assert_eq!(inner.hard_reset(), told);
        }
    }
});
