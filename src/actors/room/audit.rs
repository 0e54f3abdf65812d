//! What a room owes its audit room, handed on after each commit, and who reads it told before.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;

use super::RoomActor;
use crate::actors::auditing::{self, Owed, Taken, Turn};
use crate::domain::command::{Audit, Begin, Decision, Readers, Reading};
use crate::domain::{Num, Seq, StreamId, UserId};
use crate::store::Put;
use crate::wire::Refusal;

impl RoomActor {
    /// Sees to it that the audit room has what has been decided, and only those who read it.
    pub(super) fn see_to_audits(&mut self, ctx: &mut Context<Self>) {
        self.let_go(ctx);
        self.hand_on(ctx);
        let uncommitted = self.in_flight.iter().chain([&self.gathering]).any(|gathered| gathered.owed.is_some());
        self.watch.owes = uncommitted || self.owed.is_open();
    }

    /// Tells the audit room who reads it still, before and beside what is handed on to it.
    fn let_go(&mut self, ctx: &mut Context<Self>) {
        if !self.owed.begins_letting_go() {
            return;
        }
        let num = auditing::num_to_begin(Arc::clone(&self.registry), auditing::audit_of(&self.key));
        let told = num.into_actor(self).then(|num, room, _| {
            let at = room.committed.map_or(Seq::ZERO, |head| head.seq);
            let told = num.map(|num| room.tell_readers(num));
            async move { told?.await.map(|()| at) }.into_actor(room)
        });
        ctx.spawn(told.map(|told, room, ctx| match told {
            Ok(at) => {
                room.owed.out(at);
                room.see_to_audits(ctx);
            }
            Err(refusal) => room.try_again(|owed| &mut owed.letting_go, &refusal, ctx),
        }));
    }

    /// The audit room has what it is told when this returns: whoever reads no more from then on is told of behind it.
    fn tell_readers(&self, num: Option<Num>) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let now = self.readers_on_disk();
        let begin = num.map(|num| Begin { num, audits: Some(self.key.room), readers: now.iter().cloned().collect() });
        let readers = Some(Readers { now, left: self.owed.left() });
        auditing::write_down(
            &self.registry,
            &auditing::audit_of(&self.key),
            Audit { begin, readers, decisions: Vec::new() },
        )
    }

    /// Who reads what is decided, as far as that is on disk.
    fn readers_on_disk(&self) -> BTreeSet<UserId> {
        let mut readers = self.room.audit_readers();
        let uncommitted = self.in_flight.iter().chain([&self.gathering]).flat_map(|gathered| &gathered.readings);
        for Reading { user, reads } in uncommitted.rev() {
            if *reads {
                readers.remove(user);
            } else {
                readers.insert(user.clone());
            }
        }
        readers
    }

    /// Hands what has been decided to the audit room, as long as there is something.
    fn hand_on(&mut self, ctx: &mut Context<Self>) {
        let Some((after, until)) = self.owed.begins_handing_on() else { return };
        let owed = auditing::owed(Arc::clone(&self.registry), self.key.clone(), (after, until));
        let handed = owed.into_actor(self).then(|owed, room, _| {
            let handed = owed.map(|(decisions, taken)| room.hand_over(decisions, taken));
            async move { handed?.await }.into_actor(room)
        });
        ctx.spawn(handed.map(|handed, room, ctx| match handed {
            Ok(Taken { through, rows }) => {
                room.owed.taken(through);
                room.gathering.puts.extend(rows.into_iter().map(settled));
                room.flush(ctx);
                room.see_to_audits(ctx);
            }
            Err(refusal) => room.try_again(|owed| &mut owed.handing_on, &refusal, ctx),
        }));
    }

    /// The audit room has it when this returns, so that who is let in reads now, and is let go of behind it.
    fn hand_over(
        &self,
        mut decisions: Vec<Decision>,
        taken: Taken,
    ) -> impl Future<Output = Result<Taken, Refusal>> + use<> {
        if decisions.iter().any(|decision| decision.reading.is_some()) {
            let mut readers = self.readers_on_disk();
            for decision in &mut decisions {
                decision.reading.take_if(|reading| !(reading.reads && readers.remove(&reading.user)));
            }
        }
        let audit = (!decisions.is_empty()).then(|| Audit { decisions, ..Audit::default() });
        let told = audit.map(|audit| auditing::write_down(&self.registry, &auditing::audit_of(&self.key), audit));
        async move {
            if let Some(told) = told {
                told.await?;
            }
            Ok(taken)
        }
    }

    /// Does again what an audit room has not taken.
    fn try_again(&mut self, turn: fn(&mut Owed) -> &mut Turn, refusal: &Refusal, ctx: &mut Context<Self>) {
        let (wait, first) = turn(&mut self.owed).failed();
        if first {
            let code = refusal.code();
            tracing::warn!(room = %self.key.room, code, "an audit room does not take what was decided; it is tried again");
        }
        ctx.run_later(wait, move |room, ctx| {
            turn(&mut room.owed).again();
            room.see_to_audits(ctx);
        });
    }
}

/// Takes away the row of what an audit room has taken.
fn settled(key: Bytes) -> Put {
    Put { under: StreamId::Owed, key, value: None }
}
