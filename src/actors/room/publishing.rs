//! Has everybody know of what a room has on disk: relays, inboxes, who shows who is writing; and waits until removals have
//! reached them all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::sync::mpsc;

use super::{REMOVAL_TIME, Reply, RoomActor, removal_due, removes};
use crate::actors::batch::{Batch, DialectSet, Pending, removal_of};
use crate::actors::inbox::RoomsChanged;
use crate::actors::registry::RelayId;
use crate::actors::relay::Publication;
use crate::domain::policy::{History, Standing};
use crate::domain::{Capability, Event, Record, RoomEvent, Seq, UserId};
use crate::wire::{Label, Refusal};

/// How many batches wait for a relay that has not taken the last ones; with more, its followers read the log.
const BACKLOG_MAX: usize = 256;

/// What one relay has been sent.
#[derive(Default)]
pub(super) struct RelayLink {
    pub(super) unacknowledged: bool,
    pub(super) backlog: Vec<Arc<Batch>>,
}

/// Says when the removals of a publication have reached every follower.
type Removed = mpsc::Receiver<std::convert::Infallible>;

impl RoomActor {
    /// Has everybody know of records that are on disk, and answers those that remove somebody when they have done so.
    pub(super) fn show(&mut self, records: &[Record], removals: Vec<Reply>, before: Seq, ctx: &mut Context<Self>) {
        if let Some(removed) = self.publish(records, ctx) {
            self.answer_when_removed(removed, removals, before, ctx);
        }
        self.has_published();
        self.tell_inboxes(records);
        for record in records {
            if let Some(user) = ends_typing(record) {
                self.registry.typed(&self.key, user);
            }
        }
        self.registry.digests().committed(&self.key, records);
    }

    /// Frames the records for whoever follows and sends them on their way. With a removal among them there is a receiver,
    /// which is done when every removal has reached every follower.
    fn publish(&mut self, records: &[Record], ctx: &mut Context<Self>) -> Option<Removed> {
        let (pending, removed) = records.iter().any(removes).then(|| mpsc::channel(1)).unzip();
        // Read after the commit: a follower that registers later finds these records, and this membership, on disk.
        let interest = self.registry.interest(&self.key);
        let dialects = interest.iter().fold(DialectSet::default(), |all, (_, dialects)| all.union(*dialects));
        let mut relays: Vec<RelayId> = interest.into_iter().map(|(relay, _)| relay).collect();
        if removed.is_some() {
            relays = self.registry.relays();
        }
        if relays.is_empty() {
            return removed;
        }
        let alias = self.room.header().and_then(|header| header.alias.as_ref());
        let batch = Batch::new(Label { key: &self.key, alias }, records, dialects, pending.as_ref());
        for relay in relays {
            let link = self.relays.entry(relay).or_default();
            let matters = |batch: &Arc<Batch>| !batch.removals().is_empty() || batch.narrows();
            if link.backlog.len() >= BACKLOG_MAX && !matters(&batch) {
                // Followers notice that something is missing as soon as the relay moves again, and read the log.
                link.backlog.retain(matters);
            }
            link.backlog.push(Arc::clone(&batch));
            self.registry.metrics().publications.inc();
            self.send(relay, ctx);
        }
        removed
    }

    /// Sends a relay what has gathered for it, unless it has not taken the last publication yet. Of one that dies the
    /// connections are cut, and come back to read the log: then it counts as taken, and the removals in it have been
    /// held until then.
    fn send(&mut self, id: RelayId, ctx: &mut Context<Self>) {
        let Some(link) = self.relays.get_mut(&id) else { return };
        if link.unacknowledged || link.backlog.is_empty() {
            return;
        }
        let Some(relay) = self.registry.relay(id) else { return };
        link.unacknowledged = true;
        let batches = std::mem::take(&mut link.backlog);
        let removals: Vec<Pending> =
            batches.iter().flat_map(|batch| batch.removals()).map(|removal| removal.pending.clone()).collect();
        let removes = !removals.is_empty();
        let taken = relay.send(Publication { room: self.key.clone(), batches });
        let registry = Arc::clone(&self.registry);
        let taken = async move {
            if taken.await.is_err() {
                let _ = tokio::time::timeout(REMOVAL_TIME, registry.replaced(id, &relay)).await;
            }
            drop(removals);
        };
        // A room that waits for a removal looks at nothing else of its own.
        let taken = if removes { Either::Left(actix::spawn(taken).map(drop)) } else { Either::Right(taken) };
        ctx.spawn(taken.into_actor(self).map(move |(), room, ctx| {
            if let Some(link) = room.relays.get_mut(&id) {
                link.unacknowledged = false;
            }
            room.send(id, ctx);
        }));
    }

