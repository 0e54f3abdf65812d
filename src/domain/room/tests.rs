//! Given records, when a command, then events or a rejection.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::command::{Begin, Decision, Found, Readers, Reading, Report};
use crate::domain::rules::Links;
use crate::domain::{
    Attachment, Audit, Audited, Epoch, FileName, MediaType, Reported, RoomId, RulesChange, Source, TenantId, Update,
};

#[test]
fn a_channel_is_joined_by_anyone_and_posted_to_by_members() {
    given(channel("ann")).when("bob", Command::Join).then([joined("bob", Role::Member)]);
    given(channel("ann")).when("bob", post("hi")).refused(Rejection::NotMember);
    given(channel("ann")).and("bob", Command::Join).when("bob", post("hi")).then([posted("hi")]);
}

#[test]
fn a_channel_needs_an_alias() {
    given(vec![]).when("ann", create(RoomKind::Channel, None, &[])).refused(Rejection::AliasRequired);
}

#[test]
fn a_room_is_created_once() {
    given(channel("ann")).when("bob", create(RoomKind::Channel, Some("lobby"), &[])).refused(Rejection::RoomExists);
}

#[test]
fn nothing_can_be_done_in_a_room_that_does_not_exist() {
    for command in everything("bob") {
        if !matches!(command, Command::Create(_)) {
            given(vec![]).when("ann", command).refused(Rejection::RoomNotFound);
        }
    }
}

#[test]
fn a_stranger_cannot_tell_a_private_room_from_none() {
    for kind in [RoomKind::Group, RoomKind::Direct, RoomKind::Box, RoomKind::Canvas] {
        for command in everything("zoe") {
            given(room(kind, "ann", &["bob"])).when("zoe", command).refused(Rejection::RoomNotFound);
        }
    }
}

#[test]
fn a_group_is_joined_by_invitation_only() {
    let group = given(room(RoomKind::Group, "ann", &["bob"]));
    group.clone().when("bob", Command::Join).then([joined("bob", Role::Member)]);
    group.clone().when("bob", post("hi")).refused(Rejection::NotMember);
    let invite = Command::Invite { user: user("zoe"), role: Role::Guest };
    group.clone().and("ann", invite.clone()).when("zoe", Command::Join).then([joined("zoe", Role::Guest)]);
    group.and("bob", Command::Join).when("bob", invite).refused(Rejection::Forbidden);
}

#[test]
fn nobody_invites_above_the_own_role() {
    let invite = Command::Invite { user: user("zoe"), role: Role::Owner };
    let admin = Command::ChangeRole { user: user("bob"), role: Role::Admin };
    given(room(RoomKind::Group, "ann", &["bob"]))
        .and("bob", Command::Join)
        .and("ann", admin)
        .when("bob", invite)
        .refused(Rejection::Forbidden);
}

#[test]
fn a_direct_room_is_for_exactly_two_and_for_good() {
    let alone = create(RoomKind::Direct, None, &["ann"]);
    given(vec![]).when("ann", alone).refused(Rejection::NotAPair);
    let direct = given(room(RoomKind::Direct, "ann", &["bob"]));
    direct.clone().when("bob", post("hi")).then([posted("hi")]);
    direct.clone().when("bob", Command::Leave).refused(Rejection::KindForbids);
    let invite = Command::Invite { user: user("zoe"), role: Role::Member };
    direct.clone().when("ann", invite).refused(Rejection::Forbidden);
    direct.when("ann", kick("bob")).refused(Rejection::KindForbids);
}

#[test]
fn a_box_belongs_to_its_owner() {
    let shut = given(room(RoomKind::Box, "ann", &["bob"])).and("bob", Command::Join);
    shut.clone().when("bob", post("sealed")).then([posted("sealed")]);
    shut.clone().when("ann", Command::Leave).refused(Rejection::LastOwner);
    shut.clone().when("bob", Command::Archive).refused(Rejection::Forbidden);
    let invite = Command::Invite { user: user("zoe"), role: Role::Member };
    shut.when("bob", invite).refused(Rejection::Forbidden);
}

#[test]
fn members_of_a_canvas_are_added_with_a_role_and_viewers_only_watch() {
    let canvas = given(room(RoomKind::Canvas, "ann", &[]));
    let add = Command::Invite { user: user("vic"), role: Role::Viewer };
    canvas.clone().when("ann", add.clone()).then([joined("vic", Role::Viewer)]);
    canvas.clone().and("ann", add).when("vic", post("x")).refused(Rejection::Forbidden);
    canvas.when("bob", Command::Join).refused(Rejection::RoomNotFound);
}

