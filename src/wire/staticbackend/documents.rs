//! Documents, and what is asked of collections, as these clients write them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::domain::document::{
    ACCOUNT, CREATED, Document, FILTERS_MAX, Fields, Filter, ID, Number, OWNER, Op, SET_BY_SERVER, VALUES_MAX, Value,
    date_time,
};
use crate::domain::{Event, Record, RecordId, RoomEvent};

/// What the server says of a document takes about this much, and more for long names.
const WHOSE_BYTES: usize = 256;

/// What is wrong with what a client has sent, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    fn body() -> Self {
        Self("invalid body".to_owned())
    }
}

/// Documents of a page, and what page it is.
#[derive(Serialize)]
pub struct Page<'a> {
    pub page: u64,
    pub size: usize,
    pub total: u64,
    /// `null` where there are none.
    #[serde(serialize_with = "some_documents")]
    pub results: &'a [Document],
}

/// Updates of several documents.
pub struct UpdateAll {
    pub update: Fields,
    pub filters: Vec<Filter>,
}

/// What is added to which field.
pub struct Increment {
    pub field: String,
    pub range: Number,
}

/// A document with what the server says of it.
pub fn document(document: &Document) -> Vec<u8> {
    written(&Whole(document))
}

pub fn documents(documents: &[Document]) -> Vec<u8> {
    written(&documents.iter().map(Whole).collect::<Vec<_>>())
}

pub fn page(page: &Page<'_>) -> Vec<u8> {
    written(page)
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("values whose names are texts can be written to memory")
}

/// A document as the client wants it to be: an object.
pub fn read_document(body: &[u8]) -> Result<Fields, Malformed> {
    fields(read::<Read>(body)?.0)
}

pub fn read_documents(body: &[u8]) -> Result<Vec<Fields>, Malformed> {
    let documents: Vec<Read> = read(body)?;
    documents.into_iter().map(|Read(value)| fields(value)).collect()
}

/// Ids of documents. One that is none names no document.
pub fn read_ids(body: &[u8]) -> Result<Vec<RecordId>, Malformed> {
    let ids: Vec<Cow<'_, str>> = serde_json::from_slice(body).map_err(|_| Malformed::body())?;
    Ok(ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).map(RecordId).collect())
}

/// The conditions of a query, each a list of a field, an operator and a value. Nothing is none.
pub fn read_filters(body: &[u8]) -> Result<Vec<Filter>, Malformed> {
    let clauses: Option<Vec<Vec<Read>>> = read(body)?;
    filters(clauses.unwrap_or_default())
}

/// The same as an address has them, in base64, and at least one: nothing is meant where nothing is said.
pub fn read_some_of_address(text: &str) -> Result<Vec<Filter>, Malformed> {
    const STANDARD: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // Of those who do not escape it in an address a space is what was a plus.
    let text = text.replace('-', "+").replace('_', "/").replace(' ', "+");
    let json = STANDARD.decode(text).map_err(|_| Malformed("the clauses are no base64".to_owned()))?;
    some(read_filters(&json)?)
}

pub fn read_update_all(body: &[u8]) -> Result<UpdateAll, Malformed> {
    #[derive(Deserialize)]
    struct Body {
        update: Read,
        #[serde(default)]
        clauses: Option<Vec<Vec<Read>>>,
    }
    let Body { update, clauses } = read(body)?;
    Ok(UpdateAll { update: fields(update.0)?, filters: some(filters(clauses.unwrap_or_default())?)? })
}

fn some(filters: Vec<Filter>) -> Result<Vec<Filter>, Malformed> {
    if filters.is_empty() { Err(Malformed("the clauses are missing".to_owned())) } else { Ok(filters) }
}

pub fn read_increment(body: &[u8]) -> Result<Increment, Malformed> {
    #[derive(Deserialize)]
    struct Body {
        field: String,
        range: Read,
    }
    match read(body)? {
        Body { field, range: Read(Value::Number(range)) } => Ok(Increment { field, range }),
        Body { .. } => Err(Malformed::body()),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|_| Malformed::body())
}

