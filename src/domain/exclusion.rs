//! Who may not come into a tenant at all, whatever token is shown: who is banned from it, and whose account is disabled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::Rank;
use super::{Name, TenantId, Timestamp, UserId};

/// How many users of one tenant may be excluded at once.
pub const EXCLUSIONS_PER_TENANT_MAX: usize = 10_000;

/// How many in all: each lies in memory.
pub const EXCLUSIONS_MAX: usize = 100_000;

/// That somebody may not come into a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantBan {
    /// Who banned, and when.
    pub by: UserId,
    pub at: Timestamp,
    /// What that user was then: who is less does not take it back. `None` where it was the operator.
    pub rank: Option<Rank>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    pub reason: Option<Name>,
}

impl TenantBan {
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What keeps one user out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exclusion {
    /// The user's account is disabled.
    pub disabled: bool,
    pub ban: Option<TenantBan>,
}

impl Exclusion {
    /// The ban, while it holds.
    pub fn ban(&self, now: Timestamp) -> Option<&TenantBan> {
        self.ban.as_ref().filter(|ban| ban.holds(now))
    }

    /// Whether it keeps the user out at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.disabled || self.ban(now).is_some()
    }
}

/// Everybody who is kept out, by tenant. A copy is cheap but for the tenant that then changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exclusions {
    tenants: BTreeMap<TenantId, Arc<BTreeMap<UserId, Exclusion>>>,
    len: usize,
}

impl Exclusions {
    pub fn of(&self, tenant: &TenantId, user: &UserId) -> Option<&Exclusion> {
        self.tenants.get(tenant)?.get(user)
    }

    /// What now keeps `user` out; nothing, where that is nothing.
    pub fn put(&mut self, tenant: &TenantId, user: &UserId, exclusion: Exclusion) {
        let users = Arc::make_mut(self.tenants.entry(tenant.clone()).or_default());
        let before = users.len();
        if exclusion == Exclusion::default() {
            users.remove(user);
        } else {
            users.insert(user.clone(), exclusion);
        }
        let after = users.len();
        if after == 0 {
            self.tenants.remove(tenant);
        }
        self.len = self.len - before + after;
    }

    /// Whether one more user of the tenant may be excluded.
    pub fn has_room(&self, tenant: &TenantId) -> bool {
        self.len < EXCLUSIONS_MAX && self.in_tenant(tenant).count() < EXCLUSIONS_PER_TENANT_MAX
    }

    /// Those of a tenant, in the order of their ids.
    pub fn in_tenant(&self, tenant: &TenantId) -> impl Iterator<Item = (&UserId, &Exclusion)> {
        self.tenants.get(tenant).into_iter().flat_map(|users| users.iter())
    }

    /// Who is noted with a ban that has ended by `now`.
    pub fn outlived(&self, now: Timestamp) -> Vec<(TenantId, UserId)> {
        let ended = |exclusion: &Exclusion| exclusion.ban.as_ref().is_some_and(|ban| !ban.holds(now));
        let all = self.tenants.iter().flat_map(|(tenant, users)| users.iter().map(move |found| (tenant, found)));
        let outlived = all.filter(|(_, (_, exclusion))| ended(exclusion));
        outlived.map(|(tenant, (user, _))| (tenant.clone(), user.clone())).collect()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_keeps_out_until_it_ends_and_a_disabled_account_until_it_is_enabled() {
        let (ban, forever) = (ban(Some(50)), ban(None));
        let with = |disabled, ban: &TenantBan| Exclusion { disabled, ban: Some(ban.clone()) };
        assert!(with(false, &ban).holds(Timestamp(49)) && !with(false, &ban).holds(Timestamp(50)));
        assert!(with(false, &forever).holds(Timestamp(i64::MAX)));
        assert!(with(true, &ban).holds(Timestamp(50)) && with(true, &ban).ban(Timestamp(50)).is_none());
        assert!(!Exclusion::default().holds(Timestamp(0)));
    }

    #[test]
    fn who_is_excluded_is_so_in_one_tenant_and_is_counted_once() {
        let [harbour, hill] = ["harbour", "hill"].map(|tenant| TenantId::new(tenant).unwrap());
        let [ann, bob] = ["ann", "bob"].map(|user| UserId::new(user).unwrap());
        let mut exclusions = Exclusions::default();
        let banned = Exclusion { disabled: false, ban: Some(ban(Some(50))) };
        exclusions.put(&harbour, &ann, banned.clone());
        exclusions.put(&harbour, &ann, banned.clone());
        exclusions.put(&hill, &bob, Exclusion { disabled: true, ban: None });
        assert_eq!((exclusions.len(), exclusions.of(&harbour, &ann)), (2, Some(&banned)));
        assert_eq!((exclusions.of(&hill, &ann), exclusions.of(&harbour, &bob)), (None, None));
        assert_eq!(exclusions.outlived(Timestamp(49)), []);
        assert_eq!(exclusions.outlived(Timestamp(50)), [(harbour.clone(), ann.clone())]);
        exclusions.put(&harbour, &ann, Exclusion::default());
        exclusions.put(&harbour, &ann, Exclusion::default());
        assert_eq!((exclusions.len(), exclusions.in_tenant(&harbour).count()), (1, 0));
    }

    #[test]
    fn a_tenant_that_is_full_leaves_room_to_others() {
        let [harbour, hill] = ["harbour", "hill"].map(|tenant| TenantId::new(tenant).unwrap());
        let mut exclusions = Exclusions::default();
        for number in 0..EXCLUSIONS_PER_TENANT_MAX {
            assert!(exclusions.has_room(&harbour));
            let user = UserId::new(&number.to_string()).unwrap();
            exclusions.put(&harbour, &user, Exclusion { disabled: true, ban: None });
        }
        assert_eq!((exclusions.has_room(&harbour), exclusions.has_room(&hill)), (false, true));
    }

    fn ban(until: Option<i64>) -> TenantBan {
        let by = UserId::new("olga").unwrap();
        TenantBan { by, at: Timestamp(7), rank: None, until: until.map(Timestamp), reason: None }
    }
}
