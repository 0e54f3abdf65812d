//! The rows of a collection: its documents as they are now, and where each finds its own.
//!
//! They lie under the collection's own stream, and it alone writes them. A document is found by where it was created, so
//! their keys are in the order in which they came.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, codec, joined};
use crate::domain::document::{Document, Entry};
use crate::domain::{AccountId, RecordId, Seq, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{Id, StoredFields, damage};

/// Before the key of every [`Document`].
pub const DOCUMENTS: &[u8] = b"d";

/// Before the keys of all documents, without what they say; of those by their owners, and by their accounts.
pub const LISTED: &[u8] = b"l";
const OWNED: &[u8] = b"o";
const OF_ACCOUNT: &[u8] = b"k";

/// Before the key of every path by which documents are found, an [`Indexed`].
pub const INDEXES: &[u8] = b"y";

/// Before the keys of documents by what they have at a path.
const ENTRIES: &[u8] = b"x";

/// How many documents there are, a [`DocumentCount`].
pub const DOCUMENT_COUNT: &[u8] = b"n";

/// Under a user's stream: the [`AccountId`] of the account that the user is of, where that is not one of its own.
pub const ACCOUNT: &[u8] = b"c";

/// How many documents a collection has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DocumentCount(pub u64);

/// Whether all documents are found by what they have at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Indexed {
    pub built: bool,
}

/// The [`Indexed`] of a path.
pub fn index(path: &str) -> Bytes {
    joined(INDEXES, path.as_bytes())
}

/// Of which path [`index`] made the key.
pub fn path_of(key: &[u8]) -> Result<&str, StoreError> {
    let path = key.strip_prefix(INDEXES).and_then(|path| std::str::from_utf8(path).ok());
    path.ok_or_else(|| damage("a key that names no path"))
}

/// Before the keys of documents by what they have at `path`, in the order of the entries.
pub fn entries(path: &str) -> Bytes {
    named(ENTRIES, path)
}

/// A row without a value, for the document that was created at `seq` and has about this at `path`.
pub fn entry(path: &str, entry: &Entry, seq: Seq) -> Bytes {
    [&entries(path), entry.as_bytes(), &seq.0.to_be_bytes()].concat().into()
}

/// The [`Document`] that was created at `seq`.
pub fn document(seq: Seq) -> Bytes {
    joined(DOCUMENTS, &seq.0.to_be_bytes())
}

/// A row without a value, for the document that was created at `seq`.
pub fn listed(seq: Seq) -> Bytes {
    joined(LISTED, &seq.0.to_be_bytes())
}

/// Before the keys of the documents of `owner`.
pub fn owned_by(owner: &UserId) -> Bytes {
    named(OWNED, owner.as_str())
}

/// A row without a value, for the document that `owner` has created at `seq`.
pub fn owned(owner: &UserId, seq: Seq) -> Bytes {
    under(&owned_by(owner), seq)
}

/// Before the keys of the documents of `account`.
pub fn of_account(account: &AccountId) -> Bytes {
    named(OF_ACCOUNT, account.as_str())
}

/// A row without a value, for the document of `account` that was created at `seq`.
pub fn in_account(account: &AccountId, seq: Seq) -> Bytes {
    under(&of_account(account), seq)
}

/// A row without a value, for the document that was created at `seq`, among those of an owner or an account.
pub fn under(prefix: &[u8], seq: Seq) -> Bytes {
    joined(prefix, &seq.0.to_be_bytes())
}

/// No such name is the beginning of another.
fn named(prefix: &[u8], name: &str) -> Bytes {
    let length = u8::try_from(name.len()).expect("ids of users and accounts have at most 128 bytes, and paths 200");
    [prefix, &[length], name.as_bytes()].concat().into()
}

/// Where the document was created whose key any of these made.
pub fn seq_of(key: &[u8]) -> Result<Seq, StoreError> {
    let seq = key.last_chunk().filter(|_| key.len() > 8).map(|seq| Seq(u64::from_be_bytes(*seq)));
    seq.ok_or_else(|| damage("a key that names no document"))
}

impl Row for Document {
    fn encode(&self) -> Bytes {
        let stored = StoredDocument {
            id: Id(self.id.0),
            created: self.created.0,
            owner: self.owner.as_str(),
            account: self.account.as_str(),
            fields: StoredFields(self.fields.clone()),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredDocument { id, created, owner, account, fields } = codec::versioned(bytes)?;
        Ok(Self {
            id: RecordId(id.0),
            created: Timestamp(created),
            owner: codec::user(owner)?,
            account: codec::account(account)?,
            fields: fields.0,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredDocument<'a> {
    id: Id,
    created: i64,
    #[serde(borrow)]
    owner: &'a str,
    account: &'a str,
    fields: StoredFields,
}

impl Row for AccountId {
    fn encode(&self) -> Bytes {
        codec::version(&self.as_str()).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::account(codec::versioned(bytes)?)
    }
}

impl Row for Indexed {
    fn encode(&self) -> Bytes {
        codec::version(&self.built).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(|built| Self { built })
    }
}

impl Row for DocumentCount {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domain::document::{Fields, Number, Value};

    #[test]
    fn every_row_comes_back_as_it_was() {
        let numbers = [Number::unsigned(u64::MAX), Number::whole(i64::MIN), Number::float(0.1).unwrap()];
        let mut values = numbers.map(Value::Number).to_vec();
        values.extend([Value::Null, Value::Bool(true), Value::Text("Ünï \u{1f469}\u{200d}\u{1f680}".into())]);
        let inner = Fields(BTreeMap::from([("done".into(), Value::Bool(false))]));
        values.push(Value::Map(inner));
        let fields = Arc::new(Fields(BTreeMap::from([("a b".into(), Value::List(values)), ("".into(), Value::Null)])));
        let (owner, account) = (UserId::new("ann").unwrap(), AccountId::new("acme").unwrap());
        let document = Document { id: RecordId(Uuid::from_u128(9)), created: Timestamp(-7), owner, account, fields };
        assert_eq!(Document::decode(&document.encode()), Ok(document));
        let account = AccountId::new("acme").unwrap();
        assert_eq!(AccountId::decode(&account.encode()), Ok(account));
        assert_eq!(DocumentCount::decode(&DocumentCount(u64::MAX).encode()), Ok(DocumentCount(u64::MAX)));
    }

    #[test]
    fn nobodys_documents_lie_among_those_of_another() {
        let (short, long) = (UserId::new("ann").unwrap(), UserId::new("anna").unwrap());
        assert!(!owned(&long, Seq(1)).starts_with(&owned_by(&short)));
        assert_eq!(seq_of(&owned(&long, Seq(513))), Ok(Seq(513)));
        let account = AccountId::new("ann").unwrap();
        assert_eq!(seq_of(&in_account(&account, Seq(7))), Ok(Seq(7)));
        assert_eq!(seq_of(&document(Seq(u64::MAX))), Ok(Seq(u64::MAX)));
        assert!(seq_of(b"d").is_err());
    }
}
