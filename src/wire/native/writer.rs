//! Two notations behind one trait, so that each frame is described once.
//!
//! A writer appends to a buffer that it is lent, so that a message can be written where it will be sent from. It does
//! not check that maps and lists are closed in order: [`super::encode`], its only caller, opens and closes in the same
//! function.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A notation for objects, lists and plain values.
pub trait Writer: Sized {
    /// What has to be known of a map or list until it is closed.
    type Open;

    /// Makes room for a message of probably not more than `bytes`.
    fn reserve(&mut self, bytes: usize);

    fn open_map(&mut self) -> Self::Open;
    fn close_map(&mut self, open: Self::Open);
    fn open_list(&mut self) -> Self::Open;
    fn close_list(&mut self, open: Self::Open);

    /// Begins the next member of the open map; its value has to follow. `name` has nothing that JSON escapes.
    fn key(&mut self, name: &str);

    /// Begins the next item of the open list; its value has to follow.
    fn item(&mut self);

    fn text(&mut self, text: &str);
    fn unsigned(&mut self, number: u64);
    fn signed(&mut self, number: i64);
    fn truth(&mut self, so: bool);
    fn null(&mut self);

    /// The members of `object`, the text of a JSON object without spaces, as further members of the open map.
    fn members_of(&mut self, object: &str);

    fn member<T: Plain + ?Sized>(&mut self, name: &str, value: &T) {
        self.key(name);
        value.put(self);
    }
}

/// A string, number, boolean or null.
pub trait Plain {
    fn put(&self, out: &mut impl Writer);
}

impl Plain for str {
    fn put(&self, out: &mut impl Writer) {
        out.text(self);
    }
}

impl Plain for String {
    fn put(&self, out: &mut impl Writer) {
        out.text(self);
    }
}

impl Plain for u64 {
    fn put(&self, out: &mut impl Writer) {
        out.unsigned(*self);
    }
}

impl Plain for usize {
    fn put(&self, out: &mut impl Writer) {
        out.unsigned(*self as u64);
    }
}

impl Plain for i64 {
    fn put(&self, out: &mut impl Writer) {
        out.signed(*self);
    }
}

impl Plain for bool {
    fn put(&self, out: &mut impl Writer) {
        out.truth(*self);
    }
}

impl<T: Plain + ?Sized> Plain for &T {
    fn put(&self, out: &mut impl Writer) {
        (*self).put(out);
    }
}

/// Null where there is nothing.
impl<T: Plain> Plain for Option<T> {
    fn put(&self, out: &mut impl Writer) {
        match self {
            Some(value) => value.put(out),
            None => out.null(),
        }
    }
}

pub struct Json<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Json<'a> {
    /// Writes behind what is in `out`.
    pub fn to(out: &'a mut BytesMut) -> Self {
        Self { out }
    }
}

