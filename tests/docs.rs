//! The pages say what the code does: those for client authors, and the map of the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chinwag::actors;
use chinwag::actors::limits::{self, Rate};
use chinwag::config::table::{self, Reload};
use chinwag::config::{Config, Flags};
use chinwag::domain::account::Rank;
use chinwag::domain::file::{ATTACHMENTS_MAX, AVATAR_BYTES_MAX};
use chinwag::domain::inbox::{BLOCKS_MAX, Entry as InboxEntry, Last, Reached, Settings, Unread};
use chinwag::domain::policy::{Entry, Leave, Role, RoomKind, Standing};
use chinwag::domain::profile::ContactHash;
use chinwag::domain::recent::{self, Receipt};
use chinwag::domain::room::{BANS_MAX, Ban, MUTES_MAX, Mute, RIGHTS_MAX, Settings as RoomSettings};
use chinwag::domain::rules::{HOSTS_MAX, Links, WORD_BYTES_MAX, WORDS_MAX};
use chinwag::domain::{
    Alias, Attachment, Audited, Capabilities, Capability, ClientId, Content, Deed, Emoji, Epoch, Event, FileId,
    FileName, InReplyTo, MediaType, Num, Position, Presence, Principal, Profile, Record, RecordId, Rejection, Rights,
    RoomEvent, RoomId, RoomKey, Rules, Seq, Signal, TenantId, Timestamp, UserId,
};
use chinwag::http::routes::{self, Serves};
use chinwag::wire::close::CloseReason;
use chinwag::wire::guard::Limits;
use chinwag::wire::refusal::CODES;
use chinwag::wire::{
    About, Absence, Activity, Ask, Beside, Change, Changes, DEPTH_MAX, Dialect, Edited, Gap, Inbox, InboxRoom, Kind,
    Listed, ListedMember, Notice, Pinned, Presences, Present, Reader, Readers, Refusal, Removal, Reply, Tally,
    UserProfile, Version,
};
use serde_json::Value;
use uuid::Uuid;

const ROOM: &str = "0192f0c1-2345-7abc-8def-0123456789ab";
const POST: &str = "0192f0c1-2345-7abc-8def-000000000004";
/// Of `ann@example.org`.
const ANN_HASH: &str = "438c4c7afe600cdf1e455c369bec76dc970fc8ca463447c7b387a347f3c79331";
const FILE: &str = "0192f0c1-2345-7abc-8def-0000000000f1";

#[test]
fn the_page_of_refusals_lists_every_code_and_no_other() {
    let known: Vec<Vec<String>> = CODES
        .iter()
        .map(|info| {
            vec![format!("`{}`", info.code), info.status.to_string(), info.retry.as_str().into(), info.meaning.into()]
        })
        .collect();
    assert_eq!(tables(&page("errors.md"), "| code | HTTP | retry | meaning |"), known);
}

#[test]
fn the_page_of_the_protocol_lists_every_close_code_and_no_other() {
    let known: Vec<Vec<String>> = CloseReason::ALL
        .iter()
        .map(|reason| {
            let info = reason.info();
            let reconnect = if info.reconnect { "yes" } else { "no" };
            vec![info.code.to_string(), format!("`{}`", info.name), reconnect.into(), info.meaning.into()]
        })
        .collect();
    assert_eq!(tables(&page("protocols/native.md"), "| code | name | reconnect | meaning |"), known);
}

#[test]
fn every_example_of_a_command_is_understood_and_every_command_has_one() {
    let mut shown = BTreeSet::new();
    for (text, example) in examples().iter().filter(|(_, example)| !is_from_server(example)) {
        let request = Dialect::NativeJson.decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_ne!(request.ask, Ask::NotYet);
        shown.insert(example["type"].as_str().unwrap().to_owned());
    }
    let commands: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(shown, commands);
}

