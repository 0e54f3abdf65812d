//! Where documents are found by what they say: the order of values, as bytes.
//!
//! An entry says about what value a document has at a path. Several values may have the same one, so whoever finds a
//! document by it looks whether it is meant.

use std::ops::Range;

use super::{Document, Filter, Op, Value};

/// The most paths by which a collection finds its documents.
pub const INDEXES_MAX: usize = 16;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 200;

/// So much of a text is in an entry.
const TEXT_BYTES: usize = 64;

/// About what value a document has: in the order of the values of one kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry(Vec<u8>);

const NULL: u8 = 0;
const BOOL: u8 = 1;
const NUMBER: u8 = 2;
const TEXT: u8 = 3;
const OTHER: u8 = 4;

impl Entry {
    pub fn of(value: &Value) -> Self {
        let mut bytes = Vec::new();
        match value {
            Value::Null => bytes.push(NULL),
            Value::Bool(so) => bytes.extend([BOOL, u8::from(*so)]),
            Value::Number(number) => {
                bytes.push(NUMBER);
                // Without the sign of zero.
                bytes.extend(ordered(number.as_float() + 0.0));
            }
            Value::Text(text) => {
                bytes.push(TEXT);
                // What stands behind it in a key begins with such a byte, so that a text comes before all that go on.
                bytes.extend(text.bytes().take_while(|byte| *byte != 0).take(TEXT_BYTES));
            }
            Value::List(_) | Value::Map(_) => bytes.push(OTHER),
        }
        Self(bytes)
    }

    /// What a document has at `path`.
    pub fn at(document: &Document, path: &str) -> Self {
        document.value(path).map_or_else(|| Self::of(&Value::Null), |value| Self::of(&value))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that come behind all that begin with these.
    fn end(&self) -> Vec<u8> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        end
    }
}

/// The bits of a number in its order (IEEE 754, section 5.10: those of positive numbers are).
fn ordered(number: f64) -> [u8; 8] {
    let bits = number.to_bits();
    let ordered = if bits >> 63 == 0 { bits | (1 << 63) } else { !bits };
    ordered.to_be_bytes()
}

impl Filter {
    /// Between which bytes the entries of all documents lie that it may mean, in their order and apart from each other;
    /// `None` where that is everywhere.
    pub fn ranges(&self) -> Option<Vec<Range<Vec<u8>>>> {
        let equal = |value: &Value| {
            let entry = Entry::of(value);
            entry.0.clone()..entry.end()
        };
        let entry = Entry::of(self.value());
        let kind = match self.value() {
            Value::Bool(_) | Value::Number(_) | Value::Text(_) => Entry(entry.0[..1].to_vec()),
            // Of these nothing is less or more.
            Value::Null | Value::List(_) | Value::Map(_) => {
                return match self.op() {
                    Op::Equal => Some(vec![equal(self.value())]),
                    Op::In => Some(merged(self.listed().iter().map(equal).collect())),
                    Op::Less | Op::AtMost | Op::Greater | Op::AtLeast => Some(Vec::new()),
                    Op::NotEqual | Op::NotIn => None,
                };
            }
        };
        match self.op() {
            Op::Equal => Some(vec![equal(self.value())]),
            Op::Less | Op::AtMost => Some(vec![kind.0..entry.end()]),
            Op::Greater | Op::AtLeast => Some(vec![entry.0..kind.end()]),
            Op::In | Op::NotEqual | Op::NotIn => None,
        }
    }
}

/// The same in their order, with one in the place of those that touch.
fn merged(mut ranges: Vec<Range<Vec<u8>>>) -> Vec<Range<Vec<u8>>> {
    ranges.sort_unstable_by(|one, other| one.start.cmp(&other.start));
    let mut apart: Vec<Range<Vec<u8>>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut().filter(|last| range.start <= last.end) {
            Some(last) if range.end <= last.end => {}
            Some(last) => last.end = range.end,
            None => apart.push(range),
        }
    }
    apart
}