    /// Answers once nothing of the room can reach the removed any more: the barrier of a removal. Where that is not
    /// known in time, the room ends, and its successor publishes again what came after `before`, and looks at no
    /// command until it has been confirmed; so does one that comes because this actor has died meanwhile.
    fn answer_when_removed(&mut self, mut removed: Removed, replies: Vec<Reply>, before: Seq, ctx: &mut Context<Self>) {
        let due = removal_due();
        let reached = async move { tokio::time::timeout_at(due, removed.recv()).await };
        ctx.spawn(reached.into_actor(self).map(move |reached, room, ctx| {
            if reached.is_ok() {
                room.removals.remove(&before);
                room.has_published();
                room.send_all(replies, due);
                room.send_late();
                return;
            }
            tracing::error!(room = %room.key.room, "a removal was not confirmed by every relay in time");
            room.end(true, ctx);
            room.fail(replies, &Refusal::unavailable());
        }));
    }

    /// Publishes what a predecessor had committed when it ended. Where somebody was removed by that, no command is
    /// looked at before the removal has reached everybody: its answer may say that the user is no member any more.
    pub(super) fn make_up_for(&mut self, unpublished: &[Record], ctx: &mut Context<Self>) {
        self.tell_inboxes(unpublished);
        if !unpublished.iter().any(removes) {
            return self.announce();
        }
        let Some(mut removed) = self.publish(unpublished, ctx) else { return };
        let reached = async move { tokio::time::timeout(REMOVAL_TIME, removed.recv()).await };
        ctx.wait(reached.into_actor(self).map(move |reached, room, ctx| {
            if reached.is_ok() {
                return room.announce();
            }
            // The next one has to see to it.
            tracing::error!(room = %room.key.room, "a removal was not confirmed by every relay in time");
            room.end(false, ctx);
        }));
    }

    /// Tells followers where the room stands: they read what they have not been sent. Not before every removal has reached
    /// them: one that began to follow at the removal itself would read beyond it.
    fn announce(&self) {
        self.has_published();
        if let Some(head) = self.committed {
            let narrows = self.room.header().is_some_and(|header| header.settings.history == History::FromJoin);
            self.registry.announce(&self.key, head.seq, narrows);
        }
    }

    /// Notes what a successor need not see to: all that has been sent on its way, up to the first removal that has not
    /// reached everybody.
    pub(super) fn has_published(&self) {
        let committed = self.committed.map_or(Seq::ZERO, |committed| committed.seq);
        let published = self.removals.first().copied().unwrap_or(committed);
        self.published.store(published.0, Ordering::Release);
    }

    fn tell_inboxes(&self, records: &[Record]) {
        for record in records {
            let Event::Room(event) = &record.event else { continue };
            let room = self.key.room;
            let (user, change) = match event {
                RoomEvent::MemberJoined { user, role } | RoomEvent::RoleChanged { user, role, .. } => {
                    (user, RoomsChanged::Gained { room, role: *role, standing: Standing::Member })
                }
                RoomEvent::MemberInvited { user, role } => {
                    (user, RoomsChanged::Gained { room, role: *role, standing: Standing::Invited })
                }
                RoomEvent::MemberLeft { user, .. } | RoomEvent::MemberKicked { user, .. } => {
                    (user, RoomsChanged::Lost { room })
                }
                RoomEvent::MemberBanned { user, joined, invited, .. } if joined.is_some() || *invited => {
                    (user, RoomsChanged::Lost { room })
                }
                // Who was neither must not learn from it that there is such a room.
                RoomEvent::MemberBanned { .. } => continue,
                RoomEvent::Audited(_)
                | RoomEvent::Administered(_)
                | RoomEvent::Reported(_)
                | RoomEvent::ReportResolved { .. }
                | RoomEvent::MemberUnbanned { .. }
                | RoomEvent::MemberMuted { .. }
                | RoomEvent::RightsChanged { .. }
                | RoomEvent::RulesChanged(_)
                | RoomEvent::MemberUnmuted { .. }
                | RoomEvent::MemberBlocked { .. }
                | RoomEvent::MemberUnblocked { .. }
                | RoomEvent::RoomCreated { .. }
                | RoomEvent::RoomUpdated(_)
                | RoomEvent::RoomArchived
                | RoomEvent::DocumentCreated { .. }
                | RoomEvent::DocumentUpdated { .. }
                | RoomEvent::DocumentDeleted { .. }
                | RoomEvent::MessagePosted { .. }
                | RoomEvent::MessageEdited { .. }
                | RoomEvent::MessageDeleted { .. }
                | RoomEvent::ReactionAdded { .. }
                | RoomEvent::ReactionRemoved { .. }
                | RoomEvent::MessagePinned { .. }
                | RoomEvent::MessageUnpinned { .. }
                | RoomEvent::HistoryTrimmed { .. }
                | RoomEvent::MessageErased => continue,
            };
            self.registry.rooms_changed(&self.key.tenant, user, change);
        }
    }
}

/// Whose writing ends with a record.
fn ends_typing(record: &Record) -> Option<&UserId> {
    match &record.event {
        Event::Room(RoomEvent::MessagePosted { .. }) => Some(&record.author),
        Event::Room(RoomEvent::MemberMuted { user, .. } | RoomEvent::MemberBlocked { user }) => Some(user),
        Event::Room(RoomEvent::RightsChanged { user, may, .. }) if !may.has(Capability::Post) => Some(user),
        Event::Room(_) => removal_of(record).map(|(user, _)| user),
        Event::Directory(_) | Event::Inbox(_) => None,
    }
}
