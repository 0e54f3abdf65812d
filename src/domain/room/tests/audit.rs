//! What is owed to audit rooms, what these take, and reports.

use super::*;
use crate::domain::command::{Administer, Begin, Decision, Found, Readers, Reading};
use crate::domain::rules::Links;
use crate::domain::{Audited, Deed, RulesChange};

#[test]
fn what_is_decided_about_others_is_owed_and_what_people_do_by_themselves_is_not() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("hi"));
    let message = lobby.last_id();
    let owes = |given: &Given, by, command| owed(given, by, command).is_some();
    for command in [
        kick("bob"),
        ban("bob", None),
        mute("bob", None),
        rights("bob", &[Capability::Pin], &[]),
        Command::ChangeRole { user: user("bob"), role: Role::Guest },
        Command::ChangeRules(RulesChange::new(None, Some(Links::None), None).unwrap()),
        show_edits(true),
        Command::Archive,
        Command::Delete { message },
    ] {
        assert!(owes(&lobby, "ann", command.clone()), "{command:?}");
    }
    assert!(owes(&lobby.clone().and("ann", mute("bob", None)), "ann", unmute("bob")));
    assert!(owes(&lobby.clone().and("ann", ban("bob", None)), "ann", unban("bob")));
    assert!(!owes(&lobby, "bob", Command::Delete { message }));
    for (by, command) in [("bob", post("ho")), ("bob", Command::Leave), ("cas", Command::Join), ("ann", Command::Leave)]
    {
        let alone = if by == "ann" { given(channel("ann")) } else { lobby.clone() };
        assert!(!owes(&alone, by, command.clone()), "{command:?}");
    }
    let direct = given(room(RoomKind::Direct, "ann", &["bob"]));
    assert!(!owes(&direct, "ann", Command::Block { user: user("bob") }));
    let decision = owed(&lobby, "ann", kick("bob")).unwrap();
    assert_eq!((decision.reading, decision.audited.by, decision.audited.room), (None, user("ann"), WATCHED));
    assert_eq!(decision.audited.position.seq, Seq(5));
}

#[test]
fn who_reads_what_is_decided_follows_from_role_and_rights_whatever_changes_them() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    let role = |role| Command::ChangeRole { user: user("bob"), role };
    let reads = |given: &Given, by, command| owed(given, by, command).unwrap().reading;
    assert_eq!(reads(&lobby, "ann", role(Role::Admin)), reading("bob", true));
    assert_eq!(reads(&lobby, "ann", role(Role::Guest)), None);
    assert_eq!(reads(&lobby, "ann", rights("bob", &[Capability::Audit], &[])), reading("bob", true));
    let admin = lobby.clone().and("ann", role(Role::Admin));
    for command in [role(Role::Member), rights("bob", &[], &[Capability::Audit]), kick("bob"), ban("bob", None)] {
        assert_eq!(reads(&admin, "ann", command), reading("bob", false));
    }
    assert_eq!(reads(&admin, "bob", Command::Leave), reading("bob", false));
    assert_eq!(reads(&admin, "ann", role(Role::Owner)), None);
    let invite = Command::Invite { user: user("zoe"), role: Role::Admin };
    assert_eq!(reads(&admin.clone().and("ann", invite.clone()), "zoe", Command::Join), reading("zoe", true));
    // Before anything was decided there is no audit room to tell.
    assert_eq!(owed(&lobby.and("ann", invite), "zoe", Command::Join), None);
    // An archived room is read on.
    assert!(admin.and("ann", Command::Archive).room.reads_audit(&user("bob")));
}

#[test]
fn a_room_that_is_watched_owes_who_comes_and_goes_though_nothing_was_decided() {
    let mut lobby = given(channel("ann")).and("ann", Command::Invite { user: user("bob"), role: Role::Admin });
    assert_eq!(owed(&lobby, "bob", Command::Join), None);
    lobby.room.watch().unwrap();
    assert_eq!(owed(&lobby, "bob", Command::Join).unwrap().reading, reading("bob", true));
    let mut direct = given(room(RoomKind::Direct, "ann", &["bob"]));
    assert_eq!(direct.room.watch().err(), Some(Rejection::KindForbids));
}