#[test]
fn kick_and_leave_name_the_join_that_they_end() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    let join = lobby.last_id();
    let kicked = RoomEvent::MemberKicked { user: user("bob"), joined: join, reason: None };
    lobby.clone().when("ann", kick("bob")).then([kicked]);
    lobby.when("bob", Command::Leave).then([RoomEvent::MemberLeft { user: user("bob"), joined: join }]);
}

#[test]
fn a_kicked_member_cannot_post_and_may_join_a_channel_again() {
    let kicked = given(channel("ann")).and("bob", Command::Join).and("ann", kick("bob"));
    kicked.clone().when("bob", post("hi")).refused(Rejection::NotMember);
    kicked.when("bob", Command::Join).then([joined("bob", Role::Member)]);
}

#[test]
fn members_kick_nobody_and_admins_nobody_of_their_rank() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    lobby.clone().when("bob", kick("cas")).refused(Rejection::Forbidden);
    lobby.clone().when("ann", kick("ann")).refused(Rejection::Forbidden);
    lobby.clone().when("ann", kick("zoe")).refused(Rejection::NoSuchMember);
    let promote = |name: &str| Command::ChangeRole { user: user(name), role: Role::Admin };
    let admins = lobby.and("ann", promote("bob")).and("ann", promote("cas"));
    admins.clone().when("bob", kick("cas")).refused(Rejection::Forbidden);
    admins.when("bob", kick("ann")).refused(Rejection::Forbidden);
}

#[test]
fn a_banned_member_is_out_and_neither_joins_nor_is_invited_before_it_ends() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    let join = lobby.last_id();
    lobby.clone().when("ann", ban("bob", None)).then([banned("bob", Some(join), None)]);
    let out = lobby.clone().and("ann", ban("bob", None));
    out.clone().when("bob", post("hi")).refused(Rejection::NotMember);
    out.clone().at(i64::MAX).when("bob", Command::Join).refused(Rejection::Banned { wait_ms: None });
    let invite = Command::Invite { user: user("bob"), role: Role::Member };
    out.clone().when("ann", invite.clone()).refused(Rejection::UserBanned);
    out.clone().and("ann", unban("bob")).when("bob", Command::Join).then([joined("bob", Role::Member)]);
    let out = lobby.and("ann", ban("bob", Some(5_000)));
    out.clone().at(4_000).when("bob", Command::Join).refused(Rejection::Banned { wait_ms: Some(1_000) });
    out.clone().at(4_999).when("ann", invite.clone()).refused(Rejection::UserBanned);
    out.clone().at(5_000).when("bob", Command::Join).then([joined("bob", Role::Member)]);
    out.clone().at(5_000).when("ann", invite).accepted();
    out.clone().at(5_000).when("ann", unban("bob")).then([]);
    // Who has come back is banned again as anybody is.
    let back = out.at(5_000).and("bob", Command::Join);
    let join = back.last_id();
    back.when("ann", ban("bob", Some(5_001))).then([banned("bob", Some(join), Some(5_001))]);
}

#[test]
fn who_is_not_there_is_banned_and_an_invitation_is_withdrawn() {
    let lobby = given(channel("ann"));
    lobby.clone().when("ann", ban("zoe", None)).then([banned("zoe", None, None)]);
    let out = lobby.and("ann", ban("zoe", Some(5_000)));
    out.clone().when("ann", ban("zoe", Some(5_000))).then([]);
    out.clone().when("ann", ban("zoe", None)).then([banned("zoe", None, None)]);
    out.and("ann", unban("zoe")).when("ann", unban("zoe")).then([]);
    let group = given(room(RoomKind::Group, "ann", &["bob"]));
    let withdrawn =
        RoomEvent::MemberBanned { user: user("bob"), joined: None, invited: true, until: None, reason: None };
    group.clone().when("ann", ban("bob", None)).then([withdrawn]);
    let out = group.and("ann", ban("bob", None));
    for command in everything("bob") {
        out.clone().when("bob", command).refused(Rejection::RoomNotFound);
    }
    out.and("ann", unban("bob")).when("bob", Command::Join).refused(Rejection::RoomNotFound);
}

