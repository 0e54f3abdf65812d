//! A command as a request over HTTP says it: some members in the address and the headers, the others in a JSON body.
//!
//! They are read by the same shapes as a frame of the same command, so a rule about one holds for the other.

use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, MapDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::content::Text;
use super::decode::{self, Kind, Payload};
use crate::wire::{Ask, Refusal};

/// Reads a command from what its address and headers say, which are members by their names, and from its body, which
/// may be empty. What the body says again has to be the same.
pub fn decode(kind: Kind, given: &[(&str, &str)], body: &[u8]) -> Result<Ask, Refusal> {
    let body = if body.is_empty() { None } else { Some(decode::shallow(body)?) };
    decode::ask(&Parts { given, body }, kind)
}

struct Parts<'a, 'de> {
    given: &'a [(&'de str, &'de str)],
    body: Option<&'de str>,
}

impl<'de> Payload<'de> for Parts<'_, 'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal> {
        let Some(body) = self.body else {
            let none = std::iter::empty::<(&'static str, &'static str)>();
            let none = MapDeserializer::<_, serde_json::Error>::new(none);
            return T::deserialize(MapAccessDeserializer::new(Joined::new(none, self.given)))
                .map_err(Refusal::bad_request);
        };
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let read = deserializer.deserialize_map(Shape { given: self.given, shape: std::marker::PhantomData });
        let read = read.map_err(Refusal::bad_request)?;
        deserializer.end().map_err(Refusal::bad_request)?;
        Ok(read)
    }
}

struct Shape<'a, 'de, T> {
    given: &'a [(&'de str, &'de str)],
    shape: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Shape<'_, 'de, T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Joined::new(map, self.given)))
    }
}

/// The members of the body, then those of the address and the headers that it has not said again.
struct Joined<'a, 'de, A> {
    body: Option<A>,
    given: &'a [(&'de str, &'de str)],
    said: Vec<bool>,
    next: Next,
}

/// Where the value of the name that was read last is.
#[derive(Clone, Copy)]
enum Next {
    Body,
    /// In both places.
    Both(usize),
    Given(usize),
}

impl<'a, 'de, A: MapAccess<'de>> Joined<'a, 'de, A> {
    fn new(body: A, given: &'a [(&'de str, &'de str)]) -> Self {
        Self { body: Some(body), given, said: vec![false; given.len()], next: Next::Body }
    }

    fn given(&self, index: usize) -> Given<'de, A::Error> {
        let (name, value) = self.given[index];
        Given { name, value, error: std::marker::PhantomData }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Joined<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if let Some(body) = &mut self.body {
            if let Some(Text(name)) = body.next_key()? {
                self.next = match self.given.iter().position(|(known, _)| *known == name) {
                    Some(index) => {
                        self.said[index] = true;
                        Next::Both(index)
                    }
                    None => Next::Body,
                };
                return seed.deserialize(serde::de::value::CowStrDeserializer::new(name)).map(Some);
            }
            self.body = None;
        }
        let Some(index) = self.said.iter().position(|said| !said) else { return Ok(None) };
        self.said[index] = true;
        self.next = Next::Given(index);
        seed.deserialize(BorrowedStrDeserializer::new(self.given[index].0)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match (self.next, &mut self.body) {
            (Next::Given(index), _) | (Next::Both(index), None) => seed.deserialize(self.given(index)),
            (Next::Body, Some(body)) => body.next_value_seed(seed),
            (Next::Body, None) => Err(A::Error::custom("a value without a name")),
            (Next::Both(index), Some(body)) => {
                let (name, given) = self.given[index];
                let Text(said) = body.next_value()?;
                if said != given {
                    let what = format!("`{name}` is not what the address or a header says");
                    return Err(A::Error::custom(what));
                }
                seed.deserialize(self.given(index))
            }
        }
    }
}

/// A member that the address or a header says, as text; `limit` is a number, `archived` true or false.
struct Given<'de, E> {
    name: &'de str,
    value: &'de str,
    error: std::marker::PhantomData<E>,
}

impl<'de, E: Error> Deserializer<'de> for Given<'de, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        if self.name == "limit" {
            let number = self.value.parse().map_err(|_| E::custom("`limit` has to be a number"))?;
            return visitor.visit_u64(number);
        }
        if self.name == "archived" {
            let word = self.value.parse().map_err(|_| E::custom("`archived` has to be true or false"))?;
            return visitor.visit_bool(word);
        }
        visitor.visit_borrowed_str(self.value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientId, Command, RoomName, UserId};

    const ROOM: (&str, &str) = ("room", "lobby");

    #[test]
    fn a_command_is_joined_from_its_address_its_headers_and_its_body() {
        let given = [ROOM, ("client_id", "c-1")];
        let asked = decode(Kind::Post, &given, br#"{"content":{"text":"hi"},"more":[1]}"#).unwrap();
        let Ask::Command { room, command: Command::Post { content, .. }, client_id } = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(room, RoomName::parse("lobby").unwrap());
        assert_eq!(content.text.as_deref(), Some("hi"));
        assert_eq!(client_id, Some(ClientId::new("c-1").unwrap()));
        let asked = decode(Kind::Members, &[ROOM, ("limit", "7"), ("after", "ann")], b"").unwrap();
        let after = Some(UserId::new("ann").unwrap());
        assert_eq!(asked, Ask::Members { room: RoomName::parse("lobby").unwrap(), after, limit: 7 });
    }

    #[test]
    fn what_is_said_twice_has_to_be_the_same() {
        let given = [ROOM, ("client_id", "c-1")];
        let same = br#"{"content":{"text":"hi"},"client_id":"c-1","room":"lobby"}"#;
        assert!(decode(Kind::Post, &given, same).is_ok());
        for other in [
            &br#"{"content":{"text":"hi"},"client_id":"c-2"}"#[..],
            br#"{"content":{"text":"hi"},"room":"attic"}"#,
            br#"{"content":{"text":"hi"},"client_id":"c-1","client_id":"c-1"}"#,
            br#"{"content":{"text":"hi"},"client_id":null}"#,
        ] {
            assert_eq!(decode(Kind::Post, &given, other).unwrap_err().code(), "bad_request");
        }
    }

    #[test]
    fn a_body_keeps_to_the_rules_of_frames() {
        let deep = format!(r#"{{"content":{{"a":{}{}}}}}"#, "[".repeat(31), "]".repeat(31));
        for (body, code) in [
            (&b"{\"content\":{\"a\":1}}x"[..], "bad_request"),
            (b"[{\"a\":1}]", "bad_request"),
            (b"{\"content\":{\"a\":1},\"content\":{\"a\":1}}", "bad_request"),
            (b"{\"content\":{}}", "content_size"),
            (b"{\"content\":{\"a\":\"\xff\"}}", "bad_request"),
            (b"{}", "bad_request"),
            (b"", "bad_request"),
            (deep.as_bytes(), "too_deep"),
        ] {
            assert_eq!(decode(Kind::Post, &[ROOM], body).unwrap_err().code(), code, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_limit_that_is_no_number_is_refused() {
        for limit in ["", "x", "-1", "0", "101", "1.5", "99999999999999999999"] {
            assert_eq!(decode(Kind::Rooms, &[("limit", limit)], b"").unwrap_err().code(), "bad_request", "{limit}");
        }
    }
}
