//! Who is where: the rooms and inboxes that are awake, and which relays follow which room.
//!
//! The one thing that threads share besides the store. Each map is split over locks that are held for a look-up, never
//! across a call. A room is started on first use and again after it died; one that keeps dying is shut.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, ArbiterHandle};
use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use tokio::sync::oneshot;

use super::batch::DialectSet;
use super::connections::Connections;
use super::digests::Digests;
use super::directory::{DirectoryActor, Nums, Reserve};
use super::documents::Builds;
use super::failure::read_failed;
use super::files::{Files, Hold};
use super::inbox::{Attach, Granted, InboxActor, Noted, ProfileChanged, RoomsChanged, Seen, What, Wish};
use super::limits::{Limits, names};
use super::overview::Overviews;
use super::presences::{self, Presences, Who};
use super::profiles::ProfileSource;
use super::rates::{Limiter, Meters};
use super::reading;
use super::relay::{Announce, RelayAddr, Signaled, Updated};
use super::room::{Answer, Asker, Beside, RoomActor, Submission, Submit};
use super::signals::Typists;
use super::sockets::Sockets;
use crate::clock::Clock;
use crate::domain::document::Change;
use crate::domain::exclusion::Exclusions;
use crate::domain::{
    ClientId, Command, Principal, Profile, Rejection, Revocations, RoomId, RoomKey, RoomName, Seq, Signal, TenantId,
    Timestamp, UserId,
};
use crate::metrics::Metrics;
use crate::store::rows::{self, Reservation, Row};
use crate::store::{Health, Put, Store};
use crate::wire::{Refusal, Sealer};

/// The threads' common address book.
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limits: ArcSwap<Limits>,
    connections: Connections,
    meters: Meters,
    metrics: Metrics,
    sockets: Sockets,
    builds: Builds,
    /// The thread that started all this; hosts what is started before any has connections.
    home: ArbiterHandle,
    hosts: RwLock<Vec<ArbiterHandle>>,
    hasher: RandomState,
    rooms: Sharded<RoomKey, Slot>,
    interest: Sharded<RoomKey, Vec<(RelayId, DialectSet)>>,
    inboxes: Sharded<(TenantId, UserId), InboxSlot>,
    directories: Mutex<HashMap<TenantId, Directory>>,
    /// Aliases and nums that have been used. What they stand for never changes.
    names: Cache<(TenantId, RoomName), RoomId>,
    relays: RwLock<Vec<RelayAddr>>,
    draining: AtomicBool,
    digests: Digests,
    typists: Typists,
    presences: Presences,
    overviews: Overviews,
    sealer: OnceLock<Sealer>,
    profile_source: OnceLock<Arc<dyn ProfileSource>>,
    files: OnceLock<Arc<Files>>,
    /// Whose tokens are denied.
    pub(super) revocations: ArcSwap<Revocations>,
    /// Who may not come in, whatever the token.
    pub(super) exclusions: ArcSwap<Exclusions>,
}

/// Which relay: its place in the registry's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelayId(usize);

/// A room that is awake, or that died of late.
#[derive(Default)]
struct Slot {
    addr: Option<Addr<RoomActor>>,
    in_flight: Arc<AtomicUsize>,
    messages: Limiter,
    /// Up to which seq its records have been published, kept for its successor; 0 while that is not known.
    published: Arc<AtomicU64>,
    /// When it died of late, and of which command.
    deaths: VecDeque<Death>,
}

struct Death {
    at: Instant,
    command: Option<u64>,
}

struct InboxSlot {
    addr: Addr<InboxActor>,
    /// How many sessions and changes it has been sent.
    sent: u64,
}

#[derive(Clone)]
struct Directory {
    addr: Addr<DirectoryActor>,
    nums: Arc<Nums>,
}

/// A room that dies this often within [`DEATHS_WITHIN`] is shut until the time has passed.
pub const DEATHS_MAX: usize = 5;

/// See [`DEATHS_MAX`].
pub const DEATHS_WITHIN: Duration = Duration::from_secs(60);

/// A command that made its room die this often is refused.
const DEATHS_OF_ONE_COMMAND_MAX: usize = 2;

/// Stands for a time that the clock cannot say: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a room that has dropped a command may take to be gone; and how often to look, also for a relay that takes the
/// place of one that has died.
const DYING: Duration = Duration::from_secs(1);
const DYING_LOOK: Duration = Duration::from_millis(1);

/// The room of a name that nobody has. No room is ever made with this id (RFC 9562, section 5.9).
const NOWHERE: RoomId = RoomId(uuid::Uuid::nil());

