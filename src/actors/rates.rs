//! How often somebody may do something: generic cell rates, one per session, room, user, tenant or address.
//!
//! A thin layer over governor: the rate is handed in at each look, so that one that changes while the server runs holds
//! at once, for what is there already, too. Keys are kept as fingerprints, so that a refusal allocates nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::connections::Address;
use super::limits::{Limits, Rate, Rates, names};
use crate::clock::Clock;
use crate::domain::{Principal, TenantId, UserId};
use crate::wire::Refusal;

/// The server's clock, as governor asks for it.
#[derive(Clone)]
pub struct Time(Arc<dyn Clock>);

impl Time {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl GovernorClock for Time {
    type Instant = Instant;

    fn now(&self) -> Instant {
        self.0.instant()
    }
}

/// How often one thing has been done of late.
#[derive(Default)]
pub struct Limiter {
    /// `None` until it is looked at for the first time.
    kept: Option<(Rate, Cells)>,
}

type Cells = RateLimiter<NotKeyed, InMemoryState, Time, StateInformationMiddleware>;

impl Limiter {
    /// Counts one more, or says after how long there is room for it. A refusal counts nothing. When the rate is another
    /// one than at the last look, counting begins anew.
    pub fn check(&mut self, rate: Option<Rate>, time: &Time) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        self.count(rate, time).map(|_| ())
    }

    /// As [`Limiter::check`]; returns how many more there is room for at once.
    fn count(&mut self, rate: Rate, time: &Time) -> Result<u32, Duration> {
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != rate) {
            self.kept = Some((rate, RateLimiter::new(quota(rate), InMemoryState::default(), time.clone())));
        }
        let (_, cells) = self.kept.as_ref().expect("it has just been made");
        match cells.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(until) => Err(whole_millis(until.wait_time_from(time.now()))),
        }
    }
}

fn quota(rate: Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(interval(rate)).expect("an interval is never zero").allow_burst(burst)
}

/// The time after which there is room for one more.
fn interval(rate: Rate) -> Duration {
    (rate.per / rate.count.max(1)).max(Duration::from_nanos(1))
}

/// Clients are told milliseconds: never so few that they come too early.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// How many keys are remembered at once; those beyond it share their rates.
pub const KEYS_MAX: usize = 65_536;

const SHARDS: usize = 16;

/// A shard with fewer keys than this is not swept.
const SWEEP_FROM: usize = 64;

/// Between two sweeps of a shard, so that many new keys do not mean many sweeps.
const SWEEP: Duration = Duration::from_secs(1);

/// How often things have been done by each of many.
///
/// A key is forgotten when its past makes no difference any more. With [`KEYS_MAX`] that do make one, new keys share a
/// limiter, so that neither memory nor the limits give way.
#[derive(Default)]
pub struct Keyed {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u64, Entry>,
    /// For keys that there is no room for.
    others: Entry,
    swept: Option<Instant>,
}

#[derive(Default)]
struct Entry {
    limiter: Limiter,
    barred_until: Option<Instant>,
    /// From then on it is as if it had never been.
    rests_at: Option<Instant>,
}

impl Keyed {
    /// Counts one more for `key`, or says after how long there is room for it.
    pub fn check(&self, key: impl Hash, rate: Option<Rate>, time: &Time) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        self.with(key, time, |entry, now| {
            entry.rests_at = now.checked_add(interval(rate) * rate.burst);
            entry.limiter.count(rate, time).map(|_| ())
        })
    }

    /// Counts something that `key` should not do too often. When there is room for no more, the key is barred, for
    /// `penalty` and at least until there is.
    pub fn strike(&self, key: impl Hash, rate: Option<Rate>, penalty: Duration, time: &Time) {
        let Some(rate) = rate else { return };
        self.with(key, time, |entry, now| {
            let wait = match entry.limiter.count(rate, time) {
                Ok(0) => Some(interval(rate)),
                Ok(_) => None,
                Err(wait) => Some(wait),
            };
            entry.rests_at = now.checked_add((interval(rate) * rate.burst).max(penalty));
            if let Some(wait) = wait {
                entry.barred_until = now.checked_add(wait.max(penalty));
            }
        });
    }

    /// For how long `key` is barred still, if it is.
    pub fn barred(&self, key: impl Hash, time: &Time) -> Result<(), Duration> {
        let now = time.now();
        let (key, shard) = self.place(key);
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let until = shard.entries.get(&key).and_then(|entry| entry.barred_until);
        match until.filter(|until| *until > now) {
            Some(until) => Err(whole_millis(until - now)),
            None => Ok(()),
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, key: impl Hash, time: &Time, look: impl FnOnce(&mut Entry, Instant) -> T) -> T {
        let now = time.now();
        let (key, shard) = self.place(key);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        look(shard.entry(key, now), now)
    }

    fn place(&self, key: impl Hash) -> (u64, &Mutex<Shard>) {
        let key = self.hasher.hash_one(key);
        let shard = usize::try_from(key % SHARDS as u64).expect("less than a length");
        (key, &self.shards[shard])
    }
}

