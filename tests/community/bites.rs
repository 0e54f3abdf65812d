//! The recount against notes that are wrong on purpose: a check that cannot fail proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

use serde_json::{Value, json};

use super::recount::{self, BARRIER, COMPLETE, Log, ORDER, Recount, Verdict};
use super::view::{Acknowledged, Begun, Book, Entry, Shown, Stretch, Texts, View};

#[test]
fn what_is_as_it_has_to_be_is_no_fault() {
    let town = Town::new();
    assert_eq!(town.faults(&town.world(2..=12)), Vec::<&str>::new());
    assert_eq!(town.faults(&town.follow(0, 12, 1..=12)), Vec::<&str>::new());
    assert_eq!(faults_of(&town.log()).1, Vec::<&str>::new());
    assert_eq!(town.acknowledged(&hello()), Vec::<&str>::new());
    assert_eq!(town.listed(&list()), Vec::<&str>::new());
    assert_eq!(town.read(&readers()), Vec::<&str>::new());
    assert_eq!(town.there(&present()), Vec::<&str>::new());
    assert_eq!(town.beside(&edited(), &reactions()), Vec::<&str>::new());
}

#[test]
fn a_record_that_was_not_shown_is_missed() {
    let town = Town::new();
    for mut view in [town.world(2..=12), town.follow(0, 12, 1..=12)] {
        view.rooms.get_mut(ROOM).unwrap()[0].shown.remove(4);
        assert_eq!(town.faults(&view), [ORDER]);
    }
}

#[test]
fn a_record_that_was_shown_twice_is_seen() {
    let town = Town::new();
    for mut view in [town.world(2..=12), town.follow(0, 12, 1..=12)] {
        let shown = &mut view.rooms.get_mut(ROOM).unwrap()[0].shown;
        shown.insert(4, shown[4].clone());
        assert!(town.faults(&view).contains(&ORDER));
    }
}

#[test]
fn two_records_that_changed_places_are_seen() {
    let town = Town::new();
    for mut view in [town.world(2..=12), town.follow(0, 12, 1..=12)] {
        view.rooms.get_mut(ROOM).unwrap()[0].shown.swap(4, 5);
        assert!(town.faults(&view).contains(&ORDER));
    }
}

#[test]
fn an_end_that_was_not_reached_is_seen_where_the_device_is_there() {
    let town = Town::new();
    for mut view in [town.world(2..=11), town.follow(0, 12, 1..=11)] {
        assert_eq!(town.faults(&view), [COMPLETE]);
        view.on = false;
        assert_eq!(town.faults(&view), Vec::<&str>::new());
    }
}

#[test]
fn a_beginning_that_is_too_late_is_seen() {
    let town = Town::new();
    assert_eq!(town.faults(&town.world(3..=12)), [ORDER]);
    assert_eq!(town.faults(&town.follow(0, 12, 2..=12)), [ORDER]);
    let mut late = town.follow(0, 12, 1..=6);
    let more = town.follow(7, 12, 8..=12).rooms.remove(ROOM).unwrap();
    late.rooms.get_mut(ROOM).unwrap().extend(more);
    assert_eq!(town.faults(&late), [ORDER]);
}

#[test]
fn a_record_behind_a_removal_is_seen() {
    let town = Town::new();
    // Eve is kicked by the record 9.
    for (view, right) in [(town.world(3..=9), true), (town.world(3..=10), false)] {
        let mut verdict = Verdict::default();
        recount::check_view("eve", &view, &[town.log()], &[Recount::of(&town.log(), &mut verdict)], &mut verdict);
        assert_eq!(verdict.faults.is_empty(), right, "{:?}", verdict.faults);
    }
    for (view, right) in [(town.follow(0, 5, 1..=9), true), (town.follow(0, 5, 1..=10), false)] {
        let mut verdict = Verdict::default();
        recount::check_view("eve", &view, &[town.log()], &[Recount::of(&town.log(), &mut verdict)], &mut verdict);
        let expected = if right { Vec::new() } else { vec![BARRIER] };
        assert_eq!(names(&verdict), expected);
    }
}

