//! Standard input as messages: one line, one content.

use std::io::{self, BufRead, Read};
use std::thread;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// The longest line that is read, and the longest content it may become: what fits, with the rest of a command around
/// it, into the 64 KiB that a server takes as one frame by default.
const LINE_BYTES_MAX: usize = 63 * 1024;

/// What a line of the input is.
#[derive(Debug)]
pub enum Line {
    Content {
        number: u64,
        content: Box<RawValue>,
    },
    Empty,
    /// It cannot be sent, and nothing after it is read.
    Bad {
        number: u64,
        why: String,
    },
}

/// Reads standard input in a thread of its own, which waits when nobody takes its lines. It may still be waiting for
/// input when the process ends: nothing is lost by that.
pub fn lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(64);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut number = 0;
        while let Some(line) = read(&mut input, &mut number) {
            let last = matches!(line, Line::Bad { .. });
            if sender.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    receiver
}

fn read(input: &mut impl BufRead, number: &mut u64) -> Option<Line> {
    let mut bytes = Vec::new();
    *number += 1;
    let number = *number;
    let bad = |why: &str| Some(Line::Bad { number, why: why.to_owned() });
    match input.by_ref().take(LINE_BYTES_MAX as u64 + 3).read_until(b'\n', &mut bytes) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return bad(&format!("it cannot be read: {error}")),
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let too_long = || bad(&format!("it is longer than {LINE_BYTES_MAX} bytes"));
    if bytes.len() > LINE_BYTES_MAX {
        return too_long();
    }
    let Ok(line) = str::from_utf8(&bytes) else {
        return bad("it is not UTF-8");
    };
    match content(line) {
        Some(content) if content.get().len() > LINE_BYTES_MAX => too_long(),
        Some(content) => Some(Line::Content { number, content }),
        None => Some(Line::Empty),
    }
}

/// What `line` says: itself, where it is a JSON object, and else `{"text": line}`. An empty line says nothing.
fn content(line: &str) -> Option<Box<RawValue>> {
    if line.trim().is_empty() {
        return None;
    }
    if line.trim_start().starts_with('{')
        && let Ok(object) = serde_json::from_str::<Box<RawValue>>(line)
    {
        return Some(object);
    }
    let text = serde_json::json!({ "text": line });
    Some(serde_json::value::to_raw_value(&text).expect("a string always serializes"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"text":"hi","n":1.50}"#, r#"{"text":"hi","n":1.50}"#)]
    #[case(r#"  { } "#, "{ }")]
    #[case("hello", r#"{"text":"hello"}"#)]
    #[case(" hello ", r#"{"text":" hello "}"#)]
    #[case("42", r#"{"text":"42"}"#)]
    #[case("null", r#"{"text":"null"}"#)]
    #[case("[1]", r#"{"text":"[1]"}"#)]
    #[case(r#""quoted""#, r#"{"text":"\"quoted\""}"#)]
    #[case("{not json}", r#"{"text":"{not json}"}"#)]
    #[case("{} {}", r#"{"text":"{} {}"}"#)]
    fn a_json_object_is_the_content_and_anything_else_is_text(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(content(line).unwrap().get(), expected);
    }

    #[rstest]
    fn an_empty_line_says_nothing(#[values("", " ", "\t ")] line: &str) {
        assert!(content(line).is_none());
    }

    #[test]
    fn lines_are_numbered_from_one_and_the_last_needs_no_end() {
        let read = told("a\r\n\n{}\nlast");
        assert_eq!(read, ["1 {\"text\":\"a\"}", "empty", "3 {}", "4 {\"text\":\"last\"}"]);
    }

    #[test]
    fn a_line_that_cannot_be_sent_is_named() {
        let mut input: &[u8] = b"fine\n\xff\n";
        let mut number = 0;
        assert!(matches!(read(&mut input, &mut number), Some(Line::Content { number: 1, .. })));
        assert!(matches!(read(&mut input, &mut number), Some(Line::Bad { number: 2, .. })));
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        assert_eq!(told(&long), ["1 bad: it is longer than 64512 bytes"]);
        let long_when_escaped = "\"".repeat(LINE_BYTES_MAX);
        assert_eq!(told(&long_when_escaped), ["1 bad: it is longer than 64512 bytes"]);
    }

    fn told(input: &str) -> Vec<String> {
        let (mut input, mut number, mut told) = (input.as_bytes(), 0, Vec::new());
        while let Some(line) = read(&mut input, &mut number) {
            match line {
                Line::Content { number, content } => told.push(format!("{number} {}", content.get())),
                Line::Empty => told.push("empty".to_owned()),
                Line::Bad { number, why } => {
                    told.push(format!("{number} bad: {why}"));
                    break;
                }
            }
        }
        told
    }
}
