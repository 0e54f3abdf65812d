//! Revocations: tokens that are denied before they expire, and the end of what stands on them.
//!
//! The order is what makes them a barrier. First the list is changed, so that nobody new comes in; then every worker
//! thread is told, and ends the connections of the subject; the command is answered when the last of them is gone or has
//! been cut. A connection that was let in just before enters its thread's table first and then looks at the list again,
//! so one of the two meets it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::auditing;
use super::failure::commit_failed;
use super::registry::{Registry, RelayId};
use super::relay::Revoke;
use super::session::{Admission, Gate};
use crate::domain::command::Administer;
use crate::domain::revocation::Subject;
use crate::domain::{Deed, Principal, Revocation, Revocations, StreamId, Timestamp, UserId};
use crate::store::rows::{self, Row};
use crate::store::{Commit, Put, StoreError};
use crate::wire::{CloseReason, Refusal};

/// How many revocations there may be at once: each is a row in memory until the tokens that it concerns have expired.
pub const REVOCATIONS_MAX: usize = 100_000;

/// The longest that any token may live from now on, its issuer's clock being as wrong as it may be: a day and two minutes.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60 + 2 * 60);

/// How long every connection of the subject may take to be gone. A connection without a pong is cut after half a
/// second, so more is needed only by a thread that hangs.
const GONE: Duration = Duration::from_secs(2);

/// How long to wait before a relay that has died is asked for again.
const AGAIN: Duration = Duration::from_millis(5);

/// How many rows are read at once.
const PAGE: usize = 1_000;

/// What a revocation has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    pub revocation: Revocation,
    /// How many connections it ended.
    pub connections: usize,
}

/// Asks `inner` whose a token is, and denies those that are revoked.
pub struct Watched {
    pub inner: Arc<dyn Gate>,
    pub registry: Arc<Registry>,
}

impl Gate for Watched {
    fn admit<'a>(&'a self, token: &'a str, now: Timestamp) -> Admission<'a> {
        Box::pin(async move {
            let principal = self.inner.admit(token, now).await?;
            match self.registry.denied(&principal) {
                Some(refusal) => Err(refusal),
                None => Ok(principal),
            }
        })
    }
}

impl Registry {
    /// Why somebody is not let in, or not any more, whose token is good in itself.
    pub fn denied(&self, principal: &Principal) -> Option<Refusal> {
        let excluded = self.excluded(&principal.tenant, &principal.user);
        excluded.or_else(|| self.revocations.load().denies(principal).then(Refusal::token_revoked))
    }

    /// Everything that is revoked now.
    pub fn revocations(&self) -> Arc<Revocations> {
        self.revocations.load_full()
    }

    /// Denies what `subject` names from now on. When this returns with `Ok`, it is on disk, and no connection that
    /// stood on it sends anything any more. With a refusal, the subject is denied all the same, but perhaps not for
    /// longer than this process lives; but for `busy`, with which nothing has been done.
    pub async fn revoke(self: &Arc<Self>, subject: Subject, revocation: Revocation) -> Result<Revoked, Refusal> {
        if self.revocations.load().len() >= REVOCATIONS_MAX {
            return Err(Refusal::busy(Duration::from_secs(60)));
        }
        self.revocations.rcu(|list| {
            let mut list = Revocations::clone(list);
            list.add(subject.clone(), revocation);
            list
        });
        let ended = self.end_connections(&subject, revocation, CloseReason::TokenRevoked);
        let (written, ended) = tokio::join!(self.write_down(&subject, revocation.since), ended);
        written?;
        Ok(Revoked { revocation, connections: ended? })
    }

    /// Brings the row of a subject that the operator has revoked to what the list says of it, and has the audit room of the
    /// tenant told, where one is named. The row is first, and by itself: it follows from the list, whatever becomes of the
    /// room.
    async fn write_down(self: &Arc<Self>, subject: &Subject, since: Timestamp) -> Result<(), Refusal> {
        let written = self.write(std::slice::from_ref(subject));
        let (tenant, user) = match subject {
            Subject::Token(_) | Subject::Login(_) => return written.await,
            Subject::User(tenant, user) => (tenant, Some(user.clone())),
            Subject::Tenant(tenant) => (tenant, None),
        };
        let revoked = Administer { deed: Some(Deed::TokensRevoked { user, since }), reading: None };
        let (registry, tenant) = (Arc::clone(self), tenant.clone());
        // It goes on to its end also when who asked for it has gone.
        let told = tokio::spawn(async move {
            written.await?;
            let told = auditing::administer(&registry, &tenant, UserId::operator(), revoked, Vec::new()).await?;
            told.await
        });
        told.await.unwrap_or_else(|_| Err(Refusal::unavailable()))
    }