#[test]
fn a_record_that_says_something_else_is_seen_and_one_that_was_erased_is_not() {
    let town = Town::new();
    let mut view = town.world(2..=12);
    let shown = &mut view.rooms.get_mut(ROOM).unwrap()[0].shown;
    let said = said(8, "bob", "what was deleted");
    shown[6] = town.texts.shown(said.clone());
    assert_eq!(town.faults(&view), Vec::<&str>::new());
    for (member, other) in [("author", json!("ann")), ("id", json!("other")), ("event", json!("member_left"))] {
        let mut said = said.clone();
        said[member] = other;
        let mut view = view.clone();
        view.rooms.get_mut(ROOM).unwrap()[0].shown[6] = town.texts.shown(said);
        assert_eq!(town.faults(&view), ["records shown"], "{member}");
    }
}

#[test]
fn a_gap_that_hides_something_is_seen() {
    let town = Town::new();
    let mut view = town.world(2..=12);
    view.gaps.push((ROOM.to_owned(), 1, 1));
    assert_eq!(town.faults(&view), Vec::<&str>::new());
    for (from, to) in [(1, 2), (3, 4), (2, 1)] {
        view.gaps[0] = (ROOM.to_owned(), from, to);
        assert_eq!(town.faults(&view), ["gaps are of another time"], "{from} to {to}");
    }
}

#[test]
fn what_was_before_the_joining_is_seen_where_it_is_not_to_be_shown() {
    let town = Town::new();
    // Bob has joined by the record 2.
    let narrowed = |view: &View| {
        let mut verdict = Verdict::default();
        let mut recount = Recount::of(&town.log(), &mut verdict);
        recount.from_join = true;
        recount::check_view("bob", view, &[town.log()], &[recount], &mut verdict);
        names(&verdict)
    };
    let mut view = town.follow(0, 12, 2..=12);
    assert_eq!(narrowed(&view), [recount::FROM_JOIN], "nobody has told of the gap");
    view.gaps.push((ROOM.to_owned(), 1, 1));
    assert_eq!(narrowed(&view), Vec::<&str>::new());
    let mut view = town.follow(0, 12, 1..=12);
    view.gaps.push((ROOM.to_owned(), 1, 1));
    assert!(narrowed(&view).contains(&recount::FROM_JOIN));
}

#[test]
fn a_wrong_profile_is_seen() {
    let book = Book { name: Some("Ann".to_owned()), ..Book::default() };
    for (found, right) in [("Ann", true), ("ann", false)] {
        let mut verdict = Verdict::default();
        recount::check_profile("ann", &book, &json!({ "user": "ann", "name": found }), &mut verdict);
        assert_eq!(verdict.faults.is_empty(), right, "{found}");
    }
}