#[test]
fn an_audit_room_takes_each_decision_once_and_lets_go_of_who_reads_it_no_more() {
    let begun = given(vec![(SERVER, begin(&["ann", "bob"]))]);
    let events = begun.records.iter().map(|record| record.event.clone()).collect::<Vec<_>>();
    let (kind, audits) = (RoomKind::Audit, Some(WATCHED));
    let created = RoomEvent::RoomCreated { kind, alias: None, num: Num(1), name: None, audits };
    let expected = [created, joined("ann", Role::Viewer), joined("bob", Role::Viewer)].map(Event::Room);
    assert_eq!(events, expected);
    let join = begun.last_id();
    let first = decided(5, "ann", None);
    let second = decided(9, "ann", reading("bob", false));
    let out = RoomEvent::MemberKicked { user: user("bob"), joined: join, reason: None };
    let entry = |decision: &Decision| RoomEvent::Audited(Box::new(decision.audited.clone()));
    begun.clone().when(SERVER, write_down(&[&first, &second])).then([entry(&first), entry(&second)]);
    let told = begun.clone().and(SERVER, write_down(&[&first]));
    told.clone().when(SERVER, write_down(&[&first, &second])).then([entry(&second)]);
    told.clone().and(SERVER, write_down(&[&second])).when(SERVER, write_down(&[&first, &second])).then([]);
    told.clone().when(SERVER, begin(&["zoe"])).then([]);
    told.clone().when(SERVER, read_by(&["ann", "zoe"], &["zoe"])).then([out]);
    let by_itself = RoomEvent::MemberLeft { user: user("bob"), joined: join };
    told.clone().when(SERVER, read_by(&["ann"], &["bob"])).then([by_itself]);
    told.clone().when(SERVER, read_by(&["ann", "bob"], &[])).then([]);
    let third = decided(10, "ann", reading("zoe", true));
    told.clone().when(SERVER, write_down(&[&third])).then([joined("zoe", Role::Viewer), entry(&third)]);
    let again = decided(10, "ann", reading("bob", true));
    told.when(SERVER, write_down(&[&again])).then([entry(&again)]);
    // After a loss that the operator accepted the seqs begin again, in a new epoch.
    let mut later = decided(2, "ann", None);
    later.audited.position.epoch = Epoch(2);
    begun.and(SERVER, write_down(&[&second])).when(SERVER, write_down(&[&later])).then([entry(&later)]);
}

#[test]
fn nobody_does_anything_in_an_audit_room_but_the_server() {
    given(vec![]).when("ann", create(RoomKind::Audit, None, &[])).refused(Rejection::KindForbids);
    for begin in [begin, begin_of_tenant] {
        let audit = given(vec![(SERVER, begin(&["ann", "bob"]))]);
        let of_tenant = audit.room.header().unwrap().audits.is_none();
        for command in everything("bob") {
            let begins = matches!(command, Command::Audit(_) | Command::Report(_))
                || (of_tenant && matches!(command, Command::Administer(_)));
            for by in ["ann", "bob"] {
                assert!(begins || audit.clone().when(by, command.clone()).0.is_err(), "{by}: {command:?}");
            }
            if !begins {
                audit.clone().when("zoe", command).refused(Rejection::RoomNotFound);
            }
        }
        audit.when("chinwag:operator", Command::Archive).refused(Rejection::KindForbids);
    }
    let lobby = given(channel("ann"));
    lobby.when("ann", write_down(&[&decided(5, "ann", None)])).refused(Rejection::KindForbids);
}

#[test]
fn the_audit_room_of_a_tenant_has_each_deed_and_just_those_who_do_them() {
    let tenant = given(vec![(SERVER, begin_of_tenant(&["ann"]))]);
    let created = RoomEvent::RoomCreated { kind: RoomKind::Audit, alias: None, num: Num(1), name: None, audits: None };
    assert_eq!(tenant.records[0].event, Event::Room(created));
    let out = |given: &Given, name: &str| RoomEvent::MemberKicked {
        user: user(name),
        joined: given.room.member(&user(name)).unwrap().joined,
        reason: None,
    };
    let cas = RoomEvent::Administered(Box::new(reset("cas")));
    tenant.clone().when("ann", administer(Some("cas"), None)).then([cas.clone()]);
    tenant.clone().when("ann", administer(Some("cas"), Some(("cas", false)))).then([cas.clone()]);
    let let_in = tenant.clone().and("ann", administer(Some("cas"), Some(("cas", true))));
    tenant
        .clone()
        .when("ann", administer(Some("cas"), Some(("cas", true))))
        .then([joined("cas", Role::Viewer), cas.clone()]);
    let_in.clone().when("ann", administer(Some("cas"), Some(("cas", true)))).then([cas.clone()]);
    let_in.clone().when("ann", administer(Some("cas"), Some(("cas", false)))).then([out(&let_in, "cas"), cas]);
    let left = RoomEvent::MemberLeft { user: user("ann"), joined: tenant.last_id() };
    let own = RoomEvent::Administered(Box::new(reset("ann")));
    tenant.clone().when("ann", administer(Some("ann"), Some(("ann", false)))).then([left, own]);
    // Who has come by himself; and what is asked again, because nobody knew whether it holds.
    tenant.clone().when("zoe", administer(None, Some(("zoe", true)))).then([joined("zoe", Role::Viewer)]);
    tenant.clone().when("ann", administer(None, Some(("zoe", false)))).then([]);
    // Of a room that there is not yet nobody could be told.
    given(vec![]).when("ann", administer(Some("cas"), None)).refused(Rejection::RoomNotFound);
    let room = given(vec![(SERVER, begin(&["ann"]))]);
    room.when("ann", administer(Some("cas"), None)).refused(Rejection::KindForbids);
    given(channel("ann")).when("ann", administer(Some("cas"), None)).refused(Rejection::KindForbids);
    assert!(administer(None, Some(("zoe", false))).removes() && administer(None, Some(("zoe", false))).narrows());
    assert!(!administer(Some("cas"), Some(("zoe", true))).removes() && !administer(Some("cas"), None).removes());
}

