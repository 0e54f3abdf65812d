//! What members decide about others: kicks, bans, mutes, rules of what is said, blocks.

use super::*;
use crate::domain::RulesChange;
use crate::domain::rules::Links;

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
    let rules = Arc::new(Rules::new(vec!["ham".into()], Links::Any, Vec::new()).unwrap());
    lobby.room.abide(rules, Arc::default());
    lobby.clone().when("bob", post("spam")).refused(Rejection::WordNotAllowed);
    lobby.clone().when("bob", post("ham")).refused(Rejection::WordNotAllowed);
    lobby.clone().when("ann", post("ham")).then([posted("ham")]);
    lobby.room.abide(Arc::default(), Arc::default());
    lobby.when("bob", post("ham")).then([posted("ham")]);
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

fn banned(name: &str, joined: Option<RecordId>, until: Option<i64>) -> RoomEvent {
    let until = until.map(Timestamp);
    RoomEvent::MemberBanned { user: user(name), joined, invited: false, until, reason: None }
}
