//! Whose tokens are denied although they have not expired.

use std::collections::BTreeMap;

use super::{LoginId, Principal, TenantId, Timestamp, TokenId, UserId};

/// What is denied.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// One token, by its own id.
    Token(TokenId),
    /// A device's tokens, whenever they were issued: a login that has ended does not come back.
    Login(LoginId),
    /// A user's tokens.
    User(TenantId, UserId),
    /// Everybody's tokens in a tenant.
    Tenant(TenantId),
}

/// From when, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// A user's or tenant's tokens are denied that were issued in the second of this time or before. Says nothing for a
    /// single token.
    pub since: Timestamp,
    /// Nothing that it concerns can be alive any more after this.
    pub until: Timestamp,
}

/// Everything that is denied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Revocations(BTreeMap<Subject, Revocation>);

impl Subject {
    /// Whether `revocation` of this denies somebody.
    pub fn denies(&self, revocation: Revocation, principal: &Principal) -> bool {
        match self {
            Self::Token(token) => principal.token.as_ref() == Some(token),
            Self::Login(login) => principal.login == Some(*login),
            Self::User(tenant, user) => {
                principal.tenant == *tenant && principal.user == *user && revocation.reaches(principal)
            }
            Self::Tenant(tenant) => principal.tenant == *tenant && revocation.reaches(principal),
        }
    }
}

impl Revocation {
    /// Tokens say when they were issued in whole seconds, so of two in the second of the revocation nobody knows which
    /// came first: both are denied.
    fn reaches(self, principal: &Principal) -> bool {
        principal.issued_at.0.div_euclid(1000) <= self.since.0.div_euclid(1000)
    }

    /// Both at once.
    fn and(self, other: Self) -> Self {
        Self { since: self.since.max(other.since), until: self.until.max(other.until) }
    }
}

impl Revocations {
    pub fn denies(&self, principal: &Principal) -> bool {
        let denied =
            |subject: Subject| self.0.get(&subject).is_some_and(|revocation| subject.denies(*revocation, principal));
        !self.0.is_empty()
            && (principal.token.clone().is_some_and(|token| denied(Subject::Token(token)))
                || principal.login.is_some_and(|login| denied(Subject::Login(login)))
                || denied(Subject::User(principal.tenant.clone(), principal.user.clone()))
                || denied(Subject::Tenant(principal.tenant.clone())))
    }

    /// Denies `subject`, too; returns what now holds for it, which never denies less than before.
    pub fn add(&mut self, subject: Subject, revocation: Revocation) -> Revocation {
        let known = self.0.entry(subject).or_insert(revocation);
        *known = known.and(revocation);
        *known
    }

    /// Whose revocation concerns nothing any more at `now`.
    pub fn outlived(&self, now: Timestamp) -> Vec<Subject> {
        self.0.iter().filter(|(_, revocation)| revocation.until < now).map(|(subject, _)| subject.clone()).collect()
    }

    pub fn forget(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Revocation)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann(issued_at: i64) -> Principal {
        principal("harbour", "ann", issued_at)
    }

    fn principal(tenant: &str, user: &str, issued_at: i64) -> Principal {
        Principal {
            tenant: TenantId::new(tenant).unwrap(),
            user: UserId::new(user).unwrap(),
            token: Some(TokenId::new("t1").unwrap()),
            login: None,
            issued_at: Timestamp(issued_at),
            expires_at: Timestamp(issued_at + 3_600_000),
        }
    }

    fn denying(subject: Subject, since: i64) -> Revocations {
        let mut revocations = Revocations::default();
        revocations.add(subject, Revocation { since: Timestamp(since), until: Timestamp(since + 90_000_000) });
        revocations
    }

    // CVE-2020-26892 compared with the time of the revocation's own making.
    #[test]
    fn what_was_issued_before_is_denied_and_what_was_issued_after_is_not() {
        let subjects = [
            Subject::User(TenantId::new("harbour").unwrap(), UserId::new("ann").unwrap()),
            Subject::Tenant(TenantId::new("harbour").unwrap()),
        ];
        for subject in subjects {
            let revocations = denying(subject, 50_500);
            let matrix = [(0, true), (49_000, true), (50_000, true), (50_999, true), (51_000, false), (60_000, false)];
            for (issued_at, denied) in matrix {
                assert_eq!(revocations.denies(&ann(issued_at)), denied, "{issued_at}");
            }
        }
    }

    #[test]
    fn nobody_else_is_denied() {
        let user = denying(Subject::User(TenantId::new("harbour").unwrap(), UserId::new("ann").unwrap()), 50_000);
        assert!(!user.denies(&principal("harbour", "bob", 0)));
        assert!(!user.denies(&principal("hill", "ann", 0)));
        let tenant = denying(Subject::Tenant(TenantId::new("harbour").unwrap()), 50_000);
        assert!(tenant.denies(&principal("harbour", "bob", 0)));
        assert!(!tenant.denies(&principal("hill", "bob", 0)));
    }

    #[test]
    fn a_token_is_denied_by_its_id_whenever_it_was_issued() {
        let revocations = denying(Subject::Token(TokenId::new("t1").unwrap()), 0);
        assert!(revocations.denies(&ann(1_000_000)));
        assert!(!revocations.denies(&Principal { token: Some(TokenId::new("t2").unwrap()), ..ann(0) }));
        assert!(!revocations.denies(&Principal { token: None, ..ann(0) }));
    }

    #[test]
    fn a_login_is_denied_with_all_its_tokens_and_no_other_is() {
        let [phone, tablet] = [1, 2].map(|id| LoginId(uuid::Uuid::from_u128(id)));
        let revocations = denying(Subject::Login(phone), 0);
        for issued_at in [0, 1_000_000] {
            assert!(revocations.denies(&Principal { login: Some(phone), ..ann(issued_at) }));
            assert!(!revocations.denies(&Principal { login: Some(tablet), ..ann(issued_at) }));
            assert!(!revocations.denies(&ann(issued_at)));
        }
    }

    #[test]
    fn a_second_revocation_never_denies_less() {
        let ann = || Subject::User(TenantId::new("harbour").unwrap(), UserId::new("ann").unwrap());
        let mut revocations = denying(ann(), 50_000);
        revocations.add(ann(), Revocation { since: Timestamp(10_000), until: Timestamp(20_000) });
        assert!(revocations.denies(&self::ann(40_000)));
        assert_eq!(revocations.outlived(Timestamp(90_050_000)), []);
        assert_eq!(revocations.outlived(Timestamp(90_050_001)), [ann()]);
    }
}
