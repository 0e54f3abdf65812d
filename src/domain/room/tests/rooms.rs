//! Rooms of each kind: who comes in, who may change them, how they end.

use super::*;

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
