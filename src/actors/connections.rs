//! Who may come in: how many connections there are and whose, how fast new ones come, and from where tokens come that
//! are no good.
//!
//! Each connection has a [`Seat`] from when it is accepted until it has ended. An edge asks here before it lets one last,
//! and holds the [`ConnectionGuard`] for as long as that lasts.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::{Limits, names};
use super::registry::Registry;
use super::session::Gate;
use crate::domain::Principal;
use crate::wire::Refusal;

/// So many connections of an address are let in beyond its limit, to be told that they are beyond it: as many as a
/// browser opens at once to a host, and two.
const BEYOND_PER_ADDRESS: usize = 8;

/// Where a connection comes from, as limits see it: an IPv6 network of 64 bits is one address, because whoever has one
/// of its addresses has all of them (RFC 6177).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Counts the connections that are open.
pub struct Connections(Arc<Counts>);

struct Counts {
    hasher: RandomState,
    open: Mutex<Open>,
    /// For how many the process has file descriptors.
    capacity: AtomicUsize,
}

type Open = HashMap<Counted, usize>;

/// What connections are counted by. Users and tenants by their fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Counted {
    All,
    /// Those without a token.
    Strangers,
    Address(Address),
    /// Those from an address that have not sent a request yet.
    Opening(Address),
    /// Those that are let in beyond a limit. They are not among the others.
    Beyond,
    BeyondFrom(Address),
    User(u64),
    Tenant(u64),
}

/// The place of a connection that has been accepted; given back when nobody holds it any more.
pub struct Seat {
    counts: Arc<Counts>,
    /// `None` for one of a proxy: it is that of many, and their requests are counted.
    address: Option<Address>,
    stage: Cell<Stage>,
    /// The limit that it is beyond. It is answered what it asks first, and neither kept nor made one that lasts.
    beyond: Cell<Option<&'static str>>,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No request has come yet.
    Opening,
    /// One has, and it is not known whose it is.
    Asking,
    /// It is kept though nobody has said whose it is.
    Stranger,
    /// It has shown a good token. It needs not be the same user's for ever: a request says whose it is.
    Known,
}

/// The place of something that lasts on a connection; given back when it is dropped.
pub struct ConnectionGuard {
    seat: Rc<Seat>,
    address: Address,
    whose: Whose,
}

#[derive(Clone, Copy)]
enum Whose {
    Strangers,
    User { user: u64, tenant: u64 },
}

impl Default for Connections {
    fn default() -> Self {
        Self(Arc::new(Counts {
            hasher: RandomState::new(),
            open: Mutex::default(),
            capacity: AtomicUsize::new(usize::MAX),
        }))
    }
}

impl Connections {
    /// Tells for how many connections there are file descriptors.
    pub fn set_capacity(&self, connections: usize) {
        self.0.capacity.store(connections, Ordering::Relaxed);
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.of(Counted::All)
    }

    /// How many of them are without a token.
    pub fn strangers(&self) -> usize {
        self.0.of(Counted::Strangers)
    }

    /// How many from there have not sent a request yet.
    pub fn opening(&self, address: Address) -> usize {
        self.0.of(Counted::Opening(address))
    }

    /// Gives a connection that has been accepted its place, unless that would be one too many. A few beyond the limits
    /// are let in, so that they can be told. `address` is `None` for one of a proxy.
    pub fn accept(&self, limits: &Limits, address: Option<Address>) -> Result<Rc<Seat>, Refusal> {
        let counts = &self.0;
        let mut open = counts.lock();
        if let Some(address) = address {
            let max = limits.connections.opening_per_address;
            within(&open, Counted::Opening(address), max, names::OPENING_PER_ADDRESS)?;
        }
        let beyond = counts.full(&open, limits, address);
        if let Some(name) = beyond {
            // Less than what the listener takes beyond them, so that it goes on to accept.
            within(&open, Counted::Beyond, Some((counts.total(limits) / 16).max(1)), name)?;
            if let Some(address) = address {
                within(&open, Counted::BeyondFrom(address), Some(BEYOND_PER_ADDRESS), name)?;
            }
        }
        let stage = if address.is_some() { Stage::Opening } else { Stage::Known };
        let (counts, stage, beyond) = (Arc::clone(counts), Cell::new(stage), Cell::new(beyond));
        let seat = Seat { counts, address, stage, beyond };
        enter(&mut open, seat.counted());
        drop(open);
        Ok(Rc::new(seat))
    }

