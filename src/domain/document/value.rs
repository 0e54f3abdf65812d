//! What documents say: the values of JSON.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How deep values are nested at most: the fields of a document are at depth 1.
pub const DEPTH_MAX: usize = 16;

/// The largest that the fields of a document may be, as JSON in a string: then quotation marks and what is escaped take more
/// than a byte. Stays below what the log takes as one record.
pub const FIELDS_BYTES_MAX: usize = 60 * 1024;

/// Any value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    List(Vec<Self>),
    Map(Fields),
}

/// A number: a whole one is kept exactly.
#[derive(Clone, Copy, Debug)]
pub struct Number(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// From `i64::MIN` to `u64::MAX`.
    Whole(i128),
    /// Finite.
    Float(f64),
}

/// The fields of a document or of a part of one, by their names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields(pub BTreeMap<Box<str>, Value>);

impl Value {
    /// Which of two comes first; `None` where they are of kinds that cannot be compared.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => Some(one.compare(*other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (
                Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Map(_),
                Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Map(_),
            ) => None,
        }
    }

    /// How deep it is nested: 0 for what holds nothing.
    pub fn depth(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => 0,
            Self::List(values) => 1 + values.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(fields) => fields.depth(),
        }
    }

    /// What it takes at most as JSON in a string, with what stands between it and the next.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 6,
            Self::Number(number) => number.bytes(),
            Self::Text(text) => text_bytes(text),
            Self::List(values) => 5 + values.iter().map(Self::bytes).sum::<usize>(),
            Self::Map(fields) => fields.bytes(),
        }
    }
}

/// With its quotation marks, which are escaped.
fn text_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 4,
        0..0x20 | 0x7f => 7,
        _ => 1,
    };
    6 + text.bytes().map(escaped).sum::<usize>()
}

impl Number {
    pub fn whole(number: i64) -> Self {
        Self(Kind::Whole(number.into()))
    }

    pub fn unsigned(number: u64) -> Self {
        Self(Kind::Whole(number.into()))
    }

    /// `None` where it is not finite.
    pub fn float(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(Kind::Float(number)))
    }

    /// As an integer, where it is one.
    pub fn as_whole(self) -> Option<i128> {
        match self.0 {
            Kind::Whole(number) => Some(number),
            Kind::Float(_) => None,
        }
    }

    /// The nearest floating point number.
    #[expect(clippy::cast_precision_loss, reason = "the nearest is what is asked for")]
    pub fn as_float(self) -> f64 {
        match self.0 {
            Kind::Whole(number) => number as f64,
            Kind::Float(number) => number,
        }
    }

    /// Both together; `None` where that is more than a number can say.
    pub fn plus(self, other: Self) -> Option<Self> {
        match (self.0, other.0) {
            (Kind::Whole(one), Kind::Whole(other)) => {
                let sum = one + other;
                let says = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&sum);
                says.then_some(Self(Kind::Whole(sum)))
            }
            (Kind::Whole(_) | Kind::Float(_), Kind::Whole(_) | Kind::Float(_)) => {
                Self::float(self.as_float() + other.as_float())
            }
        }
    }

    /// Exactly, whatever they are kept as.
    pub fn compare(self, other: Self) -> Ordering {
        match (self.0, other.0) {
            (Kind::Whole(one), Kind::Whole(other)) => one.cmp(&other),
            (Kind::Float(one), Kind::Float(other)) => one.partial_cmp(&other).unwrap_or(Ordering::Equal),
            (Kind::Whole(one), Kind::Float(other)) => compare(one, other),
            (Kind::Float(one), Kind::Whole(other)) => compare(other, one).reverse(),
        }
    }

    fn bytes(self) -> usize {
        match self.0 {
            Kind::Whole(number) => {
                let digits = number.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
                // Of a hundred and more, and of negative ones, the log has a byte before them.
                digits + 2
            }
            // As the shortest text from which it can be read again (RFC 8785, section 3.2.2.3).
            Kind::Float(_) => 25,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other) == Ordering::Equal
    }
}

impl Eq for Number {}

/// Of an integer of 65 bits and a finite number.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and lies between the bounds of the other")]
fn compare(whole: i128, float: f64) -> Ordering {
    const BEYOND: f64 = 1.0e30;
    if float.abs() >= BEYOND {
        return if float > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    let below = float.floor();
    let fraction = if float > below { Ordering::Less } else { Ordering::Equal };
    whole.cmp(&(below as i128)).then(fraction)
}

impl Fields {
    /// The value at `path`: names with dots between them, each within the one before.
    pub fn value(&self, path: &str) -> Option<&Value> {
        match path.split_once('.') {
            None => self.0.get(path),
            Some((first, rest)) => match self.0.get(first)? {
                Value::Map(fields) => fields.value(rest),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
            },
        }
    }

    /// The place of that, made where only the names are missing; `None` where something else stands in the way.
    pub fn place(&mut self, path: &str) -> Option<&mut Value> {
        match path.split_once('.') {
            None => Some(self.0.entry(path.into()).or_insert(Value::Null)),
            Some((first, rest)) => match self.0.entry(first.into()).or_insert_with(|| Value::Map(Self::default())) {
                Value::Map(fields) => fields.place(rest),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
            },
        }
    }

    /// How deep they are nested, themselves counted.
    pub fn depth(&self) -> usize {
        1 + self.0.values().map(Value::depth).max().unwrap_or(0)
    }

    /// What they take at most as JSON in a string.
    pub fn bytes(&self) -> usize {
        5 + self.0.iter().map(|(name, value)| text_bytes(name) + value.bytes()).sum::<usize>()
    }
}
