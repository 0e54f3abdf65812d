//! What is written down of what members decide about others, and who reads it: a room that is moderated says what it owes
//! its audit room, and an audit room takes it, each once.

use std::collections::BTreeSet;

use super::{Asked, Header, Member, Room};
use crate::domain::command::{Administer, Audit, Begin, Decision, Found, Readers, Reading, Report};
use crate::domain::{
    Audited, Capability, Event, Name, Record, RecordId, Rejection, Role, RoomEvent, RoomId, RoomKind, UserId,
};

/// How many reports of late an audit room knows without a look at its rows.
const REPORTS_MAX: usize = 4096;

impl Header {
    /// Whether a record of the room is for its audit room, whoever reads that.
    pub(super) fn is_audited_for(&self, record: &Record) -> bool {
        let Event::Room(event) = &record.event else { return false };
        self.kind.policy().moderate.is_some() && event.decides(&record.author)
    }
}

impl Room {
    /// Whether `user` reads what is decided in the room: also in an archived one.
    pub fn reads_audit(&self, user: &UserId) -> bool {
        let (Some(header), Some(member)) = (&self.header, self.members.get(user)) else { return false };
        header.allows(member.role, self.rights(user)).has(Capability::Audit)
    }

    /// Everybody who does.
    pub fn audit_readers(&self) -> BTreeSet<UserId> {
        self.members.keys().filter(|user| self.reads_audit(user)).cloned().collect()
    }

    /// Whether the user that a record is about reads more or less because of it, which has been applied; `read` says
    /// whether he read before.
    pub fn reading_after(&self, record: &Record, read: bool) -> Option<Reading> {
        let Event::Room(event) = &record.event else { return None };
        let reading = event.concerns().map(|user| Reading { user: user.clone(), reads: self.reads_audit(user) });
        reading.filter(|reading| reading.reads != read)
    }

    /// What the audit room of `room`, which this is, has to be told of a record that has been applied, and of the `reading`
    /// that follows from it. Until the first decision there is nobody to tell of readers who come and go: whoever reads
    /// then is told from the beginning.
    pub fn owes(&self, room: RoomId, record: &Record, reading: Option<Reading>) -> Option<Decision> {
        let (Event::Room(event), Some(header)) = (&record.event, &self.header) else { return None };
        if !(header.is_audited_for(record) || (header.audited && reading.is_some())) {
            return None;
        }
        let (position, id, at, by) = (record.position, record.id, record.at, record.author.clone());
        Some(Decision { audited: Audited { room, position, id, at, by, decided: event.clone() }, reading })
    }

    /// What follows from who reads it, and from decisions that this audit room has not taken yet.
    pub(super) fn written_down(&self, asked: &Asked, audit: Audit) -> Result<Vec<RoomEvent>, Rejection> {
        if asked.header.kind != RoomKind::Audit {
            return Err(self.existence(asked, Rejection::KindForbids));
        }
        let mut events: Vec<_> = audit.readers.iter().flat_map(|readers| self.let_go(readers)).collect();
        for Decision { audited, reading } in audit.decisions {
            if self.taken.is_some_and(|taken| audited.position <= taken) {
                continue;
            }
            let let_in = reading.filter(|reading| reading.reads && !self.members.contains_key(&reading.user));
            events.extend(let_in.map(|Reading { user, .. }| RoomEvent::MemberJoined { user, role: Role::Viewer }));
            events.push(RoomEvent::Audited(Box::new(audited)));
        }
        Ok(events)
    }

    /// Who reads it is let in before, and let go of before: it is told of behind that.
    pub(super) fn administered(&self, asked: &Asked, administer: Administer) -> Result<Vec<RoomEvent>, Rejection> {
        if asked.header.kind != RoomKind::Audit || asked.header.audits.is_some() {
            return Err(self.existence(asked, Rejection::KindForbids));
        }
        let Administer { deed, reading } = administer;
        let changed = reading.and_then(|Reading { user, reads }| match self.members.get(&user) {
            None if reads => Some(RoomEvent::MemberJoined { user, role: Role::Viewer }),
            Some(Member { joined, .. }) if !reads && user == *asked.user => {
                Some(RoomEvent::MemberLeft { user, joined: *joined })
            }
            Some(Member { joined, .. }) if !reads => {
                Some(RoomEvent::MemberKicked { user, joined: *joined, reason: None })
            }
            None | Some(_) => None,
        });
        Ok(changed.into_iter().chain(deed.map(|deed| RoomEvent::Administered(Box::new(deed)))).collect())
    }

    /// From now on whoever comes and goes that reads what is decided is owed. Not told by the log: a row says so.
    pub fn watch(&mut self) -> Result<&Header, Rejection> {
        let header = self.header.as_mut().ok_or(Rejection::RoomNotFound)?;
        if header.kind.policy().moderate.is_none() {
            return Err(Rejection::KindForbids);
        }
        header.audited = true;
        Ok(header)
    }

    /// Once per user and message: to report again changes nothing.
    pub(super) fn report_taken(&self, asked: &Asked, report: Report) -> Result<Vec<RoomEvent>, Rejection> {
        let Report { reported, before } = report;
        if asked.header.kind != RoomKind::Audit {
            return Err(self.existence(asked, Rejection::KindForbids));
        }
        if before || self.reported.contains_key(&(reported.message, asked.user.clone())) {
            return Ok(Vec::new());
        }
        Ok(vec![RoomEvent::Reported(Box::new(reported))])
    }

