//! A room's records by pages, forwards, and waiting for the next one.
//!
//! Who reads a page is registered as a follower meanwhile, so that a removal is noticed. It stays behind for as long as
//! it reads: a publication only tells it that there is more, nothing piles up for it, and what it is shown comes from
//! the log.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::batch::removal_of;
use super::failure::read_failed;
use super::link::Link;
use super::reading::{Admitted, admit};
use super::worker::{Follower, Worker};
use crate::domain::account::AccountRejection;
use crate::domain::{Principal, Rejection, RoomName, Seq};
use crate::wire::{Absence, CloseReason, From as Since, Gap, Refusal, Reply};

/// Up to `limit` records of a room after `since`. Where there are none, waits for up to `wait` until there are, and
/// answers with an empty page if there still are none. `link` is the connection that the answer will leave by.
pub async fn page(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: &Principal,
    room: &RoomName,
    since: Since,
    limit: usize,
    wait: Duration,
) -> Result<Reply, Refusal> {
    let registry = worker.registry();
    let answer_timeout = registry.limits().answer_timeout;
    let begin = async {
        let key = registry.resolve_for(by, room).await?;
        let registration = worker.register(key, by.user.clone(), link);
        let admitted = admit(registry, registration.follower(), since).await?;
        Ok::<_, Refusal>((registration, admitted))
    };
    let began = tokio::time::timeout(answer_timeout, registry.look_up(by, begin));
    let (registration, Admitted { at, head, mut gap }) = began.await.map_err(|_| Refusal::unavailable())??;
    let reader = registration.follower();
    let stream = reader.room().stream();
    let waiting = tokio::time::sleep(wait);
    tokio::pin!(waiting);
    loop {
        let page = registry.store().read(&stream, at.seq, limit);
        let page = tokio::time::timeout(answer_timeout, page).await.map_err(|_| Refusal::unavailable())?;
        let mut page = page.map_err(|error| read_failed(&error))?;
        let until = shown(reader, at.seq, &page.records)?;
        if let Some(first) = page.records.first().map(|record| record.position.seq)
            && first > at.seq.next()
        {
            let from = gap.map_or(at.seq.next(), |gap: Gap| gap.from);
            gap = Some(Gap { from, to: Seq(first.0 - 1), reason: Absence::Retention });
        }
        page.records.retain(|record| until.is_some_and(|until| record.position.seq <= until));
        if !page.records.is_empty() || waiting.is_elapsed() || wait.is_zero() {
            let cursor = page.records.last().map_or(at, |record| record.position);
            let head = head.max(cursor.seq);
            let room = reader.room().clone();
            return Ok(Reply::Page { room, records: page.records, cursor, complete: page.complete, head, gap });
        }
        tokio::select! {
            rung = rung(link) => if let ControlFlow::Break(refusal) = rung {
                return Err(refusal);
            },
            () = &mut waiting => {}
        }
    }
}

/// Up to which of `records`, read after `after`, the reader may see them: no further than its removal.
fn shown(reader: &Rc<Follower>, after: Seq, records: &[crate::domain::Record]) -> Result<Option<Seq>, Refusal> {
    let mut follow = reader.follow().borrow_mut();
    if follow.at().is_none() {
        return Err(Rejection::NotMember.into());
    }
    let removals = records.iter().filter(|record| removal_of(record).is_some_and(|(user, _)| user == reader.user()));
    let removals: Vec<_> = removals.map(|record| record.position.seq).collect();
    let (generation, last) = (follow.generation(), records.last().map(|record| record.position));
    if last.is_none() {
        return Ok(None);
    }
    // Never complete: then it would be live, and be handed what is published.
    Ok(follow.page(generation, after, last, false, removals).records.map(|(_, until)| until))
}

/// Waits until the connection has ended; what is said to who waits.
pub async fn gone(link: &Rc<Link>) -> Refusal {
    loop {
        if let ControlFlow::Break(refusal) = rung(link).await {
            return refusal;
        }
    }
}

/// Waits until there is more to read, which the outbox asks its reader to do, or until the connection has ended.
async fn rung(link: &Rc<Link>) -> ControlFlow<Refusal> {
    poll_fn(|cx| {
        let mut rung = false;
        loop {
            match link.outbox.poll_take(cx, || rung = true) {
                // Nobody is told anything on a connection that asks.
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(ControlFlow::Break(ended(link.closed()))),
                Poll::Pending if rung => return Poll::Ready(ControlFlow::Continue(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// What is said to who waits when its connection has to end. `None` for one that was cut, which hears nothing.
fn ended(reason: Option<CloseReason>) -> Refusal {
    match reason {
        Some(CloseReason::Restarting) => Refusal::shutting_down(),
        Some(CloseReason::TokenExpired) => Refusal::token_expired(),
        Some(CloseReason::TokenRevoked) => Refusal::token_revoked(),
        Some(CloseReason::TenantBanned) => AccountRejection::TenantBanned.into(),
        Some(CloseReason::Unauthenticated) => Refusal::unauthenticated(),
        Some(
            CloseReason::Normal
            | CloseReason::ProtocolError
            | CloseReason::UnsupportedData
            | CloseReason::InvalidText
            | CloseReason::TooBig
            | CloseReason::Internal
            | CloseReason::BadFrame
            | CloseReason::SlowConsumer
            | CloseReason::HeartbeatMissed
            | CloseReason::LimitReached,
        )
        | None => Refusal::unavailable(),
    }
}
