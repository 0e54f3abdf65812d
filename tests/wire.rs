//! The native protocol, byte for byte, and what its decoders do with anything else.
//!
//! The random tests run `CHINWAG_RANDOM_CASES` cases each (100,000 unless told) from `CHINWAG_RANDOM_SEED`; a failure
//! says which seed and case it was.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::time::Duration;

use bytes::Bytes;
use chinwag::domain::account::Rank;
use chinwag::domain::policy::{History, Role, RoomKind, Standing};
use chinwag::domain::recent::Receipt;
use chinwag::domain::room::Settings;
use chinwag::domain::rules::Links;
use chinwag::domain::{
    Alias, Attachment, Audited, Capabilities, Capability, ClientId, Command, Content, Deed, DirectoryEvent, Epoch,
    Event, FileId, FileName, Forwarded, InReplyTo, MediaType, Name, Num, Position, Principal, Record, RecordId,
    Rejection, Reported, Rights, RoomEvent, RoomId, RoomKey, RoomName, Rules, RulesChange, Seq, TenantId, Timestamp,
    Update, UserId,
};
use chinwag::wire::frame::{self, Opcode};
use chinwag::wire::guard::{FrameGuard, Limits};
use chinwag::wire::{
    Absence, Ask, Assembler, Beside, CloseReason, Cursor, DEPTH_MAX, Dialect, From, Gap, InboundError, Incoming, Label,
    Listed, Notice, Refusal, Removal, Reply, Request,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const ROOM: &str = "0192f0c1-2345-7abc-8def-0123456789ab";
const POST: &str = "0192f0c1-2345-7abc-8def-000000000004";

#[test]
fn every_command_is_understood_in_both_notations() {
    let room = || RoomName::Id(room().room);
    let asked = |command| Ask::Command { room: room(), command, client_id: None };
    let cases = [
        (r#""type":"auth","token":"a.b.c""#, Ask::Auth { token: "a.b.c".into() }),
        (
            r#""type":"create","kind":"channel","alias":"lobby","name":"The lobby""#,
            Ask::Create {
                kind: RoomKind::Channel,
                alias: Some(Alias::new("lobby").unwrap()),
                name: Some(name("The lobby")),
                members: Vec::new(),
            },
        ),
        (
            r#""type":"create","kind":"group","members":[{"user":"bob"},{"user":"eve","role":"admin"}]"#,
            Ask::Create {
                kind: RoomKind::Group,
                alias: None,
                name: None,
                members: vec![(user("bob"), Role::Member), (user("eve"), Role::Admin)],
            },
        ),
        (r#""type":"update","room":"R","name":"New""#, asked(update(Some(Some(name("New"))), None))),
        (r#""type":"update","room":"R","name":null"#, asked(update(Some(None), None))),
        (r#""type":"update","room":"R","edit_history":true"#, asked(update(None, Some(true)))),
        (
            r#""type":"update","room":"R","slow_mode_ms":21600000"#,
            asked(Command::Update(Update { slow_mode_ms: Some(21_600_000), ..Update::default() })),
        ),
        (
            r#""type":"update","room":"R","history":"join""#,
            asked(Command::Update(Update { history: Some(History::FromJoin), ..Update::default() })),
        ),
        (r#""type":"archive","room":"R""#, asked(Command::Archive)),
        (r#""type":"join","room":"R""#, asked(Command::Join)),
        (r#""type":"leave","room":"R""#, asked(Command::Leave)),
        (
            r#""type":"invite","room":"R","user":"bob""#,
            Ask::Invite { room: room(), user: user("bob"), role: Role::Member },
        ),
        (
            r#""type":"invite","room":"R","user":"bob","role":"guest""#,
            Ask::Invite { room: room(), user: user("bob"), role: Role::Guest },
        ),
        (
            r#""type":"kick","room":"R","user":"bob","reason":"spam""#,
            asked(Command::Kick { user: user("bob"), reason: Some(name("spam")) }),
        ),
        (
            r#""type":"ban","room":"R","user":"bob","until":9,"reason":"spam""#,
            asked(Command::Ban { user: user("bob"), until: Some(Timestamp(9)), reason: Some(name("spam")) }),
        ),
        (
            r#""type":"ban","room":"R","user":"bob""#,
            asked(Command::Ban { user: user("bob"), until: None, reason: None }),
        ),
        (r#""type":"unban","room":"R","user":"bob""#, asked(Command::Unban { user: user("bob") })),
        (
            r#""type":"mute","room":"R","user":"bob","until":9"#,
            asked(Command::Mute { user: user("bob"), until: Some(Timestamp(9)) }),
        ),
        (r#""type":"mute","room":"R","user":"bob""#, asked(Command::Mute { user: user("bob"), until: None })),
        (
            r#""type":"rights","room":"R","user":"bob","allow":["pin"],"deny":["post","react"]"#,
            asked(Command::ChangeRights {
                user: user("bob"),
                rights: Rights { allow: may(&[Capability::Pin]), deny: may(&[Capability::Post, Capability::React]) },
            }),
        ),
        (
            r#""type":"rights","room":"R","user":"bob""#,
            asked(Command::ChangeRights { user: user("bob"), rights: Rights::default() }),
        ),
        (r#""type":"unmute","room":"R","user":"bob""#, asked(Command::Unmute { user: user("bob") })),
        (r#""type":"bans","room":"R""#, Ask::Bans { room: room(), after: None, limit: 100 }),
        (r#""type":"rules","room":"R""#, Ask::Rules { room: room() }),
        (
            r#""type":"rules_update","room":"R","words":["spam"],"links":"listed","hosts":["example.org"]"#,
            asked(Command::ChangeRules(
                RulesChange::new(Some(vec!["spam".into()]), Some(Links::Listed), Some(vec!["example.org".into()]))
                    .unwrap(),
            )),
        ),
        (
            r#""type":"rules_update","room":"R","words":[]"#,
            asked(Command::ChangeRules(RulesChange::new(Some(Vec::new()), None, None).unwrap())),
        ),
        (r#""type":"mutes","room":"R""#, Ask::Mutes { room: room(), after: None, limit: 100 }),
        (r#""type":"kick","room":"R","user":"bob""#, asked(Command::Kick { user: user("bob"), reason: None })),
        (
            r#""type":"role","room":"R","user":"bob","role":"owner""#,
            asked(Command::ChangeRole { user: user("bob"), role: Role::Owner }),
        ),
        (
            r#""type":"post","room":"R","content":{"text":"hi","mood":[1,2.5]},"client_id":"c-1""#,
            Ask::Command {
                room: room(),
                command: Command::post(Content { text: Some("hi".into()), body: Some(r#"{"mood":[1,2.5]}"#.into()) }),
                client_id: Some(client_id("c-1")),
            },
        ),
        (
            r#""type":"post","room":"R","content":{"text":"hi"},"reply_to":"M","mentions":["bob","ann","bob"]"#,
            asked(Command::Post {
                content: Content::text("hi"),
                reply_to: Some(post()),
                mentions: vec![user("bob"), user("ann"), user("bob")],
                attachments: Vec::new(),
            }),
        ),
        (
            r#""type":"post","room":"R","attachments":["M"],"mentions":["bob"],"client_id":"c-1""#,
            Ask::Attach {
                room: room(),
                content: Content::default(),
                attachments: vec![FileId(post().0)],
                reply_to: None,
                mentions: vec![user("bob")],
                client_id: Some(client_id("c-1")),
            },
        ),
        (
            r#""type":"edit","room":"R","message":"M","content":{"text":"ho"},"mentions":["bob"]"#,
            asked(Command::Edit { message: post(), content: Content::text("ho"), mentions: vec![user("bob")] }),
        ),
        (
            r#""type":"thread","room":"R","message":"M","after":"x","limit":7"#,
            Ask::Thread { room: room(), thread: post(), after: Some("x".to_owned()), limit: 7 },
        ),
        (
            r#""type":"edit","room":"R","message":"M","content":{"text":"ho"},"client_id":"c-2""#,
            Ask::Command {
                room: room(),
                command: Command::Edit { message: post(), content: Content::text("ho"), mentions: Vec::new() },
                client_id: Some(client_id("c-2")),
            },
        ),
        (r#""type":"delete","room":"R","message":"M""#, asked(Command::Delete { message: post() })),
        (r#""type":"follow","room":"R""#, Ask::Follow { room: room(), from: From::Now }),
        (r#""type":"follow","room":"R","from":"now""#, Ask::Follow { room: room(), from: From::Now }),
        (r#""type":"follow","room":"R","from":"start""#, Ask::Follow { room: room(), from: From::Start }),
        (r#""type":"follow","room":"R","from":"EJz""#, Ask::Follow { room: room(), from: From::Cursor("EJz".into()) }),
        (r#""type":"unfollow","room":"R""#, Ask::Unfollow { room: room() }),
        (r#""type":"follow_all""#, Ask::FollowAll { from: From::Now }),
        (r#""type":"follow_all","from":"start""#, Ask::FollowAll { from: From::Start }),
        (r#""type":"follow_all","from":"IKm""#, Ask::FollowAll { from: From::Cursor("IKm".into()) }),
        (r#""type":"unfollow_all""#, Ask::UnfollowAll),
        (r#""type":"history","room":"R""#, Ask::History { room: room(), before: None, limit: 50 }),
        (
            r#""type":"history","room":"R","before":"EJz","limit":100"#,
            Ask::History { room: room(), before: Some("EJz".into()), limit: 100 },
        ),
        (r#""type":"rooms""#, Ask::Rooms { after: None, limit: 100 }),
        (r#""type":"rooms","after":"R","limit":1"#, Ask::Rooms { after: Some(RoomId(uuid(ROOM))), limit: 1 }),
    ];
    for (members, ask) in cases {
        let members = members.replace("\"R\"", &format!("{ROOM:?}")).replace("\"M\"", &format!("{POST:?}"));
        // What a later version adds is none of ours.
        let frame = format!(r#"{{"id":"7",{members},"added later":{{"a":[1]}}}}"#);
        let request = Request { id: "7".into(), ask };
        assert_eq!(Dialect::NativeJson.decode(frame.as_bytes()), Ok(request.clone()), "{frame}");
        assert_eq!(Dialect::NativeMsgpack.decode(&msgpack(&frame)), Ok(request), "{frame} as MessagePack");
    }
}

#[test]
fn a_room_is_named_by_uuid_number_or_alias() {
    let cases = [
        (json!(ROOM), RoomName::Id(room().room)),
        (json!(42), RoomName::Num(Num(42))),
        (json!("42"), RoomName::Num(Num(42))),
        (json!("lobby"), RoomName::Alias(Alias::new("lobby").unwrap())),
        (json!("alias:42"), RoomName::Alias(Alias::forced("42").unwrap())),
    ];
    for (text, room) in cases {
        let frame = json!({"id": "7", "type": "unfollow", "room": text}).to_string();
        let request = Request { id: "7".into(), ask: Ask::Unfollow { room } };
        assert_eq!(Dialect::NativeJson.decode(frame.as_bytes()), Ok(request.clone()));
        assert_eq!(Dialect::NativeMsgpack.decode(&msgpack(&frame)), Ok(request));
    }
}

#[test]
fn what_is_not_a_command_is_refused_under_its_id() {
    let cases = [
        (r#"{"id":"7","type":"shout","room":"lobby"}"#, Some("7"), "unknown_command"),
        (r#"{"id":"7"}"#, Some("7"), "bad_request"),
        (r#"{"type":"rooms"}"#, None, "bad_request"),
        (r#"{"id":"","type":"rooms"}"#, None, "bad_request"),
        (r#"{"id":7,"type":"rooms"}"#, None, "bad_request"),
        (r#"{"id":"7","id":"8","type":"rooms"}"#, None, "bad_request"),
        (r#"{"id":"7","type":"rooms","limit":1,"limit":2}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rooms","limit":0}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rooms","limit":101}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rooms","limit":-1}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"join"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"join","room":-1}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"join","room":1.5}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"update","room":1}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"role","room":1,"user":"bob","role":"king"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rights","room":1,"user":"bob","allow":["rule"]}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rules_update","room":1}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rules_update","room":1,"words":"spam"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rules_update","room":1,"words":["!"]}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rules_update","room":1,"links":"some"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"rules_update","room":1,"hosts":["a/b"]}"#, Some("7"), "bad_request"),
        (
            r#"{"id":"7","type":"rights","room":1,"user":"bob","allow":["pin"],"deny":["pin"]}"#,
            Some("7"),
            "bad_request",
        ),
        (r#"{"id":"7","type":"kick","room":1,"user":"b b"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"create","kind":"channel","alias":"42"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"post","room":1,"content":{}}"#, Some("7"), "content_size"),
        (r#"{"id":"7","type":"post","room":1,"content":"hi"}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"post","room":1}"#, Some("7"), "bad_request"),
        (r#"{"id":"7","type":"delete","room":1,"message":"12"}"#, Some("7"), "bad_request"),
        (r#"["7","rooms"]"#, None, "bad_request"),
        ("7", None, "bad_request"),
        ("", None, "bad_request"),
        (r#"{"id":"7","type":"rooms"} {}"#, None, "bad_request"),
        (r#"{"id":"7","type":"rooms""#, None, "bad_request"),
    ];
    for (frame, id, code) in cases {
        let error = Dialect::NativeJson.decode(frame.as_bytes()).expect_err(frame);
        assert_eq!((error.id.as_deref(), error.refusal.code()), (id, code), "{frame}: {error}");
        // What serde_json itself reads can be said in MessagePack, if nothing is said twice.
        let twice = frame.contains(r#""limit":1,"#) || frame.contains(r#""id":"8""#);
        if !twice && serde_json::from_str::<Value>(frame).is_ok() {
            let error = Dialect::NativeMsgpack.decode(&msgpack(frame)).expect_err(frame);
            assert_eq!((error.id.as_deref(), error.refusal.code()), (id, code), "{frame} as MessagePack: {error}");
        }
    }
    let long = format!(r#"{{"id":"{}","type":"rooms"}}"#, "7".repeat(65));
    assert_eq!(Dialect::NativeJson.decode(long.as_bytes()).unwrap_err().id, None);
    let twice = b"\x83\xa2id\xa17\xa4type\xa5rooms\xa4type\xa5rooms";
    assert_eq!(Dialect::NativeMsgpack.decode(twice).unwrap_err().refusal.code(), "bad_request");
    let trailing = [&msgpack(r#"{"id":"7","type":"rooms"}"#)[..], &[0xc0]].concat();
    assert_eq!(Dialect::NativeMsgpack.decode(&trailing).unwrap_err().refusal.code(), "bad_request");
}

#[test]
fn before_auth_only_auth_is_looked_at() {
    for dialect in [Dialect::NativeJson, Dialect::NativeMsgpack, Dialect::NativeSse] {
        let decode = |json: &str| match dialect.is_text() {
            true => dialect.decode_before_auth(json.as_bytes()),
            false => dialect.decode_before_auth(&msgpack(json)),
        };
        let request = |ask| Ok(Request { id: "7".into(), ask });
        assert_eq!(decode(r#"{"id":"7","type":"auth","token":"a.b"}"#), request(Ask::Auth { token: "a.b".into() }));
        assert_eq!(decode(r#"{"id":"7","type":"post","room":[],"content":7}"#), request(Ask::NotYet));
        let error = decode(r#"{"id":"7","type":"shout"}"#).unwrap_err();
        assert_eq!((error.id.as_deref(), error.refusal.code()), (Some("7"), "unknown_command"));
        assert_eq!(decode(r#"{"id":"7","type":"auth"}"#).unwrap_err().id.as_deref(), Some("7"));
    }
}

#[test]
fn every_event_has_its_shape() {
    let content = || Content { text: Some("say \"hi\"\n".into()), body: Some(r#"{"mood":[1,2.5]}"#.into()) };
    let cases = [
        (
            RoomEvent::RoomCreated {
                kind: RoomKind::Channel,
                alias: Some(Alias::new("lobby").unwrap()),
                num: Num(3),
                name: Some(name("The lobby")),
                audits: None,
            },
            r#""event":"room_created","kind":"channel","room_num":3,"alias":"lobby","name":"The lobby""#,
        ),
        (
            RoomEvent::RoomCreated { kind: RoomKind::Direct, alias: None, num: Num(3), name: None, audits: None },
            r#""event":"room_created","kind":"direct","room_num":3,"alias":null,"name":null"#,
        ),
        (
            RoomEvent::RoomUpdated(Settings {
                name: Some(name("New")),
                slow_mode_ms: 7,
                history: History::FromJoin,
                keep_ms: 86_400_000,
                ..Settings::default()
            }),
            r#""event":"room_updated","name":"New","edit_history":false,"slow_mode_ms":7,"history":"join","keep_ms":86400000"#,
        ),
        (
            RoomEvent::RoomUpdated(Settings { edit_history: true, ..Settings::default() }),
            r#""event":"room_updated","name":null,"edit_history":true,"slow_mode_ms":0,"history":"all","keep_ms":0"#,
        ),
        (RoomEvent::RoomArchived, r#""event":"room_archived""#),
        (
            RoomEvent::MemberJoined { user: user("bob"), role: Role::Member },
            r#""event":"member_joined","user":"bob","role":"member""#,
        ),
        (
            RoomEvent::MemberInvited { user: user("bob"), role: Role::Guest },
            r#""event":"member_invited","user":"bob","role":"guest""#,
        ),
        (
            RoomEvent::MemberLeft { user: user("bob"), joined: post() },
            r#""event":"member_left","user":"bob","joined":"M""#,
        ),
        (
            RoomEvent::MemberKicked { user: user("bob"), joined: post(), reason: Some(name("spam")) },
            r#""event":"member_kicked","user":"bob","joined":"M","reason":"spam""#,
        ),
        (
            RoomEvent::MemberKicked { user: user("bob"), joined: post(), reason: None },
            r#""event":"member_kicked","user":"bob","joined":"M","reason":null"#,
        ),
        (
            RoomEvent::MemberBanned {
                user: user("bob"),
                joined: Some(post()),
                invited: false,
                until: Some(Timestamp(9)),
                reason: Some(name("spam")),
            },
            r#""event":"member_banned","user":"bob","joined":"M","until":9,"reason":"spam""#,
        ),
        (
            RoomEvent::MemberBanned { user: user("bob"), joined: None, invited: true, until: None, reason: None },
            r#""event":"member_banned","user":"bob","joined":null,"until":null,"reason":null"#,
        ),
        (
            RoomEvent::MemberMuted { user: user("bob"), until: Some(Timestamp(9)) },
            r#""event":"member_muted","user":"bob","until":9"#,
        ),
        (
            RoomEvent::MemberMuted { user: user("bob"), until: None },
            r#""event":"member_muted","user":"bob","until":null"#,
        ),
        (
            RoomEvent::RightsChanged {
                user: user("bob"),
                rights: Rights { allow: may(&[Capability::Pin]), deny: Capabilities::NONE },
                may: may(&[Capability::Post, Capability::Pin]),
            },
            r#""event":"rights_changed","user":"bob","allow":["pin"],"deny":[],"capabilities":["post","pin"]"#,
        ),
        (RoomEvent::MemberUnmuted { user: user("bob") }, r#""event":"member_unmuted","user":"bob""#),
        (
            RoomEvent::RulesChanged(Box::new(
                Rules::new(vec!["spam".into()], Links::Listed, vec!["example.org".into()]).unwrap(),
            )),
            r#""event":"rules_changed","words":1,"links":"listed","hosts":["example.org"]"#,
        ),
        (RoomEvent::MemberUnbanned { user: user("bob") }, r#""event":"member_unbanned","user":"bob""#),
        (
            RoomEvent::RoleChanged { user: user("bob"), role: Role::Owner, was: Role::Viewer },
            r#""event":"role_changed","user":"bob","role":"owner","was":"viewer""#,
        ),
        (RoomEvent::posted(content()), r#""event":"message_posted","content":{"text":"say \"hi\"\n","mood":[1,2.5]}"#),
        (
            RoomEvent::posted(Content { text: None, ..content() }),
            r#""event":"message_posted","content":{"mood":[1,2.5]}"#,
        ),
        (
            RoomEvent::MessagePosted {
                content: Content::text("ho"),
                reply: None,
                mentions: [user("eve")].into(),
                forwarded: Some(Box::new(Forwarded { by: user("bob"), at: Timestamp(-7), source: 77 })),
                attachments: [].into(),
            },
            r#""event":"message_posted","mentions":["eve"],"forwarded":{"by":"bob","at":-7},"content":{"text":"ho"}"#,
        ),
        (
            RoomEvent::MessagePosted {
                content: Content::default(),
                reply: None,
                mentions: [].into(),
                forwarded: None,
                attachments: [Attachment {
                    id: FileId(post().0),
                    name: FileName::new("say \"hi\".txt").unwrap(),
                    media: MediaType::text(),
                    size: 1 << 40,
                }]
                .into(),
            },
            r#""event":"message_posted","attachments":[{"id":"M","name":"say \"hi\".txt","media_type":"text/plain; charset=utf-8","size":1099511627776}],"content":{}"#,
        ),
        (
            RoomEvent::MessageEdited {
                message: post(),
                by: user("ann"),
                content: Content::text("ho"),
                mentions: [].into(),
            },
            r#""event":"message_edited","message":"M","by":"ann","content":{"text":"ho"}"#,
        ),
        (
            RoomEvent::MessageDeleted { message: post(), by: user("ann") },
            r#""event":"message_deleted","message":"M","by":"ann""#,
        ),
        (
            RoomEvent::MessagePinned { message: post(), by: user("ann") },
            r#""event":"message_pinned","message":"M","by":"ann""#,
        ),
        (
            RoomEvent::MessageUnpinned { message: post(), by: user("ann") },
            r#""event":"message_unpinned","message":"M","by":"ann""#,
        ),
        (
            RoomEvent::HistoryTrimmed { until: Position { epoch: Epoch(4), seq: Seq(7) } },
            r#""event":"history_trimmed","before":8"#,
        ),
        (RoomEvent::MessageErased, r#""event":"message_erased""#),
        (
            RoomEvent::RoomCreated {
                kind: RoomKind::Audit,
                alias: None,
                num: Num(4),
                name: None,
                audits: Some(RoomId(Uuid::from_u128(9))),
            },
            concat!(
                r#""event":"room_created","kind":"audit","room_num":4,"alias":null,"name":null,"#,
                r#""audits":"00000000-0000-0000-0000-000000000009""#
            ),
        ),
        (
            RoomEvent::Reported(Box::new(Reported {
                room: RoomId(Uuid::from_u128(9)),
                message: post(),
                by: user("bob"),
                at: Timestamp(9),
                content: Content::text("buy"),
                attachments: [].into(),
                reason: Some(name("spam")),
            })),
            concat!(
                r#""event":"reported","reason":"spam","reported":{"room":"00000000-0000-0000-0000-000000000009","#,
                r#""message":"0192f0c1-2345-7abc-8def-000000000004","by":"bob","at":9,"content":{"text":"buy"}}"#
            ),
        ),
        (
            RoomEvent::ReportResolved { report: post(), note: None },
            r#""event":"report_resolved","report":"0192f0c1-2345-7abc-8def-000000000004","note":null"#,
        ),
        (
            RoomEvent::Audited(Box::new(Audited {
                room: RoomId(Uuid::from_u128(9)),
                position: Position { epoch: Epoch(1), seq: Seq(5) },
                id: post(),
                at: Timestamp(9),
                by: user("ann"),
                decided: RoomEvent::MemberUnbanned { user: user("bob") },
            })),
            concat!(
                r#""event":"audited","decided":{"room":"00000000-0000-0000-0000-000000000009","seq":5,"#,
                r#""id":"0192f0c1-2345-7abc-8def-000000000004","at":9,"event":"member_unbanned","user":"bob"}"#
            ),
        ),
    ];
    for (event, members) in cases.into_iter().chain(deeds()) {
        let members = members.replace("\"M\"", &format!("{POST:?}"));
        let expected = format!("{{{},{members}}}", head(r#""client_id":"c-1","#));
        let record = Record { event: Event::Room(event), ..record() };
        check(&expected, |dialect| dialect.encode_record(&room(), &record));
    }
    let misplaced = Record { event: Event::Directory(DirectoryEvent::NumsLeased { before: Num(9) }), ..record() };
    let expected = format!(r#"{{{},"event":"hidden"}}"#, head(r#""client_id":"c-1","#));
    check(&expected, |dialect| dialect.encode_record(&room(), &misplaced));
    let unnamed = Record { client_id: None, event: Event::Room(RoomEvent::RoomArchived), ..record() };
    let expected = format!(r#"{{{},"event":"room_archived"}}"#, head(""));
    check(&expected, |dialect| dialect.encode_record(&room(), &unnamed));
}

/// What is decided in a tenant, as members.
fn deeds() -> [(RoomEvent, &'static str); 9] {
    let (bob, invite) = (user("bob"), Uuid::from_u128(9));
    [
        (
            Deed::AccountAdded { user: bob.clone(), rank: Rank::Owner },
            r#""event":"administered","deed":"account_added","user":"bob","rank":"owner""#,
        ),
        (
            Deed::AccountChanged { user: bob.clone(), rank: Rank::Member, disabled: true },
            r#""event":"administered","deed":"account_changed","user":"bob","rank":"member","disabled":true"#,
        ),
        (Deed::ResetMade { user: bob.clone() }, r#""event":"administered","deed":"reset_made","user":"bob""#),
        (
            Deed::InviteMade { invite, rank: Rank::Admin },
            concat!(
                r#""event":"administered","deed":"invite_made","invite":"00000000-0000-0000-0000-000000000009","#,
                r#""rank":"admin""#
            ),
        ),
        (
            Deed::InviteTakenBack { invite },
            r#""event":"administered","deed":"invite_taken_back","invite":"00000000-0000-0000-0000-000000000009""#,
        ),
        (
            Deed::Banned { user: bob.clone(), until: Some(Timestamp(9)), reason: Some(name("spam")) },
            r#""event":"administered","deed":"user_banned","user":"bob","until":9,"reason":"spam""#,
        ),
        (Deed::Unbanned { user: bob.clone() }, r#""event":"administered","deed":"user_unbanned","user":"bob""#),
        (
            Deed::TokensRevoked { user: Some(bob), since: Timestamp(9) },
            r#""event":"administered","deed":"tokens_revoked","user":"bob","since":9"#,
        ),
        (
            Deed::TokensRevoked { user: None, since: Timestamp(9) },
            r#""event":"administered","deed":"tokens_revoked","user":null,"since":9"#,
        ),
    ]
    .map(|(deed, members)| (RoomEvent::Administered(Box::new(deed)), members))
}

#[test]
fn every_reply_has_its_shape() {
    let position = Position { epoch: Epoch(3), seq: Seq(5) };
    let receipt = Receipt { position, id: post(), num: Num(12), at: Timestamp(1_700_000_000_000) };
    let principal = Principal {
        tenant: TenantId::default_tenant(),
        user: user("ann"),
        token: None,
        login: None,
        issued_at: Timestamp(1_700_000_000_000),
        expires_at: Timestamp(1_700_000_600_000),
    };
    let listed = Listed { room: room().room, kind: RoomKind::Group, role: Role::Member, standing: Standing::Invited };
    let archived = Record { client_id: None, event: Event::Room(RoomEvent::RoomArchived), ..record() };
    let archived_text = format!(r#"{{{},"event":"room_archived"}}"#, head(""));
    let cases = [
        (
            Reply::Authenticated { principal, token: String::new() },
            r#""user":"ann","tenant":"default","expires_at":1700000600000"#.to_owned(),
        ),
        (
            Reply::Created { room: room(), num: Num(3), alias: Some(Alias::new("lobby").unwrap()), may: may(&[Capability::Post]), receipt },
            r#""room":"R","num":3,"alias":"lobby","seq":5,"cursor":"C","at":1700000000000,"capabilities":["post"]"#.to_owned(),
        ),
        (
            Reply::Created { room: room(), num: Num(3), alias: None, may: Capabilities::NONE, receipt },
            r#""room":"R","num":3,"alias":null,"seq":5,"cursor":"C","at":1700000000000,"capabilities":[]"#.to_owned(),
        ),
        (
            Reply::Changed { room: room(), position, at: receipt.at },
            r#""room":"R","seq":5,"cursor":"C","at":1700000000000"#.to_owned(),
        ),
        (
            Reply::Published { room: room(), receipt, duplicate: false },
            r#""room":"R","seq":5,"cursor":"C","record":"M","num":12,"at":1700000000000"#.to_owned(),
        ),
        (
            Reply::Published { room: room(), receipt, duplicate: true },
            r#""room":"R","seq":5,"cursor":"C","record":"M","num":12,"at":1700000000000,"duplicate":true"#.to_owned(),
        ),
        (
            Reply::Following { room: room(), at: position, head: Seq(9) },
            r#""room":"R","cursor":"C","head":9"#.to_owned(),
        ),
        (Reply::Unfollowed { room: room().room }, r#""room":"R""#.to_owned()),
        (
            Reply::History { room: room(), records: vec![archived.clone(), archived], beside: Beside::default(), before: Some(position), gap: None },
            format!(r#""room":"R","records":[{archived_text},{archived_text}],"before":"C""#),
        ),
        (
            Reply::History {
                room: room(),
                records: Vec::new(),
                beside: Beside::default(),
                before: None,
                gap: Some(Gap { from: Seq(1), to: Seq(7), reason: Absence::Retention }),
            },
            r#""room":"R","records":[],"before":null,"gap":{"from":1,"to":7,"reason":"retention"}"#.to_owned(),
        ),
        (
            Reply::Rooms { rooms: vec![listed, listed], after: Some(room().room) },
            r#""rooms":[{"room":"R","kind":"group","role":"member","standing":"invited"},{"room":"R","kind":"group","role":"member","standing":"invited"}],"after":"R""#
                .to_owned(),
        ),
        (Reply::Rooms { rooms: Vec::new(), after: None }, r#""rooms":[],"after":null"#.to_owned()),
    ];
    for (reply, members) in cases {
        let expected = filled(&format!(r#"{{"type":"reply","id":"7","ok":true,{members}}}"#));
        check(&expected, |dialect| dialect.encode_reply(Some("7"), &reply));
    }
    let refused = Reply::Refused(Rejection::NotMember.into());
    check(
        r#"{"type":"reply","id":"7","ok":false,"error":{"code":"not_member","message":"you are not a member of this room; join it first","retry":"no"}}"#,
        |dialect| dialect.encode_reply(Some("7"), &refused),
    );
    let busy = Reply::Refused(Refusal::busy(Duration::from_millis(250)));
    check(
        r#"{"type":"reply","id":null,"ok":false,"error":{"code":"busy","message":"too much is under way; slow down","retry":"later","retry_after_ms":250}}"#,
        |dialect| dialect.encode_reply(None, &busy),
    );
}

#[test]
fn every_notice_has_its_shape() {
    let room = room().room;
    let cases = [
        (
            Notice::Hello {
                epoch: Epoch(0x1f),
                heartbeat: Duration::from_secs(25),
                authenticated: false,
                socket: None,
            },
            r#"{"type":"hello","protocol":"chinwag.v1","epoch":"1f","heartbeat_ms":25000,"authenticated":false,"durability":"synced"}"#,
        ),
        (
            Notice::Streaming {
                epoch: Epoch(3),
                heartbeat: Duration::from_secs(15),
                room: self::room(),
                at: Position { epoch: Epoch(3), seq: Seq(5) },
                head: Seq(9),
            },
            r#"{"type":"hello","protocol":"chinwag.v1","epoch":"3","heartbeat_ms":15000,"durability":"synced","room":"R","cursor":"C","head":9}"#,
        ),
        (Notice::Removed { room, reason: Removal::Left }, r#"{"type":"removed","room":"R","reason":"left"}"#),
        (Notice::Removed { room, reason: Removal::Kicked }, r#"{"type":"removed","room":"R","reason":"kicked"}"#),
        (
            Notice::RoomGained { room, standing: Standing::Member, role: Role::Admin },
            r#"{"type":"room_gained","room":"R","standing":"member","role":"admin"}"#,
        ),
        (Notice::RoomLost { room }, r#"{"type":"room_lost","room":"R"}"#),
        (
            Notice::FollowFailed { room, refusal: Refusal::cursor_foreign() },
            r#"{"type":"follow_failed","room":"R","error":{"code":"cursor_foreign","message":"this cursor is for something else: a room's is good for that room, a world's for the whole world","retry":"no"}}"#,
        ),
    ];
    for (notice, expected) in cases {
        check(&filled(expected), |dialect| dialect.encode_notice(&notice));
    }
}

#[test]
fn a_page_is_a_body_without_what_sockets_need() {
    let page = |records: Vec<Record>| Reply::Page {
        room: room(),
        records,
        cursor: Position { epoch: Epoch(3), seq: Seq(5) },
        complete: true,
        head: Seq(5),
        gap: None,
    };
    let empty = filled(r#"{"room":"R","records":[],"cursor":"C","complete":true,"head":5}"#);
    check(&empty, |dialect| dialect.encode_body(&page(Vec::new())));
    let pushed = Dialect::NativeJson.encode_record(&room(), &record());
    let body = Dialect::NativeJson.encode_body(&page(vec![record()]));
    let (body, pushed) = (String::from_utf8_lossy(&body), String::from_utf8_lossy(&pushed));
    assert!(body.contains(&format!("[{pushed}]")), "{body} does not hold {pushed}");
}

#[test]
fn an_event_holds_the_record_that_a_websocket_is_sent() {
    let mut event = bytes::BytesMut::new();
    Dialect::NativeSse.put_record(&mut event, Label::plain(&room()), &record());
    let pushed = Dialect::NativeJson.encode_record(&room(), &record());
    let cursor = filled("\"C\"");
    let expected =
        format!("id: {}\nevent: record\ndata: {}\n\n", cursor.trim_matches('"'), String::from_utf8_lossy(&pushed));
    assert_eq!(String::from_utf8_lossy(&event), expected);
}

#[test]
fn a_message_is_framed_as_its_notation_asks() {
    assert_eq!(Dialect::ALL.map(Dialect::index), [0, 1, 2, 3, 4, 5]);
    assert_eq!(&Dialect::NativeJson.frame(b"{}")[..], b"\x81\x02{}");
    assert_eq!(&Dialect::NativeMsgpack.frame(b"\x80")[..], b"\x82\x01\x80");
}

#[test]
fn what_the_server_frames_is_not_what_a_client_may_send() {
    let framed = frame::frame(Opcode::Text, b"hi");
    assert!(FrameGuard::new(Limits::AUTHENTICATED).inspect(&framed).is_err());
}

#[test]
fn nesting_is_allowed_to_the_limit_and_refused_beyond_it_before_and_after_auth() {
    for (containers, fits) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (1_000, false), (60_000, false)] {
        // The frame itself is one of them.
        let inner = containers - 1;
        let json = format!(r#"{{"id":"7","type":"rooms","x":{}{}}}"#, "[".repeat(inner), "]".repeat(inner));
        let mut msgpack = b"\x83\xa2id\xa17\xa4type\xa5rooms\xa1x".to_vec();
        msgpack.extend(std::iter::repeat_n(0x91, inner - 1));
        msgpack.push(0x90);
        for (dialect, frame) in [(Dialect::NativeJson, json.as_bytes()), (Dialect::NativeMsgpack, &msgpack)] {
            for decoded in [dialect.decode(frame), dialect.decode_before_auth(frame)] {
                let code = decoded.err().map(|error| error.refusal.code());
                assert_eq!(code, (!fits).then_some("too_deep"), "{containers} in {dialect:?}");
            }
        }
    }
}

#[test]
fn invalid_text_split_between_fragments_closes_with_1007() {
    let frames = [client(0x01, b"\xe2\x82"), client(0x00, b""), client(0x80, b"x")].concat();
    let error = read(&[&frames]).unwrap_err();
    assert_eq!(error, InboundError::InvalidText);
    assert_eq!(error.close_reason().info().code, 1007);
}

#[test]
fn a_million_empty_fragments_are_refused_at_64() {
    let mut assembler = Assembler::new(Limits::AUTHENTICATED);
    assembler.next(&mut &client(0x01, b"")[..]).unwrap();
    let empty = client(0x00, b"");
    let refused = (1..1_000_000).find_map(|sent| Some((sent, assembler.next(&mut &empty[..]).err()?)));
    let (sent, error) = refused.expect("refused at some time");
    assert_eq!((sent, error.close_reason()), (64, CloseReason::TooBig));
}

proptest! {
    #[test]
    fn a_record_says_the_same_in_both_notations(record in records()) {
        let json: Value = serde_json::from_slice(&Dialect::NativeJson.encode_record(&room(), &record)).unwrap();
        let msgpack: Value = rmp_serde::from_slice(&Dialect::NativeMsgpack.encode_record(&room(), &record)).unwrap();
        prop_assert_eq!(&json, &msgpack);
        prop_assert_eq!(&json["type"], "record");
        prop_assert_eq!(&json["room"], ROOM);
        prop_assert_eq!(&json["id"], &json!(record.id.to_string()));
        prop_assert_eq!(&json["seq"], &json!(record.position.seq.0));
        prop_assert_eq!(&json["num"], &json!(record.num.0));
        prop_assert_eq!(&json["at"], &json!(record.at.0));
        prop_assert_eq!(&json["author"], record.author.as_str());
        prop_assert_eq!(json.get("client_id").and_then(Value::as_str), record.client_id.as_ref().map(ClientId::as_str));
        prop_assert_eq!(Cursor::parse(json["cursor"].as_str().unwrap(), &room()), Ok(record.position));
    }

    #[test]
    fn what_is_posted_in_one_notation_is_read_in_the_other(mut content in objects()) {
        // An empty content is refused, and says nothing.
        content.as_object_mut().unwrap().insert("n".into(), json!(1));
        let post = json!({"id": "7", "type": "post", "room": ROOM, "content": content}).to_string();
        let requests = [Dialect::NativeJson.decode(post.as_bytes()), Dialect::NativeMsgpack.decode(&msgpack(&post))];
        for request in requests {
            let Ask::Command { command: Command::Post { content: posted, .. }, .. } = request.unwrap().ask else {
                panic!("a post is a post");
            };
            let record = Record { event: Event::Room(RoomEvent::posted(posted)), ..record() };
            let json: Value = serde_json::from_slice(&Dialect::NativeJson.encode_record(&room(), &record)).unwrap();
            prop_assert_eq!(&json["content"], &content);
            let msgpack: Value =
                rmp_serde::from_slice(&Dialect::NativeMsgpack.encode_record(&room(), &record)).unwrap();
            prop_assert_eq!(&msgpack["content"], &content);
        }
    }

    #[test]
    fn messages_do_not_depend_on_how_they_are_cut(frames in client_frames(), cuts in cuts()) {
        let bytes = frames.concat();
        let whole = read_all(&[&bytes]);
        let mut chunks = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(read_all(&chunks), whole.clone());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(read_all(&single), whole.clone());
        let mut guard = FrameGuard::new(Limits::AUTHENTICATED);
        let guarded = chunks.iter().try_for_each(|chunk| guard.inspect(chunk));
        if whole.1.is_none() && !whole.0.iter().any(|it| matches!(it, Incoming::Close(_))) {
            prop_assert_eq!(guarded, Ok(()));
        }
    }
}

#[test]
fn no_bytes_make_the_json_decoder_panic() {
    let valid: Vec<Vec<u8>> = valid_frames().into_iter().map(String::into_bytes).collect();
    random(&valid, b"{}[]\",:\\u0123456789.eE+-truefalsn \n\xc3\xa9", |bytes| {
        drop(Dialect::NativeJson.decode(bytes));
        drop(Dialect::NativeJson.decode_before_auth(bytes));
    });
}

#[test]
fn no_bytes_make_the_messagepack_decoder_panic() {
    let valid: Vec<Vec<u8>> = valid_frames().iter().map(|frame| msgpack(frame)).collect();
    let markers: Vec<u8> = (0xc0..=0xdf).chain([0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xe0, 0xff]).collect();
    random(&valid, &markers, |bytes| {
        drop(Dialect::NativeMsgpack.decode(bytes));
        drop(Dialect::NativeMsgpack.decode_before_auth(bytes));
    });
}

#[test]
fn no_bytes_make_the_guard_or_the_assembler_panic() {
    let valid = vec![
        client(0x81, "grüß dich".as_bytes()),
        [client(0x01, b"a"), client(0x89, b"beat"), client(0x80, b"b")].concat(),
        client(0x82, &[7; 300]),
        client(0x88, b"\x03\xe8bye"),
    ];
    random(&valid, &[0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xfe, 0xff], |bytes| {
        let mut guard = FrameGuard::new(Limits::AUTHENTICATED);
        let first = guard.inspect(bytes);
        assert!(first.is_ok() || guard.inspect(bytes) == first, "a guard that has refused stays with it");
        drop(read(&[bytes]));
    });
}

#[test]
fn no_text_makes_the_cursor_panic_and_hardly_any_is_one() {
    let position = |epoch, seq| Position { epoch: Epoch(epoch), seq: Seq(seq) };
    let valid: Vec<Vec<u8>> = [position(0, 0), position(3, 1_000_000), position(u64::MAX, (1 << 40) - 1)]
        .map(|position| Cursor::encode(&room(), position).as_bytes().to_vec())
        .into();
    random(&valid, b"AQgwEJabyz0189-_=", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(position) = Cursor::parse(&text, &room()) {
            assert_eq!(*Cursor::encode(&room(), position), *text, "only the canonical text is understood");
        }
    });
}

/// Compares with the exact text in JSON, and with what it says in MessagePack.
fn check(expected: &str, encode: impl Fn(Dialect) -> Bytes) {
    let json = encode(Dialect::NativeJson);
    assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
    let said: Value = serde_json::from_str(expected).unwrap();
    let msgpack: Value = rmp_serde::from_slice(&encode(Dialect::NativeMsgpack)).expect(expected);
    assert_eq!(msgpack, said);
}

/// The members that every record begins with.
fn head(client_id: &str) -> String {
    let members = format!(
        r#""type":"record","room":"R","seq":5,"cursor":"C","id":"0192f0c1-2345-7abc-8def-000000000005","num":12,"at":1700000000000,"author":"ann",{client_id}"#
    );
    filled(members.trim_end_matches(','))
}

/// Puts the ids in the place of `R`, `M` and `C`.
fn filled(text: &str) -> String {
    text.replace("\"R\"", &format!("{ROOM:?}"))
        .replace("\"M\"", &format!("{POST:?}"))
        .replace("\"C\"", "\"EDMl-VkDBVJa\"")
}

fn record() -> Record {
    Record {
        position: Position { epoch: Epoch(3), seq: Seq(5) },
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000005")),
        num: Num(12),
        at: Timestamp(1_700_000_000_000),
        author: user("ann"),
        client_id: Some(client_id("c-1")),
        event: Event::Room(RoomEvent::RoomArchived),
    }
}

fn room() -> RoomKey {
    RoomKey { tenant: TenantId::default_tenant(), room: RoomId(uuid(ROOM)) }
}

fn post() -> RecordId {
    RecordId(uuid(POST))
}

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

fn update(name: Option<Option<Name>>, edit_history: Option<bool>) -> Command {
    Command::Update(Update { name, edit_history, ..Update::default() })
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn client_id(text: &str) -> ClientId {
    ClientId::new(text).unwrap()
}

/// What a MessagePack client would send for `json`.
fn msgpack(json: &str) -> Vec<u8> {
    let value: Value = serde_json::from_str(json).expect(json);
    rmp_serde::to_vec_named(&value).unwrap()
}

/// A frame as a client sends it: masked.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = match payload.len() {
        short @ 0..=125 => vec![first, 0x80 | short as u8],
        long => [&[first, 0x80 | 126][..], &(long as u16).to_be_bytes()].concat(),
    };
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn read(chunks: &[&[u8]]) -> Result<Vec<Incoming>, InboundError> {
    match read_all(chunks) {
        (messages, None) => Ok(messages),
        (_, Some(error)) => Err(error),
    }
}

/// The messages, and what ended them.
fn read_all(chunks: &[&[u8]]) -> (Vec<Incoming>, Option<InboundError>) {
    let mut assembler = Assembler::new(Limits::AUTHENTICATED);
    let mut messages = Vec::new();
    for mut chunk in chunks.iter().copied() {
        loop {
            match assembler.next(&mut chunk) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn valid_frames() -> Vec<String> {
    [
        r#"{"id":"7","type":"auth","token":"a.b.c"}"#,
        r#"{"id":"7","type":"create","kind":"group","name":"x","members":[{"user":"bob","role":"admin"}]}"#,
        r#"{"id":"7","type":"post","room":42,"content":{"text":"h\u00e9\n","a":[1,-2.5e3,null,{"b":true}]},"client_id":"c"}"#,
        r#"{"id":"7","type":"edit","room":"lobby","message":"0192f0c1-2345-7abc-8def-000000000004","content":{"text":1}}"#,
        r#"{"id":"7","type":"history","room":"lobby","before":"EDMl-VkDBVJa","limit":20}"#,
        r#"{"id":"7","type":"rooms","after":"0192f0c1-2345-7abc-8def-0123456789ab","x":[[[]]]}"#,
    ]
    .map(str::to_owned)
    .into()
}

/// Hands over random bytes drawn from `alphabet` or from all, and `valid` ones with something changed.
fn random(valid: &[Vec<u8>], alphabet: &[u8], mut decode: impl FnMut(&[u8])) {
    let from_environment = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let cases = from_environment("CHINWAG_RANDOM_CASES", 100_000);
    let seed = from_environment("CHINWAG_RANDOM_SEED", 1);
    let mut random = SplitMix(seed);
    for case in 0..cases {
        let announced = Announced { seed, case };
        let mut bytes = match random.below(4) {
            0 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
            1 => (0..random.below(64)).map(|_| alphabet[random.below(alphabet.len())]).collect(),
            _ => valid[random.below(valid.len())].clone(),
        };
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() + 1);
            match random.below(4) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, alphabet[random.below(alphabet.len())]),
            }
        }
        decode(&bytes);
        drop(announced);
    }
}

/// Says which case it was when a test panics in it.
struct Announced {
    seed: u64,
    case: u64,
}

impl Drop for Announced {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CHINWAG_RANDOM_SEED={} in case {}", self.seed, self.case);
        }
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn objects() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has finite numbers only", |it| it.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20).prop_map(|it| it.into_iter().collect()),
        ]
    });
    prop::collection::btree_map(prop_oneof![Just("text".to_owned()), any::<String>()], value, 0..6)
        .prop_map(|it| it.into_iter().collect())
}

fn records() -> impl Strategy<Value = Record> {
    let users = "[a-z]{1,8}".prop_map(|it| user(&it));
    let contents = (prop::option::of(any::<String>()), prop::option::of(objects())).prop_map(|(text, body)| {
        let body = body.map(|mut body| {
            body.as_object_mut().unwrap().remove("text");
            body.to_string().into()
        });
        Content { text: text.map(Into::into), body }
    });
    let ids = any::<u128>().prop_map(|it| RecordId(Uuid::from_u128(it)));
    let mentions = prop::collection::vec(users.clone(), 0..3).prop_map(Vec::into_boxed_slice);
    let events = prop_oneof![
        contents.clone().prop_map(RoomEvent::posted),
        (contents.clone(), prop::option::of((ids.clone(), users.clone(), ids.clone())), mentions.clone()).prop_map(
            |(content, reply, mentions)| {
                let reply = reply.map(|(message, by, thread)| Box::new(InReplyTo { message, by, thread }));
                RoomEvent::MessagePosted { content, reply, mentions, forwarded: None, attachments: [].into() }
            }
        ),
        (ids.clone(), users.clone(), contents, mentions).prop_map(|(message, by, content, mentions)| {
            RoomEvent::MessageEdited { message, by, content, mentions }
        }),
        (ids.clone(), users.clone()).prop_map(|(message, by)| RoomEvent::MessageDeleted { message, by }),
        (ids.clone(), users.clone()).prop_map(|(message, by)| RoomEvent::MessagePinned { message, by }),
        (ids.clone(), users.clone()).prop_map(|(joined, user)| RoomEvent::MemberLeft { user, joined }),
        Just(RoomEvent::MessageErased),
    ];
    let positions =
        (any::<u64>(), 0..1_u64 << 40).prop_map(|(epoch, seq)| Position { epoch: Epoch(epoch), seq: Seq(seq) });
    let client_ids = prop::option::of("[a-z0-9]{1,8}".prop_map(|it| client_id(&it)));
    (positions, ids, any::<u64>(), any::<i64>(), users, client_ids, events).prop_map(
        |(position, id, num, at, author, client_id, event)| Record {
            position,
            id,
            num: Num(num),
            at: Timestamp(at),
            author,
            client_id,
            event: Event::Room(event),
        },
    )
}

/// Frames as an honest client or one with a few mistakes sends them.
fn client_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let frame = prop_oneof![
        4 => any::<String>().prop_map(|text| client(0x81, text.as_bytes())),
        4 => payload.clone().prop_map(|payload| client(0x82, &payload)),
        2 => prop::collection::vec(any::<u8>(), 0..=125).prop_map(|payload| client(0x89, &payload)),
        4 => (any::<String>(), 0_usize..100, 0_usize..100).prop_map(|(text, a, b)| {
            let (a, b) = (a.min(text.len()), (a + b).min(text.len()));
            let (first, middle, last) = (&text.as_bytes()[..a], &text.as_bytes()[a..b], &text.as_bytes()[b..]);
            [client(0x01, first), client(0x8a, b""), client(0x00, middle), client(0x80, last)].concat()
        }),
        1 => (any::<u8>(), payload).prop_map(|(first, payload)| client(first, &payload)),
    ];
    prop::collection::vec(frame, 0..8)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..40, 0..60)
}

fn may(capabilities: &[Capability]) -> Capabilities {
    capabilities.iter().copied().collect()
}
