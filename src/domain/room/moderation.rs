//! What members decide about others: who comes in, who goes, who may do what.

use super::{Asked, BANS_MAX, MEMBERS_MAX, MUTES_MAX, Member, RIGHTS_MAX, Room};
use crate::domain::policy::Entry;
use crate::domain::{Capabilities, Capability, Name, Rejection, Rights, Role, RoomEvent, RoomKind, Timestamp, UserId};

impl Room {
    pub(super) fn invited(&self, asked: &Asked, guest: UserId, role: Role) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, own) = self.acting(asked, Capability::Invite)?;
        if self.members.contains_key(&guest) {
            return Err(Rejection::AlreadyMember);
        }
        if role > member.role || !gives(asked, member, own, role) {
            return Err(Rejection::Forbidden);
        }
        if self.bans.get(&guest).is_some_and(|ban| ban.holds(asked.now)) {
            return Err(Rejection::UserBanned);
        }
        if self.members.len() + self.invited.len() >= MEMBERS_MAX && !self.invited.contains_key(&guest) {
            return Err(Rejection::RoomFull);
        }
        match asked.policy.entry {
            Entry::Open | Entry::Invited if self.invitation(&guest) == Some(role) => Ok(Vec::new()),
            Entry::Open | Entry::Invited => Ok(vec![RoomEvent::MemberInvited { user: guest, role }]),
            Entry::Added => Ok(vec![RoomEvent::MemberJoined { user: guest, role }]),
            Entry::Closed => Err(Rejection::KindForbids),
        }
    }

    pub(super) fn kicked(&self, asked: &Asked, target: UserId, reason: Option<Name>) -> Result<RoomEvent, Rejection> {
        let (member, _) = self.acting(asked, Capability::Kick)?;
        let target_member = self.members.get(&target).ok_or(Rejection::NoSuchMember)?;
        if target_member.role >= member.role || target == *asked.user {
            return Err(Rejection::Forbidden);
        }
        Ok(RoomEvent::MemberKicked { user: target, joined: target_member.joined, reason })
    }

    pub(super) fn role_changed(&self, asked: &Asked, target: UserId, role: Role) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, own) = self.acting(asked, Capability::Roles)?;
        let was = self.members.get(&target).ok_or(Rejection::NoSuchMember)?.role;
        let above = member.role == Role::Owner || (was < member.role && role < member.role);
        if !above || (role > was && !gives(asked, member, own, role)) {
            return Err(Rejection::Forbidden);
        }
        if was == role {
            return Ok(Vec::new());
        }
        if was == Role::Owner && self.owners() == 1 {
            return Err(Rejection::LastOwner);
        }
        Ok(vec![RoomEvent::RoleChanged { user: target, role, was }])
    }

    /// Nobody gives or takes what he does not have, or changes the rights of who is not below him.
    pub(super) fn rights_changed(
        &self,
        asked: &Asked,
        target: UserId,
        rights: Rights,
    ) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, own) = self.acting(asked, Capability::Roles)?;
        let target_role = self.members.get(&target).ok_or(Rejection::NoSuchMember)?.role;
        if rights.allow.iter().any(|capability| asked.policy.least(capability).is_none()) {
            return Err(Rejection::KindForbids);
        }
        let before = self.rights(&target);
        let changed = before.allow.differing(rights.allow).and(before.deny.differing(rights.deny));
        if target_role >= member.role || !changed.within(own) {
            return Err(Rejection::Forbidden);
        }
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        if before.is_empty() && self.rights.len() >= RIGHTS_MAX {
            return Err(Rejection::TooManyRights);
        }
        let may = asked.header.allows(target_role, rights);
        Ok(vec![RoomEvent::RightsChanged { user: target, rights, may }])
    }

    pub(super) fn banned(
        &self,
        asked: &Asked,
        target: UserId,
        until: Option<Timestamp>,
        reason: Option<Name>,
    ) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, _) = self.acting(asked, Capability::Ban)?;
        let there = self.members.get(&target);
        let invitation = self.invitation(&target);
        let role = there.map(|member| member.role).or(invitation);
        if target == *asked.user || role.is_some_and(|role| role >= member.role) {
            return Err(Rejection::Forbidden);
        }
        if until.is_some_and(|until| until <= asked.now) {
            return Err(Rejection::EndsTooSoon);
        }
        let before = self.bans.get(&target);
        if role.is_none() && before.is_some_and(|ban| ban.until == until && ban.reason == reason) {
            return Ok(Vec::new());
        }
        if before.is_some_and(|ban| ban.holds(asked.now) && ban.rank > member.role) {
            return Err(Rejection::Forbidden);
        }
        let mut ended = None;
        if before.is_none() && self.bans.len() >= BANS_MAX {
            let found = self.bans.iter().find(|(_, ban)| !ban.holds(asked.now));
            ended = Some(found.ok_or(Rejection::TooManyBans)?.0.clone());
        }
        let (joined, invited) = (there.map(|member| member.joined), invitation.is_some());
        let mut events = vec![RoomEvent::MemberBanned { user: target, joined, invited, until, reason }];
        events.extend(ended.map(|user| RoomEvent::MemberUnbanned { user }));
        Ok(events)
    }

    pub(super) fn unbanned(&self, asked: &Asked, target: UserId) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, _) = self.acting(asked, Capability::Ban)?;
        let Some(ban) = self.bans.get(&target).filter(|ban| ban.holds(asked.now)) else { return Ok(Vec::new()) };
        if ban.rank > member.role {
            return Err(Rejection::Forbidden);
        }
        Ok(vec![RoomEvent::MemberUnbanned { user: target }])
    }

    pub(super) fn muted(
        &self,
        asked: &Asked,
        target: UserId,
        until: Option<Timestamp>,
    ) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, _) = self.acting(asked, Capability::Mute)?;
        let there = self.members.get(&target).ok_or(Rejection::NoSuchMember)?;
        if target == *asked.user || there.role >= member.role {
            return Err(Rejection::Forbidden);
        }
        if until.is_some_and(|until| until <= asked.now) {
            return Err(Rejection::EndsTooSoon);
        }
        let before = self.mutes.get(&target);
        if before.is_some_and(|mute| mute.until == until) {
            return Ok(Vec::new());
        }
        if before.is_some_and(|mute| mute.holds(asked.now) && mute.rank > member.role) {
            return Err(Rejection::Forbidden);
        }
        let mut ended = None;
        if before.is_none() && self.mutes.len() >= MUTES_MAX {
            let found = self.mutes.iter().find(|(_, mute)| !mute.holds(asked.now));
            ended = Some(found.ok_or(Rejection::TooManyMutes)?.0.clone());
        }
        let mut events = vec![RoomEvent::MemberMuted { user: target, until }];
        events.extend(ended.map(|user| RoomEvent::MemberUnmuted { user }));
        Ok(events)
    }

    pub(super) fn unmuted(&self, asked: &Asked, target: UserId) -> Result<Vec<RoomEvent>, Rejection> {
        let (member, _) = self.acting(asked, Capability::Mute)?;
        let above = self.members.get(&target).is_some_and(|target| target.role >= member.role);
        if target == *asked.user || above {
            return Err(Rejection::Forbidden);
        }
        let Some(mute) = self.mutes.get(&target).filter(|mute| mute.holds(asked.now)) else { return Ok(Vec::new()) };
        if mute.rank > member.role {
            return Err(Rejection::Forbidden);
        }
        Ok(vec![RoomEvent::MemberUnmuted { user: target }])
    }

    pub(super) fn blocked(&self, asked: &Asked, target: UserId) -> Result<Vec<RoomEvent>, Rejection> {
        self.blocking(asked, &target)?;
        let blocked = RoomEvent::MemberBlocked { user: target };
        Ok(if self.blocks.contains(asked.user) { Vec::new() } else { vec![blocked] })
    }

    pub(super) fn unblocked(&self, asked: &Asked, target: UserId) -> Result<Vec<RoomEvent>, Rejection> {
        self.blocking(asked, &target)?;
        let unblocked = RoomEvent::MemberUnblocked { user: target };
        Ok(if self.blocks.contains(asked.user) { vec![unblocked] } else { Vec::new() })
    }

    /// Refuses who is not one of a direct room of which `target` is the other.
    fn blocking(&self, asked: &Asked, target: &UserId) -> Result<(), Rejection> {
        self.insider(asked)?;
        if asked.header.kind != RoomKind::Direct {
            return Err(Rejection::KindForbids);
        }
        if target == asked.user || !self.members.contains_key(target) {
            return Err(Rejection::NoSuchMember);
        }
        Ok(())
    }

    pub(super) fn owners(&self) -> usize {
        self.members.values().filter(|member| member.role == Role::Owner).count()
    }
}

/// Whether `member`, who may do `own`, has what `role` would give somebody else: what was denied to one does not come back
/// by way of another. With its own role everybody could have been invited before anything was denied.
fn gives(asked: &Asked, member: &Member, own: Capabilities, role: Role) -> bool {
    let denied = asked.policy.capabilities(member.role).without(own);
    let given = asked.policy.capabilities(role);
    given.without(denied) == given
}