#[test]
fn the_page_of_the_protocol_says_which_request_is_which_command() {
    let known: BTreeSet<Vec<String>> = routes::all()
        .filter_map(|route| match route.serves {
            Serves::Command(kind) => {
                let address = format!("`{} {}`", route.verb.method(), route.path);
                Some(vec![format!("`{}`", kind.as_str()), address])
            }
            Serves::Events
            | Serves::World
            | Serves::Tickets
            | Serves::Upload
            | Serves::File
            | Serves::Link
            | Serves::Tus(_)
            | Serves::Accounts(_)
            | Serves::Join(_)
            | Serves::Socket
            | Serves::Description
            | Serves::Greeting
            | Serves::Alive
            | Serves::Ready => None,
        })
        .collect();
    let rows = tables(&page("protocols/native.md"), "| command | request | in the body or the query |");
    let shown: BTreeSet<Vec<String>> = rows.iter().map(|row| row[..2].to_vec()).collect();
    assert_eq!(shown, known);
    for (row, route) in rows.iter().flat_map(|row| routes::all().map(move |route| (row, route))) {
        let Serves::Command(kind) = route.serves else { continue };
        if row[0] != format!("`{}`", kind.as_str()) {
            continue;
        }
        let named: BTreeSet<_> = row[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let mut members: BTreeSet<_> = route.query.iter().map(|query| query.name.to_owned()).collect();
        let example = route.body.map(|body| serde_json::from_str::<Value>(body.example).unwrap());
        members.extend(example.iter().flat_map(|example| example.as_object().unwrap().keys().cloned()));
        assert_eq!(named, members, "{}", row[0]);
    }
}

#[test]
fn every_example_of_what_is_sent_is_what_is_sent() {
    let sent = sent();
    let shown: Vec<Value> = examples().into_iter().map(|(_, example)| example).filter(is_from_server).collect();
    for example in &shown {
        assert!(sent.contains(example), "nothing sends {example}");
    }
    for frame in &sent {
        assert!(shown.contains(frame), "the page does not show {frame}");
    }
}

#[test]
fn the_page_of_the_protocol_lists_every_event() {
    let page = page("protocols/native.md");
    let rows: Vec<String> =
        tables(&page, "| event | members |").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let events = [
        "room_created",
        "room_updated",
        "room_archived",
        "member_joined",
        "member_invited",
        "member_left",
        "member_kicked",
        "member_banned",
        "member_unbanned",
        "member_muted",
        "member_unmuted",
        "role_changed",
        "rights_changed",
        "member_blocked",
        "member_unblocked",
        "rules_changed",
        "message_posted",
        "message_edited",
        "message_deleted",
        "reaction_added",
        "reaction_removed",
        "message_pinned",
        "message_unpinned",
        "history_trimmed",
        "message_erased",
        "reported",
        "report_resolved",
        "audited",
        "administered",
    ];
    assert_eq!(rows, events);
}

#[test]
fn the_page_of_the_protocol_says_what_each_kind_of_room_allows() {
    let heading = "| kind | who comes in | invite | kick, ban, mute, roles, delete | update | archive | post, react | pin | \
                   leave |";
    let role = |role: Option<Role>| role.map_or("nobody", Role::as_str).to_owned();
    let known: Vec<Vec<String>> = RoomKind::ALL
        .iter()
        .map(|kind| {
            let policy = kind.policy();
            let entry = match policy.entry {
                Entry::Open => "anybody",
                Entry::Invited => "the invited",
                Entry::Added => "the added",
                Entry::Closed => "nobody more",
            };
            let invite = Some(policy.invite).filter(|_| policy.entry != Entry::Closed);
            let leave = match policy.leave {
                Leave::UnlessLastOwner => "all but the last owner",
                Leave::UnlessOwner => "all but owners",
                Leave::Never => "nobody",
            };
            let roles =
                [invite, policy.moderate, Some(policy.update), policy.archive, Some(policy.post), Some(policy.pin)];
            let named = [format!("`{}`", kind.as_str()), entry.to_owned()];
            named.into_iter().chain(roles.map(role)).chain([leave.to_owned()]).collect()
        })
        .collect();
    assert_eq!(tables(&page("protocols/native.md"), heading), known);
}

#[test]
fn the_numbers_on_the_page_are_those_of_the_code() {
    let page = page("protocols/native.md");
    let limits = Limits::AUTHENTICATED;
    let defaults = actors::Limits::default();
    for promise in [
        format!(
            "| a frame | {} KiB; {} KiB",
            limits.frame_bytes_max / 1024,
            Limits::BEFORE_AUTH.frame_bytes_max / 1024
        ),
        format!("{} fragments, {} KiB;", limits.fragments_max, limits.message_bytes_max / 1024),
        format!("{} in a second", limits.control_frames_max),
        format!("| {DEPTH_MAX}, the frame itself included |"),
        format!("| content | {} KiB |", Content::BYTES_MAX / 1024),
        format!("{} hours", recent::AGE_MAX_MS / 3_600_000),
        format!("{},000 records of the room", recent::COUNT_MAX / 1000),
        format!("(1 to {} characters", ClientId::BYTES_MAX),
        format!("| members of a room | {},000 |", chinwag::domain::room::MEMBERS_MAX / 1000),
        format!("at most {ATTACHMENTS_MAX} of them"),
        format!("| a file | {} MiB; an avatar {} MiB |", defaults.files.bytes_max >> 20, AVATAR_BYTES_MAX >> 20),
        format!(
            "| the body of a request | {} KiB, and {} seconds",
            defaults.body_bytes_max / 1024,
            defaults.body_deadline.as_secs()
        ),
        format!("| edits of a message | {} |", chinwag::domain::room::EDITS_MAX),
        format!("| users of a room with rights of their own | {},{:03} |", RIGHTS_MAX / 1000, RIGHTS_MAX % 1000),
        format!("| users that one has blocked | {},{:03} |", BLOCKS_MAX / 1000, BLOCKS_MAX % 1000),
        format!("| mutes of a room | {},{:03} |", MUTES_MAX / 1000, MUTES_MAX % 1000),
        format!("| words that are not allowed in a room, or a tenant | {WORDS_MAX}, of {WORD_BYTES_MAX} bytes |"),
        format!("| hosts that links may lead to | {HOSTS_MAX} |"),
        format!("| bans of a room | {},{:03} |", BANS_MAX / 1000, BANS_MAX % 1000),
        format!("| pinned messages of a room | {} |", chinwag::domain::room::PINS_MAX),
        format!("| rooms that a connection follows | {} |", defaults.follows_per_session),
        format!(
            "{} of a connection, 1,{:03} of a room",
            defaults.in_flight_per_session,
            defaults.in_flight_per_room - 1000
        ),
        per_second(defaults.rates.messages_per_session, "of a connection,"),
        per_second(defaults.rates.messages_per_user, "of a user on all connections,"),
        per_second(defaults.rates.messages_per_room, "of a room,"),
        per_second(defaults.rates.connects_per_address, "of an address,"),
        format!("{} a minute of a user", defaults.rates.failed_joins_per_user.unwrap().count),
        format!(
            "{} a minute of an address; then none is looked at for {} seconds",
            defaults.rates.auth_failures_per_address.unwrap().count,
            defaults.rates.auth_penalty.as_secs()
        ),
        format!(
            "{} of an address, {} of a user; of all that the server takes, {} in a hundred without a token",
            defaults.connections.per_address.unwrap(),
            defaults.connections.per_user.unwrap(),
            defaults.connections.unauthenticated_percent.unwrap()
        ),
        format!("taken nothing for {} seconds", defaults.slow_consumer.as_secs()),
        format!("ping every {} seconds", defaults.heartbeat.as_secs()),
        format!("| a user id | {} characters", UserId::BYTES_MAX),
        format!("| an alias | {} bytes", Alias::BYTES_MAX),
        format!("| a name, or the reason of a kick | {} bytes", chinwag::domain::Name::BYTES_MAX),
        format!("tokens of up to {} KiB", chinwag::auth::TOKEN_BYTES_MAX / 1024),
        format!("at most {} hours apart", chinwag::auth::LIFETIME_MAX.as_secs() / 3600),
    ] {
        assert!(page.contains(&promise), "{promise}");
    }
}

#[test]
fn the_page_of_limits_lists_every_limit_by_its_name_and_default() {
    let rows = tables(&page("limits.md"), "| limit | by default | beyond it |");
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, limits::names::ALL.into_iter().collect());
    let defaults = actors::Limits::default();
    let of = |name: &str| rows.iter().find(|row| row[0] == format!("`{name}`")).unwrap()[1].clone();
    for (name, rate) in [
        (limits::names::CONNECTS_PER_ADDRESS, defaults.rates.connects_per_address),
        (limits::names::MESSAGES_PER_SESSION, defaults.rates.messages_per_session),
        (limits::names::MESSAGES_PER_USER, defaults.rates.messages_per_user),
        (limits::names::MESSAGES_PER_ROOM, defaults.rates.messages_per_room),
    ] {
        assert_eq!(of(name), per_second(rate, "").replace("  ", ", "), "{name}");
    }
    assert_eq!(of(limits::names::CONNECTIONS_PER_USER), defaults.connections.per_user.unwrap().to_string());
    assert_eq!(of(limits::names::CONNECTIONS_PER_ADDRESS), defaults.connections.per_address.unwrap().to_string());
    assert_eq!(of(limits::names::OPENING_PER_ADDRESS), defaults.connections.opening_per_address.unwrap().to_string());
    assert_eq!(defaults.tenant, limits::TenantLimits::default(), "the page says that there are none");
}

