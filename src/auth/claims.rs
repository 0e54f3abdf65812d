//! What a token says, and what has to be true of it.
//!
//! Nothing of a token is believed before its signature has been checked; only the issuer that it names is looked up,
//! in a table that the operator has written.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::key::Key;
use super::options::{Algorithm, ProfileClaims, RequiredClaim};
use super::{AuthError, TOKEN_BYTES_MAX};
use crate::domain::profile::{Avatar, Email, Introduction, Telephone};
use crate::domain::{LoginId, Name, Principal, TenantId, Timestamp, TokenId, UserId};

/// A token taken apart. Its signature has not been looked at.
pub struct Unverified<'a> {
    header: Header,
    claims: ClaimSet,
    message: &'a str,
    signature: &'a str,
}

/// The claims of a token by name; none is there twice.
pub struct ClaimSet(BTreeMap<String, Value>);

/// What has to be true of an issuer's tokens.
pub struct Rules {
    pub audiences: Vec<String>,
    pub typ: Vec<String>,
    pub user_claim: String,
    pub tenant: Tenancy,
    /// Whether `sid` is a login of ours.
    pub logins: bool,
    pub required: Vec<RequiredClaim>,
    pub profile: ProfileClaims,
    pub leeway: Duration,
    pub lifetime_max: Duration,
}

/// Which tenant somebody belongs to.
pub enum Tenancy {
    Fixed(TenantId),
    /// The one that the claim names; without it the default, if there is one.
    Claim {
        name: String,
        default: Option<TenantId>,
    },
}

impl<'a> Unverified<'a> {
    /// Takes `token` apart and refuses what no issuer may send.
    pub fn read(token: &'a str) -> Result<Self, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| unreadable_header(token))?;
        check_header(&header)?;
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (_, payload) = message.split_once('.').ok_or(AuthError::Malformed)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| AuthError::Malformed)?;
        let claims = serde_json::from_slice(&payload).map_err(|_| AuthError::Claims)?;
        Ok(Self { header, claims, message, signature })
    }

    /// Whose token it says it is: good for a look-up and for nothing else.
    pub fn issuer(&self) -> Result<&str, AuthError> {
        self.claims.text("iss")
    }

    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What it says. Believed by nobody who has not asked [`Unverified::signed_by`].
    pub fn claims(&self) -> &ClaimSet {
        &self.claims
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether `key` has signed it, with the key's own algorithm.
    pub fn signed_by(&self, key: &Key) -> Result<(), AuthError> {
        let algorithm = of_library(key.algorithm());
        if self.header.alg != algorithm {
            return Err(AuthError::Algorithm);
        }
        match jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key.decoding(), algorithm) {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthError::Signature),
            Err(_) => Err(AuthError::Malformed),
        }
    }
}

impl Rules {
    /// The header's `typ` (RFC 7515, section 4.1.9: `application/` may be left out).
    pub fn check_type(&self, header: &Header) -> Result<(), AuthError> {
        let bare = |typ: &str| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
        };
        let typ = header.typ.as_deref().map(bare).ok_or(AuthError::Type)?;
        if self.typ.iter().any(|known| bare(known) == typ) { Ok(()) } else { Err(AuthError::Type) }
    }

    /// What else `claims` say of their bearer, if anything of that is asked for. What is not of its form is left out.
    pub fn introduction(&self, claims: &ClaimSet) -> Option<Introduction> {
        if self.profile == ProfileClaims::default() {
            return None;
        }
        let text = |name: &str| claims.0.get(name).and_then(Value::as_str);
        Some(Introduction {
            name: text(&self.profile.name).and_then(|name| Name::new(name).ok()),
            avatar: text(&self.profile.avatar).and_then(Avatar::address),
            about: text(&self.profile.about).and_then(|about| Name::new(about).ok()),
            email: text(&self.profile.email).and_then(|email| Email::new(email).ok()),
            telephone: text(&self.profile.telephone).and_then(|telephone| Telephone::new(telephone).ok()),
            wins: self.profile.win,
        })
    }

    /// Who `claims` are about at `now`. The principal ends when this would begin to refuse them.
    pub fn principal(&self, claims: &ClaimSet, now: Timestamp) -> Result<Principal, AuthError> {
        if !claims.names_audience(&self.audiences)? {
            return Err(AuthError::Audience);
        }
        // RFC 7519, section 4.1.2: there for every token, whichever claim names the user.
        claims.text("sub")?;
        let user = UserId::new(claims.text(&self.user_claim)?).map_err(|_| AuthError::User)?;
        if user.is_reserved() {
            return Err(AuthError::User);
        }
        let tenant = match &self.tenant {
            Tenancy::Fixed(tenant) => tenant.clone(),
            Tenancy::Claim { name, default } => match (claims.text_if_any(name)?, default) {
                (Some(tenant), _) => TenantId::new(tenant).map_err(|_| AuthError::Tenant)?,
                (None, Some(default)) => default.clone(),
                (None, None) => return Err(AuthError::Tenant),
            },
        };
        if !self.required.iter().all(|required| claims.has(required)) {
            return Err(AuthError::Required);
        }

        let (iat, exp) = (claims.seconds("iat")?, claims.seconds("exp")?);
        let nbf = claims.seconds_if_any("nbf")?;
        let lifetime = exp.checked_sub(iat).filter(|&secs| 0 < secs && secs <= self.lifetime_max.as_secs());
        if lifetime.is_none() {
            return Err(AuthError::Lifetime);
        }
        let leeway = i64::try_from(self.leeway.as_millis()).map_err(|_| AuthError::Claims)?;
        let begins_at = millis(iat.max(nbf.unwrap_or(0)))?.saturating_sub(leeway);
        let expires_at = millis(exp)?.saturating_add(leeway);
        if now.0 >= expires_at {
            return Err(AuthError::Expired);
        }
        if now.0 < begins_at {
            return Err(AuthError::TooEarly);
        }
        let token = claims.text_if_any("jti")?.map(TokenId::new).transpose().map_err(|_| AuthError::Claims)?;
        let login = self.logins.then(|| claims.text_if_any("sid")).transpose()?.flatten();
        let login = login.map(uuid::Uuid::try_parse).transpose().map_err(|_| AuthError::Claims)?.map(LoginId);
        let issued_at = Timestamp(millis(iat)?);
        Ok(Principal { tenant, user, token, login, issued_at, expires_at: Timestamp(expires_at) })
    }
}

