//! Whose tokens are taken: the server's own and those of configured issuers.
//!
//! A token's `iss` is looked up in a table of the operator's before anything else is believed of it. Keys belong to
//! their issuer: two issuers may use one `kid` for different keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::claims::{Rules, Tenancy, Unverified};
use super::jwks::{KeySet, NoKey};
use super::key::Key;
use super::options::{Algorithm, IdentityOptions, IssuerOptions, JwksOptions, JwksSource, ProfileClaims, TenantSource};
use super::secret::Secret;
use super::{AuthError, LIFETIME_MAX, NAME};
use crate::actors::profiles::Introductions;
use crate::clock::Clock;
use crate::domain::{Principal, TenantId, Timestamp};
use crate::outgoing;

/// Says whose a token is.
pub struct Identity {
    /// Signs the server's own tokens.
    own: Secret,
    clock: Arc<dyn Clock>,
    issuers: ArcSwap<HashMap<String, Arc<Issuer>>>,
    introductions: Arc<Introductions>,
}

/// Every mistake in the options, each with the issuer it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct IdentityError(pub Vec<String>);

/// One who says who people are.
pub(super) struct Issuer {
    rules: Rules,
    keys: BTreeMap<Option<String>, Arc<Key>>,
    set: Option<Arc<KeySet>>,
}

impl Identity {
    /// Takes the tokens of `options`; `own` signs the server's own. Does not wait for keys that are elsewhere.
    pub fn new(options: &IdentityOptions, own: Secret, clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        let identity = Self { own, clock, issuers: ArcSwap::default(), introductions: Arc::default() };
        identity.reload(options)?;
        Ok(identity)
    }

    /// From now on these options hold, or the old ones where there is a mistake. Key files are read again; sets of keys
    /// that were there before are kept with what is known of them. Connections that are open go on.
    pub fn reload(&self, options: &IdentityOptions) -> Result<(), IdentityError> {
        let mut mistakes = check_times(options);
        let mut issuers = HashMap::new();
        if options.own_issuer {
            issuers.insert(NAME.to_owned(), Arc::new(Issuer::own(&self.own, options)));
        }
        let before = self.issuers.load();
        for issuer in &options.issuers {
            let mut wrong = |what: String| mistakes.push(format!("issuer {}: {what}", issuer.name));
            if issuer.iss == NAME {
                wrong(format!("iss {NAME:?} is the server's own"));
            }
            let known = before.get(&issuer.iss).and_then(|issuer| issuer.set.as_ref());
            let made = Issuer::configured(issuer, options, known, &self.clock, &mut wrong);
            if issuers.insert(issuer.iss.clone(), Arc::new(made)).is_some() {
                mistakes.push(format!("issuer {}: another one has the same iss", issuer.name));
            }
        }
        if !mistakes.is_empty() {
            return Err(IdentityError(mistakes));
        }
        self.issuers.store(Arc::new(issuers));
        Ok(())
    }

    /// Says who the bearer of `token` is at `now`. Waits for a look at the issuer's set of keys where the key is not
    /// known, for seconds at most.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        let unverified = Unverified::read(token)?;
        let issuer = self.issuers.load().get(unverified.issuer()?).cloned().ok_or(AuthError::Issuer)?;
        let principal = issuer.verify(&unverified, now).await?;
        if let Some(said) = issuer.rules.introduction(unverified.claims()) {
            self.introductions.offer(&principal, said);
        }
        Ok(principal)
    }

    /// What tokens say of their bearers besides who they are.
    pub fn introductions(&self) -> &Arc<Introductions> {
        &self.introductions
    }
}

impl Issuer {
    /// The server itself, with the secret of its data directory.
    pub(super) fn own(secret: &Secret, options: &IdentityOptions) -> Self {
        let key = Key::shared(Algorithm::Hs256, secret).expect("a secret is long enough for HS256");
        let rules = Rules {
            logins: true,
            audiences: vec![NAME.to_owned()],
            typ: IssuerOptions::typ_default(),
            user_claim: IssuerOptions::USER_CLAIM_DEFAULT.to_owned(),
            tenant: Tenancy::Claim { name: "tenant".to_owned(), default: Some(TenantId::default_tenant()) },
            required: Vec::new(),
            profile: ProfileClaims::default(),
            leeway: options.leeway,
            lifetime_max: options.lifetime_max,
        };
        Self { rules, keys: BTreeMap::from([(None, Arc::new(key))]), set: None }
    }

