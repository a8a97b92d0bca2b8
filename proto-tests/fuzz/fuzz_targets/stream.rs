//! A stream is cut into the same messages however it arrives.
#![no_main]

use bytes::{Bytes, BytesMut};
use herald::wire::{Context, Error, frame};
use herald_fuzz::{read, refuse, terms};

/// The messages of a stream that comes in pieces, up to the first error, and what is left then.
fn cut(octets: &[u8], context: &Context, mut size: impl FnMut() -> usize) -> (Vec<Bytes>, Result<(), Error>) {
    let (mut stream, mut messages, mut rest) = (BytesMut::new(), Vec::new(), octets);
    loop {
        let (now, later) = rest.split_at(rest.len().min(size()));
        stream.extend_from_slice(now);
        rest = later;
        loop {
            match frame(&mut stream, context) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
        if rest.is_empty() {
            return (messages, Ok(()));
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (octets, context) = terms(input);
    let mut state = u64::from(octets.last().copied().unwrap_or(1)) * 2 + 1;
    let pieces = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + usize::try_from(state >> 58).expect("six bits")
    };
    let (messages, end) = cut(octets, &context, pieces);
    assert_eq!((&messages, &end), (&cut(octets, &context, || usize::MAX).0, &cut(octets, &context, || usize::MAX).1));
    messages.iter().for_each(|message| read(message, &context));
    if let Err(error) = end {
        refuse(&error);
    }
});