#[test]
fn logs_that_break_a_rule_are_seen() {
    let broken = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut records = records();
        change(&mut records);
        faults_of(&log_of(&Texts::default(), records)).1
    };
    let has = |faults: Vec<&'static str>, fault| assert!(faults.contains(&fault), "{faults:?}");
    has(broken(&|records| drop(records.remove(5))), "places in the log");
    has(broken(&|records| records.swap(4, 5)), "places in the log");
    has(broken(&|records| records[10]["client_id"] = records[3]["client_id"].clone()), "said once");
    has(broken(&|records| records[3]["author"] = json!("eve")), "authors edit");
    has(broken(&|records| records[3]["author"] = json!("joe")), "who speaks may");
    has(broken(&|records| records[10] = said(11, "eve", "still here")), "who speaks may");
    has(broken(&|records| records[7] = said(8, "bob", "not gone")), "the deleted is gone");
    has(broken(&|records| records[5]["count"] = json!(2)), "reactions in records");
    has(broken(&|records| records[8]["joined"] = json!("r2")), "removals name a membership");
    let muted = record(13, "ann", "member_muted", json!({ "user": "bob", "until": null }));
    has(broken(&|records| records.extend([muted.clone(), said(14, "bob", "hm")])), "who speaks may");
    let slow = record(13, "ann", "room_updated", json!({ "slow_mode_ms": 5_000 }));
    let twice = [slow, said(14, "bob", "one"), said(15, "bob", "two")];
    has(broken(&|records| records.extend(twice.clone())), "who speaks may");
    let denied = record(13, "ann", "rights_changed", json!({ "user": "bob", "deny": ["post"] }));
    has(broken(&|records| records.extend([denied.clone(), said(14, "bob", "hm")])), "who speaks may");
    let ruled = record(13, "ann", "rules_changed", json!({ "words": 1 }));
    has(broken(&|records| records.extend([ruled.clone(), said(14, "bob", "a chinwag")])), "rules about words");
    let exempt = broken(&|records| records.extend([ruled.clone(), said(14, "ann", "a chinwag")]));
    assert_eq!(exempt, Vec::<&str>::new());
    let banned = record(13, "ann", "member_banned", json!({ "user": "bob", "joined": "r2" }));
    let back = record(14, "bob", "member_joined", json!({ "user": "bob", "role": "member" }));
    has(broken(&|records| records.extend([banned.clone(), back.clone()])), "nobody banned comes in");
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_lost() {
    let town = Town::new();
    let check = "what was acknowledged";
    assert_eq!(town.acknowledged(&Acknowledged { seq: 13, ..hello() }), [check]);
    assert_eq!(town.acknowledged(&Acknowledged { seq: 5, ..hello() }), [check]);
    assert_eq!(town.acknowledged(&Acknowledged { record: "r9".to_owned(), ..hello() }), [check]);
    assert_eq!(town.acknowledged(&Acknowledged { text: Some("hell".to_owned()), ..hello() }), [check]);
    assert_eq!(town.acknowledged(&Acknowledged { client_id: "c-9".to_owned(), ..hello() }), [check]);
}

#[test]
fn every_word_of_a_wrong_list_is_seen() {
    let town = Town::new();
    for (member, other, check) in [
        ("unread", json!(1), "unread"),
        ("mentions", json!(0), "unread"),
        ("more_unread", json!(true), "unread"),
        ("read_to", json!(4), "entries"),
        ("delivered_to", json!(3), "entries"),
        ("draft", json!("x"), "entries"),
        ("pinned", json!(true), "entries"),
        ("archived", json!(true), "entries"),
        ("muted_until", json!(5), "entries"),
        ("head", json!(11), "rooms in lists"),
        ("role", json!("admin"), "rooms in lists"),
        ("last", Value::Null, "last messages"),
    ] {
        let mut list = list();
        list["rooms"][0][member] = other;
        assert_eq!(town.listed(&list), [check], "{member}");
    }
    let sums = ["sums of unread", "sums of unread"];
    assert_eq!(town.listed(&json!({ "rooms": list()["rooms"], "unread": 3, "mentions": 1 }))[..1], sums[..1]);
    assert_eq!(town.listed(&json!({ "rooms": [], "unread": 2, "mentions": 1 })), ["lists of rooms"]);
}

#[test]
fn wrong_receipts_and_presences_are_seen() {
    let town = Town::new();
    for member in ["members", "delivered", "read"] {
        let mut readers = readers();
        readers[member] = json!(7);
        assert_eq!(town.read(&readers), ["receipts counted"]);
    }
    let mut readers = readers();
    readers["users"][0]["read_to"] = json!(4);
    assert_eq!(town.read(&readers), ["receipts"]);
    for member in ["members", "online", "away"] {
        let mut present = present();
        present[member] = json!(7);
        assert_eq!(town.there(&present), ["presences counted"]);
    }
    let mut present = present();
    present["users"][1]["presence"] = json!("offline");
    assert_eq!(town.there(&present), ["presences"]);
}

