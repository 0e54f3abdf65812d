//! What is said, and what becomes of it.

use super::*;
use crate::domain::{Attachment, FileName, MediaType};

#[test]
fn content_is_neither_empty_nor_too_large() {
    let large = "x".repeat(Content::BYTES_MAX + 1);
    given(channel("ann")).when("ann", post("")).refused(Rejection::ContentSize);
    given(channel("ann")).when("ann", post(&large)).refused(Rejection::ContentSize);
    given(channel("ann")).when("ann", post(&large[1..])).accepted();
}

#[test]
fn authors_edit_their_own_and_moderators_delete_any() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join).and("bob", post("hi"));
    let message = lobby.last_id();
    let edit = Command::Edit { message, content: Content::text("ho"), mentions: Vec::new() };
    let edited = RoomEvent::MessageEdited {
        message,
        by: user("bob"),
        content: Content::text("ho"),
        mentions: Mentions::default(),
    };
    let deleted = RoomEvent::MessageDeleted { message, by: user("bob") };
    lobby.clone().when("bob", edit.clone()).then([edited]);
    lobby.clone().when("ann", edit.clone()).refused(Rejection::NotAuthor);
    lobby.clone().when("cas", Command::Delete { message }).refused(Rejection::Forbidden);
    lobby.clone().when("bob", Command::Delete { message }).then([deleted.clone()]);
    lobby.clone().when("ann", Command::Delete { message }).then([deleted]);
    let gone = lobby.and("ann", Command::Delete { message });
    gone.clone().when("bob", edit).refused(Rejection::MessageDeleted);
    gone.when("bob", Command::Delete { message }).refused(Rejection::MessageDeleted);
}

#[test]
fn a_message_is_edited_a_bounded_number_of_times() {
    let mut lobby = given(channel("ann")).and("ann", post("0"));
    let message = lobby.last_id();
    for _ in 0..EDITS_MAX {
        lobby = lobby.and("ann", Command::Edit { message, content: Content::text("again"), mentions: Vec::new() });
    }
    lobby
        .when("ann", Command::Edit { message, content: Content::text("again"), mentions: Vec::new() })
        .refused(Rejection::TooManyEdits);
}

#[test]
fn a_message_answers_one_of_its_room_and_belongs_to_its_thread() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("shall we?"));
    let first = lobby.last_id();
    let answered = |message, by, thread| {
        let reply = Some(Box::new(InReplyTo { message, by: user(by), thread }));
        [RoomEvent::MessagePosted {
            content: Content::text("yes"),
            reply,
            mentions: Mentions::default(),
            forwarded: None,
            attachments: Attachments::default(),
        }]
    };
    lobby.clone().when("ann", answer("yes", first)).then(answered(first, "bob", first));
    let lobby = lobby.and("ann", answer("yes", first));
    let second = lobby.last_id();
    lobby.clone().when("bob", answer("yes", second)).then(answered(second, "ann", first));
    // What was deleted, or never was, has no answers; those that it has stay in its thread.
    let gone = lobby.and("bob", Command::Delete { message: first });
    gone.clone().when("ann", answer("yes", first)).refused(Rejection::MessageDeleted);
    gone.clone().when("ann", answer("yes", RecordId(Uuid::from_u128(7)))).refused(Rejection::MessageNotFound);
    gone.when("bob", answer("yes", second)).then(answered(second, "ann", first));
}