#[test]
fn the_page_of_the_configuration_lists_every_setting_as_the_table_has_it() {
    let page = page("configuration.md");
    for section in table::SECTIONS {
        let heading = format!("## `[{}]`", section.name);
        let heading = if section.shape == table::Shape::List { format!("## `[[{}]]`", section.name) } else { heading };
        let its = page.split("\n## ").find(|part| format!("## {part}").starts_with(&format!("{heading}\n")));
        let its = its.unwrap_or_else(|| panic!("there is no {heading}"));
        assert!(its.contains(&format!("\n{}.", section.doc)), "{heading}: {}.", section.doc);
        let known = section.settings.iter().map(|setting| {
            let reload = match setting.reload {
                Reload::Live => "yes",
                Reload::Restart => "no",
            };
            let [takes, doc] = [setting.kind.takes(), setting.doc.to_owned()];
            vec![format!("`{}`", setting.key), format!("`{}`", setting.default), reload.to_owned(), takes, doc]
        });
        let known: Vec<Vec<String>> = known.collect();
        let rows = tables(its, "| setting | default | reload | takes | meaning |");
        let wanted: String = known.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
        assert_eq!(rows, known, "{heading} should have\n{wanted}");
    }
    let sections = page.split("\n## `[").count() - 1;
    assert_eq!(sections, table::SECTIONS.len(), "a section that there is not");
}

