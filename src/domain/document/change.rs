//! What is asked of a collection.

use std::sync::Arc;

use super::{
    CollectionName, DEPTH_MAX, Document, FIELDS_BYTES_MAX, Fields, Filter, Number, PATH_BYTES_MAX, Reader,
    SET_BY_SERVER, Value, all_match,
};
use crate::domain::{Num, RecordId, Rejection};

/// The most documents that one command changes, and the most that they may be together, each as large as its fields.
pub const CHANGED_MAX: usize = 1000;
pub const CHANGED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A change of documents: of all that it names, or of none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    pub collection: CollectionName,
    /// With which num the collection begins, where there is none yet.
    pub begin: Option<Num>,
    pub by: Reader,
    pub change: Change,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Documents with these fields.
    Create(Vec<Fields>),
    /// These fields take the place of those of the same names; what is in them is not looked at.
    Update(Selection, Fields),
    /// Adds to the number at a path; one that is not there counts as 0.
    Increment(Selection, Box<str>, Number),
    Delete(Selection),
    /// Has documents found by what they have at a path. For root alone.
    Index(Index),
}

/// What is to be found by what it has at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    pub path: Box<str>,
    /// Those that were there before.
    pub documents: Vec<RecordId>,
    /// All of those are in it.
    pub built: bool,
}

/// Those documents that are still as `filters` say when it is their turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    pub documents: Vec<RecordId>,
    pub filters: Vec<Filter>,
}

impl Selection {
    pub fn one(document: RecordId) -> Self {
        Self { documents: vec![document], filters: Vec::new() }
    }

    pub fn includes(&self, document: &Document) -> bool {
        all_match(&self.filters, document)
    }
}

impl Write {
    /// The documents that it is about, which have to be known before it is decided.
    pub fn documents(&self) -> &[RecordId] {
        match &self.change {
            Change::Create(_) => &[],
            Change::Index(index) => &index.documents,
            Change::Update(selection, _) | Change::Increment(selection, ..) | Change::Delete(selection) => {
                &selection.documents
            }
        }
    }
}

impl Fields {
    /// Without those that the server sets, provided that it is not too large or too deep.
    pub fn checked(mut self) -> Result<Arc<Self>, Rejection> {
        for name in SET_BY_SERVER {
            self.0.remove(name);
        }
        if self.depth() > DEPTH_MAX || self.bytes() > FIELDS_BYTES_MAX {
            return Err(Rejection::DocumentSize);
        }
        Ok(Arc::new(self))
    }

    /// With these in the places of those of the same names.
    pub fn updated(&self, update: &Self) -> Self {
        let mut updated = self.clone();
        updated.0.extend(update.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        updated
    }

    /// With so much more at `path`, which is looked at before anything is made by it: each name in it nests deeper.
    pub fn incremented(&self, path: &str, by: Number) -> Result<Self, Rejection> {
        if path.len() > PATH_BYTES_MAX || path.matches('.').count() >= DEPTH_MAX {
            return Err(Rejection::DocumentSize);
        }
        let mut incremented = self.clone();
        let place = incremented.place(path).ok_or(Rejection::NotANumber)?;
        let before = match place {
            Value::Null => Number::whole(0),
            Value::Number(number) => *number,
            Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => return Err(Rejection::NotANumber),
        };
        *place = Value::Number(before.plus(by).ok_or(Rejection::NotANumber)?);
        Ok(incremented)
    }
}