#[test]
fn who_may_kick_may_ban_and_nobody_of_their_rank() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    lobby.clone().when("bob", ban("cas", None)).refused(Rejection::Forbidden);
    lobby.clone().when("bob", unban("zoe")).refused(Rejection::Forbidden);
    lobby.clone().when("zoe", ban("cas", None)).refused(Rejection::NotMember);
    lobby.clone().when("ann", ban("ann", None)).refused(Rejection::Forbidden);
    lobby.clone().when("ann", ban("bob", Some(1_000))).refused(Rejection::EndsTooSoon);
    let promote = |name: &str| Command::ChangeRole { user: user(name), role: Role::Admin };
    let admins = lobby.and("ann", promote("bob")).and("ann", promote("cas"));
    admins.clone().when("bob", ban("cas", None)).refused(Rejection::Forbidden);
    admins.clone().when("bob", ban("ann", None)).refused(Rejection::Forbidden);
    admins.clone().when("bob", ban("zoe", None)).accepted();
    let invited = admins.clone().and("ann", Command::Invite { user: user("dan"), role: Role::Owner });
    invited.when("bob", ban("dan", None)).refused(Rejection::Forbidden);
    admins.and("ann", Command::Archive).when("ann", ban("zoe", None)).refused(Rejection::RoomArchived);
    given(room(RoomKind::Direct, "ann", &["bob"])).when("ann", ban("bob", None)).refused(Rejection::KindForbids);
}

#[test]
fn a_room_has_so_many_bans_and_one_that_has_ended_makes_place() {
    let mut lobby = given(channel("ann")).and("ann", ban("zoe", Some(5_000)));
    let ban_of = |by: &str| Ban { by: user(by), at: Timestamp(0), rank: Role::Owner, until: None, reason: None };
    lobby.room.bans.extend((1..BANS_MAX).map(|n| (user(&format!("u{n}")), ban_of("ann"))));
    lobby.clone().at(4_999).when("ann", ban("yan", None)).refused(Rejection::TooManyBans);
    lobby.clone().at(4_999).when("ann", ban("zoe", None)).then([banned("zoe", None, None)]);
    let unbanned = RoomEvent::MemberUnbanned { user: user("zoe") };
    lobby.at(5_000).when("ann", ban("yan", None)).then([banned("yan", None, None), unbanned]);
}

#[test]
fn the_muted_say_nothing_and_take_back_what_they_said() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("hi"));
    let message = lobby.last_id();
    let muted = lobby.clone().and("ann", mute("bob", Some(5_000)));
    let said = [
        post("ho"),
        Command::Edit { message, content: Content::text("ho"), mentions: Vec::new() },
        Command::React { message, emoji: emoji_of("+1") },
        answer("ho", message),
        Command::Forward {
            source: Source { room: RoomId(Uuid::from_u128(1)), message, original: None },
            reply_to: None,
            mentions: Vec::new(),
        },
    ];
    for command in said {
        let refused = Rejection::Muted { wait_ms: Some(1) };
        muted.clone().at(4_999).when("bob", command.clone()).refused(refused);
        lobby.clone().and("ann", mute("bob", None)).when("bob", command).refused(Rejection::Muted { wait_ms: None });
    }
    muted.clone().when("bob", Command::Unreact { message, emoji: emoji_of("+1") }).then([]);
    muted.clone().when("bob", Command::Delete { message }).accepted();
    muted.clone().when("bob", Command::Leave).accepted();
    muted.clone().at(5_000).when("bob", post("ho")).then([posted("ho")]);
    muted.clone().and("ann", unmute("bob")).when("bob", post("ho")).then([posted("ho")]);
    // Whoever comes back is muted still.
    let back = muted.and("bob", Command::Leave).and("bob", Command::Join).at(4_000);
    back.clone().when("bob", post("ho")).refused(Rejection::Muted { wait_ms: Some(1_000) });
    back.when("ann", post("ho")).accepted();
}