#[test]
fn the_example_of_an_issuer_is_taken() {
    let page = page("identity.md");
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), example).unwrap();
    let auth = Config::load(&Flags::default(), [], Some(file.path())).unwrap().auth;
    assert!(!auth.own_issuer);
    assert_eq!(auth.issuers[0].iss, "https://id.example/");
    assert_eq!(auth.issuers[0].required[0].claim, "amr");
}

#[test]
fn the_page_of_each_other_dialect_lists_its_addresses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let page = read("docs/protocols/staticbackend.md");
    let mut addresses = 0;
    for file in ["channels", "documents", "people"] {
        let text = read(&format!("src/http/staticbackend/{file}.rs"));
        for address in text.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')) {
            let named = address.split('{').next().unwrap();
            assert!(page.contains(named), "{address} is not on the page");
            addresses += 1;
        }
    }
    assert!(addresses > 15, "{addresses}");
    let page = read("docs/protocols/misakey.md");
    let mut addresses = BTreeSet::new();
    for file in ["misakey", "misakey/boxes"] {
        let text = read(&format!("src/http/{file}.rs"));
        addresses.extend(text.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).map(str::to_owned));
    }
    for address in &addresses {
        assert!(page.contains(address), "{address} is not on the page");
    }
    assert!(addresses.len() > 10, "{addresses:?}");
}

