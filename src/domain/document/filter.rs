//! Which documents are meant: what their fields have to be.

use std::cmp::Ordering;

use super::{Document, PATH_BYTES_MAX, Value};

/// The most conditions of one query.
pub const FILTERS_MAX: usize = 32;

/// The most values among which one is looked for, by all conditions of one query together.
pub const VALUES_MAX: usize = 1000;

/// A condition: what the value at a path has to be, compared with another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    path: Box<str>,
    op: Op,
    value: Value,
}

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    NotIn,
}

/// Why something is no condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    #[error("in and !in take a list")]
    NoList,
    #[error("a list of values has at most 1,000")]
    TooManyValues,
    #[error("a field has at most 200 bytes")]
    LongPath,
}

impl Op {
    /// Reads how clients write it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "=" | "==" => Some(Self::Equal),
            "!=" | "<>" => Some(Self::NotEqual),
            "<" => Some(Self::Less),
            "<=" => Some(Self::AtMost),
            ">" => Some(Self::Greater),
            ">=" => Some(Self::AtLeast),
            "in" => Some(Self::In),
            "!in" | "nin" => Some(Self::NotIn),
            _ => None,
        }
    }
}

impl Filter {
    pub fn new(path: &str, op: Op, value: Value) -> Result<Self, FilterError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(FilterError::LongPath);
        }
        if matches!(op, Op::In | Op::NotIn) {
            match &value {
                Value::List(values) if values.len() > VALUES_MAX => return Err(FilterError::TooManyValues),
                Value::List(_) => {}
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
                    return Err(FilterError::NoList);
                }
            }
        }
        Ok(Self { path: path.into(), op, value })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn op(&self) -> Op {
        self.op
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The values among which one is looked for.
    pub fn listed(&self) -> &[Value] {
        match (self.op, &self.value) {
            (Op::In | Op::NotIn, Value::List(values)) => values,
            (
                Op::In | Op::NotIn | Op::Equal | Op::NotEqual | Op::Less | Op::AtMost | Op::Greater | Op::AtLeast,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_),
            ) => &[],
        }
    }

    /// Whether the document is as it says. What is not there is as if it were null, and is neither less nor more than
    /// anything.
    pub fn matches(&self, document: &Document) -> bool {
        let found = document.value(&self.path);
        let found = found.as_deref().unwrap_or(&Value::Null);
        let compared = || found.compare(&self.value);
        match self.op {
            Op::Equal => *found == self.value,
            Op::NotEqual => *found != self.value,
            Op::Less => compared() == Some(Ordering::Less),
            Op::AtMost => compared().is_some_and(Ordering::is_le),
            Op::Greater => compared() == Some(Ordering::Greater),
            Op::AtLeast => compared().is_some_and(Ordering::is_ge),
            Op::In => self.lists(found),
            Op::NotIn => !self.lists(found),
        }
    }

    fn lists(&self, found: &Value) -> bool {
        self.listed().contains(found)
    }
}

/// Whether a document is as all of them say.
pub fn all_match(filters: &[Filter], document: &Document) -> bool {
    filters.iter().all(|filter| filter.matches(document))
}
