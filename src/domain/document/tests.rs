//! Who reads, writes and is told of which document; what values are, and when a document is meant.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::{Content, Rejection};

/// Everybody there may be beside the owner, ann of acme: what they are to her document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    Owner,
    SameAccount,
    OtherAccount,
    Anonymous,
    Root,
}

const ASKERS: [Asker; 5] = [Asker::Owner, Asker::SameAccount, Asker::OtherAccount, Asker::Anonymous, Asker::Root];

/// The rule once more, told from the digits of the name and not from what the code makes of them.
fn should(asker: Asker, digits: [u32; 3], bit: u32) -> bool {
    let [_, account, everyone] = digits;
    match asker {
        Asker::Root | Asker::Owner => true,
        Asker::SameAccount => account / bit % 2 == 1 || everyone / bit % 2 == 1,
        Asker::OtherAccount => everyone / bit % 2 == 1,
        Asker::Anonymous => false,
    }
}

#[test]
fn every_name_allows_what_its_digits_say_and_nothing_else() {
    let document = document(fields([]));
    let mut checked = 0;
    for (owner, account, everyone) in all_digits() {
        for prefix in ["tasks", "pub_tasks"] {
            let collection = collection(&format!("{prefix}_{owner}{account}{everyone}_"));
            let digits = [owner, account, everyone];
            let public = prefix.starts_with("pub");
            let event = RoomEvent::DocumentDeleted { whose: document.whose(&collection), document: document.id };
            for asker in ASKERS {
                let reader = reader(asker);
                let told = should(asker, digits, 4) || (public && asker != Asker::Anonymous);
                let expected = (should(asker, digits, 4) || public, should(asker, digits, 2), told);
                let found = (
                    collection.may_read(&reader, &document),
                    collection.may_write(&reader, &document),
                    Audience::of(&event).includes(&reader),
                );
                assert_eq!(found, expected, "{collection} for {asker:?}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 2 * 512 * 5);
}

#[test]
fn a_name_without_permissions_allows_what_740_does() {
    for name in ["tasks", "tasks_760", "_760_tasks", "tasks_7600_", "tasks760_"] {
        let permissions = Permissions { owner: 7, account: 4, everyone: 0 };
        assert_eq!(collection(name).permissions(), permissions, "{name}");
    }
    assert_eq!(collection("_761_").permissions(), Permissions { owner: 7, account: 6, everyone: 1 });
}

#[test]
fn what_is_no_name_of_a_collection_is_refused() {
    let long = "n".repeat(CollectionName::BYTES_MAX + 1);
    let cases = [
        ("", CollectionNameError::Size),
        (long.as_str(), CollectionNameError::Size),
        ("a/b", CollectionNameError::Character { found: '/' }),
        ("tasks\n", CollectionNameError::Character { found: '\n' }),
        ("täsk", CollectionNameError::Character { found: 'ä' }),
        ("sb_tokens", CollectionNameError::Reserved),
        ("tasks_780_", CollectionNameError::Digits),
        ("tasks_009_", CollectionNameError::Digits),
    ];
    for (name, error) in cases {
        assert_eq!(CollectionName::new(name), Err(error), "{name}");
    }
    assert!(CollectionName::new(&long[1..]).is_ok());
}

#[test]
fn everybody_who_follows_a_room_is_told_of_everything_but_documents() {
    let said = Audience::of(&RoomEvent::posted(Content::text("hi")));
    for asker in ASKERS {
        assert!(said.includes(&reader(asker)));
    }
}

#[test]
fn numbers_are_compared_exactly_whatever_they_are_kept_as() {
    let float = |number| Number::float(number).unwrap();
    let two_53 = 9_007_199_254_740_992_u64;
    let ordered = [
        float(-1.0e300),
        Number::whole(i64::MIN),
        float(-1.5),
        Number::whole(-1),
        float(-0.5),
        Number::whole(0),
        float(0.5),
        Number::unsigned(two_53),
        Number::unsigned(two_53 + 1),
        float(9_007_199_254_740_994.0),
        Number::unsigned(u64::MAX),
        float(18_446_744_073_709_551_616.0),
        float(1.0e31),
    ];
    for (i, one) in ordered.iter().enumerate() {
        for (j, other) in ordered.iter().enumerate() {
            assert_eq!(one.compare(*other), i.cmp(&j), "{one:?} and {other:?}");
        }
    }
    assert_eq!(Number::whole(3), float(3.0));
    assert_eq!((float(0.0), Number::float(f64::NAN).is_none()), (Number::whole(0), true));
}

#[test]
fn sums_stay_whole_and_are_refused_beyond_what_a_number_says() {
    let max = Number::unsigned(u64::MAX);
    assert_eq!(max.plus(Number::whole(-1)).and_then(Number::as_whole), Some(i128::from(u64::MAX) - 1));
    assert!(max.plus(Number::whole(1)).is_none());
    assert!(Number::whole(i64::MIN).plus(Number::whole(-1)).is_none());
    let half = Number::float(0.5).unwrap();
    assert_eq!(Number::whole(1).plus(half), Number::float(1.5));
    let huge = Number::float(f64::MAX).unwrap();
    assert!(huge.plus(huge).is_none());
}

#[test]
fn a_condition_holds_for_what_it_says() {
    let inner = Value::Map(fields([("name", text("ann")), ("n", number(3))]));
    let tags = Value::List(vec![text("a"), number(1)]);
    let document =
        document(fields([("done", Value::Bool(false)), ("who", inner), ("tags", tags), ("gone", Value::Null)]));
    let one_of = |values: &[Value]| Value::List(values.to_vec());
    let cases = [
        ("done", "==", Value::Bool(false), true),
        ("done", "=", Value::Bool(true), false),
        ("done", "!=", Value::Bool(true), true),
        ("done", "<>", Value::Bool(false), false),
        ("who.name", "==", text("ann"), true),
        ("who.name", ">", text("alf"), true),
        ("who.name", "<", text("alf"), false),
        ("who.n", ">=", number(3), true),
        ("who.n", ">", number(3), false),
        ("who.n", "<=", Value::Number(Number::float(3.5).unwrap()), true),
        ("who.n", "<", text("4"), false),
        ("who.n", ">", text("2"), false),
        ("who.n.m", "==", Value::Null, true),
        ("nowhere", "==", Value::Null, true),
        ("nowhere", "!=", number(1), true),
        ("nowhere", "<", number(1), false),
        ("nowhere", ">=", Value::Null, false),
        ("nowhere", "!in", one_of(&[number(1)]), true),
        ("gone", "==", Value::Null, true),
        ("tags", "==", one_of(&[text("a"), number(1)]), true),
        ("tags", "==", text("a"), false),
        ("who.name", "in", one_of(&[text("bob"), text("ann")]), true),
        ("who.name", "nin", one_of(&[text("bob"), text("ann")]), false),
        ("id", "==", text(&document.id.to_string()), true),
        ("ownerId", "in", one_of(&[text("ann")]), true),
        ("accountId", "!=", text("acme"), false),
        ("sb_created", ">=", text("2026-11-22"), true),
        ("sb_created", "<", text("2026-11-23"), true),
    ];
    for (path, op, value, expected) in cases {
        let filter = Filter::new(path, Op::parse(op).unwrap(), value.clone()).unwrap();
        assert_eq!(filter.matches(&document), expected, "{path} {op} {value:?}");
    }
    assert_eq!(Op::parse("like"), None);
    assert_eq!(Filter::new("a", Op::In, text("a")), Err(FilterError::NoList));
    assert_eq!(Filter::new(&"a".repeat(201), Op::Equal, Value::Null), Err(FilterError::LongPath));
    assert!(Filter::new(&"a".repeat(200), Op::Equal, Value::Null).is_ok());
    let many = Value::List(vec![Value::Null; VALUES_MAX + 1]);
    assert_eq!(Filter::new("a", Op::NotIn, many), Err(FilterError::TooManyValues));
}

#[test]
fn an_update_takes_the_place_of_whole_fields_and_of_none_that_the_server_sets() {
    let inner = Value::Map(fields([("name", text("ann")), ("n", number(3))]));
    let before = fields([("who", inner), ("n", number(1))]);
    let update = fields([
        ("who", Value::Map(fields([("name", text("bob"))]))),
        ("who.n", number(4)),
        ("id", text("mine")),
        ("accountId", text("other")),
        ("ownerId", text("bob")),
        ("sb_created", text("never")),
    ]);
    let after = before.updated(&update).checked().unwrap();
    let expected =
        fields([("who", Value::Map(fields([("name", text("bob"))]))), ("who.n", number(4)), ("n", number(1))]);
    assert_eq!(*after, expected);
}

#[test]
fn what_is_added_to_is_a_number_or_nothing() {
    let of = |value| fields([("a", Value::Map(fields([("n", value)])))]);
    assert_eq!(of(number(3)).incremented("a.n", Number::whole(-5)), Ok(of(number(-2))));
    assert_eq!(of(Value::Null).incremented("a.n", Number::whole(2)), Ok(of(number(2))));
    let made = fields([]).incremented("a.n", Number::whole(1)).unwrap();
    assert_eq!(made, of(number(1)));
    let refused = [(of(text("3")), "a.n"), (of(number(3)), "a.n.m"), (of(number(3)), "a")];
    for (fields, path) in refused {
        assert_eq!(fields.incremented(path, Number::whole(1)), Err(Rejection::NotANumber), "{path}");
    }
}

#[test]
fn what_is_added_to_lies_no_deeper_than_a_document_goes_and_nothing_is_made_on_the_way_there() {
    let levels = |count| vec!["a"; count].join(".");
    let added = |path: &str| fields([]).incremented(path, Number::whole(1));
    assert!(added(&levels(DEPTH_MAX)).unwrap().checked().is_ok());
    // So many maps within each other are more than a stack holds.
    for path in [levels(DEPTH_MAX + 1), levels(130_000), ".".repeat(130_000), "a".repeat(PATH_BYTES_MAX + 1)] {
        assert_eq!(added(&path), Err(Rejection::DocumentSize), "{} bytes", path.len());
    }
    assert!(added(&"a".repeat(PATH_BYTES_MAX)).is_ok());
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    let sized = |bytes: usize| fields([("x", text(&"a".repeat(bytes)))]);
    let over = sized(0).bytes();
    assert!(sized(FIELDS_BYTES_MAX - over).checked().is_ok());
    assert_eq!(sized(FIELDS_BYTES_MAX - over + 1).checked(), Err(Rejection::DocumentSize));
    let quoted = fields([("x", text(&"\"".repeat(FIELDS_BYTES_MAX / 4)))]);
    assert_eq!(quoted.checked(), Err(Rejection::DocumentSize));
    let nested = |levels| (1..levels).fold(fields([]), |inner, _| fields([("x", Value::Map(inner))]));
    assert!(nested(DEPTH_MAX).checked().is_ok());
    assert_eq!(nested(DEPTH_MAX + 1).checked(), Err(Rejection::DocumentSize));
    let listed = (1..=DEPTH_MAX).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert_eq!(fields([("x", listed)]).checked(), Err(Rejection::DocumentSize));
}

#[test]
fn a_time_is_written_as_a_date() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_007, "2024-02-29T23:59:59.007Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (CREATED_AT, "2026-11-22T11:04:34.123Z"),
    ];
    for (at, expected) in cases {
        assert_eq!(date_time(Timestamp(at)), expected);
    }
}

proptest! {
    #[test]
    fn comparing_numbers_turns_round(one in any_number(), other in any_number()) {
        prop_assert_eq!(one.compare(other), other.compare(one).reverse());
        prop_assert_eq!(one.compare(one), Ordering::Equal);
        if let (Some(one), Some(other)) = (one.as_whole(), other.as_whole()) {
            prop_assert_eq!(Number::compare(one_of(one), one_of(other)), one.cmp(&other));
        }
    }
}

fn one_of(number: i128) -> Number {
    match u64::try_from(number) {
        Ok(number) => Number::unsigned(number),
        Err(_) => Number::whole(i64::try_from(number).unwrap()),
    }
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::whole),
        any::<u64>().prop_map(Number::unsigned),
        prop::num::f64::NORMAL.prop_map(|number| Number::float(number).unwrap()),
        (-3_i64..3).prop_map(Number::whole),
        (-6_i8..6).prop_map(|half| Number::float(f64::from(half) / 2.0).unwrap()),
    ]
}