#[test]
fn every_file_of_the_map_exists_and_every_source_is_on_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows = tables(&map, "| file | what it is |");
    let on_the_map: BTreeSet<_> = rows.iter().filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`')).collect();
    for file in &on_the_map {
        assert!(root.join(file).is_file(), "{file} is on the map and not there");
    }
    for file in sources(&root.join("src")) {
        let file = file.strip_prefix(root).unwrap().to_str().unwrap();
        assert!(on_the_map.contains(file), "{file} is not on the map");
    }
    // Elsewhere on the page files are named without their folder `src`.
    let named = map.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs"));
    for file in named.filter(|file| file.contains('/')) {
        assert!(root.join(file).is_file() || root.join("src").join(file).is_file(), "{file} is named and not there");
    }
}

#[test]
fn every_function_that_the_page_of_architecture_names_is_in_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let words: Vec<_> = map.split('`').collect();
    let mut named = 0;
    for window in words.windows(3) {
        let [file, between, name] = window else { unreachable!("windows of three") };
        let file = root.join("src").join(file);
        if *between != ", " || !file.is_file() {
            continue;
        }
        named += 1;
        let text = fs::read_to_string(&file).unwrap();
        let last = name.rsplit("::").next().unwrap();
        let there = if name.contains('<') { text.contains(name) } else { has_word(&text, last) };
        assert!(there, "{} has no {name}", file.display());
    }
    assert!(named > 15, "found only {named}");
}

/// A rate as the page says it.
fn per_second(rate: Option<Rate>, of: &str) -> String {
    let Rate { count, per, burst } = rate.unwrap();
    assert_eq!(per, Duration::from_secs(1));
    let thousands = |number: u32| match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    };
    format!("{} a second {of} {} at once", thousands(count), thousands(burst))
}

