//! Long answers piece by piece, each made when the reader has taken the one before: a reader that stops costs one piece, not a
//! whole table.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Octets of a piece, about.
const PIECE: usize = 16 * 1024;

/// `whole`, whose last member is an empty array, as JSON with `items` in that array.
pub fn json<I, W>(whole: &W, items: I) -> Response
where
    W: Serialize + 'static,
    I: Iterator<Item: Serialize> + Send + 'static,
{
    let pieces = futures_util::stream::iter(pieces(whole, items));
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}

/// What can fail is the making of an item as JSON; the answer then breaks off.
fn pieces<I, W>(whole: &W, mut items: I) -> impl Iterator<Item = serde_json::Result<Bytes>> + use<I, W>
where
    I: Iterator<Item: Serialize>,
    W: Serialize,
{
    const END: &[u8] = b"]}";
    let mut begun = serde_json::to_vec(whole).map(|mut text| {
        debug_assert!(text.ends_with(b"[]}"), "the last member is an empty array");
        text.truncate(text.len() - END.len());
        text
    });
    let mut separator: &[u8] = b"";
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let mut piece = match std::mem::replace(&mut begun, Ok(Vec::new())) {
            Ok(begun) => begun,
            Err(error) => {
                over = true;
                return Some(Err(error));
            }
        };
        while piece.len() < PIECE {
            let Some(item) = items.next() else {
                over = true;
                piece.extend_from_slice(END);
                break;
            };
            piece.extend_from_slice(separator);
            separator = b",";
            if let Err(error) = serde_json::to_writer(&mut piece, &item) {
                over = true;
                return Some(Err(error));
            }
        }
        Some(Ok(piece.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Whole {
        name: &'static str,
        items: Vec<String>,
    }

    #[test]
    fn the_pieces_are_the_whole_and_none_is_long() {
        for count in [0, 1, 2, 5_000] {
            let items: Vec<_> = (0..count).map(|number| format!("item \"{number}\" ]}}")).collect();
            let made: Vec<_> = pieces(&Whole { name: "all", items: Vec::new() }, items.clone().into_iter())
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(made.iter().all(|piece| piece.len() < PIECE + 100));
            assert_eq!(made.concat(), serde_json::to_vec(&Whole { name: "all", items }).unwrap());
        }
    }
}
