//! Given records, when a command, then events or a rejection.
//!
//! What holds of single commands is in files by subject; here are the laws that hold of all, and the words that tests are
//! written in.

mod audit;
mod messages;
mod moderation;
mod rights;
mod rooms;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::command::Report;
use crate::domain::{Audit, Epoch, Reported, RoomId, Source, TenantId, Update};
use audit::administer;

proptest! {
    #[test]
    fn replaying_the_log_gives_the_same_room(steps in steps()) {
        let played = play(&steps);
        let mut replayed = Room::default();
        for record in &played.records {
            replayed.apply(record);
        }
        prop_assert_eq!(replayed.snapshot(), played.room.snapshot());
    }

    #[test]
    fn a_snapshot_and_the_rest_give_the_same_room(steps in steps(), cut in 0.0..1.0_f64) {
        let played = play(&steps);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small and positive")]
        let cut = (played.records.len() as f64 * cut) as usize;
        let mut early = Room::default();
        for record in &played.records[..cut] {
            early.apply(record);
        }
        let mut woken = early.snapshot().map(Room::restore).unwrap_or_default();
        for record in &played.records[cut..] {
            woken.apply(record);
        }
        prop_assert_eq!(woken.snapshot(), played.room.snapshot());
    }

    #[test]
    fn a_rejected_command_changes_nothing_and_seq_has_no_gap(steps in steps()) {
        let mut given = given(vec![]);
        for (by, command) in &steps {
            let before = given.room.clone();
            let decided = given.room.decide(&principal(by), command.clone(), given.now());
            prop_assert_eq!(&given.room, &before);
            if decided.is_ok() {
                given = given.and(by, command.clone());
            }
        }
        for (index, record) in given.records.iter().enumerate() {
            prop_assert_eq!(record.position.seq, Seq(index as u64 + 1));
        }
    }

    #[test]
    fn a_room_with_members_has_somebody_to_answer_for_it(steps in steps()) {
        let room = play(&steps).room;
        let answers = room.members().any(|(_, member)| member.role == Role::Owner);
        let direct = room.header().is_some_and(|header| header.kind == RoomKind::Direct);
        prop_assert!(answers || direct || room.members().count() == 0);
    }
}

/// A room and the records that made it.
#[derive(Clone)]
struct Given {
    room: Room,
    records: Vec<Record>,
    /// Not earlier than this is it now.
    later: Timestamp,
}

struct Decided(Result<Vec<RoomEvent>, Rejection>);

fn given(steps: Vec<(&str, Command)>) -> Given {
    let empty = Given { room: Room::default(), records: Vec::new(), later: Timestamp(0) };
    steps.into_iter().fold(empty, |given, (by, command)| given.and(by, command))
}