/// What lies within both, each as [`Filter::ranges`] has them: no more than they are together.
pub fn overlaps(ranges: Vec<Range<Vec<u8>>>, others: Vec<Range<Vec<u8>>>) -> Vec<Range<Vec<u8>>> {
    let (mut ranges, mut others) = (ranges.into_iter().peekable(), others.into_iter().peekable());
    let mut both = Vec::new();
    while let (Some(one), Some(other)) = (ranges.peek(), others.peek()) {
        let overlap = one.start.clone().max(other.start.clone())..one.end.clone().min(other.end.clone());
        // What ends first overlaps nothing that comes.
        let ended = if one.end <= other.end { &mut ranges } else { &mut others };
        ended.next();
        if !overlap.is_empty() {
            both.push(overlap);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::{Fields, Number};
    use super::*;
    use crate::domain::{AccountId, RecordId, Timestamp, UserId};

    #[test]
    fn what_a_condition_means_lies_between_its_bytes_and_little_else() {
        let number = |n| Value::Number(Number::whole(n));
        let found = |op, value, n: i64| lies(&Filter::new("x", op, value).unwrap(), &number(n), 7).unwrap();
        for (op, expected) in [
            (Op::Equal, [false, true, false]),
            (Op::Less, [true, true, false]),
            (Op::AtMost, [true, true, false]),
            (Op::Greater, [false, true, true]),
            (Op::AtLeast, [false, true, true]),
        ] {
            assert_eq!([2, 3, 4].map(|n| found(op, number(3), n)), expected, "{op:?}");
        }
        assert_eq!([2, 3, 4].map(|n| found(Op::In, Value::List(vec![number(2), number(4)]), n)), [true, false, true]);
        let text = Value::Text("3".into());
        assert_eq!(lies(&Filter::new("x", Op::Greater, text).unwrap(), &number(4), 7), Some(false));
        for op in [Op::NotEqual, Op::Less] {
            let everywhere = Filter::new("x", op, Value::Null).unwrap().ranges();
            assert_eq!(everywhere, (op == Op::Less).then(Vec::new), "{op:?}");
        }
    }

    #[test]
    fn what_is_said_often_is_looked_for_once() {
        let values =
            |values: &[i64]| Value::List(values.iter().copied().map(Number::whole).map(Value::Number).collect());
        let ranges = |listed: &[i64]| Filter::new("x", Op::In, values(listed)).unwrap().ranges().unwrap();
        let (often, many) = (ranges(&[7; 1000]), (0..1000).collect::<Vec<_>>());
        assert_eq!(often, ranges(&[7]));
        assert_eq!(overlaps(overlaps(often.clone(), often.clone()), often.clone()), often);
        assert_eq!(ranges(&[5, 3, 4, 3]), ranges(&[3, 4, 5]));
        let (even, odd): (Vec<i64>, Vec<i64>) = many.iter().partition(|n| *n % 2 == 0);
        assert_eq!(overlaps(ranges(&many), ranges(&even)), ranges(&even));
        assert_eq!(overlaps(ranges(&odd), ranges(&even)), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_lies_within_both_lies_within_each(
            one in vec(any_value(), 0..6), other in vec(any_value(), 0..6), bound in any_value(), found in any_value()
        ) {
            let one = Filter::new("x", Op::In, Value::List(one)).unwrap();
            let other = Filter::new("x", Op::In, Value::List(other)).unwrap();
            let bound = Filter::new("x", Op::AtLeast, bound).unwrap();
            let key = Entry::of(&found).as_bytes().to_vec();
            let within = |ranges: &[Range<Vec<u8>>]| ranges.iter().any(|range| range.contains(&key));
            for (one, other) in [(&one, &other), (&one, &bound), (&bound, &other)] {
                let (one, other) = (one.ranges().unwrap(), other.ranges().unwrap());
                let both = overlaps(one.clone(), other.clone());
                prop_assert_eq!(within(&both), within(&one) && within(&other));
                prop_assert!(both.len() <= one.len() + other.len());
                prop_assert!(both.windows(2).all(|pair| pair[0].end <= pair[1].start));
            }
        }

        #[test]
        fn no_document_that_is_meant_lies_elsewhere(
            found in any_value(), value in any_value(), op in any_op(), seq in 0_u64..1 << 40
        ) {
            let value = if matches!(op, Op::In) { Value::List(vec![value, found.clone()]) } else { value };
            let filter = Filter::new("x", op, value).unwrap();
            if filter.matches(&document(&found)) {
                prop_assert_ne!(lies(&filter, &found, seq), Some(false));
            }
        }
    }

    /// Whether the key of a document with this value lies where the filter looks; `None` where it looks everywhere.
    fn lies(filter: &Filter, found: &Value, seq: u64) -> Option<bool> {
        let mut key = Entry::at(&document(found), "x").as_bytes().to_vec();
        key.extend(seq.to_be_bytes());
        Some(filter.ranges()?.iter().any(|range| range.contains(&key)))
    }

    fn document(value: &Value) -> Document {
        Document {
            id: RecordId(Uuid::nil()),
            created: Timestamp(0),
            owner: UserId::new("ann").unwrap(),
            account: AccountId::new("acme").unwrap(),
            fields: Arc::new(Fields([("x".into(), value.clone())].into())),
        }
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            Just(Op::Equal),
            Just(Op::Less),
            Just(Op::AtMost),
            Just(Op::Greater),
            Just(Op::AtLeast),
            Just(Op::In),
            Just(Op::NotEqual),
        ]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Number::whole),
            any::<u64>().prop_map(Number::unsigned),
            prop::num::f64::NORMAL.prop_map(|number| Number::float(number).unwrap()),
            (-2_i8..3).prop_map(|half| Number::float(f64::from(half) / 2.0).unwrap()),
            Just(Number::float(-0.0).unwrap()),
        ];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(Value::Number),
            "[a\u{0}\u{1}b\u{ff}]{0,6}".prop_map(|text| Value::Text(text.into())),
            "[ab]{62,67}".prop_map(|text| Value::Text(text.into())),
            Just(Value::List(vec![Value::Null])),
            Just(Value::Map(Fields::default())),
        ]
    }
}
