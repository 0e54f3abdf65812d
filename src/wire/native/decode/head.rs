//! What says of a message which one it is and what it asks: its `id` and its `type`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::kind::Kind;
use crate::wire::native::content::Text;
use crate::wire::{DecodeError, Refusal};

/// The longest `id` of a request.
const ID_BYTES_MAX: usize = 64;

#[derive(Deserialize, Default)]
pub struct Head<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

impl Head<'_> {
    pub fn known(self) -> Result<(String, Kind), DecodeError> {
        let id = self.id.map(|Text(id)| id.into_owned()).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
        let Some(id) = id else {
            let refusal = Refusal::bad_request("`id` has to be a string of 1 to 64 bytes");
            return Err(DecodeError { id: None, refusal });
        };
        let Some(Text(kind)) = self.kind else {
            return Err(DecodeError { id: Some(id), refusal: Refusal::bad_request("`type` is missing") });
        };
        match Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
            Some(kind) => Ok((id, kind)),
            None => Err(DecodeError { id: Some(id), refusal: Refusal::unknown_command(&kind) }),
        }
    }
}

/// Reads members until a head is complete. One that comes twice is seen by [`Object`](super::notation::Object).
pub struct Beginning<'h, 'de>(pub &'h mut Head<'de>);

impl<'de> Visitor<'de> for Beginning<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.0.id.is_none() || self.0.kind.is_none() {
            match map.next_key()? {
                Some(Text(Cow::Borrowed("id"))) => self.0.id = map.next_value()?,
                Some(Text(Cow::Borrowed("type"))) => self.0.kind = map.next_value()?,
                Some(Text(_)) => _ = map.next_value::<IgnoredAny>()?,
                None => break,
            }
        }
        Ok(())
    }
}