fn play(steps: &[(&'static str, Command)]) -> Given {
    steps.iter().fold(given(vec![]), |given, (by, command)| match given.clone().when(by, command.clone()).0 {
        Ok(_) => given.and(by, command.clone()),
        Err(_) => given,
    })
}

impl Given {
    /// Something that was done before.
    fn and(mut self, by: &str, command: Command) -> Self {
        self.know(&user(by), &command);
        let events = self.room.decide(&principal(by), command, self.now()).expect("what is given was accepted");
        for event in events {
            let seq = Seq(self.records.len() as u64 + 1);
            let at = Timestamp(1_000 + i64::try_from(seq.0).unwrap()).max(self.later);
            let record = Record {
                position: Position { epoch: Epoch(1), seq },
                id: RecordId::new(at, seq, 0),
                num: Num(seq.0),
                at,
                author: user(by),
                client_id: None,
                event: Event::Room(event),
            };
            self.room.apply(&record);
            self.records.push(record);
        }
        self
    }

    fn when(mut self, by: &str, command: Command) -> Decided {
        self.know(&user(by), &command);
        Decided(self.room.decide(&principal(by), command, self.now()))
    }

    /// The time of the next record, unless it is set later.
    fn now(&self) -> Timestamp {
        Timestamp(1_001 + i64::try_from(self.records.len()).unwrap()).max(self.later)
    }

    /// The same at another time.
    fn at(self, now: i64) -> Self {
        Self { later: Timestamp(now), ..self }
    }

    fn last_id(&self) -> RecordId {
        self.records.last().unwrap().id
    }

    /// Does what a room's host does before a command about a message.
    fn know(&mut self, by: &UserId, command: &Command) {
        let found = command.target().and_then(|id| self.records.iter().find(|record| record.id == id));
        if let Some(message) = found.and_then(Message::of) {
            self.room.know_reactions(message.id, by.clone(), BTreeSet::new());
            self.room.know(message);
        }
    }
}

impl Decided {
    #[track_caller]
    fn then<const N: usize>(self, events: [RoomEvent; N]) {
        assert_eq!(self.0, Ok(events.to_vec()));
    }

    #[track_caller]
    fn accepted(self) {
        assert!(self.0.is_ok(), "{:?}", self.0);
    }

    #[track_caller]
    fn refused(self, rejection: Rejection) {
        assert_eq!(self.0, Err(rejection));
    }
}

fn channel(owner: &str) -> Vec<(&str, Command)> {
    vec![(owner, create(RoomKind::Channel, Some("lobby"), &[]))]
}

fn room<'a>(kind: RoomKind, owner: &'a str, others: &[&str]) -> Vec<(&'a str, Command)> {
    vec![(owner, create(kind, None, others))]
}

fn create(kind: RoomKind, alias: Option<&str>, members: &[&str]) -> Command {
    let alias = alias.map(|alias| Alias::new(alias).unwrap());
    let members = members.iter().map(|name| (user(name), Role::Member)).collect();
    Command::Create(Create { kind, num: Num(1), alias, name: None, members })
}

fn post(text: &str) -> Command {
    Command::post(Content { text: (!text.is_empty()).then(|| text.into()), body: None })
}

fn rename(name: Option<Name>) -> Command {
    Command::Update(Update { name: Some(name), ..Update::default() })
}

fn show_edits(edit_history: bool) -> Command {
    Command::Update(Update { edit_history: Some(edit_history), ..Update::default() })
}

fn kick(name: &str) -> Command {
    Command::Kick { user: user(name), reason: None }
}

fn ban(name: &str, until: Option<i64>) -> Command {
    Command::Ban { user: user(name), until: until.map(Timestamp), reason: None }
}

fn mute(name: &str, until: Option<i64>) -> Command {
    Command::Mute { user: user(name), until: until.map(Timestamp) }
}

fn unmute(name: &str) -> Command {
    Command::Unmute { user: user(name) }
}

fn unban(name: &str) -> Command {
    Command::Unban { user: user(name) }
}

fn emoji_of(text: &str) -> Emoji {
    Emoji::new(text).unwrap()
}

fn answer(text: &str, message: RecordId) -> Command {
    let (content, attachments) = (Content::text(text), Vec::new());
    Command::Post { content, reply_to: Some(message), mentions: Vec::new(), attachments }
}

fn posted(text: &str) -> RoomEvent {
    RoomEvent::posted(Content::text(text))
}

fn joined(name: &str, role: Role) -> RoomEvent {
    RoomEvent::MemberJoined { user: user(name), role }
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

/// One of each command, about `other`.
fn everything(other: &str) -> Vec<Command> {
    let message = RecordId(Uuid::from_u128(3));
    vec![
        create(RoomKind::Channel, Some("lobby"), &[]),
        rename(None),
        Command::Archive,
        Command::Join,
        Command::Leave,
        Command::Invite { user: user(other), role: Role::Member },
        kick(other),
        ban(other, None),
        unban(other),
        mute(other, None),
        unmute(other),
        Command::Block { user: user(other) },
        Command::Unblock { user: user(other) },
        Command::ChangeRole { user: user(other), role: Role::Member },
        rights(other, &[Capability::Pin], &[]),
        post("hi"),
        Command::Forward {
            source: Source { room: RoomId(Uuid::from_u128(1)), message, original: None },
            reply_to: None,
            mentions: Vec::new(),
        },
        Command::Edit { message, content: Content::text("hi"), mentions: Vec::new() },
        Command::Delete { message },
        Command::Pin { message },
        Command::Unpin { message },
        Command::Audit(Audit::default()),
        administer(Some(other), Some((other, false))),
        Command::Report(reported(message, false)),
        Command::ResolveReport { report: message, note: None, found: None },
    ]
}

fn reported(message: RecordId, before: bool) -> Report {
    let (by, at, content) = (user("bob"), Timestamp(1), Content::text("buy"));
    let (attachments, reason) = (Attachments::default(), None);
    Report { reported: Reported { room: WATCHED, message, by, at, content, attachments, reason }, before }
}

const WATCHED: RoomId = RoomId(Uuid::from_u128(7));

fn rights(name: &str, allow: &[Capability], deny: &[Capability]) -> Command {
    Command::ChangeRights { user: user(name), rights: Rights { allow: of(allow), deny: of(deny) } }
}

fn of(capabilities: &[Capability]) -> Capabilities {
    capabilities.iter().copied().collect()
}

fn steps() -> impl Strategy<Value = Vec<(&'static str, Command)>> {
    let name = || prop::sample::select(vec!["ann", "bob", "cas", "dan"]);
    let role = || prop::sample::select(Role::ALL.to_vec());
    let command = prop_oneof![
        3 => Just(Command::Join),
        1 => Just(Command::Leave),
        1 => (name(), role()).prop_map(|(name, role)| Command::Invite { user: user(name), role }),
        1 => name().prop_map(kick),
        1 => (name(), prop::option::of(1_000_i64..1_040)).prop_map(|(name, until)| ban(name, until)),
        1 => name().prop_map(unban),
        1 => (name(), prop::option::of(1_000_i64..1_040)).prop_map(|(name, until)| mute(name, until)),
        1 => name().prop_map(unmute),
        1 => (name(), role()).prop_map(|(name, role)| Command::ChangeRole { user: user(name), role }),
        1 => (name(), 0_u32..1 << 14, 0_u32..1 << 14).prop_map(|(name, allow, deny)| Command::ChangeRights {
            user: user(name),
            rights: Rights { allow: Capabilities::of_bits(allow & !deny), deny: Capabilities::of_bits(deny) },
        }),
        3 => "[a-z]{0,4}".prop_map(|text| post(&text)),
        1 => (1_u64..40).prop_map(|seq| Command::Delete { message: id_at(seq) }),
        1 => (1_u64..40).prop_map(|seq| Command::Edit { message: id_at(seq), content: Content::text("new"), mentions: Vec::new() }),
        1 => (1_u64..40).prop_map(|seq| Command::Pin { message: id_at(seq) }),
        1 => (1_u64..40).prop_map(|seq| Command::Unpin { message: id_at(seq) }),
        1 => Just(rename(None)),
        1 => any::<bool>().prop_map(show_edits),
    ];
    let kind = prop::sample::select(RoomKind::ALL.to_vec());
    let first = kind.prop_map(|kind| ("ann", create(kind, Some("lobby"), &["bob"])));
    (first, prop::collection::vec((name(), command), 0..40)).prop_map(|(first, rest)| {
        let mut steps = vec![first];
        steps.extend(rest);
        steps
    })
}

fn id_at(seq: u64) -> RecordId {
    RecordId::new(Timestamp(1_000 + i64::try_from(seq).unwrap()), Seq(seq), 0)
}