    /// Counts what is about to last on a connection, for who asks for it from `address`, unless that would be one too
    /// many for anybody it counts for.
    pub fn admit(
        &self,
        limits: &Limits,
        seat: &Rc<Seat>,
        address: Address,
        principal: Option<&Principal>,
    ) -> Result<ConnectionGuard, Refusal> {
        let counts = &self.0;
        if let Some(name) = seat.beyond.get() {
            return Err(Refusal::too_many_connections(name));
        }
        let whose = principal.map_or(Whose::Strangers, |principal| counts.whose(principal));
        let mut open = counts.lock();
        let own = seat.address == Some(address);
        if !own {
            within(&open, Counted::Address(address), limits.connections.per_address, names::CONNECTIONS_PER_ADDRESS)?;
        }
        match (whose, principal) {
            (Whose::User { user, tenant }, Some(principal)) => users_within(&open, limits, principal, user, tenant)?,
            (Whose::Strangers | Whose::User { .. }, _) if own => seat.stay(&mut open, limits)?,
            (Whose::Strangers | Whose::User { .. }, _) => counts.strangers_within(&open, limits)?,
        }
        enter(&mut open, whose.counted(seat, address));
        drop(open);
        Ok(ConnectionGuard { seat: Rc::clone(seat), address, whose })
    }
}

impl Seat {
    /// The head of a request has come.
    pub fn requested(&self, limits: &Limits) {
        if self.stage.get() != Stage::Opening && self.beyond.get().is_none() {
            return;
        }
        let mut open = self.counts.lock();
        if self.stage.get() == Stage::Opening {
            self.move_to(&mut open, Stage::Asking);
        }
        // Others may have gone meanwhile.
        if self.beyond.get().is_some() {
            let beyond = self.counts.full(&open, limits, self.address);
            leave(&mut open, self.counted());
            self.beyond.set(beyond);
            enter(&mut open, self.counted());
        }
    }

    /// It has shown a good token, and counts among those without one no more.
    pub fn known(&self) {
        if self.stage.get() != Stage::Known {
            self.move_to(&mut self.counts.lock(), Stage::Known);
        }
    }

    /// Whether it may be kept behind an answer: it is within the limits, and so are those that nobody has said whose they
    /// are, should it be one of them.
    pub fn may_stay(&self, limits: &Limits) -> bool {
        // What has shown a token once takes no lock for it any more.
        let known = self.stage.get() == Stage::Known;
        self.beyond.get().is_none() && (known || self.stay(&mut self.counts.lock(), limits).is_ok())
    }

    fn stay(&self, open: &mut Open, limits: &Limits) -> Result<(), Refusal> {
        match self.stage.get() {
            Stage::Known | Stage::Stranger => {}
            Stage::Opening | Stage::Asking => {
                self.counts.strangers_within(open, limits)?;
                self.move_to(open, Stage::Stranger);
            }
        }
        Ok(())
    }

    fn move_to(&self, open: &mut Open, stage: Stage) {
        leave(open, self.counted());
        self.stage.set(stage);
        enter(open, self.counted());
    }

    fn counted(&self) -> impl Iterator<Item = Counted> + use<> {
        let (all, from) = match self.beyond.get() {
            None => (Counted::All, self.address.map(Counted::Address)),
            Some(_) => (Counted::Beyond, self.address.map(Counted::BeyondFrom)),
        };
        let stage = match self.stage.get() {
            Stage::Opening => self.address.map(Counted::Opening),
            Stage::Stranger => Some(Counted::Strangers),
            Stage::Asking | Stage::Known => None,
        };
        [Some(all), from, stage].into_iter().flatten()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        leave(&mut self.counts.lock(), self.counted());
    }
}