fn fields(value: Value) -> Result<Fields, Malformed> {
    match value {
        Value::Map(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => Err(Malformed::body()),
    }
}

fn filters(clauses: Vec<Vec<Read>>) -> Result<Vec<Filter>, Malformed> {
    if clauses.len() > FILTERS_MAX {
        return Err(Malformed(format!("a query has at most {FILTERS_MAX} clauses")));
    }
    let filters = clauses.into_iter().zip(1..).map(|(clause, number)| filter(clause, number));
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    if filters.iter().map(|filter| filter.listed().len()).sum::<usize>() > VALUES_MAX {
        return Err(Malformed(format!("the clauses have at most {VALUES_MAX} values together")));
    }
    Ok(filters)
}

/// In the words of the original, where it has some.
fn filter(clause: Vec<Read>, number: usize) -> Result<Filter, Malformed> {
    let wrong = |what: &str| Malformed(format!("the {number} query clause{what}"));
    let [Read(field), Read(op), Read(value)] = <[Read; 3]>::try_from(clause)
        .map_err(|_| wrong(" did not contains the required 3 parameters (field, operator, value)"))?;
    let Value::Text(field) = field else { return Err(wrong("'s field parameter must be a string")) };
    let Value::Text(op) = op else { return Err(wrong("'s operator must be a string")) };
    let known = Op::parse(&op).ok_or_else(|| wrong(&format!("'s operator: {op} is not supported at the moment")))?;
    Filter::new(&field, known, value).map_err(|error| wrong(&format!("'s value: {error}")))
}

/// What became of a document: what that is called, in which collection, and the document, or its id where it is gone.
pub(super) struct Changed<'a> {
    pub kind: &'static str,
    pub collection: &'a str,
    pub id: RecordId,
    pub data: String,
}

/// Of a record; `None` where it is about no document.
pub(super) fn changed(record: &Record) -> Option<Changed<'_>> {
    let Event::Room(event) = &record.event else { return None };
    let collection = event.whose()?.collection.as_str();
    let deleted = |id: RecordId| Changed { kind: "db_deleted", collection, id, data: id.to_string() };
    if let RoomEvent::DocumentDeleted { document, .. } = event {
        return Some(deleted(*document));
    }
    let changed = Document::of(record)?;
    let kind = if changed.id == record.id { "db_created" } else { "db_updated" };
    let data = String::from_utf8(document(&changed)).expect("JSON is text");
    Some(Changed { kind, collection, id: changed.id, data })
}

/// About how many bytes the document of a record takes.
pub(super) fn changed_bytes(record: &Record) -> Option<usize> {
    let Event::Room(event) = &record.event else { return None };
    event.whose()?;
    Some(WHOSE_BYTES + Document::of(record).map_or(0, |document| document.fields.bytes()))
}

fn some_documents<S: Serializer>(documents: &&[Document], serializer: S) -> Result<S::Ok, S::Error> {
    if documents.is_empty() {
        return serializer.serialize_none();
    }
    serializer.collect_seq(documents.iter().map(Whole))
}

/// In the order of the names, as the original has them.
struct Whole<'a>(&'a Document);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document { id, created, owner, account, fields } = self.0;
        let (id, created) = (id.to_string(), date_time(*created));
        let mut map = serializer.serialize_map(Some(fields.0.len() + SET_BY_SERVER.len()))?;
        let mut own = BTreeMap::from([
            (ID, id.as_str()),
            (ACCOUNT, account.as_str()),
            (OWNER, owner.as_str()),
            (CREATED, created.as_str()),
        ]);
        for (name, value) in &fields.0 {
            while let Some(entry) = own.first_entry().filter(|entry| *entry.key() < &**name) {
                let (name, value) = entry.remove_entry();
                map.serialize_entry(name, value)?;
            }
            map.serialize_entry(name, &Shown(value))?;
        }
        for (name, value) in own {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct Shown<'a>(&'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(so) => serializer.serialize_bool(*so),
            Value::Number(number) => match number.as_whole() {
                Some(whole) => serializer.serialize_i128(whole),
                None => serializer.serialize_f64(number.as_float()),
            },
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(values) => serializer.collect_seq(values.iter().map(Shown)),
            Value::Map(fields) => serializer.collect_map(fields.0.iter().map(|(name, value)| (name, Shown(value)))),
        }
    }
}