#[test]
fn members_are_mentioned_each_once_and_not_too_many() {
    let names: Vec<String> = (0..=MENTIONS_MAX).map(|n| format!("u{n:02}")).collect();
    let mention = |users: &[&str]| Command::Post {
        content: Content::text("hi"),
        reply_to: None,
        mentions: users.iter().map(|name| user(name)).collect(),
        attachments: Vec::new(),
    };
    let lobby = names.iter().fold(given(channel("ann")), |lobby, name| lobby.and(name, Command::Join));
    let mentioned = |users: &[&str]| {
        let mentions = users.iter().map(|name| user(name)).collect();
        let (content, attachments) = (Content::text("hi"), Attachments::default());
        [RoomEvent::MessagePosted { content, reply: None, mentions, forwarded: None, attachments }]
    };
    lobby.clone().when("ann", mention(&["u02", "ann", "u01", "u02"])).then(mentioned(&["ann", "u01", "u02"]));
    lobby.clone().when("ann", mention(&["zoe"])).refused(Rejection::NoSuchMember);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    lobby.clone().when("ann", mention(&all)).refused(Rejection::TooManyMentions);
    lobby.clone().when("ann", mention(&all[1..])).then(mentioned(&all[1..]));
    let lobby = lobby.and("ann", post("hi"));
    let message = lobby.last_id();
    let edit = |name: &str| Command::Edit { message, content: Content::text("ho"), mentions: vec![user(name)] };
    lobby.clone().when("ann", edit("u01")).accepted();
    lobby.when("ann", edit("zoe")).refused(Rejection::NoSuchMember);
}

#[test]
fn a_message_has_the_files_that_its_author_may_attach_each_once() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    let attach = |content: &str, files: &[(u128, bool)]| Command::Post {
        content: if content.is_empty() { Content::default() } else { Content::text(content) },
        reply_to: None,
        mentions: Vec::new(),
        attachments: files
            .iter()
            .map(|(id, found)| Attach { file: FileId(Uuid::from_u128(*id)), found: found.then(|| attachment(*id)) })
            .collect(),
    };
    let attached = |text: &str, files: &[u128]| {
        let content = if text.is_empty() { Content::default() } else { Content::text(text) };
        let attachments = files.iter().map(|id| attachment(*id)).collect();
        let (reply, mentions, forwarded) = (None, Mentions::default(), None);
        [RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments }]
    };
    lobby.clone().when("bob", attach("", &[(1, true)])).then(attached("", &[1]));
    lobby.clone().when("bob", attach("look", &[(2, true), (1, true), (2, true)])).then(attached("look", &[2, 1]));
    lobby.clone().when("bob", attach("", &[(1, true), (2, false)])).refused(Rejection::FileNotFound);
    lobby.clone().when("bob", attach("", &[])).refused(Rejection::ContentSize);
    let long = "x".repeat(Content::BYTES_MAX + 1);
    lobby.clone().when("bob", attach(&long, &[(1, true)])).refused(Rejection::ContentSize);
    let many: Vec<_> = (0..=ATTACHMENTS_MAX).map(|id| (id as u128, true)).collect();
    lobby.clone().when("bob", attach("", &many)).refused(Rejection::TooManyAttachments);
    lobby
        .clone()
        .when("bob", attach("", &many[1..]))
        .then(attached("", &many[1..].iter().map(|file| file.0).collect::<Vec<_>>()));
    lobby.when("zoe", attach("", &[(2, false)])).refused(Rejection::NotMember);
}

#[test]
fn what_was_said_elsewhere_is_forwarded_with_who_said_it_and_stays_as_it_is() {
    let attachments: Attachments = [attachment(1), attachment(2)].into();
    let (content, at) = (Content::text("so be it"), Timestamp(7));
    let original = Original { content, attachments: attachments.clone(), by: user("zoe"), at };
    let source = |original| Source { room: RoomId(Uuid::from_u128(1)), message: id_at(9), original };
    let forward = |original, reply_to, mentions| Command::Forward { source: source(original), reply_to, mentions };
    let forwarded = |reply, mentions| {
        let from = Forwarded { by: user("zoe"), at: Timestamp(7), source: source(None).tag() };
        let content = Content::text("so be it");
        let (forwarded, attachments) = (Some(Box::new(from)), attachments.clone());
        [RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments }]
    };
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("and?"));
    let asked = lobby.last_id();
    let found = || Some(original.clone());
    lobby.clone().when("ann", forward(found(), None, vec![])).then(forwarded(None, Mentions::default()));
    let reply = Box::new(InReplyTo { message: asked, by: user("bob"), thread: asked });
    let whole = forward(found(), Some(asked), vec![user("bob")]);
    lobby.clone().when("ann", whole.clone()).then(forwarded(Some(reply), [user("bob")].into()));
    lobby.clone().when("ann", forward(None, None, vec![])).refused(Rejection::MessageNotFound);
    lobby.clone().when("ann", forward(found(), None, vec![user("zoe")])).refused(Rejection::NoSuchMember);
    lobby.clone().when("ann", forward(found(), Some(id_at(7)), vec![])).refused(Rejection::MessageNotFound);
    // Not even that it cannot be found is told to who may not post.
    lobby.clone().when("eve", forward(None, None, vec![])).refused(Rejection::NotMember);
    let lobby = lobby.and("ann", whole);
    let message = lobby.last_id();
    let edit = Command::Edit { message, content: Content::text("ha"), mentions: Vec::new() };
    lobby.clone().when("ann", edit).refused(Rejection::NotAuthor);
    lobby.when("ann", Command::Delete { message }).accepted();
}