impl ConnectionGuard {
    pub fn address(&self) -> Address {
        self.address
    }

    /// The connection's token has come: from now on it is this user's, unless that would be one too many.
    pub fn authenticated(&mut self, limits: &Limits, principal: &Principal) -> Result<(), Refusal> {
        let counts = &self.seat.counts;
        let whose = counts.whose(principal);
        let mut open = counts.lock();
        match (self.whose, whose) {
            (Whose::Strangers, Whose::User { user, tenant }) => {
                users_within(&open, limits, principal, user, tenant)?;
            }
            // It has been counted already.
            (Whose::User { .. }, _) | (_, Whose::Strangers) => return Ok(()),
        }
        leave(&mut open, self.whose.counted(&self.seat, self.address));
        enter(&mut open, whose.counted(&self.seat, self.address));
        drop(open);
        self.whose = whose;
        self.seat.known();
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        leave(&mut self.seat.counts.lock(), self.whose.counted(&self.seat, self.address));
    }
}

impl Whose {
    /// What there is to count beside the seat: of a request that came through a proxy, where it came from, too.
    fn counted(self, seat: &Seat, address: Address) -> impl Iterator<Item = Counted> + use<> {
        let forwarded = seat.address != Some(address);
        let [one, other] = match self {
            Self::Strangers => [forwarded.then_some(Counted::Strangers), None],
            Self::User { user, tenant } => [Some(Counted::User(user)), Some(Counted::Tenant(tenant))],
        };
        [forwarded.then_some(Counted::Address(address)), one, other].into_iter().flatten()
    }
}

impl Counts {
    fn whose(&self, principal: &Principal) -> Whose {
        Whose::User {
            user: self.hasher.hash_one((&principal.tenant, &principal.user)),
            tenant: self.hasher.hash_one(&principal.tenant),
        }
    }

    fn of(&self, counted: Counted) -> usize {
        self.lock().get(&counted).copied().unwrap_or(0)
    }

    /// How many there may be in all.
    fn total(&self, limits: &Limits) -> usize {
        limits.connections.total.unwrap_or(usize::MAX).min(self.capacity.load(Ordering::Relaxed))
    }

    /// The limit that one more connection from there would be beyond.
    fn full(&self, open: &Open, limits: &Limits, address: Option<Address>) -> Option<&'static str> {
        let full = |counted, max| open.get(&counted).copied().unwrap_or(0) >= max;
        let per_address = limits.connections.per_address.unwrap_or(usize::MAX);
        if full(Counted::All, self.total(limits)) {
            Some(names::CONNECTIONS)
        } else {
            let full = address.is_some_and(|address| full(Counted::Address(address), per_address));
            full.then_some(names::CONNECTIONS_PER_ADDRESS)
        }
    }

    fn strangers_within(&self, open: &Open, limits: &Limits) -> Result<(), Refusal> {
        let max = limits.connections.unauthenticated_percent.map(|percent| share(self.total(limits), percent));
        within(open, Counted::Strangers, max, names::UNAUTHENTICATED_PERCENT)
    }

    /// A holder that panicked leaves a map of numbers behind, which is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At least one, so that somebody can say who it is.
fn share(total: usize, percent: u8) -> usize {
    // Not multiplied first: without a limit the total is as large as numbers are.
    (total / 100 * usize::from(percent) + total % 100 * usize::from(percent) / 100).max(1)
}

fn within(open: &Open, counted: Counted, max: Option<usize>, name: &'static str) -> Result<(), Refusal> {
    let count = open.get(&counted).copied().unwrap_or(0);
    if max.is_some_and(|max| count >= max) { Err(Refusal::too_many_connections(name)) } else { Ok(()) }
}

fn users_within(open: &Open, limits: &Limits, principal: &Principal, user: u64, tenant: u64) -> Result<(), Refusal> {
    within(open, Counted::User(user), limits.connections.per_user, names::CONNECTIONS_PER_USER)?;
    let of_tenant = limits.of_tenant(&principal.tenant).connections;
    within(open, Counted::Tenant(tenant), of_tenant, names::CONNECTIONS_PER_TENANT)
}

