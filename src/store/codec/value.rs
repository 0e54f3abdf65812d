//! The values of documents as they lie on disk: as MessagePack has them.

use std::fmt;
use std::sync::Arc;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::document::{Fields, Number, Value};

/// The fields of a document.
pub struct StoredFields(pub Arc<Fields>);

impl Serialize for StoredFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().map(|(name, value)| (name, Written(value))))
    }
}

impl<'de> Deserialize<'de> for StoredFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Read::deserialize(deserializer)?.0 {
            Value::Map(fields) => Ok(Self(Arc::new(fields))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                Err(D::Error::custom("fields that are no map"))
            }
        }
    }
}

struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(so) => serializer.serialize_bool(*so),
            Value::Number(number) => match number.as_whole() {
                None => serializer.serialize_f64(number.as_float()),
                Some(whole) => match (u64::try_from(whole), i64::try_from(whole)) {
                    (Ok(number), _) => serializer.serialize_u64(number),
                    (_, Ok(number)) => serializer.serialize_i64(number),
                    (Err(_), Err(_)) => unreachable!("a whole number fits into 64 bits, signed or not"),
                },
            },
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(values) => serializer.collect_seq(values.iter().map(Written)),
            Value::Map(fields) => serializer.collect_map(fields.0.iter().map(|(name, value)| (name, Written(value)))),
        }
    }
}

struct Read(Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a document")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, so: bool) -> Result<Value, E> {
        Ok(Value::Bool(so))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(Number::unsigned(number)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(Number::whole(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::float(number).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Read(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Fields::default();
        while let Some((name, Read(value))) = map.next_entry::<String, Read>()? {
            fields.0.insert(name.into(), value);
        }
        Ok(Value::Map(fields))
    }
}