impl Shard {
    fn entry(&mut self, key: u64, now: Instant) -> &mut Entry {
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= SWEEP_FROM && self.swept.is_none_or(|at| now.duration_since(at) >= SWEEP) {
                self.entries.retain(|_, entry| entry.rests_at.is_some_and(|at| at > now));
                self.swept = Some(now);
            }
            if self.entries.len() >= KEYS_MAX / SHARDS {
                return &mut self.others;
            }
        }
        self.entries.entry(key).or_default()
    }
}

/// What the process counts of its users, tenants and addresses. Sessions and rooms have limiters of their own.
pub struct Meters {
    time: Time,
    users: Keyed,
    tenants: Keyed,
    lookups: Keyed,
    reports: Keyed,
    connects: Keyed,
    asked: Keyed,
    tokens: Keyed,
    passwords: Keyed,
    resets: Keyed,
    contacts: Keyed,
    logins: Keyed,
}

impl Meters {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            time: Time::new(clock),
            users: Keyed::default(),
            tenants: Keyed::default(),
            lookups: Keyed::default(),
            reports: Keyed::default(),
            connects: Keyed::default(),
            asked: Keyed::default(),
            tokens: Keyed::default(),
            passwords: Keyed::default(),
            resets: Keyed::default(),
            contacts: Keyed::default(),
            logins: Keyed::default(),
        }
    }

    pub fn time(&self) -> &Time {
        &self.time
    }

    /// Counts a message of a user.
    pub fn user(&self, rates: &Rates, by: &Principal) -> Result<(), Refusal> {
        let checked = self.users.check(user(by), rates.messages_per_user, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::MESSAGES_PER_USER, after))
    }

    /// Counts a message in a tenant.
    pub fn tenant(&self, limits: &Limits, tenant: &TenantId) -> Result<(), Refusal> {
        let checked = self.tenants.check(tenant, limits.of_tenant(tenant).messages, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::MESSAGES_PER_TENANT, after))
    }

    /// Counts a report of a user.
    pub fn report(&self, rates: &Rates, by: &Principal) -> Result<(), Refusal> {
        let checked = self.reports.check(user(by), rates.reports_per_user, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::REPORTS_PER_USER, after))
    }

    /// Whether a user may ask for a room now, having asked in vain too often.
    pub fn may_look_up(&self, by: &Principal) -> Result<(), Refusal> {
        let barred = self.lookups.barred(user(by), &self.time);
        barred.map_err(|after| Refusal::rate_limited(names::FAILED_JOINS_PER_USER, after))
    }

    /// A user has asked for a room that is not there, or may not be known to be.
    pub fn looked_up_in_vain(&self, rates: &Rates, by: &Principal) {
        self.lookups.strike(user(by), rates.failed_joins_per_user, Duration::ZERO, &self.time);
    }

    /// Counts a user whom somebody looks for by a contact.
    pub fn find_user(&self, rates: &Rates, by: &Principal) -> Result<(), Refusal> {
        let checked = self.contacts.check(user(by), rates.contacts_per_user, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::CONTACTS_PER_USER, after))
    }

    /// Counts a new connection of an address.
    pub fn connect(&self, rates: &Rates, address: Address) -> Result<(), Refusal> {
        let checked = self.connects.check(address, rates.connects_per_address, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::CONNECTS_PER_ADDRESS, after))
    }

    /// Counts what somebody asks for without saying who it is: an address has as many of these as of connections.
    pub fn ask(&self, rates: &Rates, address: Address) -> Result<(), Refusal> {
        let checked = self.asked.check(address, rates.connects_per_address, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::CONNECTS_PER_ADDRESS, after))
    }

    /// Whether tokens that come from an address are looked at now.
    pub fn may_try_token(&self, address: Address) -> Result<(), Refusal> {
        let barred = self.tokens.barred(address, &self.time);
        barred.map_err(|after| Refusal::rate_limited(names::AUTH_FAILURES_PER_ADDRESS, after))
    }

    /// A token that was no good came from an address.
    pub fn bad_token(&self, rates: &Rates, address: Address) {
        self.tokens.strike(address, rates.auth_failures_per_address, rates.auth_penalty, &self.time);
    }

    /// Counts a log-in of an address, or what costs as much.
    pub fn log_in(&self, rates: &Rates, address: Address) -> Result<(), Refusal> {
        let checked = self.logins.check(address, rates.logins_per_address, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::LOGINS_PER_ADDRESS, after))
    }

    /// Whether passwords and codes for an account are looked at now, be there such an account or not.
    pub fn may_try_password(&self, tenant: &TenantId, user: &UserId) -> Result<(), Refusal> {
        let barred = self.passwords.barred((tenant, user), &self.time);
        barred.map_err(|after| Refusal::rate_limited(names::AUTH_FAILURES_PER_ACCOUNT, after))
    }

    /// Counts a code that somebody asks for himself, be there such an account or not.
    pub fn ask_for_code(&self, rates: &Rates, tenant: &TenantId, user: &UserId) -> Result<(), Refusal> {
        let checked = self.resets.check((tenant, user), rates.resets_per_account, &self.time);
        checked.map_err(|after| Refusal::rate_limited(names::RESETS_PER_ACCOUNT, after))
    }

    /// A password or a code for an account was wrong.
    pub fn bad_password(&self, rates: &Rates, address: Address, tenant: &TenantId, user: &UserId) {
        self.bad_token(rates, address);
        self.passwords.strike((tenant, user), rates.auth_failures_per_account, Duration::ZERO, &self.time);
    }
}