/// How many names of rooms are remembered. Each takes some 150 bytes.
const NAMES_MAX: usize = 16_384;

/// How long somebody is asked to wait where a room has too many commands under way.
pub(super) const BUSY: Duration = Duration::from_millis(100);

/// How many messages a room's mailbox holds: more than its admission lets in, so that none is ever refused there.
pub const MAILBOX: usize = 4096;

/// Commands that came together, on their way to the same room: handed over together, so that they are committed
/// together, and nobody is woken for each. Those for another room hand over what is there. Dropping it hands it over.
#[derive(Default)]
pub struct Sheaf {
    to: Option<Addr<RoomActor>>,
    commands: Vec<Submission>,
}

impl Sheaf {
    fn add(&mut self, room: &Addr<RoomActor>, command: Submission) {
        if self.to.as_ref() != Some(room) {
            self.hand_over();
            self.to = Some(room.clone());
        }
        self.commands.push(command);
    }

    #[expect(clippy::disallowed_methods, reason = "a room's mailbox is bounded by the admissions that are given out")]
    fn hand_over(&mut self) {
        if let Some(room) = self.to.take() {
            room.do_send(Submit(std::mem::take(&mut self.commands)));
        }
    }
}

impl Drop for Sheaf {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Registry {
    /// An address book over `store`. Rooms are hosted by this thread until there are others for them.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            limits: ArcSwap::from_pointee(limits),
            connections: Connections::default(),
            meters: Meters::new(Arc::clone(&clock)),
            metrics: Metrics::default(),
            sockets: Sockets::default(),
            builds: Builds::default(),
            clock,
            home: Arbiter::current(),
            hosts: RwLock::default(),
            hasher: RandomState::new(),
            rooms: Sharded::default(),
            interest: Sharded::default(),
            inboxes: Sharded::default(),
            directories: Mutex::default(),
            names: Cache::new(NAMES_MAX),
            relays: RwLock::default(),
            draining: AtomicBool::new(false),
            digests: Digests::default(),
            typists: Typists::default(),
            presences: Presences::default(),
            overviews: Overviews::default(),
            sealer: OnceLock::new(),
            profile_source: OnceLock::new(),
            files: OnceLock::new(),
            revocations: ArcSwap::default(),
            exclusions: ArcSwap::default(),
        })
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time that only goes on.
    pub fn instant(&self) -> Instant {
        self.clock.instant()
    }

    /// When a token that has just been accepted ends. From here on a clock that is set to another time changes nothing.
    pub fn end_of(&self, principal: &Principal) -> Instant {
        let left = u64::try_from(principal.expires_at.0.saturating_sub(self.now().0)).unwrap_or(0);
        let now = self.instant();
        now.checked_add(Duration::from_millis(left)).unwrap_or_else(|| now + LONGEST)
    }

    /// The limits as they are now. They may change between two looks; hold on to one where two have to agree.
    pub fn limits(&self) -> arc_swap::Guard<Arc<Limits>> {
        self.limits.load()
    }

    /// From now on these hold, for the connections that are there, too.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The connections that are called something.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The indexes of documents that are being built.
    pub fn builds(&self) -> &Builds {
        &self.builds
    }

    /// What is counted for the operator.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What users, tenants and addresses have done of late.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// What seals the cursors of users' worlds: one that lasts only as long as the process, unless
    /// [`Registry::seal_with`] came first.
    pub fn sealer(&self) -> &Sealer {
        self.sealer.get_or_init(|| {
            let mut key = [0; 32];
            getrandom::fill(&mut key).expect("the system has had random numbers for other secrets");
            Sealer::new(&key).expect("it has 32 bytes")
        })
    }

    /// Names what seals cursors. Called once, before anybody connects.
    pub fn seal_with(&self, sealer: Sealer) {
        let first = self.sealer.set(sealer);
        debug_assert!(first.is_ok(), "cursors have been sealed by another key already");
    }

    /// Who knows, besides the users themselves, who they are.
    pub fn profile_source(&self) -> Option<&Arc<dyn ProfileSource>> {
        self.profile_source.get()
    }

    /// Names that. Called once, before anybody connects.
    pub fn ask_for_profiles(&self, source: Arc<dyn ProfileSource>) {
        let first = self.profile_source.set(source);
        debug_assert!(first.is_ok(), "somebody else is asked already");
    }

    /// Names what keeps files. Called once, before anybody connects.
    pub fn keep_files(&self, files: Arc<Files>) {
        let first = self.files.set(files);
        debug_assert!(first.is_ok(), "files have been kept elsewhere already");
    }

    /// What keeps files; refused on a server that has no place for them.
    pub fn files(&self) -> Result<&Arc<Files>, Refusal> {
        self.files.get().ok_or_else(Refusal::unavailable)
    }

    /// From now on commands are refused with `shutting_down`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is stopping.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Why the process does not take commands now, if it does not.
    pub fn unready(&self) -> Option<Refusal> {
        if self.draining() {
            return Some(Refusal::shutting_down());
        }
        match self.store.health() {
            Health::Good => None,
            Health::Full => Some(Refusal::storage_full()),
            Health::Broken { .. } => Some(Refusal::unavailable()),
        }
    }

    /// Whether a command is worth carrying out although there is hardly any space left.
    fn frees(&self, command: &Command) -> bool {
        command.frees() && self.store.health() == Health::Full
    }

    /// Hands a command to its room. The room has it, in the order of these calls, when this returns; the future is its
    /// answer.
    pub fn submit(
        self: &Arc<Self>,
        room: &RoomKey,
        by: Principal,
        command: Command,
        client_id: Option<ClientId>,
    ) -> impl Future<Output = Answer> + use<> {
        self.submit_holding(room, by, command, client_id, None)
    }

    /// As [`Registry::submit`]; the files in `hold` are not collected before the command has been settled.
    pub fn submit_holding(
        self: &Arc<Self>,
        room: &RoomKey,
        by: Principal,
        command: Command,
        client_id: Option<ClientId>,
        hold: Option<Hold>,
    ) -> impl Future<Output = Answer> + use<> {
        let asked = self.submit_with(&mut Sheaf::default(), room, by, command, client_id, With::from(hold));
        async move { asked?.await }
    }

    /// As [`Registry::submit`]; `puts` are written in one commit with what follows from the command, or nothing is. The
    /// receiver is told when that is on disk, before the answer, which waits for those whom the command removes, and however
    /// long after it, which has a limit; it ends where the room does not know that it is.
    pub fn submit_beside(
        self: &Arc<Self>,
        room: &RoomKey,
        by: Principal,
        command: Command,
        puts: Vec<Put>,
    ) -> Result<(oneshot::Receiver<()>, impl Future<Output = Answer> + use<>), Refusal> {
        let (written, on_disk) = oneshot::channel();
        let with = With { hold: None, beside: Some(Beside { puts, written }) };
        let answer = self.submit_with(&mut Sheaf::default(), room, by, command, None, with)?;
        Ok((on_disk, answer))
    }

    /// As [`Registry::submit`], and the room has it when the sheaf has been handed over; or why it will not.
    pub fn submit_with(
        self: &Arc<Self>,
        sheaf: &mut Sheaf,
        room: &RoomKey,
        by: Principal,
        command: Command,
        client_id: Option<ClientId>,
        with: With,
    ) -> Result<impl Future<Output = Answer> + use<>, Refusal> {
        let (asker, kind) = (by.clone(), command.kind());
        let asked = match self.hand_over(sheaf, room, by, command, client_id, with) {
            Ok(asked) => asked,
            Err(refusal) => {
                self.metrics.command(kind, &Err::<(), _>(refusal.clone()));
                return Err(refusal);
            }
        };
        let due = tokio::time::Instant::now() + self.limits().answer_timeout;
        let registry = Arc::clone(self);
        Ok(async move {
            let answer = async {
                let Asked { answer, room, admission: _admission } = asked;
                match tokio::time::timeout_at(due, answer).await {
                    Ok(Ok(answer)) => {
                        // A room that may not be known of says so itself.
                        if answer.as_ref().is_err_and(|refusal| refusal.code() == Rejection::RoomNotFound.code()) {
                            registry.meters.looked_up_in_vain(&registry.limits().rates, &asker);
                        }
                        answer
                    }
                    // The room died with the command in its hands: it may have been carried out. Whoever asks again must
                    // not reach the one that is dying.
                    Ok(Err(_)) => {
                        let died = async {
                            while room.connected() {
                                tokio::time::sleep(DYING_LOOK).await;
                            }
                        };
                        let _ = tokio::time::timeout(DYING, died).await;
                        Err(Refusal::unavailable())
                    }
                    Err(_) => Err(Refusal::unavailable()),
                }
            }
            .await;
            registry.metrics.command(kind, &answer);
            answer
        })
    }

    fn hand_over(
        self: &Arc<Self>,
        sheaf: &mut Sheaf,
        room: &RoomKey,
        by: Principal,
        command: Command,
        client_id: Option<ClientId>,
        With { hold, beside }: With,
    ) -> Result<Asked, Refusal> {
        if let Some(refusal) = self.unready().filter(|_| self.draining() || !self.frees(&command)) {
            return Err(refusal);
        }
        let limits = self.limits();
        // These have been counted where they were asked for.
        let reserved = matches!(command, Command::Create(_) | Command::Block { .. } | Command::Unblock { .. });
        // What the server does by itself uses up nothing of anybody's; reports have a rate of their own.
        let is_upkeep = matches!(&command, Command::Write(write) if matches!(write.change, Change::Index(_)));
        let by_itself = matches!(
            command,
            Command::Trim { .. } | Command::Audit(_) | Command::Administer(_) | Command::Watch | Command::Report(_)
        );
        let own = is_upkeep || by_itself;
        if !(reserved || own) {
            self.meters.user(&limits.rates, &by)?;
        }
        let mut slots = self.rooms.lock(&self.hasher, room);
        let slot = slots.entry(room.clone()).or_default();
        slot.refuse_the_deadly(&by, &command)?;
        // From the narrowest to the widest: what a user or room is refused uses nothing up of its tenant's.
        if !own {
            let messages = slot.messages.check(limits.rates.messages_per_room, self.meters.time());
            messages.map_err(|after| Refusal::rate_limited(names::MESSAGES_PER_ROOM, after))?;
        }
        if !(reserved || own)
            && let Err(refusal) = self.meters.tenant(&limits, &by.tenant)
        {
            if slot.is_fresh() {
                slots.remove(room);
            }
            return Err(refusal);
        }
        // A room has at most two of these under way for its audit room, and a tenant one of those: readers must not keep
        // them out.
        let max = if matches!(command, Command::Audit(_) | Command::Administer(_)) {
            usize::MAX
        } else {
            limits.in_flight_per_room
        };
        let admission = Admission::new(&slot.in_flight, max).ok_or_else(|| Refusal::busy(BUSY))?;
        let admission = Arc::new(admission);
        let addr = slot.awake(|published| self.start_room(room, published));
        let (reply, answer) = oneshot::channel();
        let asker = Asker::new(reply, Arc::clone(&admission), hold);
        sheaf.add(addr, Submission { by, command, client_id, beside, asker });
        Ok(Asked { answer, room: addr.clone(), admission })
    }

    /// From now on this thread is one of those that host rooms, inboxes and directories; one that has ended no more.
    pub fn host_here(&self) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(ArbiterHandle::alive);
        hosts.push(Arbiter::current());
    }

    /// The thread for whatever has this number.
    fn host(&self, number: u128) -> ArbiterHandle {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let index = number.checked_rem(hosts.len() as u128).map(|index| usize::try_from(index).expect("a place in it"));
        index.map_or(&self.home, |index| &hosts[index]).clone()
    }

    fn start_room(self: &Arc<Self>, room: &RoomKey, published: Arc<AtomicU64>) -> Addr<RoomActor> {
        let (registry, key) = (Arc::clone(self), room.clone());
        RoomActor::start_in_arbiter(&self.host(room.room.0.as_u128()), move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            RoomActor::new(registry, key, published)
        })
    }

    /// A room wants to sleep. True, and nothing will reach it any more, unless something is on its way to it.
    pub fn retire(&self, room: &RoomKey, addr: &Addr<RoomActor>) -> bool {
        let mut slots = self.rooms.lock(&self.hasher, room);
        match slots.get(room) {
            Some(slot) if slot.addr.as_ref() == Some(addr) && slot.in_flight.load(Ordering::Acquire) == 0 => {
                slots.remove(room);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A room stopped because it does not know any more what is on disk: the next command starts it again from the
    /// log. Where followers may be waiting for what was committed, `announce` has it started at once.
    pub fn room_stopped(self: &Arc<Self>, room: &RoomKey, addr: &Addr<RoomActor>, announce: bool) {
        let followed = announce && !self.interest(room).is_empty();
        let mut slots = self.rooms.lock(&self.hasher, room);
        if let Some(slot) = slots.get_mut(room)
            && slot.addr.as_ref() == Some(addr)
        {
            slot.addr = None;
            if followed {
                slot.awake(|published| self.start_room(room, published));
            }
        }
    }

    /// A room died while it was at `command`. Followers are not left waiting for somebody to speak: it is started
    /// again at once, to tell them where it stands; and so is one that `owes` something to its audit room.
    pub fn room_died(self: &Arc<Self>, room: &RoomKey, command: Option<u64>, owes: bool) {
        let deaths = {
            let mut slots = self.rooms.lock(&self.hasher, room);
            let slot = slots.entry(room.clone()).or_default();
            slot.addr = None;
            slot.deaths.push_back(Death { at: Instant::now(), command });
            while slot.deaths.len() > 2 * DEATHS_MAX {
                slot.deaths.pop_front();
            }
            slot.deaths_of_late()
        };
        self.metrics.room_deaths.inc();
        tracing::error!(room = %room.room, deaths, "a room died and is started again from its log");
        if deaths < DEATHS_MAX && (owes || !self.interest(room).is_empty()) {
            let mut slots = self.rooms.lock(&self.hasher, room);
            slots.entry(room.clone()).or_default().awake(|published| self.start_room(room, published));
        }
    }

    /// Starts a room that sleeps, so that it sees to what it has left undone.
    pub fn wake(self: &Arc<Self>, room: &RoomKey) {
        let mut slots = self.rooms.lock(&self.hasher, room);
        slots.entry(room.clone()).or_default().awake(|published| self.start_room(room, published));
    }

    /// The host of a room that is awake.
    #[cfg(test)]
    pub(super) fn awake(&self, room: &RoomKey) -> Option<Addr<RoomActor>> {
        self.rooms.lock(&self.hasher, room).get(room).and_then(|slot| slot.addr.clone())
    }

    /// How many users have a session.
    pub fn inboxes_awake(&self) -> usize {
        self.inboxes.sum(|slot| usize::from(slot.addr.connected()))
    }

    /// How many rooms are awake.
    pub fn rooms_awake(&self) -> usize {
        self.rooms.sum(|slot| usize::from(slot.addr.as_ref().is_some_and(Addr::connected)))
    }

    /// Makes a relay known; its id is its place in the list.
    pub fn add_relay(&self, relay: RelayAddr) -> RelayId {
        let mut relays = self.relays.write().unwrap_or_else(PoisonError::into_inner);
        relays.push(relay);
        RelayId(relays.len() - 1)
    }

    /// A relay has died and this one takes its place.
    pub fn replace_relay(&self, id: RelayId, relay: RelayAddr) {
        if let Some(place) = self.relays.write().unwrap_or_else(PoisonError::into_inner).get_mut(id.0) {
            *place = relay;
        }
    }

    /// Waits until another relay has taken the place of one that has died: by then the connections of its thread have
    /// been cut.
    pub async fn replaced(&self, id: RelayId, dead: &RelayAddr) {
        while self.relay(id).is_some_and(|relay| relay == *dead) {
            tokio::time::sleep(DYING_LOOK).await;
        }
    }

    pub fn relay(&self, id: RelayId) -> Option<RelayAddr> {
        self.relays.read().unwrap_or_else(PoisonError::into_inner).get(id.0).cloned()
    }

    pub fn relays(&self) -> Vec<RelayId> {
        (0..self.relays.read().unwrap_or_else(PoisonError::into_inner).len()).map(RelayId).collect()
    }

    /// How many commands their rooms have not answered yet.
    pub fn commands_in_flight(&self) -> usize {
        self.rooms.sum(|slot| slot.in_flight.load(Ordering::Acquire))
    }

    /// Notes in which dialects a relay follows a room; none ends its interest.
    pub fn set_interest(&self, room: &RoomKey, relay: RelayId, dialects: DialectSet) {
        let mut rooms = self.interest.lock(&self.hasher, room);
        let relays = rooms.entry(room.clone()).or_default();
        relays.retain(|(other, _)| *other != relay);
        if dialects != DialectSet::default() {
            relays.push((relay, dialects));
        }
        if relays.is_empty() {
            rooms.remove(room);
        }
    }

    /// Which relays follow a room, and in which dialects.
    pub fn interest(&self, room: &RoomKey) -> Vec<(RelayId, DialectSet)> {
        self.interest.lock(&self.hasher, room).get(room).cloned().unwrap_or_default()
    }

    /// Tells every follower of a room where it stands, and where it `narrows` that nothing from before a membership is read.
    #[expect(clippy::disallowed_methods, reason = "once per wake of a room and relay")]
    pub fn announce(&self, room: &RoomKey, head: Seq, narrows: bool) {
        for (relay, _) in self.interest(room) {
            if let Some(relay) = self.relay(relay) {
                relay.do_send(Announce { room: room.clone(), head, narrows });
            }
        }
    }

    /// Which room a name stands for. One that nobody has stands for a room that is not there, so that whoever looks
    /// further takes the same steps as for one that is not to be known.
    pub async fn resolve(&self, tenant: &TenantId, name: &RoomName) -> Result<RoomKey, Refusal> {
        let key = match name {
            RoomName::Id(room) => return Ok(RoomKey { tenant: tenant.clone(), room: *room }),
            RoomName::Num(num) => rows::num(*num),
            RoomName::Alias(alias) => rows::alias(alias),
        };
        let directory = crate::domain::StreamId::Directory(tenant.clone());
        // Not from memory: the time must not tell which names others use.
        let found = self.store.get_all(&directory, &[&key]).await.map_err(|error| read_failed(&error))?;
        let row = found.into_iter().next().flatten();
        let reservation = row.map(|row| Reservation::decode(&row)).transpose().map_err(|error| read_failed(&error))?;
        let room = reservation.map_or(NOWHERE, |reservation| reservation.room);
        if room != NOWHERE {
            self.names.insert((tenant.clone(), name.clone()), room);
        }
        Ok(RoomKey { tenant: tenant.clone(), room })
    }

    /// As [`Registry::resolve`], and from memory for somebody whose membership is in memory, too. Nobody else is
    /// answered sooner because others have used the name.
    pub async fn resolve_for(&self, by: &Principal, name: &RoomName) -> Result<RoomKey, Refusal> {
        if let Some(room) = self.names.get(&(by.tenant.clone(), name.clone())) {
            let key = RoomKey { tenant: by.tenant.clone(), room };
            if self.store.peek(&key.stream(), &rows::member(&by.user)).is_some() {
                return Ok(key);
            }
        }
        self.resolve(&by.tenant, name).await
    }

    /// Which room a name stands for, provided that `by` may know that there is one. Asked before a first command is
    /// handed over: a room is not woken only to say that it does not exist, or may not be known.
    pub async fn find(&self, by: &Principal, name: &RoomName) -> Result<RoomKey, Refusal> {
        let room = self.resolve_for(by, name).await?;
        reading::known(&*self.store, &room, &by.user).await?;
        Ok(room)
    }

    /// Which room a name stands for, provided that there is one: for the operator, who may know of all.
    pub async fn locate(&self, tenant: &TenantId, name: &RoomName) -> Result<RoomKey, Refusal> {
        let room = self.resolve(tenant, name).await?;
        match self.store.head(&room.stream()).await.map_err(|error| read_failed(&error))? {
            Some(_) => Ok(room),
            None => Err(Rejection::RoomNotFound.into()),
        }
    }

    /// Finds something out that has to do with a room, for a user who has not asked in vain too often of late.
    pub async fn look_up<T>(
        &self,
        by: &Principal,
        look_up: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        self.meters.may_look_up(by)?;
        let found = look_up.await;
        if let Err(refusal) = &found
            && [Rejection::RoomNotFound.code(), Rejection::NotMember.code()].contains(&refusal.code())
        {
            self.meters.looked_up_in_vain(&self.limits().rates, by);
        }
        found
    }

    /// Reserves names for a new room in the tenant's directory: the same ones when the alias or the room has some.
    /// Counts as a message of the user and the tenant; that the room is created then does not count again.
    pub async fn reserve(
        self: &Arc<Self>,
        by: &Principal,
        alias: Option<crate::domain::Alias>,
        room: Option<RoomId>,
    ) -> Result<Reservation, Refusal> {
        if let Some(refusal) = self.unready() {
            return Err(refusal);
        }
        self.meters.user(&self.limits().rates, by)?;
        self.meters.tenant(&self.limits(), &by.tenant)?;
        self.reserved(&by.tenant, Reserve { alias, room, beside: false }).await
    }

    /// Reserves a num for a room that the server makes by itself, beside those that the tenant may have.
    pub async fn reserve_beside(self: &Arc<Self>, room: &RoomKey) -> Result<Reservation, Refusal> {
        self.reserved(&room.tenant, Reserve { alias: None, room: Some(room.room), beside: true }).await
    }

    async fn reserved(self: &Arc<Self>, tenant: &TenantId, reserve: Reserve) -> Result<Reservation, Refusal> {
        let reserve = self.directory(tenant).addr.send(reserve);
        match tokio::time::timeout(self.limits().answer_timeout, reserve).await {
            Ok(Ok(reserved)) => reserved,
            Ok(Err(_)) | Err(_) => Err(Refusal::unavailable()),
        }
    }

    /// The small integers of a tenant.
    pub fn nums(self: &Arc<Self>, tenant: &TenantId) -> (Arc<Nums>, Addr<DirectoryActor>) {
        let directory = self.directory(tenant);
        (directory.nums, directory.addr)
    }

    fn directory(self: &Arc<Self>, tenant: &TenantId) -> Directory {
        let mut directories = locked(&self.directories);
        match directories.get(tenant) {
            Some(directory) if directory.addr.connected() => directory.clone(),
            Some(_) | None => {
                let nums = Arc::new(Nums::default());
                let (registry, key, its_nums) = (Arc::clone(self), tenant.clone(), Arc::clone(&nums));
                let addr = DirectoryActor::start_in_arbiter(&self.host(0), move |ctx| {
                    ctx.set_mailbox_capacity(MAILBOX);
                    let (store, limits, its_tenant) =
                        (Arc::clone(registry.store()), Arc::clone(&registry), key.clone());
                    let rooms_max = move || limits.limits().of_tenant(&its_tenant).rooms;
                    DirectoryActor::new(store, key, its_nums, move || registry.now(), rooms_max)
                });
                let directory = Directory { addr, nums };
                directories.insert(tenant.clone(), directory.clone());
                directory
            }
        }
    }

    /// Attaches a session to its user's inbox.
    #[expect(clippy::disallowed_methods, reason = "once per session")]
    pub fn attach(self: &Arc<Self>, tenant: &TenantId, user: &UserId, attach: Attach) -> Addr<InboxActor> {
        self.with_inbox(tenant, user, |inbox| inbox.do_send(attach))
    }

    /// Asks something of a user's inbox. Resolves when it is on disk.
    #[expect(clippy::disallowed_methods, reason = "an inbox refuses what comes while too many wait")]
    pub async fn ask_inbox(self: &Arc<Self>, by: &Principal, what: What) -> Result<Granted, Refusal> {
        if let Some(refusal) = self.unready() {
            return Err(refusal);
        }
        self.meters.user(&self.limits().rates, by)?;
        self.meters.tenant(&self.limits(), &by.tenant)?;
        let (to, answer) = oneshot::channel();
        self.with_inbox(&by.tenant, &by.user, |inbox| inbox.do_send(Wish { what, to }));
        match tokio::time::timeout(self.limits().answer_timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::unavailable()),
        }
    }

    /// Something else is known of a user than before, which is not written here.
    #[expect(clippy::disallowed_methods, reason = "one per user and second, of as many as wait to be told of")]
    pub fn profile_changed(self: &Arc<Self>, tenant: &TenantId, user: &UserId, profile: Arc<Profile>) {
        self.with_inbox(tenant, user, |inbox| inbox.do_send(ProfileChanged(profile)));
    }

    /// Sends something to a user's inbox, which is started where there is none.
    fn with_inbox(
        self: &Arc<Self>,
        tenant: &TenantId,
        user: &UserId,
        send: impl FnOnce(&Addr<InboxActor>),
    ) -> Addr<InboxActor> {
        let key = (tenant.clone(), user.clone());
        let mut inboxes = self.inboxes.lock(&self.hasher, &key);
        let start = || {
            let host = self.host(self.hasher.hash_one(&key).into());
            let (registry, owner) = (Arc::clone(self), key.clone());
            InboxActor::start_in_arbiter(&host, move |_| InboxActor::new(registry, owner.0, owner.1))
        };
        let slot = inboxes.entry(key.clone()).or_insert_with(|| InboxSlot { addr: start(), sent: 0 });
        if !slot.addr.connected() {
            *slot = InboxSlot { addr: start(), sent: 0 };
        }
        slot.sent += 1;
        send(&slot.addr);
        slot.addr.clone()
    }

    /// An inbox that nobody needs wants to end; true unless something is on its way to it.
    pub fn retire_inbox(&self, tenant: &TenantId, user: &UserId, addr: &Addr<InboxActor>, taken: u64) -> bool {
        let key = (tenant.clone(), user.clone());
        let mut inboxes = self.inboxes.lock(&self.hasher, &key);
        match inboxes.get(&key) {
            Some(slot) if slot.addr == *addr && slot.sent == taken => {
                inboxes.remove(&key);
                true
            }
            Some(slot) => slot.addr != *addr,
            None => true,
        }
    }

    /// Tells those who follow a room what holds for the moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "one per relay and signal; users have a rate for what leads to these"
    )]
    pub fn signal(&self, room: &RoomKey, signal: &Signal) {
        for (relay, _) in self.interest(room) {
            if let Some(relay) = self.relay(relay) {
                relay.do_send(Signaled { room: room.clone(), signal: signal.clone() });
            }
        }
    }

    /// Has those who follow rooms of a user on one thread told what the user says of itself.
    #[expect(clippy::disallowed_methods, reason = "one for each change of a profile")]
    pub fn user_updated(&self, relay: RelayId, updated: Updated) {
        if let Some(relay) = self.relay(relay) {
            relay.do_send(updated);
        }
    }

    /// Whose rooms are being listed.
    pub fn overviews(&self) -> &Overviews {
        &self.overviews
    }

    /// Who is there.
    pub fn presences(&self) -> &Presences {
        &self.presences
    }

    /// Has noted when somebody was last seen, also while the process stops. `noted` is dropped when it is on disk, or
    /// cannot be.
    #[expect(clippy::disallowed_methods, reason = "one for each user who has gone")]
    pub fn last_seen(self: &Arc<Self>, (tenant, user): &Who, at: Timestamp, noted: Option<Noted>) {
        if self.store.health() == Health::Good {
            self.with_inbox(tenant, user, |inbox| inbox.do_send(Seen { at, noted }));
        }
    }

    /// Has noted of everybody who is there that it was seen now, for the process stops. Done when that is on disk.
    pub async fn note_who_is_there(self: &Arc<Self>) {
        presences::leave(self).await;
    }

    /// Who is writing where.
    pub fn typists(&self) -> &Typists {
        &self.typists
    }

    /// `user` does not write in a room any more: has posted, has left, or says so.
    pub fn typed(&self, room: &RoomKey, user: &UserId) {
        let tell = || self.signal(room, &Signal::Typing { user: user.clone(), typing: false });
        self.typists.end(room, user, tell);
    }

    /// What is known of rooms' latest messages.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Tells a user's live sessions that its rooms have changed. The change itself is in the log already.
    #[expect(clippy::disallowed_methods, reason = "one per committed change of a membership")]
    pub fn rooms_changed(&self, tenant: &TenantId, user: &UserId, change: RoomsChanged) {
        let key = (tenant.clone(), user.clone());
        if let Some(slot) = self.inboxes.lock(&self.hasher, &key).get(&key) {
            slot.addr.do_send(change);
        }
    }
}