#[test]
fn who_may_kick_may_mute_members_below_and_nobody_unmutes_itself() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    lobby.clone().when("bob", mute("cas", None)).refused(Rejection::Forbidden);
    lobby.clone().when("ann", mute("ann", None)).refused(Rejection::Forbidden);
    lobby.clone().when("ann", mute("zoe", None)).refused(Rejection::NoSuchMember);
    lobby.clone().when("ann", mute("bob", Some(1_000))).refused(Rejection::EndsTooSoon);
    let promote = |name: &str| Command::ChangeRole { user: user(name), role: Role::Admin };
    let admins = lobby.and("ann", promote("bob")).and("ann", promote("cas"));
    admins.clone().when("bob", mute("cas", None)).refused(Rejection::Forbidden);
    let muted = admins.and("ann", mute("bob", None));
    muted.clone().when("bob", unmute("bob")).refused(Rejection::Forbidden);
    muted.clone().when("cas", unmute("bob")).refused(Rejection::Forbidden);
    muted.clone().when("ann", mute("bob", None)).then([]);
    let longer = RoomEvent::MemberMuted { user: user("bob"), until: Some(Timestamp(5_000)) };
    muted.clone().when("ann", mute("bob", Some(5_000))).then([longer]);
    muted.and("ann", unmute("bob")).when("ann", unmute("bob")).then([]);
    given(room(RoomKind::Direct, "ann", &["bob"])).when("ann", mute("bob", None)).refused(Rejection::KindForbids);
}

#[test]
fn what_the_rules_do_not_allow_is_neither_posted_nor_edited_nor_forwarded() {
    let lobby = given(channel("ann")).and("bob", Command::Join).and("bob", post("hi"));
    let (message, change) = (lobby.last_id(), RulesChange::new(Some(vec!["spam".into()]), Some(Links::None), None));
    let change = Command::ChangeRules(change.unwrap());
    lobby.clone().when("bob", change.clone()).refused(Rejection::Forbidden);
    lobby.clone().when("zoe", change.clone()).refused(Rejection::NotMember);
    let ruled = lobby.clone().and("ann", change.clone());
    ruled.clone().when("ann", change).then([]);
    let said = |text: &str| {
        let (content, attachments) = (Content::text(text), Attachments::default());
        let original = Original { content, attachments, by: user("eve"), at: Timestamp(0) };
        let source = Source { room: RoomId(Uuid::from_u128(1)), message, original: Some(original) };
        let edit = Command::Edit { message, content: Content::text(text), mentions: Vec::new() };
        [post(text), edit, Command::Forward { source, reply_to: None, mentions: Vec::new() }]
    };
    for command in said("SPAM") {
        ruled.clone().when("bob", command.clone()).refused(Rejection::WordNotAllowed);
        lobby.clone().when("bob", command).accepted();
    }
    for command in said("www.example.org") {
        ruled.clone().when("bob", command).refused(Rejection::LinkNotAllowed);
    }
    // Who may not post at all is told that, whatever it says.
    ruled.clone().when("zoe", post("spam")).refused(Rejection::NotMember);
    ruled.clone().when("ann", post("spam")).then([posted("spam")]);
    let allow = [Capability::BypassRules].into_iter().collect();
    let rights = Rights { allow, deny: Capabilities::NONE };
    let exempt = ruled.clone().and("ann", Command::ChangeRights { user: user("bob"), rights });
    exempt.when("bob", post("spam")).then([posted("spam")]);
    // What is not named stays as it is.
    let links = Command::ChangeRules(RulesChange::new(None, Some(Links::Any), None).unwrap());
    let fewer = ruled.and("ann", links);
    fewer.clone().when("bob", post("www.example.org")).then([posted("www.example.org")]);
    fewer.when("bob", post("spam")).refused(Rejection::WordNotAllowed);
}

#[test]
fn the_rules_of_a_tenant_hold_in_its_rooms_beside_their_own() {
    let rules = RulesChange::new(Some(vec!["spam".into()]), None, None).unwrap();
    let mut lobby = given(channel("ann")).and("bob", Command::Join).and("ann", Command::ChangeRules(rules));
    lobby.room.abide(Arc::new(Rules::new(vec!["ham".into()], Links::Any, Vec::new()).unwrap()));
    lobby.clone().when("bob", post("spam")).refused(Rejection::WordNotAllowed);
    lobby.clone().when("bob", post("ham")).refused(Rejection::WordNotAllowed);
    lobby.clone().when("ann", post("ham")).then([posted("ham")]);
    lobby.room.abide(Arc::default());
    lobby.when("bob", post("ham")).then([posted("ham")]);
}