impl Writer for Json<'_> {
    type Open = ();

    fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    fn open_map(&mut self) {
        self.out.put_u8(b'{');
    }

    fn close_map(&mut self, (): ()) {
        self.out.put_u8(b'}');
    }

    fn open_list(&mut self) {
        self.out.put_u8(b'[');
    }

    fn close_list(&mut self, (): ()) {
        self.out.put_u8(b']');
    }

    fn key(&mut self, name: &str) {
        self.item();
        self.out.put_u8(b'"');
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b"\":");
    }

    fn item(&mut self) {
        // No value ends with either of these, so they are the beginning of what is open.
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.put_u8(b',');
        }
    }

    fn text(&mut self, text: &str) {
        self.out.reserve(text.len() + 2);
        self.out.put_u8(b'"');
        let mut rest = text.as_bytes();
        loop {
            let (plain, behind) = rest.split_at(plain_bytes(rest));
            self.out.put_slice(plain);
            let Some((escaped, behind)) = behind.split_first() else { break };
            put_escaped(self.out, *escaped);
            rest = behind;
        }
        self.out.put_u8(b'"');
    }

    fn unsigned(&mut self, number: u64) {
        self.out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn signed(&mut self, number: i64) {
        self.out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn truth(&mut self, so: bool) {
        self.out.put_slice(if so { b"true" } else { b"false" });
    }

    fn null(&mut self) {
        self.out.put_slice(b"null");
    }

    fn members_of(&mut self, object: &str) {
        let members = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        if !members.is_empty() {
            self.item();
            self.out.put_slice(members.as_bytes());
        }
    }
}

/// How many bytes a string of JSON begins with that stand for themselves. Looks at sixteen at once: that becomes a few
/// instructions on all of them.
fn plain_bytes(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<16>();
    let is_plain = |block: &&[u8; 16]| block.iter().fold(0, |found, byte| found | u8::from(is_escaped(*byte))) == 0;
    let blocks = blocks.iter().take_while(is_plain).count() * 16;
    blocks + text[blocks..].iter().take_while(|byte| !is_escaped(**byte)).count()
}

/// RFC 8259, section 7.
fn is_escaped(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

fn put_escaped(out: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            return out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.put_slice(&[b'\\', short]);
}

pub struct Msgpack<'a> {
    out: &'a mut BytesMut,
    /// Of the map or list that is open.
    entries: usize,
}

/// A map or list that is not closed yet. One byte is kept for its marker, as most have no more than 15 entries; a
/// longer one is moved by two or four bytes when it is closed and its length known.
pub struct Open {
    at: usize,
    /// Those of what it is in.
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

impl<'a> Msgpack<'a> {
    /// Writes behind what is in `out`.
    pub fn to(out: &'a mut BytesMut) -> Self {
        Self { out, entries: 0 }
    }

    fn open(&mut self) -> Open {
        let open = Open { at: self.out.len(), entries: self.entries };
        self.entries = 0;
        self.out.put_u8(0);
        open
    }

    fn close(&mut self, markers: Markers, Open { at, entries: outside }: Open) {
        let entries = std::mem::replace(&mut self.entries, outside);
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

    fn float(&mut self, number: f64) {
        self.out.put_u8(0xcb);
        self.out.put_f64(number);
    }
}

impl Writer for Msgpack<'_> {
    type Open = Open;

    fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    fn open_map(&mut self) -> Open {
        self.open()
    }

    fn close_map(&mut self, open: Open) {
        self.close(MAP, open);
    }

    fn open_list(&mut self) -> Open {
        self.open()
    }

    fn close_list(&mut self, open: Open) {
        self.close(LIST, open);
    }

    fn key(&mut self, name: &str) {
        self.item();
        self.text(name);
    }

    fn item(&mut self) {
        self.entries += 1;
    }

    /// "str format family".
    fn text(&mut self, text: &str) {
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(bytes @ 0..=31), _) => self.out.put_u8(0xa0 | bytes),
            (Ok(bytes), _) => self.out.put_slice(&[0xd9, bytes]),
            (_, Ok(bytes)) => {
                self.out.put_u8(0xda);
                self.out.put_u16(bytes);
            }
            (_, Err(_)) => {
                self.out.put_u8(0xdb);
                self.out.put_u32(u32::try_from(text.len()).expect("a text of 4 GiB fits into no frame"));
            }
        }
        self.out.put_slice(text.as_bytes());
    }

    /// "int format family", in the fewest bytes.
    fn unsigned(&mut self, number: u64) {
        match (u8::try_from(number), u16::try_from(number), u32::try_from(number)) {
            (Ok(small @ 0..=0x7f), ..) => self.out.put_u8(small),
            (Ok(byte), ..) => self.out.put_slice(&[0xcc, byte]),
            (_, Ok(short), _) => {
                self.out.put_u8(0xcd);
                self.out.put_u16(short);
            }
            (_, _, Ok(long)) => {
                self.out.put_u8(0xce);
                self.out.put_u32(long);
            }
            _ => {
                self.out.put_u8(0xcf);
                self.out.put_u64(number);
            }
        }
    }

    fn signed(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            return self.unsigned(number);
        }
        match (i8::try_from(number), i16::try_from(number), i32::try_from(number)) {
            (Ok(small @ -32..), ..) => self.out.put_i8(small),
            (Ok(byte), ..) => {
                self.out.put_u8(0xd0);
                self.out.put_i8(byte);
            }
            (_, Ok(short), _) => {
                self.out.put_u8(0xd1);
                self.out.put_i16(short);
            }
            (_, _, Ok(long)) => {
                self.out.put_u8(0xd2);
                self.out.put_i32(long);
            }
            _ => {
                self.out.put_u8(0xd3);
                self.out.put_i64(number);
            }
        }
    }

    fn truth(&mut self, so: bool) {
        self.out.put_u8(if so { 0xc3 } else { 0xc2 });
    }

    fn null(&mut self) {
        self.out.put_u8(0xc0);
    }

    fn members_of(&mut self, object: &str) {
        let (bytes, entries) = (self.out.len(), self.entries);
        let mut json = serde_json::Deserializer::from_str(object);
        if json.deserialize_map(MembersOf(self)).is_err() {
            // Nobody makes such a body; were there one, the message goes without it and stays well formed.
            self.out.truncate(bytes);
            self.entries = entries;
        }
    }
}