#[test]
fn what_stands_beside_messages_and_is_wrong_is_seen() {
    let town = Town::new();
    let mut other = edited();
    other["content"]["text"] = json!("hello");
    assert_eq!(town.beside(&other, &reactions()), ["what edited messages say"]);
    let mut other = reactions();
    other["count"] = json!(2);
    assert_eq!(town.beside(&edited(), &other), ["reactions"]);
    other = reactions();
    other["message"] = json!("r8");
    assert_eq!(town.beside(&edited(), &other), ["reactions", "reactions"]);
}

const ROOM: &str = "lobby";

/// A room of ann, bob and, for a while, eve.
struct Town {
    texts: Texts,
}

impl Town {
    fn new() -> Self {
        Self { texts: Texts::default() }
    }

    fn log(&self) -> Log {
        log_of(&self.texts, records())
    }

    fn shown(&self, seqs: std::ops::RangeInclusive<u64>) -> Vec<Shown> {
        self.log().shown.into_iter().filter(|shown| seqs.contains(&shown.seq)).collect()
    }

    /// A device of all rooms that began at the start.
    fn world(&self, seqs: std::ops::RangeInclusive<u64>) -> View {
        let stretch = Stretch { begun: Begun::Between(0, 0), head: None, shown: self.shown(seqs) };
        let rooms = BTreeMap::from([(ROOM.to_owned(), vec![stretch])]);
        View { world: true, rooms, on: true, ..View::default() }
    }

    fn follow(&self, from: u64, head: u64, seqs: std::ops::RangeInclusive<u64>) -> View {
        let stretch = Stretch { begun: Begun::At(from), head: Some(head), shown: self.shown(seqs) };
        View { rooms: BTreeMap::from([(ROOM.to_owned(), vec![stretch])]), on: true, ..View::default() }
    }

    /// What is wrong with what bob was shown: each kind of fault once.
    fn faults(&self, view: &View) -> Vec<&'static str> {
        let mut verdict = Verdict::default();
        let recount = Recount::of(&self.log(), &mut verdict);
        recount::check_view("bob", view, &[self.log()], &[recount], &mut verdict);
        let mut names = names(&verdict);
        names.dedup();
        names
    }

    fn acknowledged(&self, done: &Acknowledged) -> Vec<&'static str> {
        let (log, mut verdict) = (self.log(), Verdict::default());
        let logs = BTreeMap::from([(ROOM, &log)]);
        recount::check_acknowledged("ann", from_ref(done), &logs, &mut verdict);
        names(&verdict)
    }

    fn listed(&self, list: &Value) -> Vec<&'static str> {
        let mut verdict = Verdict::default();
        let recount = Recount::of(&self.log(), &mut verdict);
        let put_away = json!({ "rooms": [], "unread": list["unread"], "mentions": list["mentions"] });
        let book = books().remove("bob").unwrap();
        recount::check_inbox("bob", &book, &[list.clone(), put_away], &[self.log()], &[recount], 0, &mut verdict);
        names(&verdict)
    }

    fn read(&self, found: &Value) -> Vec<&'static str> {
        let mut verdict = Verdict::default();
        let recount = Recount::of(&self.log(), &mut verdict);
        recount::check_readers(&recount.messages["r4"], ROOM, &recount, &books(), found, &mut verdict);
        names(&verdict)
    }

    fn there(&self, found: &Value) -> Vec<&'static str> {
        let mut verdict = Verdict::default();
        let recount = Recount::of(&self.log(), &mut verdict);
        let there = BTreeMap::from([("bob".to_owned(), "online")]);
        recount::check_presences(ROOM, &recount, &there, found, &mut verdict);
        names(&verdict)
    }

    fn beside(&self, edited: &Value, reactions: &Value) -> Vec<&'static str> {
        let mut verdict = Verdict::default();
        let recount = Recount::of(&self.log(), &mut verdict);
        recount::check_beside(ROOM, &recount, from_ref(edited), from_ref(reactions), &mut verdict);
        names(&verdict)
    }
}

fn faults_of(log: &Log) -> (Recount, Vec<&'static str>) {
    let mut verdict = Verdict::default();
    let recount = Recount::of(log, &mut verdict);
    let names = names(&verdict);
    (recount, names)
}