#[test]
fn what_somebody_of_a_higher_role_decided_nobody_of_a_lower_one_takes_back() {
    let lobby = ["bob", "cas", "dan"].iter().fold(given(channel("ann")), |lobby, name| lobby.and(name, Command::Join));
    let promote = |name: &str| Command::ChangeRole { user: user(name), role: Role::Admin };
    let lobby = lobby.and("ann", promote("bob")).and("ann", promote("cas"));
    let decided = |by: &str| {
        let [ban, mute] = [ban("zoe", Some(5_000)), mute("dan", Some(5_000))];
        lobby.clone().and(by, ban).and(by, mute)
    };
    let changes = [ban("zoe", None), ban("zoe", Some(6_000)), unban("zoe")];
    let changes = changes.into_iter().chain([mute("dan", None), mute("dan", Some(6_000)), unmute("dan")]);
    for change in changes {
        decided("ann").when("bob", change.clone()).refused(Rejection::Forbidden);
        decided("ann").when("ann", change.clone()).accepted();
        decided("bob").when("ann", change.clone()).accepted();
        decided("bob").when("cas", change.clone()).accepted();
        // What has ended was decided by nobody.
        decided("ann").at(5_000).when("bob", change.clone()).accepted();
        // Whoever was an owner then is meant, whatever became of him.
        let handed_over = decided("ann").and("ann", Command::ChangeRole { user: user("bob"), role: Role::Owner });
        let gone = handed_over.and("bob", Command::ChangeRole { user: user("ann"), role: Role::Admin });
        gone.when("ann", change).refused(Rejection::Forbidden);
    }
    // As it is already is no change.
    decided("ann").when("bob", ban("zoe", Some(5_000))).then([]);
    decided("ann").when("bob", mute("dan", Some(5_000))).then([]);
}

