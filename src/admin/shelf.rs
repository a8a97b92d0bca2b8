//! Answers that can only be made whole, such as a text of metrics: each lies here once, however many are reading it, and those
//! who stop reading keep no more than a few of them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// For so long an answer is the newest: who asks meanwhile gets the same, and asking often costs no more than asking seldom.
const FRESH: Duration = Duration::from_millis(200);
/// Answers that lie here at a time. Of more the oldest goes, and who still reads it is cut off: it had most of a second.
const MOST: usize = 4;
/// Octets of a piece that a connection takes.
const PIECE: usize = 16 * 1024;

/// Answers to one question. A clone is the same shelf.
#[derive(Debug, Clone)]
pub struct Shelf(Arc<watch::Sender<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    /// Oldest first.
    kept: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    number: u64,
    made: Instant,
    text: Bytes,
    readers: usize,
}

/// Somebody who reads one of them.
struct Reader {
    shelf: Shelf,
    number: u64,
    taken: usize,
}

/// The answer that was being read went for newer ones.
#[derive(Debug, thiserror::Error)]
#[error("it was not read in time, and newer answers took its place")]
struct TooSlow;

impl Default for Shelf {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Answers::default()).0))
    }
}

impl Shelf {
    /// The newest answer; made, if there is none that is fresh.
    pub fn answer(&self, content_type: &'static str, make: impl FnOnce() -> String) -> Response {
        let now = Instant::now();
        let (mut number, mut length) = (0, 0);
        self.change(|answers| {
            if answers.kept.back().is_none_or(|newest| now.duration_since(newest.made) >= FRESH) {
                answers.kept.push_back(Answer { number: answers.next, made: now, text: make().into(), readers: 0 });
                answers.next += 1;
            }
            let newest = answers.kept.back_mut().expect("one was there, or is now");
            newest.readers += 1;
            (number, length) = (newest.number, newest.text.len());
            while answers.kept.len() > MOST {
                answers.kept.pop_front();
            }
        });
        let mut reader = Reader { shelf: self.clone(), number, taken: 0 };
        let pieces = std::iter::from_fn(move || reader.next());
        let head: [(HeaderName, String); 2] =
            [(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_LENGTH, length.to_string())];
        (head, Body::from_stream(futures_util::stream::iter(pieces))).into_response()
    }

    /// Nobody waits for what lies here.
    fn change(&self, change: impl FnOnce(&mut Answers)) {
        self.0.send_if_modified(|answers| {
            change(answers);
            false
        });
    }
}

impl Reader {
    fn next(&mut self) -> Option<Result<Bytes, TooSlow>> {
        let answers = self.shelf.0.borrow();
        let Some(answer) = answers.kept.iter().find(|answer| answer.number == self.number) else {
            return Some(Err(TooSlow));
        };
        let end = answer.text.len().min(self.taken + PIECE);
        // A copy: a slice would keep the whole of it, wherever it waits.
        let piece = Bytes::copy_from_slice(&answer.text[self.taken..end]);
        self.taken = end;
        (!piece.is_empty()).then_some(Ok(piece))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shelf.change(|answers| {
            if let Some(at) = answers.kept.iter().position(|answer| answer.number == self.number) {
                answers.kept[at].readers -= 1;
                if answers.kept[at].readers == 0 {
                    answers.kept.remove(at);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn read(response: Response) -> Result<String, axum::Error> {
        let octets = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(octets.to_vec()).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_at_once_shares_an_answer_and_who_never_reads_is_cut_off() {
        let shelf = Shelf::default();
        let long = |word: &str| word.repeat(PIECE);
        let ask = |word: &'static str| shelf.answer("text/plain", move || long(word));
        let (first, same) = (ask("one "), ask("two "));
        assert_eq!(first.headers()[header::CONTENT_LENGTH], (4 * PIECE).to_string());
        assert_eq!(read(same).await.unwrap(), long("one "), "it was fresh still");
        let mut unread = Vec::new();
        for _ in 0..MOST {
            tokio::time::advance(FRESH).await;
            unread.push(ask("new "));
        }
        assert!(read(first).await.is_err(), "it gave way");
        assert_eq!(shelf.0.borrow().kept.len(), MOST);
        assert_eq!(read(unread.pop().unwrap()).await.unwrap(), long("new "));
        drop(unread);
        assert_eq!(shelf.0.borrow().kept.len(), 0, "nobody reads, nothing lies here");
    }
}