/// What the page's examples are encoded from.
fn sent() -> Vec<Value> {
    let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(uuid(ROOM)) };
    let at = Timestamp(1_700_000_000_000);
    let position = |seq| Position { epoch: Epoch(3), seq: Seq(seq) };
    let receipt = |seq| Receipt { position: position(seq), id: RecordId(uuid(POST)), num: Num(12), at };
    let user = UserId::new("ann").unwrap();
    let posted = Record {
        position: position(4),
        id: RecordId(uuid(POST)),
        num: Num(12),
        at,
        author: user.clone(),
        client_id: Some(ClientId::new("c-1").unwrap()),
        event: Event::Room(RoomEvent::posted(Content {
            text: Some("hello".into()),
            body: Some(r#"{"mood":"fine"}"#.into()),
        })),
    };
    let answer = Record {
        position: position(5),
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000005")),
        num: Num(13),
        client_id: None,
        event: Event::Room(RoomEvent::MessagePosted {
            content: Content::text("@bob look"),
            reply: Some(Box::new(InReplyTo { message: posted.id, by: user.clone(), thread: posted.id })),
            mentions: [UserId::new("bob").unwrap()].into(),
            forwarded: None,
            attachments: [].into(),
        }),
        ..posted.clone()
    };
    let attached = Record {
        position: position(6),
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000006")),
        num: Num(14),
        client_id: None,
        event: Event::Room(RoomEvent::MessagePosted {
            content: Content::default(),
            reply: None,
            mentions: [].into(),
            forwarded: None,
            attachments: [Attachment {
                id: FileId(uuid(FILE)),
                name: FileName::new("map.png").unwrap(),
                media: MediaType::new("image/png").unwrap(),
                size: 48_213,
            }]
            .into(),
        }),
        ..posted.clone()
    };
    let audit = RoomKey { tenant: room.tenant.clone(), room: RoomId::audit(&room.tenant, room.room) };
    let kicked = Audited {
        room: room.room,
        position: position(9),
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000009")),
        at,
        by: user.clone(),
        decided: RoomEvent::MemberKicked {
            user: UserId::new("bob").unwrap(),
            joined: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000003")),
            reason: Some(chinwag::domain::Name::new("spam").unwrap()),
        },
    };
    let audited = Record {
        position: position(6),
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000006")),
        num: Num(14),
        client_id: None,
        event: Event::Room(RoomEvent::Audited(Box::new(kicked))),
        ..posted.clone()
    };
    let of_tenant = RoomKey { tenant: room.tenant.clone(), room: RoomId::audit_of_tenant(&room.tenant) };
    let bob = UserId::new("bob").unwrap();
    let deed = Deed::AccountChanged { user: bob, rank: Rank::Admin, disabled: false };
    let administered = Record {
        position: position(6),
        id: RecordId(uuid("0192f0c1-2345-7abc-8def-000000000006")),
        num: Num(14),
        client_id: None,
        event: Event::Room(RoomEvent::Administered(Box::new(deed))),
        ..posted.clone()
    };
    let principal = Principal {
        tenant: room.tenant.clone(),
        user,
        token: None,
        login: None,
        issued_at: Timestamp(1_700_000_000_000),
        expires_at: Timestamp(1_700_000_600_000),
    };
    let listed_room =
        Listed { room: room.room, kind: RoomKind::Channel, role: Role::Member, standing: Standing::Invited };
    let alias = Some(Alias::new("lobby").unwrap());
    let about = About {
        kind: RoomKind::Channel,
        num: Num(3),
        alias: alias.clone(),
        created_at: at,
        archived: false,
        settings: RoomSettings {
            name: Some(chinwag::domain::Name::new("The lobby").unwrap()),
            ..RoomSettings::default()
        },
        place: Some((Role::Owner, Standing::Member)),
        may: RoomKind::Channel.policy().capabilities(Role::Owner),
        head: Some(position(4)),
        audits: None,
        audit: Some(audit.room),
    };
    let rights = Rights { allow: [Capability::Pin].into_iter().collect(), deny: Capabilities::NONE };
    let listed = |user, role, rights| ListedMember {
        user: UserId::new(user).unwrap(),
        role,
        rights,
        muted: None,
        joined: RecordId(uuid(POST)),
    };
    let members = vec![listed("ann", Role::Owner, Rights::default()), listed("bob", Role::Member, rights)];
    let owner = RoomKey { tenant: room.tenant.clone(), room: RoomId::inbox(&room.tenant, &posted.author) };
    let reached = |seq| Reached(position(seq));
    let draft = Some("what I was".into());
    let entry = InboxEntry { delivered: reached(4), read: reached(3), draft, ..InboxEntry::default() };
    let change = Change { room: room.room, entry: entry.clone(), position: position(9) };
    let unread = Unread { messages: 1, mentions: 0, more: false };
    let in_inbox = InboxRoom {
        room: room.room,
        kind: RoomKind::Channel,
        role: Role::Owner,
        num: Num(3),
        alias: alias.clone(),
        name: about.settings.name.clone(),
        created_at: at,
        head: Seq(5),
        last: Some(Last { id: posted.id, at, author: posted.author.clone(), text: Some("hello".into()) }),
        unread,
        entry,
    };
    let bob = UserId::new("bob").unwrap();
    let ann = Present { user: posted.author.clone(), presence: None, last_seen: Some(at) };
    let there = Present { user: bob.clone(), presence: Some(Presence::Online), last_seen: None };
    let presences = Presences { members: 2, online: 1, away: 0, users: Some(vec![ann, there]) };
    let reader = Reader { user: bob.clone(), delivered_to: Seq(5), read_to: Seq(5) };
    let readers = Readers { members: 2, delivered: 2, read: 1, users: vec![reader] };
    let tally = Tally { message: posted.id, emoji: Emoji::new("👍").unwrap(), count: 2, mine: true };
    let version = Version { seq: Seq(9), at, content: Content::text("hello all"), mentions: [].into() };
    let versions = vec![Version::of(&posted).unwrap(), version.clone()];
    let edited = Edited { message: posted.id, version };
    let beside = Beside { reactions: vec![tally], edited: vec![edited], hidden: Vec::new() };
    let mute = Mute { by: UserId::new("eve").unwrap(), at, rank: Role::Admin, until: Some(Timestamp(at.0 + 600_000)) };
    let words = ["spam", "buy now"].map(str::to_owned).to_vec();
    let rules = Rules::new(words, Links::Listed, vec!["example.org".to_owned()]).unwrap();
    let ban = Ban {
        by: UserId::new("eve").unwrap(),
        at,
        rank: Role::Admin,
        until: Some(Timestamp(at.0 + 600_000)),
        reason: Some(chinwag::domain::Name::new("spam").unwrap()),
    };
    let profile = UserProfile {
        user: posted.author.clone(),
        profile: Profile {
            name: Some(chinwag::domain::Name::new("Ann").unwrap()),
            email: Some(chinwag::domain::profile::Email::new("ann@example.org").unwrap()),
            fields: Content { text: None, body: Some(r#"{"pronouns":"she"}"#.into()) },
            ..Profile::default()
        },
    };
    let shown = UserProfile { profile: profile.profile.clone().without_contacts(), ..profile.clone() };
    let replies = [
        (Some("1"), Reply::Authenticated { principal, token: String::new() }),
        (Some("9"), Reply::Refused(Rejection::NotMember.into())),
        (None, Reply::Refused(Refusal::too_deep())),
        (Some("2"), Reply::Created { room: room.clone(), num: Num(3), alias, may: about.may, receipt: receipt(1) }),
        (
            Some("3"),
            Reply::Joined {
                room: room.clone(),
                position: position(3),
                at,
                may: RoomKind::Channel.policy().capabilities(Role::Member),
            },
        ),
        (Some("3"), Reply::Changed { room: room.clone(), position: position(3), at }),
        (Some("4"), Reply::Published { room: room.clone(), receipt: receipt(4), duplicate: false }),
        (Some("4"), Reply::Published { room: room.clone(), receipt: receipt(4), duplicate: true }),
        (Some("7"), Reply::Following { room: room.clone(), at: position(3), head: Seq(5) }),
        (Some("8"), Reply::Unfollowed { room: room.room }),
        (Some("23"), Reply::Signaled { room: room.clone() }),
        (Some("27"), Reply::Hidden { room: room.clone(), messages: vec![posted.id], after: None }),
        (Some("26"), Reply::Settings(Settings { private_reading: true, ..Settings::default() })),
        (Some("30"), Reply::Blocked { user: bob.clone(), blocked: true }),
        (Some("30"), Reply::Blocks { users: vec![bob.clone()], after: None }),
        (Some("29"), Reply::Profile(Box::new(profile.clone()))),
        (Some("31"), Reply::FoundUsers(vec![(ContactHash::parse(ANN_HASH).unwrap(), profile.clone())])),
        (
            Some("29"),
            Reply::Users(vec![
                shown.clone(),
                UserProfile { user: UserId::new("bob").unwrap(), profile: Profile::default() },
            ]),
        ),
        (Some("24"), Reply::Present { presence: Some(Presence::Online) }),
        (Some("25"), Reply::Presences { room: room.clone(), presences, after: None }),
        (
            Some("10"),
            Reply::History {
                room: room.clone(),
                records: vec![posted.clone()],
                beside,
                before: Some(position(4)),
                gap: None,
            },
        ),
        (
            Some("16"),
            Reply::Thread {
                room: room.clone(),
                thread: posted.id,
                records: vec![answer],
                beside: Beside::default(),
                after: None,
            },
        ),
        (
            Some("18"),
            Reply::Reactions {
                room: room.clone(),
                message: posted.id,
                emoji: Emoji::new("👍").unwrap(),
                count: 2,
                users: ["ann", "bob"].map(|user| UserId::new(user).unwrap()).into(),
                after: None,
            },
        ),
        (Some("21"), Reply::Edits { room: room.clone(), message: posted.id, versions, after: None }),
        (
            Some("20"),
            Reply::Pins {
                room: room.clone(),
                pins: vec![Pinned { message: posted.id, by: UserId::new("eve").unwrap(), at }],
                records: vec![posted.clone()],
                beside: Beside::default(),
                before: None,
            },
        ),
        (Some("22"), Reply::Bans { room: room.clone(), bans: vec![(UserId::new("zoe").unwrap(), ban)], after: None }),
        (Some("28"), Reply::Rules { room: room.clone(), rules }),
        (Some("23"), Reply::Mutes { room: room.clone(), mutes: vec![(bob.clone(), mute)], after: None }),
        (Some("12"), Reply::FollowingAll { cursor: "IKm3J0hP8yTfWcB1uLxNqQvEoZr7sDgA5kX2bVtYw9R".into(), rooms: 3 }),
        (Some("13"), Reply::UnfollowedAll),
        (
            Some("19"),
            Reply::Inbox(Inbox {
                owner: owner.clone(),
                rooms: vec![in_inbox],
                after: Some(Activity { at, room: room.room }),
                unread: 7,
                mentions: 2,
                cursor: change.position,
            }),
        ),
        (Some("20"), Reply::InboxUpdated { owner: owner.clone(), change: change.clone(), unread }),
        (
            Some("21"),
            Reply::InboxChanges(Changes {
                owner: owner.clone(),
                changes: vec![change.clone()],
                cursor: change.position,
                complete: true,
            }),
        ),
        (Some("22"), Reply::Readers { room: room.clone(), message: posted.id, readers, after: Some(bob.clone()) }),
        (Some("29"), Reply::Reported { room: room.clone(), message: posted.id }),
        (Some("14"), Reply::Room { room: room.clone(), about }),
        (Some("15"), Reply::Members { room: room.clone(), members, after: None }),
        (Some("11"), Reply::Rooms { rooms: vec![listed_room], after: Some(room.room) }),
    ];
    let notices = [
        Notice::Hello { epoch: Epoch(3), heartbeat: Duration::from_secs(25), authenticated: false, socket: None },
        Notice::Removed { room: room.room, reason: Removal::Kicked },
        Notice::RoomGained { room: room.room, standing: Standing::Invited, role: Role::Guest },
        Notice::RoomLost { room: room.room },
        Notice::InboxUpdated { owner, change },
        Notice::MessageHidden { room: room.room, message: posted.id, hidden: true },
        Notice::Signal { room: room.room, signal: Signal::Typing { user: bob.clone(), typing: true } },
        Notice::Signal {
            room: room.room,
            signal: Signal::Presence { user: bob.clone(), presence: None, last_seen: Some(at) },
        },
        Notice::Signal {
            room: room.room,
            signal: Signal::Progress { user: bob.clone(), delivered_to: Seq(5), read_to: Seq(5) },
        },
        Notice::Signal {
            room: room.room,
            signal: Signal::Entered { user: bob, channel: Alias::new("lobby").unwrap(), handle: posted.id.0 },
        },
        Notice::UserUpdated(Box::new(shown)),
        Notice::UserBlocked { user: UserId::new("bob").unwrap(), blocked: true },
        Notice::Gap { room: room.room, gap: Gap { from: Seq(2), to: Seq(3), reason: Absence::NotMember } },
        Notice::FollowFailed { room: room.room, refusal: Refusal::unavailable() },
        Notice::Restarting { retry_after: Duration::from_millis(2_500) },
    ];
    let json = Dialect::NativeJson;
    let frames = replies
        .iter()
        .map(|(id, reply)| json.encode_reply(*id, reply))
        .chain(notices.iter().map(|notice| json.encode_notice(notice)))
        .chain([json.encode_record(&room, &posted), json.encode_record(&room, &attached)])
        .chain([json.encode_record(&audit, &audited), json.encode_record(&of_tenant, &administered)]);
    frames.map(|frame| serde_json::from_slice(&frame).unwrap()).collect()
}

/// The blocks of the page that are marked as JSON: their text, and what it says.
fn examples() -> Vec<(String, Value)> {
    let page = page("protocols/native.md");
    let blocks = page.split("```json\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    blocks
        .map(|text| {
            let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            (text, value)
        })
        .collect()
}

fn is_from_server(example: &Value) -> bool {
    let notices = [
        "hello",
        "reply",
        "record",
        "removed",
        "room_gained",
        "room_lost",
        "inbox_updated",
        "message_hidden",
        "user_updated",
        "user_blocked",
        "typing",
        "progress",
        "presence",
        "entered",
        "gap",
        "follow_failed",
        "restarting",
    ];
    // What a client asks has an id, and is called as the notice that it leads to.
    let asks = ["typing", "presence"].iter().any(|kind| example["type"] == *kind) && example.get("id").is_some();
    !asks && notices.contains(&example["type"].as_str().unwrap())
}

/// The cells of all tables that begin with `heading`, row by row.
fn tables(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut lines = page.lines();
    while lines.any(|line| line == heading) {
        let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        rows.extend(table.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()));
    }
    rows
}

/// Every source below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word)
}

fn page(name: &str) -> String {
    let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}
