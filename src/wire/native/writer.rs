//! Two notations behind one trait, so that each frame is described once.
//!
//! A writer appends to one buffer. It does not check that maps and lists are closed in order: [`super::encode`], its
//! only caller, opens and closes in the same function.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A notation for objects, lists and plain values.
pub trait Writer: Sized {
    /// A writer of a message of probably not more than `bytes`.
    fn with_capacity(bytes: usize) -> Self;

    fn open_map(&mut self);
    fn close_map(&mut self);
    fn open_list(&mut self);
    fn close_list(&mut self);

    /// Begins the next member of the open map; its value has to follow.
    fn key(&mut self, name: &str);

    /// Begins the next item of the open list; its value has to follow.
    fn item(&mut self);

    /// A string, number, boolean or null.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T);

    /// The members of `object`, the text of a JSON object without spaces, as further members of the open map.
    fn members_of(&mut self, object: &str);

    fn finish(self) -> Bytes;

    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.key(name);
        self.value(value);
    }
}

pub struct Json {
    out: BytesMut,
}

impl Writer for Json {
    fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes) }
    }

    fn open_map(&mut self) {
        self.out.put_u8(b'{');
    }

    fn close_map(&mut self) {
        self.out.put_u8(b'}');
    }

    fn open_list(&mut self) {
        self.out.put_u8(b'[');
    }

    fn close_list(&mut self) {
        self.out.put_u8(b']');
    }

    fn key(&mut self, name: &str) {
        self.item();
        self.value(name);
        self.out.put_u8(b':');
    }

    fn item(&mut self) {
        // No value ends with either of these, so they are the beginning of what is open.
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.put_u8(b',');
        }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer((&mut self.out).writer(), value).expect("a plain value is JSON and memory takes it");
    }

    fn members_of(&mut self, object: &str) {
        let members = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        if !members.is_empty() {
            self.item();
            self.out.put_slice(members.as_bytes());
        }
    }

    fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

pub struct Msgpack {
    out: BytesMut,
    open: Vec<Open>,
}

/// A map or list that is not closed yet. One byte is kept for its marker, as most have no more than 15 entries; a
/// longer one is moved by two or four bytes when it is closed and its length known.
struct Open {
    at: usize,
    entries: usize,
}

/// The first bytes of a map or list with few, up to 2^16 and up to 2^32 entries (MessagePack specification, "array
/// format family", "map format family").
struct Markers {
    fix: u8,
    long: u8,
    longest: u8,
}

const MAP: Markers = Markers { fix: 0x80, long: 0xde, longest: 0xdf };
const LIST: Markers = Markers { fix: 0x90, long: 0xdc, longest: 0xdd };

impl Msgpack {
    fn open(&mut self) {
        self.open.push(Open { at: self.out.len(), entries: 0 });
        self.out.put_u8(0);
    }

    fn close(&mut self, markers: Markers) {
        let Some(Open { at, entries }) = self.open.pop() else { return };
        let marker = match (u8::try_from(entries), u16::try_from(entries)) {
            (Ok(few @ 0..=15), _) => markers.fix | few,
            (_, Ok(many)) => {
                self.insert(at + 1, &many.to_be_bytes());
                markers.long
            }
            (_, Err(_)) => {
                let entries = u32::try_from(entries).expect("a message with 2^32 entries fits into no frame");
                self.insert(at + 1, &entries.to_be_bytes());
                markers.longest
            }
        };
        self.out[at] = marker;
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) {
        let end = self.out.len();
        self.out.put_slice(bytes);
        self.out.copy_within(at..end, at + bytes.len());
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Writer for Msgpack {
    fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes), open: Vec::with_capacity(8) }
    }

    fn open_map(&mut self) {
        self.open();
    }

    fn close_map(&mut self) {
        self.close(MAP);
    }

    fn open_list(&mut self) {
        self.open();
    }

    fn close_list(&mut self) {
        self.close(LIST);
    }

    fn key(&mut self, name: &str) {
        self.item();
        self.value(name);
    }

    fn item(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.entries += 1;
        }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        rmp_serde::encode::write(&mut (&mut self.out).writer(), value)
            .expect("a plain value is MessagePack and memory takes it");
    }

    fn members_of(&mut self, object: &str) {
        let depth = self.open.len();
        let (bytes, entries) = (self.out.len(), self.open.last().map_or(0, |open| open.entries));
        let mut json = serde_json::Deserializer::from_str(object);
        if json.deserialize_map(MembersOf(self)).is_err() {
            // Nobody makes such a body; were there one, the message goes without it and stays well formed.
            self.out.truncate(bytes);
            self.open.truncate(depth);
            if let Some(open) = self.open.last_mut() {
                open.entries = entries;
            }
        }
    }

    fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Writes what is read, member by member.
struct MembersOf<'a>(&'a mut Msgpack);

/// Writes one value that is read.
struct Value<'a>(&'a mut Msgpack);

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Value(self.0))?.is_some() {
            map.next_value_seed(Value(self.0))?;
            self.0.item();
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.value(&());
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.value(&value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.value(&value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.value(&value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.value(&value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.value(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.open_list();
        while seq.next_element_seed(Value(self.0))?.is_some() {
            self.0.item();
        }
        self.0.close_list();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.open_map();
        MembersOf(self.0).visit_map(map)?;
        self.0.close_map();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_marker_that_holds_them() {
        for (entries, header) in [
            (0, &[0x90][..]),
            (15, &[0x9f]),
            (16, &[0xdc, 0, 16]),
            (0xffff, &[0xdc, 0xff, 0xff]),
            (0x1_0000, &[0xdd, 0, 1, 0, 0]),
        ] {
            let mut writer = Msgpack::with_capacity(0);
            writer.open_list();
            for _ in 0..entries {
                writer.item();
                writer.value(&7);
            }
            writer.close_list();
            let out = writer.finish();
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out.len(), header.len() + entries);
            assert!(out[header.len()..].iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn json_members_are_transcoded_exactly() {
        let body = r#"{"a":[1,-2,0.1,1e300,18446744073709551615,null,true],"b":{"c":"é\n","d":{},"e":[]}}"#;
        let mut writer = Msgpack::with_capacity(0);
        writer.open_map();
        writer.member("text", "hi");
        writer.members_of(body);
        writer.close_map();
        let read: serde_json::Value = rmp_serde::from_slice(&writer.finish()).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(body).unwrap();
        expected["text"] = "hi".into();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_body_that_is_no_json_is_left_out_whole() {
        let mut writer = Msgpack::with_capacity(0);
        writer.open_map();
        writer.member("text", "hi");
        writer.members_of(r#"{"a":[1,{"b":"#);
        writer.close_map();
        assert_eq!(&writer.finish()[..], b"\x81\xa4text\xa2hi");
    }
}