impl ClaimSet {
    fn text(&self, name: &str) -> Result<&str, AuthError> {
        self.text_if_any(name)?.ok_or(AuthError::Claims)
    }

    /// A claim that may be absent, but not `null`.
    pub fn text_if_any(&self, name: &str) -> Result<Option<&str>, AuthError> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(AuthError::Claims)
            }
            None => Ok(None),
        }
    }

    fn seconds(&self, name: &str) -> Result<u64, AuthError> {
        self.seconds_if_any(name)?.ok_or(AuthError::Claims)
    }

    /// Whole seconds since 1970 (RFC 7519 would allow fractions; they are refused like any other type, because lenient
    /// readers of claims have been fooled by them).
    pub fn seconds_if_any(&self, name: &str) -> Result<Option<u64>, AuthError> {
        match self.0.get(name) {
            Some(Value::Number(number)) => number.as_u64().map(Some).ok_or(AuthError::Claims),
            Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                Err(AuthError::Claims)
            }
            None => Ok(None),
        }
    }

    /// `aud` is a text or a list of texts (RFC 7519, section 4.1.3).
    fn names_audience(&self, audiences: &[String]) -> Result<bool, AuthError> {
        let known = |name: &String| audiences.contains(name);
        match self.0.get("aud") {
            Some(Value::String(one)) => Ok(known(one)),
            Some(Value::Array(several)) => {
                let mut found = false;
                for one in several {
                    let Value::String(one) = one else { return Err(AuthError::Claims) };
                    found |= known(one);
                }
                Ok(found)
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Err(AuthError::Claims),
        }
    }

    fn has(&self, required: &RequiredClaim) -> bool {
        let wanted = |text: &str| required.any_of.iter().any(|one| one == text);
        match self.0.get(&required.claim) {
            Some(Value::String(text)) => wanted(text) || text.split(' ').any(wanted),
            Some(Value::Array(list)) => list.iter().any(|one| one.as_str().is_some_and(wanted)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
        }
    }

    /// Every claim with its name, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for ClaimSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Claims;

        impl<'de> Visitor<'de> for Claims {
            type Value = BTreeMap<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    // Two readers of one token must not see two different users (RFC 7519, section 4).
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is there twice"));
                    }
                }
                Ok(claims)
            }
        }

        deserializer.deserialize_map(Claims).map(Self)
    }
}

fn check_header(header: &Header) -> Result<(), AuthError> {
    // We understand no extension, so every `crit` names one that must not be ignored (RFC 7515, section 4.1.11), and
    // nothing that comes with a token may choose the key it is checked with.
    let refused = [
        ("crit", header.crit.is_some()),
        ("jku", header.jku.is_some()),
        ("jwk", header.jwk.is_some()),
        ("x5u", header.x5u.is_some()),
        ("x5c", header.x5c.is_some()),
        ("enc", header.enc.is_some()),
        ("zip", header.zip.is_some()),
        ("b64", header.extras.inner().contains_key("b64")),
    ];
    match refused.into_iter().find(|(_, present)| *present) {
        Some((name, _)) => Err(AuthError::Parameter(name)),
        None => Ok(()),
    }
}

/// What to say of a header that the library cannot read, which it cannot either when `alg` is `none` or unknown.
fn unreadable_header(token: &str) -> AuthError {
    if token.split('.').count() == 3 { AuthError::Algorithm } else { AuthError::Malformed }
}

fn of_library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}

fn millis(seconds: u64) -> Result<i64, AuthError> {
    i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)).ok_or(AuthError::Claims)
}