/// Any value of JSON. What is said twice of a name is what was said last.
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
        f.write_str("a value")
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::document::CollectionName;
    use crate::domain::{AccountId, Epoch, Num, Position, Seq, Timestamp, UserId};

    const ID_TEXT: &str = "0192f0c1-2345-7abc-8def-000000000004";

    #[test]
    fn a_document_is_written_as_it_was_read_with_what_the_server_says_of_it() {
        let body = r#"{"z":[1,-2,0.5,18446744073709551615,null,true,"\"ü\""],"done":false,"Zed":{"a":{}},"j":""}"#;
        let document = Document { fields: Arc::new(read_document(body.as_bytes()).unwrap()), ..of("{}") };
        let written = String::from_utf8(super::document(&document)).unwrap();
        let expected = concat!(
            r#"{"Zed":{"a":{}},"accountId":"acme","done":false,"id":"0192f0c1-2345-7abc-8def-000000000004","j":"","#,
            r#""ownerId":"ann","sb_created":"1970-01-01T00:00:00.007Z","#,
            r#""z":[1,-2,0.5,18446744073709551615,null,true,"\"ü\""]}"#
        );
        assert_eq!(written, expected);
        let again = read_document(written.as_bytes()).unwrap().checked().unwrap();
        assert_eq!(again, document.fields);
    }

    #[test]
    fn a_page_without_documents_has_null() {
        let empty = Page { page: 1, size: 25, total: 0, results: &[] };
        assert_eq!(page(&empty), br#"{"page":1,"size":25,"total":0,"results":null}"#);
        let one = Page { page: 2, size: 1, total: 2, results: &[of("{}")] };
        let one: serde_json::Value = serde_json::from_slice(&page(&one)).unwrap();
        assert_eq!(one["results"][0]["id"], ID_TEXT);
        assert_eq!(documents(&[]), b"[]");
    }

    #[test]
    fn what_is_no_document_is_refused_in_the_words_of_the_original() {
        for body in ["", "[]", "null", "3", "{", "{\"a\":1}}", "{\"a\":NaN}"] {
            assert_eq!(read_document(body.as_bytes()), Err(Malformed::body()), "{body}");
        }
        assert_eq!(read_documents(b"[{},3]"), Err(Malformed::body()));
        assert_eq!(read_documents(b"[{},{\"a\":1}]").unwrap().len(), 2);
        assert!(read_update_all(br#"{"update":[],"clauses":[]}"#).is_err());
        assert!(read_increment(br#"{"field":"n","range":"1"}"#).is_err());
        assert_eq!(read_ids(format!("[\"{ID_TEXT}\",\"7\"]").as_bytes()), Ok(vec![of("{}").id]));
    }

    #[test]
    fn clauses_are_read_from_a_body_and_from_an_address() {
        let clauses = br#"[["who.name","==","ann"],["n","in",[1,2]],["n","<=",3]]"#;
        let expected: Vec<_> = [("who.name", Op::Equal, r#""ann""#), ("n", Op::In, "[1,2]"), ("n", Op::AtMost, "3")]
            .map(|(path, op, value)| Filter::new(path, op, read::<Read>(value.as_bytes()).unwrap().0).unwrap())
            .into();
        assert_eq!(read_filters(clauses), Ok(expected.clone()));
        let standard = base64::engine::general_purpose::STANDARD.encode(clauses);
        for text in [standard.clone(), standard.replace('+', " "), standard.trim_end_matches('=').to_owned()] {
            assert_eq!(read_some_of_address(&text), Ok(expected.clone()), "{text}");
        }
        let question = br#"[["a","==","???>>>"]]"#;
        let safe = base64::engine::general_purpose::URL_SAFE.encode(question);
        assert!(safe.contains('_') || safe.contains('-'));
        assert_eq!(read_some_of_address(&safe), read_filters(question));
        assert_eq!(read_filters(b"null"), Ok(Vec::new()));
        let missing = Malformed("the clauses are missing".to_owned());
        // [], null
        for none in ["W10", "bnVsbA"] {
            assert_eq!(read_some_of_address(none), Err(missing.clone()), "{none}");
        }
        for none in [r#"{"update":{}}"#, r#"{"update":{},"clauses":null}"#, r#"{"update":{},"clauses":[]}"#] {
            assert_eq!(read_update_all(none.as_bytes()).err(), Some(missing.clone()), "{none}");
        }
        for (clauses, why) in [
            (
                r#"[["a","=="]]"#,
                "the 1 query clause did not contains the required 3 parameters (field, operator, value)",
            ),
            (r#"[["a","==",1],[1,"==",1]]"#, "the 2 query clause's field parameter must be a string"),
            (r#"[["a",1,1]]"#, "the 1 query clause's operator must be a string"),
            (r#"[["a","like","x"]]"#, "the 1 query clause's operator: like is not supported at the moment"),
            (r#"[["a","in","x"]]"#, "the 1 query clause's value: in and !in take a list"),
            (r#"{"a":1}"#, "invalid body"),
        ] {
            assert_eq!(read_filters(clauses.as_bytes()), Err(Malformed(why.to_owned())));
        }
        assert!(read_some_of_address("%%").is_err());
        let many = format!("[{}]", vec![r#"["a","==",1]"#; FILTERS_MAX + 1].join(","));
        assert!(read_filters(many.as_bytes()).is_err());
        let lists = |values: [usize; 2]| {
            let list = |count| format!(r#"["a","in",[{}]]"#, vec!["1"; count].join(","));
            read_filters(format!("[{}]", values.map(list).join(",")).as_bytes())
        };
        assert!(lists([VALUES_MAX / 2; 2]).is_ok());
        assert_eq!(lists([VALUES_MAX, 1]), Err(Malformed("the clauses have at most 1000 values together".to_owned())));
    }

    #[test]
    fn a_change_is_told_with_the_whole_document_and_a_deletion_with_the_id() {
        let document = of(r#"{"name":"new doc"}"#);
        let collection = CollectionName::new("tasks_760_").unwrap();
        let (whose, fields) = (document.whose(&collection), Arc::clone(&document.fields));
        let created = RoomEvent::DocumentCreated { whose: whose.clone(), fields: Arc::clone(&fields) };
        let updated = RoomEvent::DocumentUpdated {
            whose: whose.clone(),
            document: document.id,
            created: document.created,
            fields,
        };
        let deleted = RoomEvent::DocumentDeleted { whose: whose.clone(), document: document.id };
        let whole = String::from_utf8(super::document(&document)).unwrap();
        for (event, id, kind, data) in [
            (created, document.id, "db_created", whole.as_str()),
            (updated, RecordId(Uuid::nil()), "db_updated", whole.as_str()),
            (deleted, RecordId(Uuid::nil()), "db_deleted", ID_TEXT),
        ] {
            let record = Record {
                position: Position { epoch: Epoch(1), seq: Seq(4) },
                id,
                num: Num(4),
                at: document.created,
                author: UserId::new("ann").unwrap(),
                client_id: None,
                event: Event::Room(event),
            };
            let changed = changed(&record).unwrap();
            assert_eq!((changed.kind, &*changed.data, changed.id), (kind, data, document.id));
            assert_eq!(changed.collection, "tasks_760_");
        }
    }

    fn of(body: &str) -> Document {
        Document {
            id: RecordId(Uuid::try_parse(ID_TEXT).unwrap()),
            created: Timestamp(7),
            owner: UserId::new("ann").unwrap(),
            account: AccountId::new("acme").unwrap(),
            fields: Arc::new(read_document(body.as_bytes()).unwrap()),
        }
    }
}