#[test]
fn a_room_has_so_many_mutes_and_one_that_has_ended_makes_place() {
    let mut lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    lobby = lobby.and("ann", mute("bob", Some(5_000)));
    let mute_of = |by: &str| Mute { by: user(by), at: Timestamp(0), rank: Role::Owner, until: None };
    lobby.room.mutes.extend((1..MUTES_MAX).map(|n| (user(&format!("u{n}")), mute_of("ann"))));
    lobby.clone().at(4_999).when("ann", mute("cas", None)).refused(Rejection::TooManyMutes);
    let muted = RoomEvent::MemberMuted { user: user("cas"), until: None };
    let unmuted = RoomEvent::MemberUnmuted { user: user("bob") };
    lobby.at(5_000).when("ann", mute("cas", None)).then([muted, unmuted]);
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
fn the_last_owner_stays_while_others_remain() {
    let lobby = given(channel("ann")).and("bob", Command::Join);
    lobby.clone().when("ann", Command::Leave).refused(Rejection::LastOwner);
    let demote = Command::ChangeRole { user: user("ann"), role: Role::Member };
    lobby.clone().when("ann", demote).refused(Rejection::LastOwner);
    lobby.clone().and("bob", Command::Leave).when("ann", Command::Leave).accepted();
    let promote = Command::ChangeRole { user: user("bob"), role: Role::Owner };
    lobby.and("ann", promote).when("ann", Command::Leave).accepted();
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

fn attachment(id: u128) -> Attachment {
    let (name, media) = (FileName::unnamed(), MediaType::text());
    Attachment { id: FileId(Uuid::from_u128(id)), name, media, size: 5 }
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

#[test]
fn the_operator_may_archive_any_room_and_nothing_else() {
    for kind in [channel("ann"), room(RoomKind::Direct, "ann", &["bob"]), room(RoomKind::Group, "ann", &[])] {
        for command in [post("hi"), kick("ann"), rename(None), Command::Leave] {
            assert!(given(kind.clone()).when("chinwag:operator", command).0.is_err());
        }
        let archived = given(kind).and("chinwag:operator", Command::Archive);
        archived.clone().when("ann", post("hi")).refused(Rejection::RoomArchived);
        archived.when("chinwag:operator", Command::Archive).refused(Rejection::RoomArchived);
    }
}

#[test]
fn an_archived_room_can_only_be_left() {
    let archived = given(channel("ann")).and("bob", Command::Join).and("ann", Command::Archive);
    archived.clone().when("bob", post("hi")).refused(Rejection::RoomArchived);
    archived.clone().when("ann", kick("bob")).refused(Rejection::RoomArchived);
    archived.clone().when("zoe", Command::Join).refused(Rejection::RoomArchived);
    archived.when("bob", Command::Leave).accepted();
}

#[test]
fn what_is_as_asked_already_leads_to_nothing() {
    let name = Some(Name::new("Lobby").unwrap());
    let named = given(channel("ann")).and("ann", rename(name.clone()));
    named.clone().when("ann", rename(name)).then([]);
    named.when("ann", rename(None)).then([RoomEvent::RoomUpdated(Settings::default())]);
    let invite = |role| Command::Invite { user: user("zoe"), role };
    let invited = given(channel("ann")).and("ann", invite(Role::Guest));
    invited.clone().when("ann", invite(Role::Guest)).then([]);
    invited
        .when("ann", invite(Role::Member))
        .then([RoomEvent::MemberInvited { user: user("zoe"), role: Role::Member }]);
}

#[test]
fn who_may_change_a_room_says_whether_it_shows_edits_and_the_rest_stays() {
    let name = Some(Name::new("Lobby").unwrap());
    let lobby = given(channel("ann")).and("bob", Command::Join).and("ann", rename(name.clone()));
    let updated = |name, edit_history| [RoomEvent::RoomUpdated(Settings { name, edit_history, ..Settings::default() })];
    lobby.clone().when("ann", show_edits(false)).then([]);
    lobby.clone().when("ann", show_edits(true)).then(updated(name.clone(), true));
    lobby.clone().when("bob", show_edits(true)).refused(Rejection::Forbidden);
    let shown = lobby.and("ann", show_edits(true));
    shown.clone().when("ann", show_edits(true)).then([]);
    shown.clone().when("ann", rename(None)).then(updated(None, true));
    let both = Command::Update(Update { name: Some(None), edit_history: Some(false), ..Update::default() });
    shown.when("ann", both).then(updated(None, false));
    given(room(RoomKind::Direct, "ann", &["bob"])).when("ann", show_edits(true)).refused(Rejection::Forbidden);
}

#[test]
fn content_is_neither_empty_nor_too_large() {
    let large = "x".repeat(Content::BYTES_MAX + 1);
    given(channel("ann")).when("ann", post("")).refused(Rejection::ContentSize);
    given(channel("ann")).when("ann", post(&large)).refused(Rejection::ContentSize);
    given(channel("ann")).when("ann", post(&large[1..])).accepted();
}

#[test]
fn rights_differ_from_the_role_as_somebody_above_decides() {
    use Capability::{Archive, Pin, Post, React, Roles};
    let lobby = given(channel("ann")).and("bob", Command::Join).and("cas", Command::Join);
    let message = lobby.clone().and("ann", post("hi")).last_id();
    let may = of(&[React, Capability::Invite, Pin]);
    let rights_of_bob = Rights { allow: of(&[Pin]), deny: of(&[Post]) };
    let changed = RoomEvent::RightsChanged { user: user("bob"), rights: rights_of_bob, may };
    lobby.clone().when("ann", rights("bob", &[Pin], &[Post])).then([changed]);
    let decided = lobby.and("ann", post("hi")).and("ann", rights("bob", &[Pin], &[Post]));
    assert_eq!(decided.room.may(&user("bob")), Some(may));
    decided.clone().when("ann", rights("bob", &[Pin], &[Post])).then([]);
    decided.clone().when("bob", post("ho")).refused(Rejection::Forbidden);
    decided.clone().when("bob", Command::Pin { message }).accepted();
    decided.clone().when("cas", Command::Pin { message }).refused(Rejection::Forbidden);
    decided.clone().when("bob", rights("bob", &[Pin], &[])).refused(Rejection::Forbidden);
    decided.clone().when("ann", rights("zoe", &[Pin], &[])).refused(Rejection::NoSuchMember);
    decided.clone().when("ann", rights("ann", &[], &[Roles])).refused(Rejection::Forbidden);

    let admin = decided.and("ann", Command::ChangeRole { user: user("cas"), role: Role::Admin });
    admin.clone().when("cas", rights("bob", &[Pin, Archive], &[])).refused(Rejection::Forbidden);
    admin.clone().when("cas", rights("bob", &[], &[])).accepted();
    admin.clone().when("cas", rights("ann", &[], &[Post])).refused(Rejection::Forbidden);
    let without = admin.and("ann", rights("cas", &[], &[Roles]));
    without.clone().when("cas", rights("bob", &[], &[])).refused(Rejection::Forbidden);
    without.when("cas", Command::ChangeRole { user: user("bob"), role: Role::Guest }).refused(Rejection::Forbidden);
}

#[test]
fn what_is_denied_outlasts_the_membership_and_what_is_allowed_does_not() {
    use Capability::{Pin, Post};
    let left = given(channel("ann")).and("bob", Command::Join).and("ann", rights("bob", &[Pin], &[Post]));
    for gone in [left.clone().and("bob", Command::Leave), left.clone().and("ann", kick("bob"))] {
        let back = gone.and("bob", Command::Join);
        assert_eq!(back.room.rights(&user("bob")), Rights { allow: Capabilities::NONE, deny: of(&[Post]) });
        back.clone().when("bob", post("hi")).refused(Rejection::Forbidden);
        back.and("ann", rights("bob", &[], &[])).when("bob", post("hi")).accepted();
    }
    let banned = left.and("ann", ban("bob", None)).and("ann", unban("bob")).and("bob", Command::Join);
    assert_eq!(banned.room.rights(&user("bob")).allow, Capabilities::NONE);
    let pinning = given(channel("ann")).and("bob", Command::Join).and("ann", rights("bob", &[Pin], &[]));
    assert!(pinning.and("bob", Command::Leave).room.snapshot().unwrap().rights.is_empty());
}

#[test]
fn a_kind_without_a_thing_does_not_allow_it_to_anybody() {
    let canvas = given(room(RoomKind::Box, "ann", &["bob"])).and("bob", Command::Join);
    canvas.clone().when("ann", rights("bob", &[Capability::Invite], &[])).accepted();
    let direct = given(room(RoomKind::Direct, "ann", &["bob"]));
    direct.when("ann", rights("bob", &[Capability::Kick], &[])).refused(Rejection::KindForbids);
    let zoe = Command::Invite { user: user("zoe"), role: Role::Member };
    canvas.and("ann", rights("bob", &[Capability::Invite], &[])).when("bob", zoe).accepted();
}

#[test]
fn what_was_denied_does_not_come_back_by_way_of_somebody_else() {
    use Capability::{Ban, Invite, Kick, Post};
    let lobby = ["bob", "cas"].iter().fold(given(channel("ann")), |lobby, name| lobby.and(name, Command::Join));
    let admin = |name: &str| Command::ChangeRole { user: user(name), role: Role::Admin };
    let lobby = lobby.and("ann", admin("bob")).and("ann", rights("bob", &[], &[Ban, Kick]));
    let invite = |role| Command::Invite { user: user("zoe"), role };
    lobby.clone().when("bob", invite(Role::Admin)).refused(Rejection::Forbidden);
    lobby.clone().when("bob", invite(Role::Member)).accepted();
    let guest = lobby.and("ann", Command::ChangeRole { user: user("cas"), role: Role::Guest });
    let mute = guest.and("ann", rights("bob", &[], &[Invite]));
    mute.clone()
        .when("bob", Command::ChangeRole { user: user("cas"), role: Role::Member })
        .refused(Rejection::Forbidden);
    mute.clone().when("bob", Command::ChangeRole { user: user("cas"), role: Role::Viewer }).accepted();
    let silent = mute.and("ann", rights("bob", &[], &[Post]));
    silent.clone().when("bob", invite(Role::Guest)).refused(Rejection::Forbidden);
    silent.when("bob", invite(Role::Viewer)).accepted();
}

#[test]
fn nothing_that_was_denied_binds_an_owner() {
    use Capability::{Roles, Update};
    let lobby = given(channel("ann")).and("bob", Command::Join).and("ann", rights("bob", &[], &[Roles, Update]));
    let heir = lobby.clone().and("ann", Command::ChangeRole { user: user("bob"), role: Role::Owner });
    heir.and("ann", Command::Leave).when("bob", rename(None)).then([]);
    let empty = lobby.and("bob", Command::Leave).and("ann", Command::Leave).and("bob", Command::Join);
    assert_eq!(empty.room.may(&user("bob")), Some(RoomKind::Channel.policy().capabilities(Role::Owner)));
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
fn where_one_has_blocked_the_other_nothing_more_is_said_between_the_two() {
    let block = |name: &str| Command::Block { user: user(name) };
    let unblock = |name: &str| Command::Unblock { user: user(name) };
    let direct = given(room(RoomKind::Direct, "ann", &["bob"])).and("bob", post("hi"));
    let said = direct.last_id();
    direct.clone().when("ann", unblock("bob")).then([]);
    direct.clone().when("ann", block("bob")).then([RoomEvent::MemberBlocked { user: user("bob") }]);
    let blocked = direct.and("ann", block("bob"));
    blocked.clone().when("ann", block("bob")).then([]);
    for (by, other) in [("ann", "bob"), ("bob", "ann")] {
        blocked.clone().when(by, post("hi")).refused(Rejection::Blocked);
        blocked.clone().when(by, answer("yes", said)).refused(Rejection::Blocked);
        let like = Command::React { message: said, emoji: emoji_of("+1") };
        blocked.clone().when(by, like).refused(Rejection::Blocked);
        blocked.clone().when(by, Command::Pin { message: said }).refused(Rejection::Blocked);
        let both = blocked.clone().and(by, block(other)).and(by, unblock(other));
        assert_eq!(both.clone().when("bob", post("hi")).0.is_ok(), by == "ann", "only who blocked takes it back");
    }
    blocked.clone().when("bob", Command::Delete { message: said }).accepted();
    blocked.clone().when("ann", block("zoe")).refused(Rejection::NoSuchMember);
    blocked.when("zoe", block("ann")).refused(Rejection::RoomNotFound);
    let lobby = given(channel("ann")).and("bob", Command::Join);
    lobby.when("ann", block("bob")).refused(Rejection::KindForbids);
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
fn who_may_bypass_slow_mode_waits_for_nothing() {
    let slow = Command::Update(Update { slow_mode_ms: Some(60_000), ..Update::default() });
    let lobby = given(channel("ann")).and("bob", Command::Join).and("ann", slow).and("bob", post("a"));
    assert!(matches!(lobby.clone().when("bob", post("b")).0, Err(Rejection::SlowMode { .. })));
    let freed = lobby.and("ann", rights("bob", &[Capability::BypassSlowMode], &[]));
    freed.when("bob", post("b")).accepted();
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
    let audit = given(vec![(SERVER, begin(&["ann", "bob"]))]);
    for command in everything("bob") {
        let begins = matches!(command, Command::Audit(_) | Command::Report(_));
        for by in ["ann", "bob"] {
            assert!(begins || audit.clone().when(by, command.clone()).0.is_err(), "{by}: {command:?}");
        }
        if !begins {
            audit.clone().when("zoe", command).refused(Rejection::RoomNotFound);
        }
    }
    audit.when("chinwag:operator", Command::Archive).refused(Rejection::KindForbids);
    let lobby = given(channel("ann"));
    lobby.when("ann", write_down(&[&decided(5, "ann", None)])).refused(Rejection::KindForbids);
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

#[test]
fn a_room_that_is_watched_owes_who_comes_and_goes_though_nothing_was_decided() {
    let mut lobby = given(channel("ann")).and("ann", Command::Invite { user: user("bob"), role: Role::Admin });
    assert_eq!(owed(&lobby, "bob", Command::Join), None);
    lobby.room.watch().unwrap();
    assert_eq!(owed(&lobby, "bob", Command::Join).unwrap().reading, reading("bob", true));
    let mut direct = given(room(RoomKind::Direct, "ann", &["bob"]));
    assert_eq!(direct.room.watch().err(), Some(Rejection::KindForbids));
}

fn reported(message: RecordId, before: bool) -> Report {
    let (by, at, content) = (user("bob"), Timestamp(1), Content::text("buy"));
    let (attachments, reason) = (Attachments::default(), None);
    Report { reported: Reported { room: WATCHED, message, by, at, content, attachments, reason }, before }
}

const WATCHED: RoomId = RoomId(Uuid::from_u128(7));

const SERVER: &str = "chinwag:server";

fn begin(readers: &[&str]) -> Command {
    let readers = readers.iter().map(|name| user(name)).collect();
    Command::Audit(Audit { begin: Some(Begin { num: Num(1), audits: WATCHED, readers }), ..Audit::default() })
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

fn banned(name: &str, joined: Option<RecordId>, until: Option<i64>) -> RoomEvent {
    let until = until.map(Timestamp);
    RoomEvent::MemberBanned { user: user(name), joined, invited: false, until, reason: None }
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
        Command::Report(reported(message, false)),
        Command::ResolveReport { report: message, note: None, found: None },
    ]
}

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
