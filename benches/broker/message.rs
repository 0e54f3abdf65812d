//! What is published, and how a follower knows which message it has before it.
//!
//! Every message of a room has a number, from 0 on without a gap, in its content; so the same check holds for the server
//! and for the limit.

use crate::Outcome;

/// What a publisher hands over.
pub const CONTENT_BYTES: usize = 150;

/// As many as a number has in a message, so that all are of one length.
const DIGITS: usize = 10;

const MARK: &[u8] = br#""n":""#;

/// A message that becomes the next one by changing digits.
pub struct Message {
    text: Vec<u8>,
    /// Where its number is written.
    places: Vec<usize>,
}

impl Message {
    /// A message as the limit passes it on: the content and nothing else.
    pub fn bare() -> Self {
        Self::of(content())
    }

    /// A command that posts it. The room's messages are told apart by their client id, so that sending again is safe.
    pub fn post(room: &str) -> Self {
        let (number, content) = (zeros(), content());
        Self::of(format!(
            r#"{{"id":"{number}","type":"post","room":"{room}","content":{content},"client_id":"{number}"}}"#
        ))
    }

    fn of(text: String) -> Self {
        let places = text.match_indices(&zeros()).map(|(at, _)| at).collect();
        Self { text: text.into_bytes(), places }
    }

    /// The message with this number.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        for &place in &self.places {
            let mut rest = number;
            for digit in self.text[place..place + DIGITS].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).expect("a digit is below 10");
                rest /= 10;
            }
        }
        &self.text
    }
}

fn zeros() -> String {
    "0".repeat(DIGITS)
}

fn content() -> String {
    let bare = format!(r#"{{"n":"{}","text":""}}"#, zeros());
    let text: String = "Ahoy there, anybody on watch? ".chars().cycle().take(CONTENT_BYTES - bare.len()).collect();
    bare.replace(r#""text":"""#, &format!(r#""text":"{text}""#))
}

/// Finds the number of a message in what a follower gets.
#[derive(Default)]
pub struct Finder {
    /// Where it stood last, counted from the end: what is before it varies in length.
    from_end: usize,
}

impl Finder {
    pub fn number(&mut self, frame: &[u8]) -> Outcome<u64> {
        let mut at = frame.len().wrapping_sub(self.from_end);
        if !frame.get(at..).is_some_and(|rest| rest.starts_with(MARK)) {
            at = frame.windows(MARK.len()).rposition(|part| part == MARK).ok_or_else(|| strange(frame))?;
            self.from_end = frame.len() - at;
        }
        let digits = frame.get(at + MARK.len()..at + MARK.len() + DIGITS).ok_or_else(|| strange(frame))?;
        digits.iter().try_fold(0, |number: u64, &digit| match digit {
            b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
            _ => Err(strange(frame)),
        })
    }
}

/// Whether this is an answer to a command and not a message; an error where the command was refused.
pub fn is_reply(frame: &[u8]) -> Outcome<bool> {
    if !frame.starts_with(br#"{"type":"reply""#) {
        return Ok(false);
    }
    if frame.windows(9).take(128).any(|part| part == br#""ok":true"#) { Ok(true) } else { Err(strange(frame)) }
}

fn strange(frame: &[u8]) -> Box<dyn std::error::Error> {
    format!("not expected: {}", String::from_utf8_lossy(frame)).into()
}