fn names(verdict: &Verdict) -> Vec<&'static str> {
    verdict.faults.iter().map(|fault| fault.check).collect()
}

fn log_of(texts: &Texts, records: Vec<Value>) -> Log {
    let shown = records.iter().map(|record| texts.shown(record.clone())).collect();
    Log { room: ROOM.to_owned(), kind: String::new(), hidden: 0, records, shown }
}

/// The record 12 is the last.
fn records() -> Vec<Value> {
    let joined = |seq, user, role| record(seq, user, "member_joined", json!({ "user": user, "role": role }));
    let edit = json!({ "message": "r4", "by": "ann", "content": { "text": "hello all" }, "mentions": ["bob"] });
    let mut edited = record(7, "ann", "message_edited", edit);
    edited["client_id"] = json!("c-7");
    let kicked = json!({ "user": "eve", "joined": "r3", "reason": null });
    vec![
        joined(1, "ann", "owner"),
        joined(2, "bob", "member"),
        joined(3, "eve", "member"),
        said(4, "ann", "hello"),
        said(5, "bob", "hi"),
        record(6, "bob", "reaction_added", json!({ "message": "r4", "by": "ann", "emoji": "ok", "count": 1 })),
        edited,
        record(8, "bob", "message_erased", json!({ "client_id": "c-8" })),
        record(9, "ann", "member_kicked", kicked),
        record(10, "ann", "message_deleted", json!({ "message": "r8", "by": "bob" })),
        said(11, "ann", "so"),
        record(12, "ann", "message_pinned", json!({ "message": "r4", "by": "ann" })),
    ]
}

fn record(seq: u64, author: &str, event: &str, more: Value) -> Value {
    let at = i64::try_from(seq).unwrap();
    let mut record = json!({ "type": "record", "room": ROOM, "seq": seq, "id": format!("r{seq}"), "num": seq, "at": at,
        "author": author, "event": event, "cursor": format!("at-{seq}") });
    for (name, value) in more.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

fn said(seq: u64, author: &str, text: &str) -> Value {
    record(seq, author, "message_posted", json!({ "content": { "text": text }, "client_id": format!("c-{seq}") }))
}

fn hello() -> Acknowledged {
    let (room, text) = (ROOM.to_owned(), Some("hello".to_owned()));
    Acknowledged { room, client_id: "c-4".to_owned(), seq: 4, record: "r4".to_owned(), event: "message_posted", text }
}

/// Bob has read up to the record 3.
fn books() -> BTreeMap<String, Book> {
    let entry = Entry { read_to: 3, delivered_to: 5, known_to: 5, shown_to: 3, ..Entry::default() };
    let entries = BTreeMap::from([(ROOM.to_owned(), entry)]);
    let hidden = BTreeMap::from([(ROOM.to_owned(), BTreeSet::from(["r5".to_owned()]))]);
    BTreeMap::from([("bob".to_owned(), Book { entries, hidden, ..Book::default() })])
}

fn list() -> Value {
    let last = json!({ "id": "r11", "seq": 11, "at": 11, "author": "ann", "text": "so" });
    let room = json!({ "room": ROOM, "kind": "", "role": "member", "head": 12, "last": last, "unread": 2, "mentions": 1,
        "delivered_to": 5, "read_to": 3 });
    json!({ "rooms": [room], "unread": 2, "mentions": 1 })
}

fn readers() -> Value {
    json!({ "members": 1, "delivered": 1, "read": 0, "users": [{ "user": "bob", "delivered_to": 5, "read_to": 3 }] })
}

fn present() -> Value {
    let users = json!([{ "user": "ann", "presence": "offline" }, { "user": "bob", "presence": "online" }]);
    json!({ "members": 2, "online": 1, "away": 0, "users": users })
}

fn edited() -> Value {
    json!({ "message": "r4", "seq": 7, "content": { "text": "hello all" }, "mentions": ["bob"] })
}

fn reactions() -> Value {
    json!({ "message": "r4", "emoji": "ok", "count": 1 })
}
