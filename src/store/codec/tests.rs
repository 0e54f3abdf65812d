//! Every event comes back as it was, and as it was written before; nothing that a disk may hold is believed.

use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::account::Rank;
use crate::domain::document::{
    CollectionName, DEPTH_MAX as NESTED_MAX, FIELDS_BYTES_MAX, Fields, Number, Value, Whose,
};
use crate::domain::inbox::{Reached, Settings};
use crate::domain::policy::History;
use crate::domain::room::Settings as RoomSettings;
use crate::domain::rules::Links;
use crate::domain::{
    AccountId, Alias, Attachment, Attachments, Audience, Audited, Capabilities, Content, Deed, DirectoryEvent, Emoji,
    Epoch, FileId, FileName, Forwarded, InReplyTo, InboxEvent, MediaType, Mentions, Name, Reported, Rights, Role,
    RoomId, RoomKey, RoomKind, Rules, Seq, StreamId, TenantId, UserId,
};
use crate::store::RECORD_BYTES_MAX;

#[test]
fn every_kind_of_event_comes_back_as_it_was() {
    for event in every_event() {
        let record = record(event);
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        assert_eq!(decode(record.position, &bytes), Ok(record));
    }
}

#[test]
fn a_room_updated_before_there_was_a_choice_shows_no_edits() {
    #[derive(Serialize)]
    enum Before {
        #[serde(rename = "ru")]
        RoomUpdated { name: Option<&'static str> },
    }
    let event = Before::RoomUpdated { name: Some("Lobby") };
    let bytes = version(&(Id(Uuid::from_u128(5)), 12, 7, "ann", None::<&str>, event));
    let name = Some(Name::new("Lobby").unwrap());
    let updated = Event::Room(RoomEvent::RoomUpdated(RoomSettings { name, ..RoomSettings::default() }));
    assert_eq!(decode(PLACE, &bytes).map(|record| record.event), Ok(updated));
}

#[test]
fn a_message_of_before_there_were_attachments_has_none() {
    #[derive(Serialize)]
    enum Before {
        #[serde(rename = "q")]
        MessagePostedTo {
            text: &'static str,
            body: Option<&'static str>,
            reply: Option<()>,
            mentions: Vec<&'static str>,
        },
    }
    let event = Before::MessagePostedTo { text: "hi", body: None, reply: None, mentions: vec!["bob"] };
    let bytes = version(&(Id(Uuid::from_u128(5)), 12, 7, "ann", None::<&str>, event));
    let posted = decode(PLACE, &bytes).unwrap().event;
    let Event::Room(RoomEvent::MessagePosted { attachments, mentions, .. }) = posted else { panic!("{posted:?}") };
    assert_eq!((attachments.len(), mentions.len()), (0, 1));
}

#[test]
fn the_largest_and_the_deepest_document_is_a_record() {
    let name = |length: usize| "n".repeat(length);
    let whose = Whose {
        collection: CollectionName::new(&name(CollectionName::BYTES_MAX)).unwrap(),
        owner: UserId::new(&name(UserId::BYTES_MAX)).unwrap(),
        account: AccountId::new(&name(AccountId::BYTES_MAX)).unwrap(),
    };
    let of = |value: Value| Fields([("x".into(), value)].into());
    let mut deep = of(Value::Null);
    for _ in 1..NESTED_MAX {
        deep = of(Value::Map(deep));
    }
    let text = |text: &str| Value::Text(text.into());
    let many = |value: Value| Value::List(vec![value.clone(); FIELDS_BYTES_MAX / value.bytes() - 8]);
    let number = |number: Number| many(Value::Number(number));
    let largest = [
        text(&name(FIELDS_BYTES_MAX - 64)),
        many(text("")),
        many(Value::Null),
        many(Value::List(Vec::new())),
        number(Number::whole(0)),
        number(Number::whole(-33)),
        number(Number::whole(128)),
        number(Number::whole(256)),
        number(Number::whole(65_536)),
        number(Number::unsigned(1 << 32)),
        number(Number::float(0.5).unwrap()),
    ];
    for fields in largest.map(of).into_iter().chain([deep]) {
        let whose = Box::new(whose.clone());
        let fields = fields.checked().unwrap();
        let event =
            RoomEvent::DocumentUpdated { whose, document: RecordId(Uuid::nil()), created: Timestamp(i64::MAX), fields };
        let mut record = record(Event::Room(event));
        record.author = UserId::new(&name(UserId::BYTES_MAX)).unwrap();
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
        assert_eq!(decode(record.position, &bytes), Ok(record));
    }
}

#[test]
fn what_is_nested_without_an_end_is_damage() {
    let mut decided = RoomEvent::RoomArchived;
    for _ in 0..DEPTH_MAX {
        decided = RoomEvent::Audited(Box::new(Audited { decided, ..audited() }));
    }
    let mut bytes = Vec::new();
    encode(&record(Event::Room(decided)), &mut bytes);
    assert!(matches!(decode(PLACE, &bytes), Err(StoreError::Damaged(_))));
}

#[test]
fn a_record_of_another_version_is_damaged_and_not_guessed_at() {
    let mut bytes = Vec::new();
    encode(&record(Event::Room(RoomEvent::RoomArchived)), &mut bytes);
    bytes[0] = VERSION + 1;
    assert!(matches!(decode(PLACE, &bytes), Err(StoreError::Damaged(_))));
}

#[test]
fn a_checksum_holds_a_record_to_its_place() {
    let stream = crc32c::crc32c(b"stream");
    let elsewhere = Position { seq: Seq(8), ..PLACE };
    let later = Position { epoch: Epoch(2), ..PLACE };
    let sum = checksum(stream, PLACE, b"bytes");
    assert_ne!(sum, checksum(stream, elsewhere, b"bytes"));
    assert_ne!(sum, checksum(stream, later, b"bytes"));
    assert_ne!(sum, checksum(crc32c::crc32c(b"other"), PLACE, b"bytes"));
    assert_ne!(sum, checksum(stream, PLACE, b"bytez"));
}

#[test]
fn a_stream_is_found_again_from_its_key() {
    let tenant = TenantId::default_tenant();
    let room = RoomKey { tenant: tenant.clone(), room: RoomId(Uuid::from_u128(7)) };
    for stream in [
        StreamId::Room(room),
        StreamId::User(tenant.clone(), UserId::new("ann").unwrap()),
        StreamId::Accounts(tenant.clone()),
        StreamId::Directory(tenant),
        StreamId::Server,
        StreamId::Files,
        StreamId::Owed,
    ] {
        let mut key = stream_key(&stream).to_vec();
        key.extend_from_slice(b"rest");
        assert_eq!(split_stream(&key), Some((stream, &b"rest"[..])));
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(PLACE, &bytes);
        let _ = split_stream(&bytes);
    }

    #[test]
    fn decoding_what_was_changed_never_panics(
        which in 0..every_event().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        encode(&record(every_event().swap_remove(which)), &mut bytes);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(PLACE, &bytes);
        let _ = decode(PLACE, &bytes[..cut.index(bytes.len())]);
    }
}

const PLACE: Position = Position { epoch: Epoch(1), seq: Seq(7) };

fn record(event: Event) -> Record {
    Record {
        position: PLACE,
        id: RecordId(Uuid::from_u128(u128::MAX - 3)),
        num: Num(12),
        at: Timestamp(1_700_000_000_000),
        author: UserId::new("ann").unwrap(),
        client_id: Some(ClientId::new("c-1").unwrap()),
        event,
    }
}

fn attachment(size: u64) -> Attachment {
    let (name, media) = (FileName::new("Über.png").unwrap(), MediaType::new("image/png").unwrap());
    Attachment { id: FileId(Uuid::from_u128(u128::from(size) + 7)), name, media, size }
}

fn audited() -> Audited {
    let (id, by) = (RecordId(Uuid::from_u128(5)), UserId::new("ann").unwrap());
    let decided = RoomEvent::MemberMuted { user: UserId::new("bob").unwrap(), until: Some(Timestamp(9)) };
    Audited { room: RoomId(Uuid::from_u128(4)), position: PLACE, id, at: Timestamp(-1), by, decided }
}

fn deeds(rank: Rank) -> [Deed; 10] {
    let (user, invite) = (UserId::new("bob").unwrap(), Uuid::from_u128(7));
    let reason = Some(Name::new("spam").unwrap());
    [
        Deed::AccountAdded { user: user.clone(), rank },
        Deed::AccountChanged { user: user.clone(), rank, disabled: true },
        Deed::ResetMade { user: user.clone() },
        Deed::InviteMade { invite, rank },
        Deed::InviteTakenBack { invite },
        Deed::Banned { user: user.clone(), until: Some(Timestamp(i64::MAX)), reason },
        Deed::Banned { user: user.clone(), until: None, reason: None },
        Deed::Unbanned { user: user.clone() },
        Deed::TokensRevoked { user: Some(user), since: Timestamp(-1) },
        Deed::TokensRevoked { user: None, since: Timestamp(7) },
    ]
}

fn whose() -> Box<Whose> {
    let collection = CollectionName::new("tasks_760_").unwrap();
    let (owner, account) = (UserId::new("ann").unwrap(), AccountId::new("acme").unwrap());
    Box::new(Whose { collection, owner, account })
}

fn fields() -> Arc<Fields> {
    let list = Value::List(vec![Value::Number(Number::whole(-7)), Value::Text("x".into()), Value::Null]);
    Arc::new(Fields([("list".into(), list), ("done".into(), Value::Bool(false))].into()))
}

fn every_event() -> Vec<Event> {
    let reached = Reached(PLACE);
    let user = UserId::new("bob").unwrap();
    let alias = Some(Alias::new("lobby").unwrap());
    let name = Some(Name::new("Lobby, the").unwrap());
    let id = RecordId(Uuid::from_u128(5));
    let content = Content { text: Some("hi".into()), body: Some(r#"{"a":1}"#.into()) };
    let mut events: Vec<Event> = [
        RoomEvent::RoomUpdated(RoomSettings {
            name: name.clone(),
            edit_history: true,
            slow_mode_ms: 7,
            history: History::FromJoin,
            keep_ms: 86_400_000,
        }),
        RoomEvent::RoomArchived,
        RoomEvent::DocumentCreated { whose: whose(), fields: fields() },
        RoomEvent::DocumentUpdated { whose: whose(), document: id, created: Timestamp(-1), fields: fields() },
        RoomEvent::DocumentDeleted { whose: whose(), document: id },
        RoomEvent::MemberLeft { user: user.clone(), joined: id },
        RoomEvent::MemberKicked { user: user.clone(), joined: id, reason: None },
        RoomEvent::MemberBanned {
            user: user.clone(),
            joined: Some(id),
            invited: false,
            until: Some(Timestamp(i64::MAX)),
            reason: name.clone(),
        },
        RoomEvent::MemberBanned { user: user.clone(), joined: None, invited: true, until: None, reason: None },
        RoomEvent::MemberUnbanned { user: user.clone() },
        RoomEvent::MemberMuted { user: user.clone(), until: Some(Timestamp(9)) },
        RoomEvent::MemberMuted { user: user.clone(), until: None },
        RoomEvent::RulesChanged(Box::new(
            Rules::new(vec!["spam".to_owned()], Links::Listed, vec!["example.org".to_owned()]).unwrap(),
        )),
        RoomEvent::RightsChanged {
            user: user.clone(),
            rights: Rights { allow: Capabilities::of_bits(2), deny: Capabilities::of_bits(5) },
            may: Capabilities::of_bits(8),
        },
        RoomEvent::MemberUnmuted { user: user.clone() },
        RoomEvent::MemberBlocked { user: user.clone() },
        RoomEvent::MemberUnblocked { user: user.clone() },
        RoomEvent::posted(content.clone()),
        RoomEvent::ReactionAdded { message: id, by: user.clone(), emoji: Emoji::new("👩‍🚀").unwrap(), count: 7 },
        RoomEvent::ReactionRemoved { message: id, by: user.clone(), emoji: Emoji::new("+1").unwrap(), count: 0 },
        RoomEvent::MessagePosted {
            content: content.clone(),
            reply: Some(Box::new(InReplyTo { message: id, by: user.clone(), thread: id })),
            mentions: Mentions::default(),
            forwarded: None,
            attachments: Attachments::default(),
        },
        RoomEvent::MessagePosted {
            content: content.clone(),
            reply: None,
            mentions: [user.clone()].into(),
            forwarded: None,
            attachments: [attachment(1), attachment(2)].into(),
        },
        RoomEvent::MessagePosted {
            content: content.clone(),
            reply: Some(Box::new(InReplyTo { message: id, by: user.clone(), thread: id })),
            mentions: [user.clone()].into(),
            forwarded: Some(Box::new(Forwarded { by: user.clone(), at: Timestamp(-1), source: u64::MAX })),
            attachments: Attachments::default(),
        },
        RoomEvent::MessagePosted {
            content: Content::default(),
            reply: None,
            mentions: [user.clone()].into(),
            forwarded: None,
            attachments: Attachments::default(),
        },
        RoomEvent::MessagePosted {
            content: Content::default(),
            reply: None,
            mentions: Mentions::default(),
            forwarded: Some(Box::new(Forwarded { by: user.clone(), at: Timestamp(7), source: 1 })),
            attachments: [attachment(u64::MAX)].into(),
        },
        RoomEvent::MessageEdited {
            message: id,
            by: user.clone(),
            content: content.clone(),
            mentions: [user.clone()].into(),
        },
        RoomEvent::MessageEdited {
            message: id,
            by: user.clone(),
            content: content.clone(),
            mentions: Mentions::default(),
        },
        RoomEvent::MessageDeleted { message: id, by: user.clone() },
        RoomEvent::MessagePinned { message: id, by: user.clone() },
        RoomEvent::MessageUnpinned { message: id, by: user.clone() },
        RoomEvent::MessageErased,
        RoomEvent::Audited(Box::new(audited())),
        RoomEvent::Reported(Box::new(Reported {
            room: RoomId(Uuid::from_u128(4)),
            message: id,
            by: user.clone(),
            at: Timestamp(-1),
            content: content.clone(),
            attachments: [attachment(3)].into(),
            reason: name.clone(),
        })),
        RoomEvent::ReportResolved { report: id, note: name.clone() },
        RoomEvent::ReportResolved { report: id, note: None },
    ]
    .map(Event::Room)
    .into();
    for kind in RoomKind::ALL {
        let (alias, name) = (alias.clone(), name.clone());
        let audits = Some(RoomId(Uuid::from_u128(8)));
        events.push(Event::Room(RoomEvent::RoomCreated { kind, alias, num: Num(4), name, audits }));
    }
    for role in Role::ALL {
        let user = user.clone();
        events.push(Event::Room(RoomEvent::MemberJoined { user: user.clone(), role }));
        events.push(Event::Room(RoomEvent::MemberInvited { user: user.clone(), role }));
        events.push(Event::Room(RoomEvent::RoleChanged { user, role, was: Role::Guest }));
    }
    for rank in Rank::ALL {
        events.extend(deeds(rank).map(|deed| Event::Room(RoomEvent::Administered(Box::new(deed)))));
    }
    let room = RoomId(Uuid::from_u128(9));
    events.push(Event::Directory(DirectoryEvent::RoomReserved { room, num: Num(1), alias }));
    events.push(Event::Directory(DirectoryEvent::NumsLeased { before: Num(1000) }));
    events.push(Event::Inbox(InboxEvent::MessageHidden { room, message: id, hidden: true }));
    let settings = Settings { private_reading: true, contacts: Audience::Owners, invisible: true };
    events.push(Event::Inbox(InboxEvent::SettingsUpdated(settings)));
    events.push(Event::Inbox(InboxEvent::ProfileUpdated));
    let other = UserId::new("bob").unwrap();
    events.push(Event::Inbox(InboxEvent::UserBlocked { user: other, blocked: true }));
    events.push(Event::Inbox(InboxEvent::EntryUpdated { room, delivered: reached, read: Reached::NOTHING }));
    events
}