#[test]
fn a_user_reacts_once_with_the_same_emoji_and_takes_back_only_the_own() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("hi"));
    let message = lobby.last_id();
    let react = |emoji: &str| Command::React { message, emoji: emoji_of(emoji) };
    let unreact = |emoji: &str| Command::Unreact { message, emoji: emoji_of(emoji) };
    let by = || user("bob");
    let added = |emoji: &str, count| [RoomEvent::ReactionAdded { message, by: by(), emoji: emoji_of(emoji), count }];
    let removed =
        |emoji: &str, count| [RoomEvent::ReactionRemoved { message, by: by(), emoji: emoji_of(emoji), count }];
    lobby.clone().when("ann", react("+1")).then(added("+1", 1));
    lobby.clone().when("ann", unreact("+1")).then([]);
    lobby.clone().when("zoe", react("+1")).refused(Rejection::NotMember);
    let lobby = lobby.and("ann", react("+1"));
    lobby.clone().when("ann", react("+1")).then([]);
    lobby.clone().when("bob", react("+1")).then(added("+1", 2));
    lobby.clone().when("bob", unreact("+1")).then([]);
    lobby.clone().when("ann", unreact("+1")).then(removed("+1", 0));
    let lobby = lobby.and("bob", react("+1")).and("ann", unreact("+1"));
    lobby.clone().when("ann", react("+1")).then(added("+1", 2));
    lobby.clone().and("bob", unreact("+1")).when("bob", react("+1")).then(added("+1", 1));
    // Who has left has felt so still, and takes it back when they are there again.
    let left = lobby.clone().and("bob", Command::Leave);
    left.clone().when("ann", react("+1")).then(added("+1", 2));
    left.and("bob", Command::Join).when("bob", unreact("+1")).then(removed("+1", 0));
    let gone = lobby.and("bob", Command::Delete { message });
    gone.clone().when("ann", react("+1")).refused(Rejection::MessageDeleted);
    gone.when("bob", unreact("+1")).refused(Rejection::MessageDeleted);
}

#[test]
fn a_message_has_a_bounded_number_of_reactions() {
    let lobby = given(channel("ann")).and("ann", post("hi"));
    let message = lobby.last_id();
    let react = |n: usize| Command::React { message, emoji: emoji_of(&format!("e{n}")) };
    let lobby = (0..REACTIONS_OF_ONE_MAX).fold(lobby, |lobby, n| lobby.and("ann", react(n)));
    lobby.clone().when("ann", react(REACTIONS_OF_ONE_MAX)).refused(Rejection::TooManyReactions);
    let lobby = lobby.and("bob", Command::Join).and("cas", Command::Join);
    let lobby = (REACTIONS_OF_ONE_MAX..REACTIONS_MAX).fold(lobby, |lobby, n| lobby.and("bob", react(n)));
    lobby.clone().when("cas", react(REACTIONS_MAX)).refused(Rejection::TooManyReactions);
    lobby.when("cas", react(0)).accepted();
}

