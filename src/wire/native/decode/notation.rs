//! The two notations of a message, JSON and MessagePack, as one: an object that ends, and is not nested too deep.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};

use super::head::{Beginning, Head};
use crate::wire::native::DEPTH_MAX;
use crate::wire::native::content::Text;
use crate::wire::{DecodeError, Refusal};

/// What can be read as the members of a command.
pub trait Payload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal>;
}

/// A message of a client.
pub trait Message<'de>: Payload<'de> {
    /// Reads on until `head` has what it needs, or something is wrong.
    fn begin(&self, head: &mut Head<'de>);
}

/// Text that is not nested too deep.
pub struct JsonPayload<'de>(&'de str);

pub struct MsgpackPayload<'de>(pub &'de [u8]);

impl<'de> Payload<'de> for JsonPayload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal> {
        serde_json::from_str(self.0).map(|Object(read)| read).map_err(Refusal::bad_request)
    }
}

impl<'de> Message<'de> for JsonPayload<'de> {
    fn begin(&self, head: &mut Head<'de>) {
        // An error mostly, as the object goes on behind what is read. Whoever reads all of it finds out.
        let _ = serde_json::Deserializer::from_str(self.0).deserialize_map(Beginning(head));
    }
}

impl<'de> MsgpackPayload<'de> {
    fn deserializer(&self) -> rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'de, [u8]>> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(self.0);
        // It counts down and refuses at zero.
        deserializer.set_max_depth(DEPTH_MAX + 1);
        deserializer
    }
}

impl<'de> Message<'de> for MsgpackPayload<'de> {
    fn begin(&self, head: &mut Head<'de>) {
        // As above.
        let _ = self.deserializer().deserialize_map(Beginning(head));
    }
}

impl<'de> Payload<'de> for MsgpackPayload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal> {
        let mut deserializer = self.deserializer();
        let Object(read) = Object::deserialize(&mut deserializer).map_err(|error| match error {
            rmp_serde::decode::Error::DepthLimitExceeded => Refusal::too_deep(),
            error => Refusal::bad_request(error),
        })?;
        // The end is where no further marker can be read.
        match IgnoredAny::deserialize(&mut deserializer) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(read),
            _ => Err(Refusal::bad_request("something follows the object")),
        }
    }
}

pub fn json(payload: &[u8]) -> Result<JsonPayload<'_>, DecodeError> {
    shallow(payload).map(JsonPayload).map_err(|refusal| DecodeError { id: None, refusal })
}

/// The text of `payload`, provided that it is not nested too deep.
pub fn shallow(payload: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(payload).map_err(|_| Refusal::bad_request("this is not UTF-8"))?;
    // Counting all of them is much quicker, and nearly always enough.
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if opening > DEPTH_MAX && depth(text) > DEPTH_MAX { Err(Refusal::too_deep()) } else { Ok(text) }
}

/// How deep brackets are nested outside of strings. Whether they match is found out by the parser.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// A `T` written as an object whose names are strings. Left to itself, serde takes a list of the members in their
/// order for the same, and MessagePack's numbers for their names.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(TextNames { map, has_id: false, has_type: false }))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Sees to it that those of a head, which commands do not have, do not come twice either.
struct TextNames<A> {
    map: A,
    has_id: bool,
    has_type: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TextNames<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(Text(name)) = self.map.next_key()? else { return Ok(None) };
        match &*name {
            "id" if std::mem::replace(&mut self.has_id, true) => return Err(A::Error::duplicate_field("id")),
            "type" if std::mem::replace(&mut self.has_type, true) => return Err(A::Error::duplicate_field("type")),
            _ => {}
        }
        let name: CowStrDeserializer<'_, A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_strings_only() {
        assert_eq!(depth(r#"{"a":[[]],"b":{}}"#), 3);
        assert_eq!(depth(r#"{"[[[[\"[[\\":"[["}"#), 1);
        assert_eq!(depth("]]]]["), 1);
        assert_eq!(depth(r#"""#), 0);
        assert_eq!(depth(r#""\"#), 0);
    }
}