#[test]
fn a_message_is_reported_once_by_each_and_a_report_is_seen_to_once() {
    let audit = given(vec![(SERVER, begin(&["ann"]))]);
    let message = RecordId(Uuid::from_u128(3));
    let report = |before| Command::Report(reported(message, before));
    let event = RoomEvent::Reported(Box::new(reported(message, false).reported));
    audit.clone().when("zoe", report(false)).then([event.clone()]);
    audit.clone().when("zoe", report(true)).then([]);
    let once = audit.and("zoe", report(false));
    let id = once.last_id();
    once.clone().when("zoe", report(false)).then([]);
    once.clone().when("bob", report(false)).then([event]);
    // As much is known of it by a room that wakes.
    let mut woken = Room::restore(once.room.snapshot().unwrap());
    once.records.iter().for_each(|record| woken.recall(record));
    assert_eq!(woken.decide(&principal("zoe"), report(false), Timestamp(9)), Ok(Vec::new()));

    let resolve = |found| Command::ResolveReport { report: id, note: None, found };
    let (open, seen) = (Some(Found { resolved: false }), Some(Found { resolved: true }));
    once.clone().when("ann", resolve(None)).refused(Rejection::ReportNotFound);
    once.clone().when("zoe", resolve(open)).refused(Rejection::RoomNotFound);
    once.clone().when("ann", resolve(open)).then([RoomEvent::ReportResolved { report: id, note: None }]);
    once.clone().when("ann", resolve(seen)).then([]);
    once.and("ann", resolve(open)).when("ann", resolve(open)).then([]);
    given(channel("ann")).when("ann", report(false)).refused(Rejection::KindForbids);
    given(channel("ann")).when("ann", resolve(open)).refused(Rejection::KindForbids);
}

/// What the room owes its audit room of the last record that follows from `command`.
fn owed(given: &Given, by: &str, command: Command) -> Option<Decision> {
    let before = given.room.clone();
    let after = given.clone().and(by, command);
    let record = after.records.last().unwrap();
    let Event::Room(event) = &record.event else { panic!("a room's") };
    let read = event.concerns().is_some_and(|user| before.reads_audit(user));
    after.room.owes(WATCHED, record, after.room.reading_after(record, read))
}

fn reading(name: &str, reads: bool) -> Option<Reading> {
    Some(Reading { user: user(name), reads })
}

const SERVER: &str = "chinwag:server";

fn begin(readers: &[&str]) -> Command {
    let readers = readers.iter().map(|name| user(name)).collect();
    Command::Audit(Audit { begin: Some(Begin { num: Num(1), audits: Some(WATCHED), readers }), ..Audit::default() })
}

fn begin_of_tenant(readers: &[&str]) -> Command {
    let readers = readers.iter().map(|name| user(name)).collect();
    Command::Audit(Audit { begin: Some(Begin { num: Num(1), audits: None, readers }), ..Audit::default() })
}

fn reset(name: &str) -> Deed {
    Deed::ResetMade { user: user(name) }
}

/// Something is done to somebody, and somebody reads of such from then on, or does no longer.
pub(super) fn administer(done_to: Option<&str>, reads: Option<(&str, bool)>) -> Command {
    let reading = reads.map(|(name, reads)| Reading { user: user(name), reads });
    Command::Administer(Administer { deed: done_to.map(reset), reading })
}

fn write_down(decisions: &[&Decision]) -> Command {
    let decisions = decisions.iter().map(|&decision| decision.clone()).collect();
    Command::Audit(Audit { decisions, ..Audit::default() })
}

fn read_by(now: &[&str], left: &[&str]) -> Command {
    let [now, left] = [now, left].map(|names| names.iter().map(|name| user(name)).collect());
    Command::Audit(Audit { readers: Some(Readers { now, left }), ..Audit::default() })
}

/// A kick, as the room has it at `seq`.
fn decided(seq: u64, by: &str, reading: Option<Reading>) -> Decision {
    let decided = RoomEvent::MemberKicked { user: user("cas"), joined: id_at(2), reason: None };
    let position = Position { epoch: Epoch(1), seq: Seq(seq) };
    let audited = Audited { room: WATCHED, position, id: id_at(seq), at: Timestamp(1), by: user(by), decided };
    Decision { audited, reading }
}