    pub(super) fn report_resolved(
        &self,
        asked: &Asked,
        (report, note): (RecordId, Option<Name>),
        found: Option<Found>,
    ) -> Result<Vec<RoomEvent>, Rejection> {
        self.insider(asked)?;
        if asked.header.kind != RoomKind::Audit {
            return Err(Rejection::KindForbids);
        }
        let found = found.ok_or(Rejection::ReportNotFound)?;
        if found.resolved || self.resolved.contains(&report.seq()) {
            return Ok(Vec::new());
        }
        Ok(vec![RoomEvent::ReportResolved { report, note }])
    }

    /// Takes note of what has been reported and seen to of late: who asks has looked at what is on disk, and what was
    /// under way then is in the tail.
    pub(super) fn note_report(&mut self, record: &Record) {
        let seq = record.position.seq;
        match &record.event {
            Event::Room(RoomEvent::Reported(reported)) => {
                self.reported.insert((reported.message, record.author.clone()), seq);
            }
            Event::Room(RoomEvent::ReportResolved { report, .. }) => {
                self.resolved.insert(report.seq());
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => return,
        }
        if self.reported.len() + self.resolved.len() > REPORTS_MAX {
            let since = seq.0.saturating_sub(REPORTS_MAX as u64 / 2);
            self.reported.retain(|_, at| at.0 > since);
            self.resolved.clear();
        }
    }

    fn let_go(&self, Readers { now, left }: &Readers) -> Vec<RoomEvent> {
        let out = self.members.iter().filter(|(user, _)| !now.contains(*user));
        let gone = out.map(|(user, member)| {
            let (user, joined) = (user.clone(), member.joined);
            match left.contains(&user) {
                true => RoomEvent::MemberLeft { user, joined },
                false => RoomEvent::MemberKicked { user, joined, reason: None },
            }
        });
        gone.collect()
    }
}

/// The first events of an audit room.
pub(super) fn begun(audit: Audit) -> Result<Vec<RoomEvent>, Rejection> {
    let Begin { num, audits, readers } = audit.begin.ok_or(Rejection::RoomNotFound)?;
    let created = RoomEvent::RoomCreated { kind: RoomKind::Audit, alias: None, num, name: None, audits };
    let joined = readers.into_iter().map(|user| RoomEvent::MemberJoined { user, role: Role::Viewer });
    Ok(std::iter::once(created).chain(joined).collect())
}

impl RoomEvent {
    /// Whether it is something that `author` has decided about others, or about the room.
    fn decides(&self, author: &UserId) -> bool {
        match self {
            Self::RoomUpdated(_)
            | Self::RoomArchived
            | Self::MemberKicked { .. }
            | Self::RoleChanged { .. }
            | Self::RightsChanged { .. }
            | Self::RulesChanged(_)
            | Self::MemberBanned { .. }
            | Self::MemberUnbanned { .. }
            | Self::MemberMuted { .. }
            | Self::MemberUnmuted { .. } => true,
            Self::MessageDeleted { by, .. } => by != author,
            Self::RoomCreated { .. }
            | Self::DocumentCreated { .. }
            | Self::DocumentUpdated { .. }
            | Self::DocumentDeleted { .. }
            | Self::MemberJoined { .. }
            | Self::MemberInvited { .. }
            | Self::MemberLeft { .. }
            | Self::MemberBlocked { .. }
            | Self::MemberUnblocked { .. }
            | Self::MessagePosted { .. }
            | Self::MessageEdited { .. }
            | Self::ReactionAdded { .. }
            | Self::ReactionRemoved { .. }
            | Self::MessagePinned { .. }
            | Self::MessageUnpinned { .. }
            | Self::HistoryTrimmed { .. }
            | Self::MessageErased
            | Self::Audited(_)
            | Self::Administered(_)
            | Self::Reported(_)
            | Self::ReportResolved { .. } => false,
        }
    }

    /// The user who may read more or less of what is decided because of it.
    pub fn concerns(&self) -> Option<&UserId> {
        match self {
            Self::MemberJoined { user, .. }
            | Self::MemberLeft { user, .. }
            | Self::MemberKicked { user, .. }
            | Self::RoleChanged { user, .. }
            | Self::RightsChanged { user, .. }
            | Self::MemberBanned { user, joined: Some(_), .. } => Some(user),
            Self::RoomCreated { .. }
            | Self::RoomUpdated(_)
            | Self::RoomArchived
            | Self::DocumentCreated { .. }
            | Self::DocumentUpdated { .. }
            | Self::DocumentDeleted { .. }
            | Self::MemberInvited { .. }
            | Self::RulesChanged(_)
            | Self::MemberBanned { joined: None, .. }
            | Self::MemberUnbanned { .. }
            | Self::MemberMuted { .. }
            | Self::MemberUnmuted { .. }
            | Self::MemberBlocked { .. }
            | Self::MemberUnblocked { .. }
            | Self::MessagePosted { .. }
            | Self::MessageEdited { .. }
            | Self::MessageDeleted { .. }
            | Self::ReactionAdded { .. }
            | Self::ReactionRemoved { .. }
            | Self::MessagePinned { .. }
            | Self::MessageUnpinned { .. }
            | Self::HistoryTrimmed { .. }
            | Self::MessageErased
            | Self::Audited(_)
            | Self::Administered(_)
            | Self::Reported(_)
            | Self::ReportResolved { .. } => None,
        }
    }
}
