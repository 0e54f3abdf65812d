//! Every row comes back as it was, and as it was written before.

use std::collections::BTreeSet;
use std::fmt::Debug;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::account::Rank;
use crate::domain::boxes::{Access, BoxNature, Restriction};
use crate::domain::command::Reading;
use crate::domain::exclusion::{Exclusion, TenantBan};
use crate::domain::file::Hash;
use crate::domain::inbox::{Entry, FOREVER, Reached, Settings};
use crate::domain::policy::{History, Role, RoomKind, Standing};
use crate::domain::profile::{Avatar, Email, Introduction, Telephone};
use crate::domain::room::{Ban, Header, Member, Message, Mute, Pin, Settings as RoomSettings};
use crate::domain::rules::Links;
use crate::domain::{
    AccountId, Alias, Audience, Audited, Capabilities, Content, Emoji, Epoch, File, FileId, FileName, MediaType, Name,
    Num, Position, Profile, Purpose, RecordId, Rights, RoomEvent, RoomId, RoomKey, Rules, Seq, TenantId, Timestamp,
    UserId, command,
};
use crate::store::codec::{self, Id, StoredAudience, StoredKind, StoredRole};

#[test]
fn every_row_comes_back_as_it_was() {
    let id = RecordId(Uuid::from_u128(3));
    let alias = Some(Alias::forced("42").unwrap());
    round(Header {
        kind: RoomKind::Canvas,
        num: Num(7),
        alias: alias.clone(),
        created_at: Timestamp(-1),
        archived: true,
        trimmed: Position { epoch: Epoch(3), seq: Seq(8) },
        settings: RoomSettings {
            name: None,
            edit_history: true,
            slow_mode_ms: 7,
            history: History::FromJoin,
            keep_ms: 86_400_000,
        },
        audits: Some(RoomId(Uuid::from_u128(2))),
        audited: true,
    });
    let allow = Capabilities::of_bits(5);
    round(Rights { allow, deny: Capabilities::of_bits(2) });
    // As it was written before rooms could show edits.
    let short = codec::version(&(StoredKind::Group, 7, None::<&str>, None::<&str>, -1, false));
    assert_eq!(Header::decode(&short).map(|header| (header.num, header.settings.edit_history)), Ok((Num(7), false)));
    round(Member { role: Role::Admin, joined: id });
    let reason = Some(Name::new("spam").unwrap());
    let (at, rank) = (Timestamp(-1), Role::Admin);
    round(Ban { by: ann(), at, rank, until: Some(Timestamp(i64::MAX)), reason });
    round(Ban { by: ann(), at: Timestamp(7), rank: Role::Owner, until: None, reason: None });
    round(BoxNature { public_key: "a-_b".into(), creator: ann() });
    for restriction in Restriction::ALL {
        round(Access { restriction, value: "example.org".into(), by: ann(), at });
    }
    round(Introduction::default());
    round(Introduction {
        name: Some(Name::new("Ann").unwrap()),
        avatar: Avatar::address("https://p.example/ann.png"),
        about: Some(Name::new("here").unwrap()),
        email: Some(Email::new("ann@example.org").unwrap()),
        telephone: Some(Telephone::new("+4930123456").unwrap()),
        wins: true,
    });
    let ban = TenantBan { by: ann(), at, rank: Some(Rank::Admin), until: Some(Timestamp(i64::MAX)), reason: None };
    round(Exclusion { disabled: true, ban: Some(ban.clone()) });
    round(Exclusion { disabled: false, ban: Some(TenantBan { rank: None, ..ban }) });
    let tenant = TenantId::new("harbour").unwrap();
    assert_eq!(excluded_of(&exclusion(&tenant, &ann())), Ok((tenant, ann())));
    round(Mute { by: ann(), at, rank, until: Some(Timestamp(9)) });
    round(Mute { by: ann(), at, rank: Role::Member, until: None });
    let words = vec!["spam".to_owned(), "Grüße".to_owned()];
    round(Rules::new(words, Links::Listed, vec!["example.org".to_owned()]).unwrap());
    round(Rules::default());
    // As they were written before they said who.
    let muted = Mute::decode(&codec::version(&(Some(9),))).unwrap();
    assert_eq!((muted.until, muted.rank), (Some(Timestamp(9)), Role::Viewer));
    let banned = Ban::decode(&codec::version(&("ann", 7, None::<i64>, None::<&str>))).unwrap();
    assert_eq!((banned.at, banned.rank), (Timestamp(7), Role::Viewer));
    round(Message {
        id,
        author: ann(),
        thread: None,
        forwarded: true,
        edits: vec![Seq(4), Seq(u64::MAX)],
        deleted: false,
        reactions: vec![(Emoji::new("+1").unwrap(), 3)],
        files: vec![FileId(Uuid::from_u128(8))],
    });
    let name = FileName::new("Über.png").unwrap();
    let (tenant, at) = (TenantId::default_tenant(), Timestamp(-1));
    for purpose in [Purpose::Avatar, Purpose::Attachment(RoomId(Uuid::from_u128(4)))] {
        let file = File {
            id: FileId(Uuid::from_u128(8)),
            tenant: tenant.clone(),
            owner: ann(),
            purpose,
            hash: Hash([0xfe; 32]),
            size: u64::MAX,
            media: MediaType::new("image/png").unwrap(),
            name: name.clone(),
            at,
        };
        round(Filed { file: file.clone(), loose_since: Some(at) });
        round(Filed { file, loose_since: None });
        let (tenant, name) = (tenant.clone(), name.clone());
        let id = FileId(Uuid::from_u128(9));
        round(Unfinished { id, tenant, owner: ann(), purpose, name, size: u64::MAX, offset: 7, at });
    }
    round(Usage(u64::MAX));
    let position = Position { epoch: Epoch(2), seq: Seq(9) };
    round(Pin { message: id, by: ann(), position, at: Timestamp(-1) });
    round(BTreeSet::from([Emoji::new("+1").unwrap(), Emoji::new("❤").unwrap()]));
    // As it was written before there were threads, reactions, forwards and files.
    let short = codec::version(&(Id(Uuid::from_u128(5)), "ann", vec![4_u64], false));
    let later = |message: Message| (message.thread, message.reactions, message.forwarded, message.files);
    assert_eq!(Message::decode(&short).map(later), Ok((None, Vec::new(), false, Vec::new())));
    round(Reservation { room: RoomId(Uuid::from_u128(1)), num: Num(1 << 40), alias });
    round(Num(u64::MAX));
    round(Position { epoch: Epoch(2), seq: Seq(u64::MAX) });
    let decided = RoomEvent::RoleChanged { user: ann(), role: Role::Member, was: Role::Admin };
    let (room, position) = (RoomId(Uuid::from_u128(2)), Position { epoch: Epoch(1), seq: Seq(9) });
    let audited = Audited { room, position, id, at: Timestamp(-1), by: ann(), decided };
    let reading = Some(Reading { user: ann(), reads: false });
    round(command::Decision { audited: audited.clone(), reading });
    round(command::Decision { audited, reading: None });
    let reached = |epoch, seq| Reached(Position { epoch: Epoch(epoch), seq: Seq(seq) });
    let entry = Entry {
        delivered: reached(1, u64::MAX),
        read: reached(0, 3),
        muted_until: Some(FOREVER),
        pinned: true,
        archived: false,
        draft: Some("what I wanted to say".into()),
    };
    round(Kept { entry, shown: reached(1, 2), changed: reached(3, 9).0 });
    let contacts = Audience::Owners;
    round(Settings { private_reading: true, contacts, invisible: true });
    let before: Result<Settings, _> = Row::decode(&codec::version(&true));
    assert_eq!(before, Ok(Settings { private_reading: true, ..Settings::default() }));
    let later: Result<Settings, _> = Row::decode(&codec::version(&(true, StoredAudience::from(contacts))));
    assert_eq!(later, Ok(Settings { private_reading: true, contacts, invisible: false }));
    round(Profile {
        name: Some(Name::new("Ann").unwrap()),
        avatar: Some(Avatar::Address("https://example.org/ann.png".into())),
        about: None,
        email: Some(Email::new("ann@example.org").unwrap()),
        telephone: Some(Telephone::new("+4930123").unwrap()),
        fields: Content { text: None, body: Some(r#"{"mood":"fine"}"#.into()) },
    });
    round(Profile::default());
    round(Profile { avatar: Some(Avatar::File(FileId(Uuid::from_u128(6)))), ..Profile::default() });
    round(id);
    round(Kept::default());
    round(Timestamp(-7));
    round(Progress { delivered: reached(2, 7), read: Reached::NOTHING });
    round(RoomCount(u64::MAX));
    for role in Role::ALL {
        round(role);
    }
    for standing in [Standing::Member, Standing::Invited] {
        round(Place { kind: RoomKind::Direct, role: Role::Owner, standing, joined: Seq(7) });
    }
    // As it was written before places said since when.
    let short = codec::version(&(StoredKind::from(RoomKind::Group), StoredRole::from(Role::Guest), false));
    assert_eq!(Place::decode(&short).map(|place| place.joined), Ok(Seq::ZERO));
}

#[test]
fn a_key_names_its_user_or_room() {
    let id = RoomId(Uuid::from_u128(77));
    assert_eq!(user_of(&member(&ann())), Ok(ann()));
    assert_eq!(user_of(&invitation(&ann())), Ok(ann()));
    assert_eq!(user_of(&progress(&ann())), Ok(ann()));
    assert_eq!(room_of(&place(id)), Ok(id));
    let file = FileId(Uuid::from_u128(6));
    assert_eq!(referring_room(&referred_by_message(file, id, Seq(3))), Ok(id));
    assert!(referring_room(&referred_by_user(file, &ann())).is_err());
    assert_eq!(room_of(&entry(id)), Ok(id));
    assert!(room_of(&member(&ann())).is_err());
    let key = RoomKey { tenant: TenantId::default_tenant(), room: id };
    assert_eq!(owing_room(&owed(&key, Seq(3))), Ok(key.clone()));
    assert!(owed(&key, Seq(255)) < owed(&key, Seq(256)));
    assert_eq!(owed_at(&owed(&key, Seq(3))), Ok(Seq(3)));
    assert!(owed_at(&owed_by(&key)).is_err());
    assert!(owing_room(b"\x07default").is_err());
    assert!(user_of(HEADER).is_err());
}

#[test]
fn messages_are_in_the_order_of_their_seqs() {
    assert!(message(Seq(255)) < message(Seq(256)));
}

#[test]
fn a_scan_of_one_kind_of_rows_meets_no_other() {
    let (seq, ann) = (Seq(1), ann());
    let (report, resolved, thread) = (report(RecordId(Uuid::from_u128(3)), &ann), resolved(seq), thread(seq));
    let room: [&[u8]; 17] = [
        HEADER,
        MEMBERS,
        INVITATIONS,
        BANS,
        MUTES,
        RIGHTS,
        RULES,
        PROGRESS,
        MESSAGES,
        &thread,
        REACTIONS,
        PINS,
        TAKEN,
        &report,
        &resolved,
        boxes::NATURE,
        boxes::ACCESSES,
    ];
    // And INTRODUCTION, which is the beginning of ENTRIES.
    let user: [&[u8]; 7] = [PLACES, ENTRIES, HIDDEN, BLOCKS, SETTINGS, LAST_SEEN, PROFILE];
    let file = FileId(Uuid::from_u128(6));
    let (references, contents) = (references(file), contents(&Hash([0; 32])));
    let files: [&[u8]; 5] = [FILES, &references, UPLOADS, USAGES, &contents];
    let (alias, num) = (alias(&Alias::new("lobby").unwrap()), num(Num(1)));
    let directory: [&[u8]; 5] = [&alias, &num, ROOMS, LEASE, ROOM_COUNT];
    let (owned, of_account) = (documents::owned_by(&ann), documents::of_account(&AccountId::new("acme").unwrap()));
    let entries = documents::entries("owner.name");
    let collection: [&[u8]; 7] = [
        documents::DOCUMENTS,
        documents::LISTED,
        &owned,
        &of_account,
        documents::DOCUMENT_COUNT,
        documents::INDEXES,
        &entries,
    ];
    let (room, user) = ([&room[..], &collection].concat(), [&user[..], &[documents::ACCOUNT]].concat());
    for kinds in [&room[..], &user, &files, &directory, &[REVOCATIONS, EXCLUSIONS]] {
        let first: BTreeSet<u8> = kinds.iter().map(|key| key[0]).collect();
        assert_eq!(first.len(), kinds.len(), "{kinds:?}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let _ = Header::decode(&bytes);
        let _ = Member::decode(&bytes);
        let _ = Ban::decode(&bytes);
        let _ = Exclusion::decode(&bytes);
        let _ = Introduction::decode(&bytes);
        let _ = excluded_of(&bytes);
        let _ = Mute::decode(&bytes);
        let _ = Rules::decode(&bytes);
        let _ = Role::decode(&bytes);
        let _ = Message::decode(&bytes);
        let _ = Pin::decode(&bytes);
        let _ = Reservation::decode(&bytes);
        let _ = Place::decode(&bytes);
        let _ = Kept::decode(&bytes);
        let _ = Progress::decode(&bytes);
        let _ = Num::decode(&bytes);
        let _ = command::Decision::decode(&bytes);
        let _ = owing_room(&bytes);
        let _ = owed_at(&bytes);
        let _ = Filed::decode(&bytes);
        let _ = Unfinished::decode(&bytes);
        let _ = referring_room(&bytes);
        let _ = user_of(&bytes);
        let _ = room_of(&bytes);
    }
}

fn round<T: Row + PartialEq + Debug>(row: T) {
    assert_eq!(T::decode(&row.encode()), Ok(row));
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}
