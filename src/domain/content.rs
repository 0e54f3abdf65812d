//! What a message says: text, and a body that only the clients understand.

use std::sync::Arc;

/// The content of a message: a JSON object, kept as its `text` member and the rest.
///
/// The rules never look inside. Whoever makes one has checked it: `body` is the text of a JSON object, written without
/// spaces, in which no member `text` is a string, or nothing when that object would be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    /// The member `text`, where it is a string.
    pub text: Option<Arc<str>>,
    /// The other members, as the text of one JSON object.
    pub body: Option<Arc<str>>,
}

impl Content {
    /// The largest content a message may have, in bytes: stays well below what the log takes as one record.
    pub const BYTES_MAX: usize = 32 * 1024;

    pub fn text(text: &str) -> Self {
        Self { text: Some(text.into()), body: None }
    }

    pub fn bytes(&self) -> usize {
        self.text.as_deref().map_or(0, str::len) + self.body.as_deref().map_or(0, str::len)
    }
}