    /// Denies the tokens of `subjects`, each until the time that stands with it, from when this is called on; has that on
    /// disk when it returns. What stands on them ends with [`Registry::end_denied`].
    pub(super) fn deny(
        &self,
        subjects: &[(Subject, Timestamp)],
    ) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
        if self.revocations.load().len() + subjects.len() > REVOCATIONS_MAX {
            return Err(Refusal::busy(Duration::from_secs(60)));
        }
        self.revocations.rcu(|list| {
            let mut list = Revocations::clone(list);
            for (subject, until) in subjects {
                list.add(subject.clone(), Revocation { since: self.now(), until: *until });
            }
            list
        });
        let subjects: Vec<_> = subjects.iter().map(|(subject, _)| subject.clone()).collect();
        Ok(self.write(&subjects))
    }

    /// Ends what stands on the tokens of `subjects`, which have been denied; returns when it is gone.
    pub(super) async fn end_denied(&self, subjects: &[(Subject, Timestamp)]) -> Result<(), Refusal> {
        let ends = subjects.iter().map(async |(subject, until)| {
            let revocation = Revocation { since: self.now(), until: *until };
            self.end_connections(subject, revocation, CloseReason::TokenRevoked).await.map(drop)
        });
        futures_util::future::join_all(ends).await.into_iter().collect()
    }

    /// Reads what was revoked before this process began. Nobody may be let in before.
    pub async fn load_revocations(&self) -> Result<(), StoreError> {
        let mut list = Revocations::default();
        let mut after = None;
        loop {
            let page = self.store().scan(&StreamId::Server, rows::REVOCATIONS, after.as_deref(), PAGE).await?;
            for (key, value) in &page {
                list.add(rows::subject_of(key)?, Revocation::decode(value)?);
            }
            if page.len() < PAGE {
                break;
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
        self.revocations.store(Arc::new(list));
        Ok(())
    }

    /// Forgets the revocations that concern nothing any more.
    pub async fn forget_revocations(&self) -> Result<(), Refusal> {
        let outlived = self.revocations.load().outlived(self.now());
        for subjects in outlived.chunks(PAGE) {
            let now = self.now();
            self.revocations.rcu(|list| {
                let mut list = Revocations::clone(list);
                // One of them may have been revoked again meanwhile.
                let still: Vec<_> = list.outlived(now);
                for subject in subjects.iter().filter(|subject| still.contains(subject)) {
                    list.forget(subject);
                }
                list
            });
            self.write(subjects).await?;
        }
        Ok(())
    }

    /// Brings the rows of `subjects` to what the list says of them. Commits of one stream are carried out in the order
    /// of their calls, and the list is read when this is called, so the last word on disk is that of the list.
    fn write(&self, subjects: &[Subject]) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let (puts, stream) = (self.rows(subjects), StreamId::Server);
        let commit = Commit { stream, expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None };
        let commit = self.store().commit(commit);
        async move { commit.await.map_err(commit_failed) }
    }

    /// The rows of `subjects`, as the list is now.
    fn rows(&self, subjects: &[Subject]) -> Vec<Put> {
        let list = self.revocations.load();
        let put = |subject: &Subject| {
            let revocation = list.iter().find(|(known, _)| *known == subject).map(|(_, revocation)| *revocation);
            Put {
                under: StreamId::Server,
                key: rows::revocation(subject),
                value: revocation.map(|revocation| revocation.encode()),
            }
        };
        subjects.iter().map(put).collect()
    }

    /// Ends what stands on the tokens of `subject`, on every thread; returns when it is gone.
    pub(super) async fn end_connections(
        &self,
        subject: &Subject,
        revocation: Revocation,
        close: CloseReason,
    ) -> Result<usize, Refusal> {
        let (pending, mut gone) = mpsc::channel(1);
        let told = async {
            let mut count = 0;
            for relay in self.relays() {
                let revoke = || Revoke { subject: subject.clone(), revocation, close, pending: pending.clone() };
                count += self.tell(relay, revoke).await;
            }
            drop(pending);
            let _ = gone.recv().await;
            count
        };
        tokio::time::timeout(GONE, told).await.map_err(|_| {
            tracing::error!("a revocation was not confirmed by every thread in time");
            Refusal::unavailable()
        })
    }

    /// Tells a relay, or the one that takes its place when it dies.
    async fn tell(&self, relay: RelayId, revoke: impl Fn() -> Revoke) -> usize {
        loop {
            if let Some(relay) = self.relay(relay)
                && let Ok(count) = relay.send(revoke()).await
            {
                return count;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Says what may be revoked and for how long, from what an operator asks at `now`: tokens from up to `since`, which may
/// not lie ahead. `lifetime` is the longest that a token of that time may live.
pub fn revocation(now: Timestamp, since: Option<Timestamp>, lifetime: Duration) -> Option<Revocation> {
    let since = since.unwrap_or(now);
    let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    // A single token may be of now, whatever `since` says.
    (since <= now).then(|| Revocation { since, until: Timestamp(now.0.saturating_add(lifetime)) })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::actors::link::{Cut, Link};
    use crate::actors::{Limits, Worker};
    use crate::clock::{Clock, SystemClock};
    use crate::domain::TenantId;
    use crate::store::Store;
    use crate::store::memory::MemoryStore;
    use crate::wire::Dialect;

    #[derive(Clone, Default)]
    struct Noted(Rc<Cell<bool>>);

    impl Cut for Noted {
        fn cut(&self) {
            self.0.set(true);
        }
    }

    fn ann() -> Principal {
        let now = SystemClock.now();
        Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new("ann").unwrap(),
            token: None,
            login: None,
            issued_at: now,
            expires_at: Timestamp(now.0 + 60_000),
        }
    }

    #[test]
    fn a_connection_that_enters_after_its_revocation_is_ended_by_itself() {
        actix::System::new().block_on(async {
            let store = Arc::new(MemoryStore::new());
            let registry = Registry::new(store, Arc::new(SystemClock), Limits::default());
            let worker = Worker::start(Arc::clone(&registry));
            // Its token has been looked at by now, and found good.
            let ann = ann();
            let subject = Subject::User(ann.tenant.clone(), ann.user.clone());
            let revocation = revocation(registry.now(), None, Duration::from_secs(60)).unwrap();
            assert_eq!(registry.revoke(subject, revocation).await.unwrap().connections, 0);

            let cut = Noted::default();
            let socket = Rc::new(Link::new(Dialect::NativeJson, Box::new(cut.clone())));
            worker.authenticated(&socket, &ann);
            assert_eq!((socket.closed(), cut.0.get()), (Some(CloseReason::TokenRevoked), false));
            assert!(socket.is_revoked(), "its session carries out nothing more");
            let refreshed = Rc::new(Link::new(Dialect::NativeJson, Box::new(cut.clone())));
            worker.refreshed(&refreshed, &ann);
            assert_eq!(refreshed.closed(), Some(CloseReason::TokenRevoked));
            let request = Rc::new(Link::request(Box::new(cut.clone())));
            worker.authenticated(&request, &ann);
            assert!(cut.0.get(), "what is being read for it is not shown");
        });
    }

    #[test]
    fn a_revocation_waits_for_the_command_that_it_cuts_but_not_for_one_that_is_answered() {
        let (cut, (pending, mut gone)) = (Noted::default(), mpsc::channel(1));
        let command = Link::command(Box::new(cut.clone()));
        let token = command.revoke(CloseReason::TokenRevoked, pending.clone());
        assert!(cut.0.get() && command.is_revoked() && command.unproven(token));
        assert!(command.outbox.is_gone(), "its body is read no further");
        drop(pending);
        assert!(gone.try_recv() == Err(mpsc::error::TryRecvError::Empty));
        command.answered();
        assert!(gone.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));

        let (cut, (pending, mut gone)) = (Noted::default(), mpsc::channel(1));
        let command = Link::command(Box::new(cut.clone()));
        command.answered();
        command.revoke(CloseReason::TokenRevoked, pending);
        assert!(cut.0.get() && gone.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn a_revocation_that_cannot_be_written_holds_all_the_same_and_says_so() {
        actix::System::new().block_on(async {
            let store = Arc::new(MemoryStore::new());
            store.close().await;
            let registry = Registry::new(store, Arc::new(SystemClock), Limits::default());
            let ann = ann();
            let subject = Subject::User(ann.tenant.clone(), ann.user.clone());
            let revocation = revocation(registry.now(), None, Duration::from_secs(60)).unwrap();
            assert_eq!(registry.revoke(subject, revocation).await.unwrap_err().code(), "unavailable");
            assert_eq!(registry.denied(&ann).map(|refusal| refusal.code()), Some("token_revoked"));
        });
    }

    #[test]
    fn what_lies_ahead_cannot_be_revoked() {
        let now = Timestamp(50_000);
        let until = |since| {
            let revocation = revocation(now, since, Duration::from_secs(1));
            revocation.map(|revocation| (revocation.since.0, revocation.until.0))
        };
        assert_eq!(until(None), Some((50_000, 51_000)));
        assert_eq!(until(Some(Timestamp(10_000))), Some((10_000, 51_000)));
        assert_eq!(until(Some(Timestamp(50_001))), None);
    }
}