fn all_digits() -> impl Iterator<Item = (u32, u32, u32)> {
    (0..512).map(|digits| (digits / 64, digits / 8 % 8, digits % 8))
}

const CREATED_AT: i64 = 1_795_345_474_123;

fn document(fields: Fields) -> Document {
    let (owner, account) = (UserId::new("ann").unwrap(), AccountId::new("acme").unwrap());
    let id = RecordId(Uuid::from_u128(0x0192_f0c1_2345_7abc_8def_0000_0000_0004));
    Document { id, created: Timestamp(CREATED_AT), owner, account, fields: Arc::new(fields) }
}

fn reader(asker: Asker) -> Reader {
    let person = |user, account| (UserId::new(user).unwrap(), AccountId::new(account).unwrap());
    let user = |(user, account)| Reader::User { user, account };
    match asker {
        Asker::Owner => user(person("ann", "acme")),
        Asker::SameAccount => user(person("bob", "acme")),
        Asker::OtherAccount => user(person("eve", "evil")),
        Asker::Anonymous => Reader::Anonymous,
        Asker::Root => {
            let (user, account) = person("root", "host");
            Reader::Root { user, account }
        }
    }
}

fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    Fields(BTreeMap::from(fields.map(|(name, value)| (name.into(), value))))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn number(number: i64) -> Value {
    Value::Number(Number::whole(number))
}
