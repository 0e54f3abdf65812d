//! What members may do besides or in spite of their roles.

use super::*;

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
fn who_may_bypass_slow_mode_waits_for_nothing() {
    let slow = Command::Update(Update { slow_mode_ms: Some(60_000), ..Update::default() });
    let lobby = given(channel("ann")).and("bob", Command::Join).and("ann", slow).and("bob", post("a"));
    assert!(matches!(lobby.clone().when("bob", post("b")).0, Err(Rejection::SlowMode { .. })));
    let freed = lobby.and("ann", rights("bob", &[Capability::BypassSlowMode], &[]));
    freed.when("bob", post("b")).accepted();
}
