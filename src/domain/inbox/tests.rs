//! What is unread, against a recount of the whole log.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::*;
use crate::domain::{Command, Content, Create, Epoch, Mentions, Num, Principal, Role, Room, RoomKind, TenantId};

#[test]
fn what_is_read_only_grows_and_has_been_delivered() {
    let entry = Entry::default().updated(Update { read_to: Some(Seq(5)), ..Update::default() }, at(9)).unwrap();
    assert_eq!((entry.read, entry.delivered), (Reached(at_epoch(1, 5)), Reached(at_epoch(1, 5))));
    let back = entry.updated(Update { read_to: Some(Seq(3)), delivered_to: Some(Seq(4)), ..Update::default() }, at(9));
    assert_eq!(back, Ok(entry));
}

#[test]
fn nobody_has_read_what_is_not_there() {
    let ahead = Update { read_to: Some(Seq(10)), ..Update::default() };
    assert_eq!(Entry::default().updated(ahead, at(9)), Err(Rejection::NotThereYet));
    let ahead = Update { delivered_to: Some(Seq(10)), ..Update::default() };
    assert_eq!(Entry::default().updated(ahead, at(9)), Err(Rejection::NotThereYet));
}

#[test]
fn what_is_not_named_stays_and_an_empty_draft_is_none() {
    let text = |text: &str| Some(Some(Arc::from(text)));
    let update =
        Update { pinned: Some(true), draft: text("so"), muted_until: Some(Some(FOREVER)), ..Update::default() };
    let entry = Entry::default().updated(update, at(9)).unwrap();
    assert!(entry.is_muted(Timestamp(i64::MAX - 1)));
    let entry = entry.updated(Update { archived: Some(true), ..Update::default() }, at(9)).unwrap();
    assert_eq!((entry.pinned, entry.archived, entry.draft.as_deref()), (true, true, Some("so")));
    let entry = entry.updated(Update { draft: text(""), muted_until: Some(None), ..Update::default() }, at(9)).unwrap();
    assert_eq!((entry.draft.as_deref(), entry.is_muted(Timestamp(0))), (None, false));
    let long = "x".repeat(DRAFT_BYTES_MAX + 1);
    let refused = entry.updated(Update { draft: text(&long), ..Update::default() }, at(9));
    assert_eq!(refused, Err(Rejection::ContentSize));
}

#[test]
fn what_took_the_place_of_something_lost_is_unread() {
    let read = Reached(at_epoch(1, 9));
    assert!(read.covers(at_epoch(1, 9)) && !read.covers(at_epoch(1, 10)));
    assert!(!read.covers(at_epoch(2, 5)), "it came after the loss");
    // What is said of the new epoch counts, although its seq is lower.
    let entry = Entry { read, ..Entry::default() };
    let entry = entry.updated(Update { read_to: Some(Seq(6)), ..Update::default() }, at_epoch(2, 6)).unwrap();
    assert_eq!(entry.read, Reached(at_epoch(2, 6)));
}

#[test]
fn a_preview_ends_with_a_whole_character() {
    let long = "é".repeat(PREVIEW_BYTES_MAX);
    let mut digest = Digest::after(Seq::ZERO, 10, Seq::ZERO);
    digest.apply(&posted(1, "ann", &long, &[]));
    let text = digest.last().unwrap().text.clone().unwrap();
    assert_eq!((text.len(), text.chars().all(|c| c == 'é')), (PREVIEW_BYTES_MAX, true));
}

#[test]
fn a_digest_takes_records_only_in_their_order() {
    let mut digest = Digest::after(Seq(4), 10, Seq::ZERO);
    assert!(!digest.apply(&posted(6, "ann", "hi", &[])) && !digest.apply(&posted(4, "ann", "hi", &[])));
    assert!(digest.apply(&posted(5, "ann", "hi", &[])));
    assert!(!digest.apply(&posted(5, "ann", "hi", &[])));
    assert_eq!(digest.head(), Some(at(5)));
}

