//! The content of a message, read from either notation into the domain's two parts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::domain;

/// The content of a message: any object. Its string member `text` is set apart, and the others become JSON without
/// spaces, so that the same content is the same bytes however it was written.
///
/// Only what JSON can say is taken: finite numbers, no binary, no extension types, names that are strings. An integer
/// beyond 64 bits becomes the nearest floating point number, as most JSON readers do.
#[derive(Debug)]
pub struct Content(pub domain::Content);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Parts).map(Self)
    }
}

/// Room is made for as much whenever a member begins, so that a short body grows once.
const MEMBER_BYTES: usize = 256;

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = domain::Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object as content")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = None;
        let mut has_text = false;
        let mut body = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            if name != "text" {
                begin_member(&mut body, &name);
                map.next_value_seed(Value { out: &mut body, text: None })?;
                continue;
            }
            if std::mem::replace(&mut has_text, true) {
                return Err(A::Error::duplicate_field("text"));
            }
            // One that is no string stays with the others.
            let mut other = Vec::new();
            map.next_value_seed(Value { out: &mut other, text: Some(&mut text) })?;
            if text.is_none() {
                begin_member(&mut body, &name);
                body.extend_from_slice(&other);
            }
        }
        if body.is_empty() {
            return Ok(domain::Content { text, body: None });
        }
        body.push(b'}');
        let body = String::from_utf8(body).expect("serde_json writes UTF-8");
        Ok(domain::Content { text, body: Some(body.into()) })
    }
}

/// A string, and nothing that could be taken for one.
#[derive(Debug)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(value.to_owned()))
            }
        }

        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

/// Writes the value that is read as JSON; puts a string into `text` instead, where there is such a place.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    text: Option<&'a mut Option<Arc<str>>>,
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
        f.write_str("a value that JSON can say")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        put(self.out, &());
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        put(self.out, &value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        put(self.out, &value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        put(self.out, &value);
        Ok(())
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("a number in the content is not finite"));
        }
        put(self.out, &value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("a number in the content is not finite"));
        }
        put(self.out, &value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match self.text {
            Some(text) => *text = Some(value.into()),
            None => put(self.out, value),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.out.push(b'[');
        let start = self.out.len();
        loop {
            let before = self.out.len();
            if before > start {
                self.out.push(b',');
            }
            if seq.next_element_seed(Value { out: self.out, text: None })?.is_none() {
                self.out.truncate(before);
                break;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.out.push(b'{');
        let start = self.out.len();
        while let Some(Text(name)) = map.next_key()? {
            if self.out.len() > start {
                self.out.push(b',');
            }
            put(self.out, &*name);
            self.out.push(b':');
            map.next_value_seed(Value { out: self.out, text: None })?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn begin_member(body: &mut Vec<u8>, name: &str) {
    body.reserve(MEMBER_BYTES);
    body.push(if body.is_empty() { b'{' } else { b',' });
    put(body, name);
    body.push(b':');
}

fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a plain value is JSON and memory takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_text_is_set_apart_and_the_rest_written_without_spaces() {
        let content = read(r#"{ "a" : [ 1 , { } ] , "text" : "hi" , "b" : { "c" : null, "d": [] } }"#).unwrap();
        assert_eq!(content.text.as_deref(), Some("hi"));
        assert_eq!(content.body.as_deref(), Some(r#"{"a":[1,{}],"b":{"c":null,"d":[]}}"#));
    }

    #[test]
    fn a_text_that_is_no_string_stays_with_the_rest() {
        let content = read(r#"{"text":["hi"],"a":1}"#).unwrap();
        assert_eq!(content.text, None);
        assert_eq!(content.body.as_deref(), Some(r#"{"text":["hi"],"a":1}"#));
    }

    #[test]
    fn text_alone_leaves_no_body_and_nothing_leaves_nothing() {
        assert_eq!(read(r#"{"text":"hi"}"#).unwrap(), domain::Content::text("hi"));
        assert_eq!(read("{}").unwrap(), domain::Content::default());
    }

    #[test]
    fn two_texts_or_no_object_are_refused() {
        for bad in
            [r#"{"text":"a","text":"b"}"#, r#"{"text":1,"text":"b"}"#, r#""hi""#, r#"["hi"]"#, r#"{"a":"\ud800"}"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused_in_messagepack() {
        let cases: [(&str, &[u8]); 6] = [
            ("infinity", b"\x81\xa1a\xca\x7f\x80\x00\x00"),
            ("not a number", b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
            ("binary", b"\x81\xa1a\xc4\x01\x00"),
            ("an extension", b"\x81\xa1a\xd4\x01\x00"),
            ("a name that is a number", b"\x81\x01\xa1a"),
            ("a string that is not UTF-8", b"\x81\xa1a\xa1\xff"),
        ];
        for (what, bytes) in cases {
            assert!(rmp_serde::from_slice::<Content>(bytes).is_err(), "{what}");
        }
        let float = rmp_serde::from_slice::<Content>(b"\x81\xa1a\xca\x3d\xcc\xcc\xcd").unwrap().0;
        assert_eq!(float.body.as_deref(), Some(r#"{"a":0.1}"#));
    }

    fn read(json: &str) -> Result<domain::Content, serde_json::Error> {
        serde_json::from_str::<Content>(json).map(|content| content.0)
    }
}