impl Slot {
    fn awake(&mut self, start: impl FnOnce(Arc<AtomicU64>) -> Addr<RoomActor>) -> &Addr<RoomActor> {
        if !self.addr.as_ref().is_some_and(Addr::connected) {
            self.addr = None;
        }
        self.addr.get_or_insert_with(|| start(Arc::clone(&self.published)))
    }

    /// Whether nothing is known of the room that would be missed.
    fn is_fresh(&self) -> bool {
        self.addr.is_none() && self.deaths.is_empty() && self.in_flight.load(Ordering::Acquire) == 0
    }

    fn deaths_of_late(&self) -> usize {
        self.deaths.iter().filter(|death| death.at.elapsed() < DEATHS_WITHIN).count()
    }

    fn refuse_the_deadly(&self, by: &Principal, command: &Command) -> Result<(), Refusal> {
        if self.deaths.is_empty() {
            return Ok(());
        }
        let fingerprint = fingerprint(by, command);
        let of_this = self.deaths.iter().filter(|death| death.command == Some(fingerprint)).count();
        if of_this >= DEATHS_OF_ONE_COMMAND_MAX {
            return Err(Refusal::command_refused());
        }
        if self.deaths_of_late() >= DEATHS_MAX {
            return Err(Refusal::room_shut(DEATHS_WITHIN));
        }
        Ok(())
    }
}