/// Writes what is read, member by member.
struct MembersOf<'w, 'a>(&'w mut Msgpack<'a>);

/// Writes one value that is read.
struct Value<'w, 'a>(&'w mut Msgpack<'a>);

impl<'de> Visitor<'de> for MembersOf<'_, '_> {
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

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.truth(value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.unsigned(value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.signed(value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.float(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let open = self.0.open_list();
        while seq.next_element_seed(Value(self.0))?.is_some() {
            self.0.item();
        }
        self.0.close_list(open);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let open = self.0.open_map();
        MembersOf(self.0).visit_map(map)?;
        self.0.close_map(open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            let mut out = BytesMut::new();
            let mut writer = Msgpack::to(&mut out);
            let open = writer.open_list();
            for _ in 0..entries {
                writer.item();
                writer.unsigned(7);
            }
            writer.close_list(open);
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out.len(), header.len() + entries);
            assert!(out[header.len()..].iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn json_members_are_transcoded_exactly() {
        let body = r#"{"a":[1,-2,0.1,1e300,18446744073709551615,null,true],"b":{"c":"é\n","d":{},"e":[]}}"#;
        let out = msgpack_with(body);
        let read: serde_json::Value = rmp_serde::from_slice(&out).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(body).unwrap();
        expected["text"] = "hi".into();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_body_that_is_no_json_is_left_out_whole() {
        assert_eq!(&msgpack_with(r#"{"a":[1,{"b":"#)[..], b"\x81\xa4text\xa2hi");
    }

    #[test]
    fn numbers_and_texts_at_the_edges_of_their_markers_are_as_serde_writes_them() {
        let edges = (0..64).flat_map(|bits| [1_u64 << bits, (1 << bits) - 1, (1_u64 << bits).wrapping_neg()]);
        for number in edges {
            same(&number);
            same(&number.cast_signed());
        }
        for bytes in [0, 31, 32, 255, 256, 0xffff, 0x1_0000] {
            same(&*"x".repeat(bytes));
        }
        same(&Some(true));
        same(&None::<bool>);
    }

    #[test]
    fn every_character_is_escaped_as_serde_escapes_it_wherever_it_stands() {
        for character in (0..=0x9f).filter_map(char::from_u32).chain(['é', '\u{2028}', '😀']) {
            for before in 0..20 {
                same(&*format!("{}{character}{}", "x".repeat(before), "y".repeat(20)));
            }
        }
    }

    proptest! {
        #[test]
        fn every_text_is_written_as_serde_writes_it(text in "(?s).{0,80}") {
            same(&*text);
        }
    }

    /// Whether serde writes `value` in the same bytes.
    fn same<T: Plain + serde::Serialize + ?Sized>(value: &T) {
        let (mut json, mut msgpack) = (BytesMut::new(), BytesMut::new());
        value.put(&mut Json::to(&mut json));
        value.put(&mut Msgpack::to(&mut msgpack));
        assert_eq!(json, serde_json::to_vec(value).unwrap());
        assert_eq!(msgpack, rmp_serde::to_vec(value).unwrap());
    }

    fn msgpack_with(body: &str) -> BytesMut {
        let mut out = BytesMut::new();
        let mut writer = Msgpack::to(&mut out);
        let open = writer.open_map();
        writer.member("text", "hi");
        writer.members_of(body);
        writer.close_map(open);
        out
    }
}