    fn configured(
        issuer: &IssuerOptions,
        options: &IdentityOptions,
        known: Option<&Arc<KeySet>>,
        clock: &Arc<dyn Clock>,
        wrong: &mut impl FnMut(String),
    ) -> Self {
        if issuer.iss.is_empty() {
            wrong("iss is empty".to_owned());
        }
        for (name, list) in [("audiences", &issuer.audiences), ("typ", &issuer.typ)] {
            if list.is_empty() || list.iter().any(String::is_empty) {
                wrong(format!("{name} needs at least one entry, and no empty one"));
            }
        }
        for required in &issuer.required {
            if required.any_of.is_empty() {
                wrong(format!("the required claim {} has no value", required.claim));
            }
        }
        let tenant = match &issuer.tenant {
            TenantSource::Fixed(tenant) => Tenancy::Fixed(TenantId::new(tenant).unwrap_or_else(|error| {
                wrong(error.to_string());
                TenantId::default_tenant()
            })),
            TenantSource::Claim(name) => Tenancy::Claim { name: name.clone(), default: None },
        };
        let mut keys = BTreeMap::new();
        for key in &issuer.keys {
            let name = key.kid.as_deref().unwrap_or("without kid");
            match Key::load(key) {
                Ok(loaded) => {
                    if keys.insert(key.kid.clone(), Arc::new(loaded)).is_some() {
                        wrong(format!("two keys are called {name}"));
                    }
                }
                Err(error) => wrong(format!("key {name}: {error}")),
            }
        }
        if issuer.keys.is_empty() && issuer.jwks.is_none() {
            wrong("it has no keys".to_owned());
        }
        let set = issuer.jwks.as_ref().and_then(|jwks| key_set(issuer, jwks, known, clock, wrong));
        let rules = Rules {
            logins: false,
            audiences: issuer.audiences.clone(),
            typ: issuer.typ.clone(),
            user_claim: issuer.user_claim.clone(),
            tenant,
            required: issuer.required.clone(),
            profile: issuer.profile.clone(),
            leeway: options.leeway,
            lifetime_max: options.lifetime_max,
        };
        Self { rules, keys, set }
    }

    async fn verify(&self, unverified: &Unverified<'_>, now: Timestamp) -> Result<Principal, AuthError> {
        self.rules.check_type(unverified.header())?;
        let key = self.key(unverified.kid()).await?;
        unverified.signed_by(&key)?;
        self.rules.principal(unverified.claims(), now)
    }

    /// As [`Issuer::verify`], by the keys that are at hand.
    pub(super) fn verify_now(&self, unverified: &Unverified<'_>, now: Timestamp) -> Result<Principal, AuthError> {
        self.rules.check_type(unverified.header())?;
        let key = self.keys.get(&unverified.kid().map(str::to_owned)).ok_or(AuthError::Key)?;
        unverified.signed_by(key)?;
        self.rules.principal(unverified.claims(), now)
    }

    async fn key(&self, kid: Option<&str>) -> Result<Arc<Key>, AuthError> {
        if let Some(key) = self.keys.get(&kid.map(str::to_owned)) {
            return Ok(Arc::clone(key));
        }
        let set = self.set.as_ref().ok_or(AuthError::Key)?;
        set.key(kid).await.map_err(|why| match why {
            NoKey::Unknown => AuthError::Key,
            NoKey::Unavailable => AuthError::KeysUnavailable,
        })
    }
}

fn key_set(
    issuer: &IssuerOptions,
    jwks: &JwksOptions,
    known: Option<&Arc<KeySet>>,
    clock: &Arc<dyn Clock>,
    wrong: &mut impl FnMut(String),
) -> Option<Arc<KeySet>> {
    let source = match &jwks.source {
        JwksSource::Url(url) => outgoing::check_url(url),
        JwksSource::File(_) => Ok(()),
    };
    if let Err(why) = source {
        wrong(format!("the address of its keys is not taken: {why}"));
        return None;
    }
    if jwks.min_refresh < JwksOptions::MIN_REFRESH || jwks.refresh_every < JwksOptions::MIN_REFRESH {
        wrong("its keys are not read more often than every 30 seconds".to_owned());
        return None;
    }
    if let Some(known) = known.filter(|known| known.is_of(&issuer.name, jwks)) {
        return Some(Arc::clone(known));
    }
    KeySet::start(issuer.name.clone(), jwks.clone(), Arc::clone(clock))
        .map_err(|error| wrong(format!("its keys cannot be read: {error}")))
        .ok()
}

fn check_times(options: &IdentityOptions) -> Vec<String> {
    let mut mistakes = Vec::new();
    if options.leeway > IdentityOptions::LEEWAY_MAX {
        mistakes.push("the leeway is longer than a minute".to_owned());
    }
    if options.lifetime_max > LIFETIME_MAX || options.lifetime_max < Duration::from_secs(1) {
        mistakes.push("tokens live for between a second and 24 hours".to_owned());
    }
    mistakes
}