/// The figure of every step is compared with a recount of the whole log.
#[test]
fn what_is_unread_is_what_a_recount_of_the_log_finds() {
    let mut random = Random(7);
    let (mut compared, mut steps) = (0_u64, 0_u64);
    for world in 0_u64.. {
        if steps >= 1_000_000 {
            break;
        }
        // Some rooms grow beyond what is looked back upon.
        let (length, every) = if world.is_multiple_of(50) { (5_000, 50) } else { (250, 1) };
        let mut world = World::new();
        for step in 0..length {
            world.step(&mut random);
            if step % every == 0 {
                world.compare(&mut random);
                compared += 1;
            }
        }
        steps += length;
    }
    assert!(compared > 500_000, "{compared}");
}

const USERS: [&str; 5] = ["ann", "bob", "cay", "dee", "eve"];

/// A room, what its members have read on their devices, and a digest that is used as long as it suffices.
struct World {
    room: Room,
    records: Vec<Record>,
    deleted: BTreeSet<RecordId>,
    mentions: BTreeMap<RecordId, Mentions>,
    entries: BTreeMap<&'static str, Entry>,
    /// Up to here there is nothing any more, whatever is left here to compare with.
    trimmed: Seq,
    digest: Digest,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            room: Room::default(),
            records: Vec::new(),
            deleted: BTreeSet::new(),
            mentions: BTreeMap::new(),
            entries: USERS.into_iter().map(|user| (user, Entry::default())).collect(),
            trimmed: Seq::ZERO,
            digest: Digest::after(Seq::ZERO, 4, Seq::ZERO),
        };
        let members = USERS[1..].iter().map(|name| (user(name), Role::Member)).collect();
        let (kind, num) = (RoomKind::Canvas, Num(1));
        world.carry_out("ann", Command::Create(Create { kind, num, alias: None, name: None, members }));
        world
    }

    fn step(&mut self, random: &mut Random) {
        let by = random.of(&USERS);
        match random.below(64) {
            0..32 => {
                let members: Vec<UserId> = self.room.members().map(|(user, _)| user.clone()).collect();
                let mentions: Vec<UserId> = members.into_iter().filter(|_| random.below(8) == 0).collect();
                self.carry_out(
                    by,
                    Command::Post {
                        content: Content::text("hi"),
                        reply_to: None,
                        mentions: mentions.into_iter().collect(),
                        attachments: Vec::new(),
                    },
                );
            }
            32..40 => {
                let Some(message) = self.some_message(random) else { return };
                let mentions: Vec<UserId> = if random.below(2) == 0 { vec![user("ann")] } else { Vec::new() };
                self.carry_out(
                    by,
                    Command::Edit { message, content: Content::text("ho"), mentions: mentions.into_iter().collect() },
                );
            }
            40..48 => {
                let Some(message) = self.some_message(random) else { return };
                self.carry_out(by, Command::Delete { message });
            }
            48..52 => self.carry_out("ann", Command::Kick { user: user(by), reason: None }),
            52..56 => self.carry_out("ann", Command::Invite { user: user(by), role: Role::Member }),
            56 => {
                // Now and then all there is, mostly some of the oldest.
                let left = self.room.head().unwrap().seq.0 - self.trimmed.0;
                let share = 1 << random.below(6);
                let until = at(self.trimmed.0 + left / share);
                let trim = Command::Trim { until, at: Timestamp(-1), operator: Some(1) };
                self.carry_out(UserId::operator().as_str(), trim);
            }
            _ => {
                // One device has read further than another, and both say so.
                let head = self.room.head().unwrap();
                let seq = Seq(random.below(head.seq.0 + 1));
                let update = Update { read_to: Some(seq), ..Update::default() };
                let entry = self.entries[by].updated(update, head).unwrap();
                self.entries.insert(by, entry);
            }
        }
    }

    fn some_message(&self, random: &mut Random) -> Option<RecordId> {
        // Mostly one of the latest, as it is.
        let back = 1 << random.below(12);
        let at = self.records.len().saturating_sub(usize::try_from(random.below(back) + 1).unwrap());
        let record = &self.records[at];
        matches!(record.event, Event::Room(RoomEvent::MessagePosted { .. })).then_some(record.id)
    }

    fn carry_out(&mut self, by: &str, command: Command) {
        if let Some(target) = command.target() {
            let found = &self.records[usize::try_from(target.seq().0).unwrap() - 1];
            if let Some(mut message) = crate::domain::room::Message::of(found) {
                message.deleted = self.deleted.contains(&target);
                self.room.know(message);
            }
        }
        let is_gone = command.target().is_some_and(|target| target.seq() <= self.trimmed);
        let decided = self.room.decide(&principal(by), command, Timestamp(0));
        assert!(!is_gone || decided.is_err(), "a message that was trimmed is not there");
        let Ok(events) = decided else { return };
        for event in events {
            let record = record(self.records.len() as u64 + 1, by, event);
            self.room.apply(&record);
            match &record.event {
                Event::Room(RoomEvent::MessagePosted { mentions, .. }) => {
                    self.mentions.insert(record.id, mentions.clone());
                }
                Event::Room(RoomEvent::MessageEdited { message, mentions, .. }) => {
                    self.mentions.insert(*message, mentions.clone());
                }
                Event::Room(RoomEvent::MessageDeleted { message, .. }) => {
                    self.deleted.insert(*message);
                    // As the log erases it.
                    let at = usize::try_from(message.seq().0).unwrap() - 1;
                    self.records[at].event = Event::Room(RoomEvent::MessageErased);
                }
                Event::Room(RoomEvent::HistoryTrimmed { until }) => self.trimmed = until.seq,
                _ => {}
            }
            self.records.push(record.clone());
            assert!(self.digest.apply(&record));
        }
        self.room.forget_messages(&BTreeSet::new());
    }

    fn compare(&mut self, random: &mut Random) {
        let name = random.of(&USERS);
        let reader = user(name);
        let Some(joined) = self.room.member(&reader).map(|member| member.joined.seq()) else { return };
        let read = self.entries[name].read;
        let floor = read.0.seq.max(joined);
        while !self.digest.suffices(floor) {
            let head = self.room.head().unwrap().seq;
            let depth = depth_for(self.digest.depth(), head, floor);
            let from = Seq(head.0.saturating_sub(depth));
            self.digest = Digest::after(from, depth, self.trimmed);
            for record in &self.records[usize::try_from(from.max(self.trimmed).0).unwrap()..] {
                assert!(self.digest.apply(record));
            }
        }
        assert_eq!(self.digest.unread(&reader, read, joined), self.recount(&reader, read, joined));
        let last = self.records.iter().rev().take(usize::try_from(REACH).unwrap());
        let last = last.filter(|record| record.position.seq > self.trimmed);
        let last = last.filter(|record| matches!(record.event, Event::Room(RoomEvent::MessagePosted { .. })));
        assert_eq!(self.digest.last().map(|last| last.id), last.map(|record| record.id).next());
    }

    fn recount(&self, reader: &UserId, read: Reached, joined: Seq) -> Unread {
        let begin = self.room.head().unwrap().seq.0.saturating_sub(REACH);
        let floor = read.0.seq.max(joined).max(self.trimmed);
        let mut unread = Unread { more: floor.0 < begin, ..Unread::default() };
        for record in &self.records[usize::try_from(begin).unwrap()..] {
            let Event::Room(RoomEvent::MessagePosted { .. }) = &record.event else { continue };
            let seq = record.position.seq;
            if record.author == *reader || seq <= floor {
                continue;
            }
            unread.messages += 1;
            unread.mentions += u32::from(self.mentions[&record.id].contains(reader));
        }
        unread
    }
}

/// Repeats itself with the same seed (Marsaglia's xorshift, 64 bits).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn of(&mut self, names: &[&'static str]) -> &'static str {
        names[usize::try_from(self.below(names.len() as u64)).unwrap()]
    }
}

fn posted(seq: u64, by: &str, text: &str, mentions: &[UserId]) -> Record {
    let mentions = mentions.into();
    let (content, attachments) = (Content::text(text), Box::default());
    record(seq, by, RoomEvent::MessagePosted { content, reply: None, mentions, forwarded: None, attachments })
}

fn record(seq: u64, by: &str, event: RoomEvent) -> Record {
    let (at, seq) = (Timestamp(0), Seq(seq));
    let position = Position { epoch: Epoch(1), seq };
    let id = RecordId::new(at, seq, Uuid::nil().as_u128());
    Record { position, id, num: Num(seq.0), at, author: user(by), client_id: None, event: Event::Room(event) }
}

fn at(seq: u64) -> Position {
    at_epoch(1, seq)
}

fn at_epoch(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn principal(name: &str) -> Principal {
    Principal {
        tenant: TenantId::default_tenant(),
        user: user(name),
        token: None,
        login: None,
        issued_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
    }
}
