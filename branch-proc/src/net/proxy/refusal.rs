//! What a client is told when it does not get what it asked for, and what its spawner learns of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::net::proxy::limits::DENIALS_MAX;
use crate::outcome::Denial;

/// Characters of a text of the client's that are repeated to it and kept.
const REPEATED_MAX: usize = 300;

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// One line, in words.
    pub(crate) words: String,
    /// What was tried, where it was refused for what it is, and not because something does not work.
    pub(crate) denied: Option<String>,
}

impl Refusal {
    /// The rules do not let it pass.
    pub(crate) fn denied(target: String, words: String) -> Refusal {
        Refusal { code: 403, words, denied: Some(target) }
    }

    /// It is not taken in the form it has.
    pub(crate) fn malformed(code: u16, what: &str, why: &str) -> Refusal {
        let words = format!("{what} is refused: {why}");
        Refusal { code, words, denied: Some(what.to_owned()) }
    }

    /// It is allowed, and does not work.
    pub(crate) fn failed(code: u16, words: String) -> Refusal {
        Refusal { code, words, denied: None }
    }

    /// As it goes to the client. The words are the status line's phrase, too: many clients show nothing
    /// else of the answer to a CONNECT.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let words = one_line(&format!("branchfs: {}", self.words));
        let (code, length) = (self.code, words.len() + 1);
        let head = format!(
            "HTTP/1.1 {code} {words}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{words}\n"
        );
        head.into_bytes()
    }
}

/// Printable ASCII of bounded length, as a status line wants it.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(2 * REPEATED_MAX).map(plain).collect()
}

/// A text of the client's, to be repeated.
pub(crate) fn repeated(bytes: &[u8]) -> String {
    let text = bytes.iter().take(REPEATED_MAX).flat_map(|byte| byte.escape_ascii());
    text.map(char::from).take(REPEATED_MAX).collect()
}

/// What was denied to a group, the latest [`DENIALS_MAX`] different things of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denials(Arc<Mutex<VecDeque<Denial>>>);

impl Denials {
    pub(crate) fn note(&self, object: &str, words: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|known| known.object == object && known.words == words) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => {
                if all.len() == DENIALS_MAX {
                    all.pop_front();
                }
                let (object, words) = (object.to_owned(), words.to_owned());
                all.push_back(Denial {
                    op: "connect".to_owned(),
                    object,
                    rule: "net".to_owned(),
                    words,
                    count: 1,
                    by: None,
                });
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Denial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_head_whatever_was_asked_for() {
        let refusal = Refusal::malformed(400, &repeated(b"a\r\nX: y\xff"), "it is \r\n odd");
        let answer = String::from_utf8(refusal.answer()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "branchfs: a\\r\\nX: y\\xff is refused: it is ?? odd\n");
        assert_eq!(head.lines().count(), 4);
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(repeated(&[0; 10_000]).len() <= REPEATED_MAX);
    }

    #[test]
    fn denials_are_counted_and_bounded() {
        let denials = Denials::default();
        for number in 0..2 * DENIALS_MAX {
            denials.note(&format!("{number}.example:443"), "no");
            denials.note("same.example:443", "no");
        }
        let all = denials.all();
        assert_eq!(all.len(), DENIALS_MAX);
        let same = all.iter().find(|denial| denial.object == "same.example:443");
        assert!(same.is_some_and(|denial| denial.count > 1), "{same:?}");
    }
}