/// By what a command is known again when it has made a room die.
pub fn fingerprint(by: &Principal, command: &Command) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    by.user.hash(&mut hasher);
    format!("{command:?}").hash(&mut hasher);
    std::hash::Hasher::finish(&hasher)
}

/// What goes with a command besides what it says.
#[derive(Default)]
pub struct With {
    /// The files that it attaches.
    pub hold: Option<Hold>,
    pub beside: Option<Beside>,
}

impl From<Option<Hold>> for With {
    fn from(hold: Option<Hold>) -> Self {
        Self { hold, beside: None }
    }
}

/// A command that its room has.
struct Asked {
    answer: oneshot::Receiver<Answer>,
    room: Addr<RoomActor>,
    admission: Arc<Admission>,
}

/// One command's place among those a room may have at once. It is held by the room until it has answered, also when
/// whoever asked is gone, and by who asked until the answer has been looked at.
pub struct Admission(Arc<AtomicUsize>);

impl Admission {
    pub(super) fn new(in_flight: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let admitted = in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        admitted.ok().map(|_| Self(Arc::clone(in_flight)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A map behind as many locks as make contention rare.
struct Sharded<K, V>([Mutex<HashMap<K, V>>; 32]);

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    fn lock(&self, hasher: &RandomState, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        let index = usize::try_from(hasher.hash_one(key) % self.0.len() as u64).expect("less than a length");
        locked(&self.0[index])
    }

    fn sum(&self, counts: impl Fn(&V) -> usize) -> usize {
        self.0.iter().map(|shard| locked(shard).values().map(&counts).sum::<usize>()).sum()
    }
}

/// Takes a lock; one whose holder panicked guards plain maps that are whole between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
