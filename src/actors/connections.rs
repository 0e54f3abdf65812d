//! Who may come in: how many connections there are and whose, how fast new ones come, and from where tokens come that
//! are no good.
//!
//! Every edge asks here before it keeps a connection, and holds the [`ConnectionGuard`] for as long as that lasts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::{Limits, names};
use super::registry::Registry;
use super::session::Gate;
use crate::domain::Principal;
use crate::wire::Refusal;

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
    open: Mutex<HashMap<Counted, usize>>,
    /// For how many the process has file descriptors.
    capacity: AtomicUsize,
}

/// What connections are counted by. Users and tenants by their fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Counted {
    All,
    /// Those without a token.
    Strangers,
    Address(Address),
    /// Those from an address that have not sent a request yet. They are not among the others.
    Opening(Address),
    User(u64),
    Tenant(u64),
}

/// One connection's place among those that may be open; given back when it is dropped.
pub struct ConnectionGuard {
    counts: Arc<Counts>,
    address: Address,
    whose: Whose,
}

/// One connection's place among those of its address that have not sent a request yet; given back when it is dropped.
pub struct OpeningGuard {
    counts: Arc<Counts>,
    address: Address,
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

    /// Counts a connection that has been accepted, until its first request has come; unless that would be one too many.
    pub fn open_from(&self, limits: &Limits, address: Address) -> Result<OpeningGuard, Refusal> {
        let counted = Counted::Opening(address);
        let mut open = self.0.lock();
        within(&open, counted, limits.connections.opening_per_address, names::OPENING_PER_ADDRESS)?;
        *open.entry(counted).or_default() += 1;
        drop(open);
        Ok(OpeningGuard { counts: Arc::clone(&self.0), address })
    }

    /// Counts a connection, unless that would be one too many for anybody it counts for.
    pub fn admit(
        &self,
        limits: &Limits,
        address: Address,
        principal: Option<&Principal>,
    ) -> Result<ConnectionGuard, Refusal> {
        let (counts, max) = (&self.0, &limits.connections);
        let total = max.total.unwrap_or(usize::MAX).min(counts.capacity.load(Ordering::Relaxed));
        let strangers = max.unauthenticated_percent.map(|percent| share(total, percent));
        let whose = principal.map_or(Whose::Strangers, |principal| counts.whose(principal));
        let mut open = counts.lock();
        within(&open, Counted::All, Some(total), names::CONNECTIONS)?;
        within(&open, Counted::Address(address), max.per_address, names::CONNECTIONS_PER_ADDRESS)?;
        match (whose, principal) {
            (Whose::Strangers, _) | (Whose::User { .. }, None) => {
                within(&open, Counted::Strangers, strangers, names::UNAUTHENTICATED_PERCENT)?;
            }
            (Whose::User { user, tenant }, Some(principal)) => users_within(&open, limits, principal, user, tenant)?,
        }
        for counted in [Counted::All, Counted::Address(address)].into_iter().chain(whose.counted()) {
            *open.entry(counted).or_default() += 1;
        }
        drop(open);
        Ok(ConnectionGuard { counts: Arc::clone(counts), address, whose })
    }
}

impl ConnectionGuard {
    pub fn address(&self) -> Address {
        self.address
    }

    /// The connection's token has come: from now on it is this user's, unless that would be one too many.
    pub fn authenticated(&mut self, limits: &Limits, principal: &Principal) -> Result<(), Refusal> {
        let whose = self.counts.whose(principal);
        let mut open = self.counts.lock();
        match (self.whose, whose) {
            (Whose::Strangers, Whose::User { user, tenant }) => {
                users_within(&open, limits, principal, user, tenant)?;
            }
            // It has been counted already.
            (Whose::User { .. }, _) | (_, Whose::Strangers) => return Ok(()),
        }
        for counted in self.whose.counted() {
            leave(&mut open, counted);
        }
        for counted in whose.counted() {
            *open.entry(counted).or_default() += 1;
        }
        drop(open);
        self.whose = whose;
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = self.counts.lock();
        for counted in [Counted::All, Counted::Address(self.address)].into_iter().chain(self.whose.counted()) {
            leave(&mut open, counted);
        }
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        leave(&mut self.counts.lock(), Counted::Opening(self.address));
    }
}

impl Whose {
    fn counted(self) -> impl Iterator<Item = Counted> {
        let counted = match self {
            Self::Strangers => [Some(Counted::Strangers), None],
            Self::User { user, tenant } => [Some(Counted::User(user)), Some(Counted::Tenant(tenant))],
        };
        counted.into_iter().flatten()
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

    /// A holder that panicked leaves a map of numbers behind, which is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, HashMap<Counted, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At least one, so that somebody can say who it is.
fn share(total: usize, percent: u8) -> usize {
    // Not multiplied first: without a limit the total is as large as numbers are.
    (total / 100 * usize::from(percent) + total % 100 * usize::from(percent) / 100).max(1)
}

fn within(
    open: &HashMap<Counted, usize>,
    counted: Counted,
    max: Option<usize>,
    name: &'static str,
) -> Result<(), Refusal> {
    let count = open.get(&counted).copied().unwrap_or(0);
    if max.is_some_and(|max| count >= max) { Err(Refusal::too_many_connections(name)) } else { Ok(()) }
}

fn users_within(
    open: &HashMap<Counted, usize>,
    limits: &Limits,
    principal: &Principal,
    user: u64,
    tenant: u64,
) -> Result<(), Refusal> {
    within(open, Counted::User(user), limits.connections.per_user, names::CONNECTIONS_PER_USER)?;
    let of_tenant = limits.of_tenant(&principal.tenant).connections;
    within(open, Counted::Tenant(tenant), of_tenant, names::CONNECTIONS_PER_TENANT)
}

fn leave(open: &mut HashMap<Counted, usize>, counted: Counted) {
    if let Some(count) = open.get_mut(&counted) {
        *count -= 1;
        if *count == 0 {
            open.remove(&counted);
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
            connections.admit(&limits, at(address), user.map(principal).as_ref()).map_err(|refusal| refusal.limit())
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
        let mut guards: Vec<_> =
            (0..21).map(|_| connections.admit(&limits, at("10.0.0.1"), None).ok().unwrap()).collect();
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
    fn connections_that_are_opening_are_counted_by_their_address_and_apart_from_the_others() {
        let connections = Connections::default();
        let limits = Limits {
            connections: limits::Connections {
                per_address: Some(1),
                opening_per_address: Some(2),
                ..limits::Connections::default()
            },
            ..Limits::default()
        };
        let open = |address| connections.open_from(&limits, at(address)).map_err(|refusal| refusal.limit());
        let first = open("2001:db8::1").ok().unwrap();
        let second = open("2001:db8::2").ok().unwrap();
        assert_eq!(open("2001:db8::3").err(), Some(Some(names::OPENING_PER_ADDRESS)));
        let other = open("2001:db8:0:1::1").ok().unwrap();
        assert_eq!(connections.open(), 0);
        assert!(connections.admit(&limits, at("2001:db8::1"), None).is_ok());
        drop(first);
        let third = open("2001:db8::3").ok().unwrap();
        assert_eq!(connections.opening(at("2001:db8::")), 2);
        drop((second, third, other));
        assert!(connections.0.lock().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn an_address_is_a_v4_address_or_a_v6_network() {
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2:ffff::"));
        assert_ne!(at("2001:db8:1:2::"), at("2001:db8:1:3::"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }

    fn at(address: &str) -> Address {
        Address::from(address.parse::<IpAddr>().unwrap())
    }

    fn principal(user: &str) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new(user).unwrap(),
            token: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        }
    }
}