#[test]
fn admins_pin_messages_and_both_of_a_pair_do() {
    let pin = |message| Command::Pin { message };
    let unpin = |message| Command::Unpin { message };
    let pinned = |message| [RoomEvent::MessagePinned { message, by: user("bob") }];
    let unpinned = |message| [RoomEvent::MessageUnpinned { message, by: user("bob") }];
    let promote = Command::ChangeRole { user: user("cas"), role: Role::Admin };
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join).and("ann", promote);
    let lobby = lobby.and("bob", post("rules"));
    let message = lobby.last_id();
    lobby.clone().when("cas", pin(message)).then(pinned(message));
    lobby.clone().when("cas", unpin(message)).then([]);
    lobby.clone().when("bob", pin(message)).refused(Rejection::Forbidden);
    lobby.clone().when("zoe", pin(message)).refused(Rejection::NotMember);
    let lobby = lobby.and("ann", pin(message));
    lobby.clone().when("cas", pin(message)).then([]);
    lobby.clone().when("bob", unpin(message)).refused(Rejection::Forbidden);
    lobby.clone().when("cas", unpin(message)).then(unpinned(message));
    lobby.clone().and("ann", Command::Archive).when("ann", unpin(message)).refused(Rejection::RoomArchived);
    lobby.and("ann", unpin(message)).when("ann", pin(message)).then(pinned(message));
    let pair = given(room(RoomKind::Direct, "ann", &["bob"])).and("bob", post("hi"));
    let message = pair.last_id();
    pair.clone().when("ann", pin(message)).then(pinned(message));
    pair.when("bob", pin(message)).then(pinned(message));
}

#[test]
fn what_is_deleted_is_not_pinned_any_more_and_a_room_has_so_many_pins() {
    let mut lobby = given(channel("ann"));
    let mut messages = Vec::new();
    for _ in 0..=PINS_MAX {
        lobby = lobby.and("ann", post("rule"));
        messages.push(lobby.last_id());
    }
    let pin = |message| Command::Pin { message };
    let lobby = messages[1..].iter().fold(lobby, |lobby, message| lobby.and("ann", pin(*message)));
    lobby.clone().when("ann", pin(messages[0])).refused(Rejection::TooManyPins);
    lobby.clone().when("ann", pin(messages[1])).then([]);
    lobby.clone().and("ann", Command::Unpin { message: messages[1] }).when("ann", pin(messages[0])).accepted();
    let gone = lobby.and("ann", Command::Delete { message: messages[1] });
    assert_eq!(gone.room.pin(messages[1]), None);
    gone.clone().when("ann", pin(messages[1])).refused(Rejection::MessageDeleted);
    gone.clone().when("ann", Command::Unpin { message: messages[1] }).refused(Rejection::MessageDeleted);
    gone.when("ann", pin(messages[0])).accepted();
}

#[test]
fn in_slow_mode_members_wait_from_one_message_to_the_next_and_who_moderates_does_not() {
    let slow = |time| Command::Update(Update { slow_mode_ms: Some(time), ..Update::default() });
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    lobby.clone().when("bob", slow(1_000)).refused(Rejection::Forbidden);
    lobby.clone().when("ann", slow(0)).then([]);
    let slowed = [RoomEvent::RoomUpdated(Settings { slow_mode_ms: 1_000, ..Settings::default() })];
    lobby.clone().when("ann", slow(1_000)).then(slowed);
    let lobby = lobby.and("ann", slow(1_000)).at(5_000).and("bob", post("1")).and("ann", post("1"));
    let message = lobby.records[lobby.records.len() - 2].id;
    lobby.clone().at(5_999).when("bob", post("2")).refused(Rejection::SlowMode { wait_ms: 1 });
    lobby.clone().at(5_999).when("cas", post("2")).accepted();
    lobby.clone().at(5_999).when("ann", post("2")).accepted();
    lobby.clone().at(6_000).when("bob", post("2")).accepted();
    let edit = Command::Edit { message, content: Content::text("ho"), mentions: Vec::new() };
    lobby.clone().when("bob", edit).accepted();
    // Neither coming back nor a deletion makes it shorter, nor that the room has slept.
    let gone =
        lobby.clone().and("bob", Command::Delete { message }).and("bob", Command::Leave).and("bob", Command::Join);
    gone.at(5_999).when("bob", post("2")).refused(Rejection::SlowMode { wait_ms: 1 });
    let mut woken = lobby.clone();
    woken.room = Room::restore(lobby.room.snapshot().unwrap());
    lobby.records.iter().for_each(|record| woken.room.recall(record));
    woken.at(5_999).when("bob", post("2")).refused(Rejection::SlowMode { wait_ms: 1 });
    lobby.clone().and("ann", slow(0)).when("bob", post("2")).accepted();
}