/// By what a user is known among those of all tenants.
fn user(by: &Principal) -> (&TenantId, &UserId) {
    (&by.tenant, &by.user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;

    const RATE: Rate = Rate::per_second(10, 5);

    #[test]
    fn as_many_as_the_burst_are_let_in_at_once_and_then_one_each_interval() {
        let (clock, time) = time();
        let mut limiter = Limiter::default();
        assert_eq!(let_in(&mut limiter, RATE, &time), 5);
        clock.advance(Duration::from_millis(250));
        assert_eq!(let_in(&mut limiter, RATE, &time), 2);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(let_in(&mut limiter, RATE, &time), 5, "what was not used is not kept beyond the burst");
    }

    #[test]
    fn whoever_waits_as_long_as_told_is_let_in() {
        let (clock, time) = time();
        let mut limiter = Limiter::default();
        let rate = Rate { count: 7, per: Duration::from_secs(1), burst: 3 };
        for _ in 0..100 {
            if let Err(wait) = limiter.check(Some(rate), &time) {
                assert!(wait > Duration::ZERO && wait <= Duration::from_millis(143), "{wait:?}");
                clock.advance(wait);
                assert_eq!(limiter.check(Some(rate), &time), Ok(()));
            }
        }
    }

    #[test]
    fn another_rate_holds_at_once_and_none_lets_everything_in() {
        let (_, time) = time();
        let mut limiter = Limiter::default();
        assert_eq!(let_in(&mut limiter, RATE, &time), 5);
        assert_eq!(let_in(&mut limiter, Rate::per_second(10, 2), &time), 2);
        assert!((0..1_000).all(|_| limiter.check(None, &time).is_ok()));
    }

    #[test]
    fn keys_do_not_touch_each_other_and_are_forgotten_when_they_rest() {
        let (clock, time) = time();
        let keyed = Keyed::default();
        for key in 0..10_000 {
            assert_eq!(keyed.check(key, Some(RATE), &time), Ok(()));
        }
        assert_eq!(keyed.len(), 10_000);
        assert_eq!((0..9).filter(|_| keyed.check(7, Some(RATE), &time).is_ok()).count(), 4);
        clock.advance(Duration::from_secs(1));
        for key in 10_000..40_000 {
            assert_eq!(keyed.check(key, Some(RATE), &time), Ok(()));
        }
        clock.advance(Duration::from_secs(1));
        for key in 40_000..80_000 {
            let _ = keyed.check(key, Some(RATE), &time);
        }
        assert!(keyed.len() <= 40_000 + SHARDS, "{} keys are kept", keyed.len());
    }

    #[test]
    fn keys_that_there_is_no_room_for_share_their_rate() {
        let (_, time) = time();
        let keyed = Keyed::default();
        let slow = Some(Rate::per_minute(1, 5));
        let let_in = (0..4 * KEYS_MAX).filter(|key| keyed.check(key, slow, &time).is_ok()).count();
        assert!(keyed.len() <= KEYS_MAX);
        assert!(let_in <= KEYS_MAX + SHARDS * 8, "{let_in} were let in");
    }

    #[test]
    fn who_does_it_too_often_is_barred_for_the_penalty() {
        let (clock, time) = time();
        let keyed = Keyed::default();
        let (rate, penalty) = (Some(Rate::per_minute(10, 10)), Duration::from_secs(60));
        for _ in 0..9 {
            keyed.strike("a", rate, penalty, &time);
            assert_eq!(keyed.barred("a", &time), Ok(()));
        }
        keyed.strike("a", rate, penalty, &time);
        let left = keyed.barred("a", &time).unwrap_err();
        assert!(left > Duration::from_secs(59) && left <= penalty, "{left:?}");
        assert_eq!(keyed.barred("b", &time), Ok(()));
        clock.advance(left);
        assert_eq!(keyed.barred("a", &time), Ok(()));
    }

    #[test]
    fn without_a_penalty_who_is_barred_gets_one_try_each_interval() {
        let (clock, time) = time();
        let keyed = Keyed::default();
        let rate = Some(Rate::per_minute(10, 10));
        let mut tries = 0;
        for _ in 0..600 {
            while keyed.barred("a", &time).is_ok() {
                keyed.strike("a", rate, Duration::ZERO, &time);
                tries += 1;
            }
            clock.advance(Duration::from_millis(100));
        }
        assert!((18..=20).contains(&tries), "{tries} in a minute: the burst and ten more");
    }

    fn time() -> (Arc<ManualClock>, Time) {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        (Arc::clone(&clock), Time::new(clock))
    }

    /// The clock goes on a little by itself; no test takes as long as an interval.
    fn let_in(limiter: &mut Limiter, rate: Rate, time: &Time) -> usize {
        (0..100).filter(|_| limiter.check(Some(rate), time).is_ok()).count()
    }
}
