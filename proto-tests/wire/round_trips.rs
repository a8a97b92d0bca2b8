//! What is written is read back as it was, and what is read can be written.

use crate::generate;
use bytes::BytesMut;
use herald::wire::{Context, Message, frame};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decode_undoes_encode((context, message) in generate::message()) {
        let mut stream = BytesMut::new();
        message.encode(&context, &mut stream).unwrap();
        prop_assert!(stream.len() <= context.max_len);
        let cut = frame(&mut stream, &context).unwrap().unwrap();
        prop_assert!(stream.is_empty());
        prop_assert_eq!(Message::decode(&cut, &context).unwrap(), message);
    }

    #[test]
    fn a_stream_is_cut_alike_however_it_arrives(
        messages in proptest::collection::vec(generate::message(), 1..6),
        chunks in proptest::collection::vec(1..900usize, 1..40),
    ) {
        let context = Context { max_len: 65_535, ..messages[0].0.clone() };
        let mut whole = BytesMut::new();
        let mut sent = Vec::new();
        for (own, message) in &messages {
            let at = whole.len();
            message.encode(own, &mut whole).unwrap();
            sent.push(whole[at..].to_vec());
        }
        let (mut stream, mut received, mut rest) = (BytesMut::new(), Vec::new(), &whole[..]);
        for chunk in chunks.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*chunk));
            stream.extend_from_slice(now);
            while let Some(cut) = frame(&mut stream, &context).unwrap() {
                received.push(cut.to_vec());
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert!(stream.is_empty());
    }
}