#[test]
fn what_was_said_before_the_join_is_not_there_where_the_room_says_so() {
    let history = |history| Command::Update(Update { history: Some(history), ..Update::default() });
    let shut = given(channel("ann")).and("bob", Command::Join).and("ann", history(History::FromJoin));
    let before = shut.clone().and("bob", post("before"));
    let old = before.last_id();
    let back = before.and("cas", Command::Join).and("bob", Command::Leave).and("bob", Command::Join);
    let like = |message| Command::React { message, emoji: emoji_of("+1") };
    let pin = |message| Command::Pin { message };
    back.clone().when("ann", answer("yes", old)).accepted();
    back.clone().when("cas", answer("yes", old)).refused(Rejection::MessageNotFound);
    back.clone().when("cas", like(old)).refused(Rejection::MessageNotFound);
    back.clone()
        .and("ann", rights("cas", &[Capability::Pin], &[]))
        .when("cas", pin(old))
        .refused(Rejection::MessageNotFound);
    back.clone().when("bob", Command::Delete { message: old }).accepted();
    back.clone().and("ann", history(History::All)).when("cas", answer("yes", old)).accepted();
    let since = back.clone().and("ann", post("since"));
    since.clone().when("cas", like(since.last_id())).accepted();
    back.when("ann", history(History::FromJoin)).then([]);
}

#[test]
fn who_answers_for_a_room_takes_down_and_unpins_what_is_older_than_the_own_membership() {
    let history = Command::Update(Update { history: Some(History::FromJoin), ..Update::default() });
    let old = given(channel("ann")).and("ann", history).and("ann", post("before"));
    let message = old.last_id();
    let lobby = old.and("ann", Command::Pin { message }).and("bob", Command::Join).and("cas", Command::Join);
    let lobby = lobby.and("ann", Command::ChangeRole { user: user("bob"), role: Role::Admin });
    lobby.clone().when("bob", Command::Unpin { message }).accepted();
    lobby.clone().when("bob", Command::Delete { message }).accepted();
    lobby.clone().when("bob", Command::Pin { message }).refused(Rejection::MessageNotFound);
    lobby.when("cas", Command::Delete { message }).refused(Rejection::MessageNotFound);
}

#[test]
fn nothing_is_looked_up_for_who_can_do_nothing() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    let message = RecordId(Uuid::from_u128(7));
    let about =
        [Command::React { message, emoji: emoji_of("+1") }, Command::Delete { message }, answer("yes", message)];
    for command in about {
        assert!(!lobby.room.can_decide(&user("bob"), &command), "{command:?}");
        assert!(lobby.room.can_decide(&user("zoe"), &command), "{command:?}");
        let archived = lobby.clone().and("ann", Command::Archive);
        assert!(archived.room.can_decide(&user("bob"), &command), "{command:?}");
        lobby.clone().when("zoe", command.clone()).refused(Rejection::NotMember);
        archived.when("bob", command).refused(Rejection::RoomArchived);
    }
}

#[test]
fn an_unknown_message_is_not_found() {
    let message = RecordId(Uuid::from_u128(7));
    given(channel("ann")).when("ann", Command::Delete { message }).refused(Rejection::MessageNotFound);
}

#[test]
fn only_messages_with_uncommitted_changes_have_to_stay_known() {
    let mut room = Room::default();
    for seq in [3, 4, 5] {
        room.know(Message {
            id: id_at(seq),
            author: user("ann"),
            thread: None,
            forwarded: false,
            edits: Vec::new(),
            deleted: false,
            reactions: Vec::new(),
            files: Vec::new(),
        });
    }
    room.forget_messages(&BTreeSet::from([Seq(4), Seq(9)]));
    let known = |seq| room.known(id_at(seq)).is_some();
    assert_eq!([known(3), known(4), known(5)], [false, true, false]);
}

fn attachment(id: u128) -> Attachment {
    let (name, media) = (FileName::unnamed(), MediaType::text());
    Attachment { id: FileId(Uuid::from_u128(id)), name, media, size: 5 }
}