fn enter(open: &mut Open, counted: impl Iterator<Item = Counted>) {
    for counted in counted {
        *open.entry(counted).or_default() += 1;
    }
}

fn leave(open: &mut Open, counted: impl Iterator<Item = Counted>) {
    for counted in counted {
        if let Some(count) = open.get_mut(&counted) {
            *count -= 1;
            if *count == 0 {
                open.remove(&counted);
            }
        }
    }
}

/// Says whose token it is. An address from which too many came that were no good is refused for a while without a
/// look at the token; those that have merely expired do not count, because nobody guesses them.
pub async fn authenticate(
    registry: &Registry,
    gate: &dyn Gate,
    token: &str,
    address: Address,
) -> Result<Principal, Refusal> {
    let meters = registry.meters();
    let admitted = match meters.may_try_token(address) {
        Ok(()) => gate.admit(token, registry.now()).await,
        Err(refusal) => Err(refusal),
    };
    registry.metrics().authenticated(&admitted);
    if let Err(refusal) = &admitted
        && refusal.is_of_a_bad_token()
    {
        meters.bad_token(&registry.limits().rates, address);
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::limits;
    use crate::domain::{TenantId, Timestamp, UserId};

    #[test]
    fn each_limit_is_named_and_a_place_is_given_back() {
        let connections = Connections::default();
        let limits = Limits {
            connections: limits::Connections {
                total: Some(6),
                per_address: Some(3),
                opening_per_address: None,
                per_user: Some(2),
                unauthenticated_percent: Some(20),
            },
            tenant: limits::TenantLimits { connections: Some(4), ..limits::TenantLimits::default() },
            ..Limits::default()
        };
        let admit = |address, user: Option<&str>| {
            let seat = connections.accept(&limits, Some(at(address))).map_err(|refusal| refusal.limit())?;
            let admitted = connections.admit(&limits, &seat, at(address), user.map(principal).as_ref());
            admitted.map_err(|refusal| refusal.limit())
        };
        let first = admit("10.0.0.1", Some("ann")).ok().unwrap();
        let _second = admit("10.0.0.1", Some("ann")).ok().unwrap();
        assert_eq!(admit("10.0.0.2", Some("ann")).err(), Some(Some(names::CONNECTIONS_PER_USER)));
        let stranger = admit("10.0.0.1", None).ok().unwrap();
        assert_eq!(admit("10.0.0.1", Some("bob")).err(), Some(Some(names::CONNECTIONS_PER_ADDRESS)));
        assert_eq!(admit("10.0.0.2", None).err(), Some(Some(names::UNAUTHENTICATED_PERCENT)), "a fifth of six");
        let _others = [admit("10.0.0.2", Some("bob")).ok().unwrap(), admit("10.0.0.2", Some("eve")).ok().unwrap()];
        assert_eq!(admit("10.0.0.3", Some("dan")).err(), Some(Some(names::CONNECTIONS_PER_TENANT)));
        connections.set_capacity(5);
        assert_eq!(admit("10.0.0.3", Some("dan")).err(), Some(Some(names::CONNECTIONS)));
        drop((first, stranger));
        assert_eq!((connections.open(), connections.strangers()), (3, 0));
        assert!(admit("10.0.0.1", Some("ann")).is_ok());
    }

    #[test]
    fn a_connection_that_says_later_who_it_is_counts_for_its_user_from_then_on() {
        let connections = Connections::default();
        let limits = Limits::default();
        let address = at("10.0.0.1");
        let admit = |_| {
            let seat = connections.accept(&limits, Some(address)).ok().unwrap();
            connections.admit(&limits, &seat, address, None).ok().unwrap()
        };
        let mut guards: Vec<_> = (0..21).map(admit).collect();
        let ann = principal("ann");
        let (last, others) = guards.split_last_mut().unwrap();
        for guard in others {
            assert_eq!(guard.authenticated(&limits, &ann), Ok(()));
            assert_eq!(guard.authenticated(&limits, &ann), Ok(()), "again changes nothing");
        }
        let refused = last.authenticated(&limits, &ann).unwrap_err();
        assert_eq!(refused.limit(), Some(names::CONNECTIONS_PER_USER));
        assert_eq!((connections.open(), connections.strangers()), (21, 1));
        drop(guards);
        assert!(connections.0.lock().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn connections_that_are_opening_are_counted_by_their_address() {
        let connections = Connections::default();
        let limits = of(limits::Connections { opening_per_address: Some(2), ..limits::Connections::default() });
        let open = |address| connections.accept(&limits, Some(at(address))).map_err(|refusal| refusal.limit());
        let first = open("2001:db8::1").ok().unwrap();
        let second = open("2001:db8::2").ok().unwrap();
        assert_eq!(open("2001:db8::3").err(), Some(Some(names::OPENING_PER_ADDRESS)));
        let other = open("2001:db8:0:1::1").ok().unwrap();
        first.requested(&limits);
        let third = open("2001:db8::3").ok().unwrap();
        assert_eq!((connections.opening(at("2001:db8::")), connections.open()), (2, 4));
        drop((first, second, third, other));
        assert!(connections.0.lock().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn a_few_beyond_a_limit_are_let_in_to_be_told_and_get_in_when_others_go() {
        let connections = Connections::default();
        let limits = of(limits::Connections { per_address: Some(2), ..limits::Connections::default() });
        let address = at("10.0.0.1");
        let open = || connections.accept(&limits, Some(address)).map_err(|refusal| refusal.limit());
        let within = (open().unwrap(), open().unwrap());
        let mut beyond: Vec<_> = (0..BEYOND_PER_ADDRESS).map(|_| open().unwrap()).collect();
        assert_eq!(open().err(), Some(Some(names::CONNECTIONS_PER_ADDRESS)));
        assert_eq!((connections.open(), connections.opening(address)), (2, 2 + BEYOND_PER_ADDRESS));
        let last = beyond.pop().unwrap();
        last.requested(&limits);
        assert!(!last.may_stay(&limits));
        let refused = connections.admit(&limits, &last, address, Some(&principal("ann"))).err().unwrap();
        assert_eq!(refused.limit(), Some(names::CONNECTIONS_PER_ADDRESS));
        drop(within);
        last.requested(&limits);
        assert!(last.may_stay(&limits) && last.may_stay(&limits), "it counts once");
        assert_eq!((connections.open(), connections.strangers()), (1, 1));
        last.known();
        assert_eq!((connections.open(), connections.strangers()), (1, 0));
        drop((last, beyond));
        assert!(connections.0.lock().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn what_comes_through_a_proxy_counts_where_it_came_from() {
        let connections = Connections::default();
        let max = limits::Connections { per_address: Some(1), total: Some(4), ..limits::Connections::default() };
        let limits = of(limits::Connections { unauthenticated_percent: Some(50), ..max });
        let proxies: Vec<_> = (0..4).map(|_| connections.accept(&limits, None).unwrap()).collect();
        assert_eq!((connections.open(), connections.strangers()), (4, 0), "they count in all");
        assert!(proxies.iter().all(|seat| seat.may_stay(&limits)));
        let admit = |address: &str| connections.admit(&limits, &proxies[0], at(address), None).map_err(|it| it.limit());
        let guards = (admit("10.0.0.1").ok().unwrap(), admit("10.0.0.2").ok().unwrap());
        assert_eq!(admit("10.0.0.1").err(), Some(Some(names::CONNECTIONS_PER_ADDRESS)));
        assert_eq!(admit("10.0.0.3").err(), Some(Some(names::UNAUTHENTICATED_PERCENT)));
        drop((guards, proxies));
        assert!(connections.0.lock().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn an_address_is_a_v4_address_or_a_v6_network() {
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2:ffff::"));
        assert_ne!(at("2001:db8:1:2::"), at("2001:db8:1:3::"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }

    fn of(connections: limits::Connections) -> Limits {
        Limits { connections, ..Limits::default() }
    }

    fn at(address: &str) -> Address {
        Address::from(address.parse::<IpAddr>().unwrap())
    }

    fn principal(user: &str) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new(user).unwrap(),
            token: None,
            login: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        }
    }
}
