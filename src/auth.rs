//! Who somebody is: tokens are minted and checked here, and nowhere else.
//!
//! A token is a JWT (RFC 7519); the checks follow RFC 8725. The server signs its own with HMAC-SHA256 and the secret of
//! the data directory; other issuers sign with keys that the operator names. Knows no transport: the edges bring a token
//! and the time, and get a [`Principal`].

pub mod claims;
pub mod codes;
pub mod identity;
mod jwks;
mod key;
pub mod options;
pub mod passwords;
mod secret;

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::{LoginId, Principal, TenantId, Timestamp, UserId};
use claims::Unverified;
use identity::Issuer;

pub use identity::{Identity, IdentityError};
pub use options::IdentityOptions;
pub use secret::{Secret, SecretError, Secrets, SecretsError};

/// The longest token that is looked at: fits the head of a request with room to spare.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The longest life of a token, from `iat` to `exp`: what leaks is worthless within a day.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clocks of minter and checker may be apart.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Both who issues our tokens and whom they are for.
const NAME: &str = "chinwag";

/// Mints and checks the server's own tokens.
#[derive(Clone)]
pub struct Keyring {
    sign: EncodingKey,
    check: std::sync::Arc<Issuer>,
}

/// What a new token is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    pub tenant: TenantId,
    pub user: UserId,
    /// Counted in whole seconds, from the second in which it lies.
    pub issued_at: Timestamp,
    /// Counted in whole seconds: at least one, at most [`LIFETIME_MAX`].
    pub lifetime: Duration,
    /// The token's own id (`jti`), random.
    pub id: Uuid,
    /// The login that it is of (`sid`), where it is of one.
    pub login: Option<LoginId>,
}

/// Why a token was not minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("a token has to live for at least a second")]
    LifetimeTooShort,
    #[error("a token lives for at most 24 hours")]
    LifetimeTooLong,
    #[error("the clock shows a time that a token cannot say")]
    Clock,
}

/// Why a token makes nobody of its bearer. The sentence may be shown to the bearer: it tells nothing of the secret,
/// and no value from the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("a token is needed")]
    Missing,
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("the token is not a JWT in compact form")]
    Malformed,
    #[error("the token is not signed with the algorithm of its issuer's key")]
    Algorithm,
    #[error("the token's header does not say the typ that its issuer's tokens have")]
    Type,
    #[error("the token's header has the parameter {0}, which is not taken")]
    Parameter(&'static str),
    #[error("the token names a key that its issuer does not have")]
    Key,
    #[error("the keys of the token's issuer cannot be read now")]
    KeysUnavailable,
    #[error("the token was not signed with its issuer's key")]
    Signature,
    #[error(
        "the token's claims are not as they have to be: exp and iat (and nbf, if any) integers, iss, sub and aud text"
    )]
    Claims,
    #[error("the token comes from another issuer")]
    Issuer,
    #[error("the token is meant for another audience")]
    Audience,
    #[error("the token does not name its user by a user id")]
    User,
    #[error("the token does not name its tenant by a tenant id")]
    Tenant,
    #[error("the token lacks a claim that is required, or the value that it has to have")]
    Required,
    #[error("the token lives for longer than is allowed, or ends before it begins")]
    Lifetime,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token has expired")]
    Expired,
}

impl AuthError {
    /// The code by which programs know this refusal. It never changes its meaning.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Expired => "token_expired",
            Self::KeysUnavailable => "unavailable",
            Self::TooLong
            | Self::Malformed
            | Self::Algorithm
            | Self::Type
            | Self::Parameter(_)
            | Self::Key
            | Self::Signature
            | Self::Claims
            | Self::Issuer
            | Self::Audience
            | Self::User
            | Self::Tenant
            | Self::Required
            | Self::Lifetime
            | Self::TooEarly => "token_invalid",
        }
    }
}

impl Keyring {
    pub fn new(secret: &Secret) -> Self {
        let check = Issuer::own(secret, &IdentityOptions::default());
        Self { sign: EncodingKey::from_secret(secret.bytes()), check: std::sync::Arc::new(check) }
    }

    /// Makes the token that says `claims`.
    pub fn mint(&self, claims: &Claims) -> Result<String, MintError> {
        if claims.lifetime > LIFETIME_MAX {
            return Err(MintError::LifetimeTooLong);
        }
        if claims.lifetime.as_secs() == 0 {
            return Err(MintError::LifetimeTooShort);
        }
        let iat = u64::try_from(claims.issued_at.0.div_euclid(1000)).map_err(|_| MintError::Clock)?;
        let payload = Payload {
            iss: NAME,
            aud: NAME,
            sub: claims.user.as_str(),
            tenant: claims.tenant.as_str(),
            iat,
            exp: iat + claims.lifetime.as_secs(),
            jti: claims.id.to_string(),
            sid: claims.login.map(|login| login.to_string()),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &self.sign);
        Ok(token.expect("strings and integers always serialize, and an HMAC takes any key"))
    }

    /// Checks one of the server's own tokens and says who its bearer is at `now`. The principal ends when this would
    /// begin to refuse the token: at its `exp` plus [`LEEWAY`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        let unverified = Unverified::read(token)?;
        if unverified.issuer()? != NAME {
            return Err(AuthError::Issuer);
        }
        self.check.verify_now(&unverified, now)
    }
}

/// The claims as they are in the token.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    tenant: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// 2026-01-01T00:00:00Z, in seconds.
    const ISSUED: u64 = 1_767_225_600;
    const ENDS: u64 = ISSUED + 3600;

    #[test]
    fn what_is_minted_is_accepted() {
        let claims = Claims {
            tenant: TenantId::new("harbour").unwrap(),
            user: UserId::new("ann").unwrap(),
            issued_at: seconds(ISSUED),
            lifetime: Duration::from_secs(3600),
            id: Uuid::from_u128(7),
            login: None,
        };
        let token = keyring().mint(&claims).unwrap();
        let principal = keyring().verify(&token, seconds(ISSUED)).unwrap();
        assert_eq!(principal.tenant, claims.tenant);
        assert_eq!(principal.user, claims.user);
        assert_eq!(principal.expires_at, seconds(ENDS + 5));
    }

    #[rstest]
    #[case(Duration::from_secs(24 * 3600), Ok(()))]
    #[case(Duration::from_secs(24 * 3600 + 1), Err(MintError::LifetimeTooLong))]
    #[case(Duration::from_millis(999), Err(MintError::LifetimeTooShort))]
    #[case(Duration::from_secs(1), Ok(()))]
    fn a_token_lives_between_a_second_and_a_day(#[case] lifetime: Duration, #[case] expected: Result<(), MintError>) {
        let claims = Claims {
            tenant: TenantId::default_tenant(),
            user: UserId::new("ann").unwrap(),
            issued_at: seconds(ISSUED),
            lifetime,
            id: Uuid::from_u128(7),
            login: None,
        };
        assert_eq!(keyring().mint(&claims).map(|_| ()), expected);
    }

    #[test]
    fn a_token_without_tenant_is_of_the_default_tenant() {
        let principal = verify(&header(), &claims()).unwrap();
        assert_eq!(principal.tenant, TenantId::default_tenant());
    }

    // CVE-2026-25537 let a string pass as `nbf`; lenient readers let fractions and 2^64 - 1 pass as `exp`.
    #[rstest]
    fn a_time_of_the_wrong_type_is_refused(
        #[values("exp", "iat", "nbf")] claim: &str,
        #[values(
            "null",
            "true",
            "{}",
            "[]",
            "[1]",
            "-1",
            "1.5",
            "1767229200.0",
            "1e9",
            "18446744073709551615",
            "18446744073709551616",
            "\"\"",
            "\"1767229200\""
        )]
        value: &str,
    ) {
        let refusal = with_claim(claim, value).unwrap_err();
        assert_eq!(refusal.code(), "token_invalid", "{refusal}");
    }

    #[rstest]
    fn a_text_of_the_wrong_type_is_refused(
        #[values("iss", "aud", "sub", "tenant", "jti")] claim: &str,
        #[values("null", "true", "{}", "[]", "[1]", "0", "-1", "1.5")] value: &str,
    ) {
        let refusal = with_claim(claim, value).unwrap_err();
        assert_eq!(refusal.code(), "token_invalid", "{refusal}");
    }

    #[rstest]
    fn a_missing_claim_is_refused(#[values("exp", "iat", "iss", "aud", "sub")] claim: &str) {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(verify(&header(), &claims), Err(AuthError::Claims));
    }

    #[rstest]
    fn a_claim_that_is_there_twice_is_refused(#[values("exp", "iat", "iss", "aud", "sub")] claim: &str) {
        let claims = claims();
        let payload = claims.to_string();
        let payload = format!("{},\"{claim}\":{}}}", payload.strip_suffix('}').unwrap(), claims[claim]);
        assert_eq!(check(&sign(&header().to_string(), &payload)), Err(AuthError::Claims));
    }

    #[rstest]
    #[case("iss", json!("somebody"), AuthError::Issuer)]
    #[case("iss", json!("Chinwag"), AuthError::Issuer)]
    #[case("aud", json!("somebody"), AuthError::Audience)]
    #[case("aud", json!(["somebody", "chinwag "]), AuthError::Audience)]
    #[case("aud", json!([]), AuthError::Audience)]
    #[case("sub", json!(""), AuthError::User)]
    #[case("sub", json!("ann bob"), AuthError::User)]
    #[case("sub", json!("ann\u{0}"), AuthError::User)]
    #[case("tenant", json!(""), AuthError::Tenant)]
    #[case("tenant", json!("a/b"), AuthError::Tenant)]
    fn foreign_claims_are_refused(#[case] claim: &str, #[case] value: Value, #[case] expected: AuthError) {
        let mut claims = claims();
        claims[claim] = value;
        assert_eq!(verify(&header(), &claims), Err(expected));
    }

    #[test]
    fn an_audience_may_be_one_of_several() {
        let mut claims = claims();
        claims["aud"] = json!(["somebody", "chinwag"]);
        assert!(verify(&header(), &claims).is_ok());
    }

    #[rstest]
    #[case(json!({"alg": "none", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "None", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "hs256", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "HS384", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "HS512", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "RS256", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "ES256", "typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"typ": "JWT"}), AuthError::Algorithm)]
    #[case(json!({"alg": "HS256"}), AuthError::Type)]
    #[case(json!({"alg": "HS256", "typ": "at+jwt"}), AuthError::Type)]
    #[case(json!({"alg": "HS256", "typ": "JWT", "crit": ["exp"]}), AuthError::Parameter("crit"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "crit": []}), AuthError::Parameter("crit"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "jku": "https://example.org/keys"}), AuthError::Parameter("jku"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "x5u": "https://example.org/cert"}), AuthError::Parameter("x5u"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "x5c": ["AA=="]}), AuthError::Parameter("x5c"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "jwk": {"kty": "oct", "k": "AA"}}), AuthError::Parameter("jwk"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "zip": "DEF"}), AuthError::Parameter("zip"))]
    #[case(json!({"alg": "HS256", "typ": "JWT", "b64": false}), AuthError::Parameter("b64"))]
    fn a_header_that_says_anything_else_is_refused(#[case] header: Value, #[case] expected: AuthError) {
        assert_eq!(verify(&header, &claims()), Err(expected));
    }

    #[rstest]
    #[case::hs384(Algorithm::HS384)]
    #[case::hs512(Algorithm::HS512)]
    fn the_right_secret_with_another_algorithm_is_refused(#[case] algorithm: Algorithm) {
        let key = EncodingKey::from_secret(secret(1).bytes());
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(), &key).unwrap();
        assert_eq!(check(&token), Err(AuthError::Algorithm));
    }

    #[test]
    fn a_token_of_another_secret_is_refused() {
        let key = EncodingKey::from_secret(secret(2).bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        assert_eq!(check(&token), Err(AuthError::Signature));
    }

    #[rstest]
    #[case(1_000 * ISSUED.cast_signed() - 5_001, Err(AuthError::TooEarly))]
    #[case(1_000 * ISSUED.cast_signed() - 5_000, Ok(()))]
    #[case(1_000 * ENDS.cast_signed(), Ok(()))]
    #[case(1_000 * ENDS.cast_signed() + 4_999, Ok(()))]
    #[case(1_000 * ENDS.cast_signed() + 5_000, Err(AuthError::Expired))]
    #[case(i64::MIN, Err(AuthError::TooEarly))]
    #[case(i64::MAX, Err(AuthError::Expired))]
    fn clocks_may_be_five_seconds_apart(#[case] now: i64, #[case] expected: Result<(), AuthError>) {
        let token = sign(&header().to_string(), &claims().to_string());
        assert_eq!(keyring().verify(&token, Timestamp(now)).map(|_| ()), expected);
    }

    #[test]
    fn nbf_is_heeded_when_it_is_there() {
        let mut claims = claims();
        claims["nbf"] = json!(ISSUED + 60);
        let token = sign(&header().to_string(), &claims.to_string());
        assert_eq!(keyring().verify(&token, seconds(ISSUED + 54)), Err(AuthError::TooEarly));
        assert!(keyring().verify(&token, seconds(ISSUED + 55)).is_ok());
    }

    #[rstest]
    #[case(json!(ISSUED + 24 * 3600), Ok(()))]
    #[case(json!(ISSUED + 24 * 3600 + 1), Err(AuthError::Lifetime))]
    #[case(json!(ISSUED), Err(AuthError::Lifetime))]
    #[case(json!(ISSUED - 1), Err(AuthError::Lifetime))]
    #[case(json!(u64::MAX), Err(AuthError::Lifetime))]
    fn a_token_that_lives_too_long_is_refused(#[case] exp: Value, #[case] expected: Result<(), AuthError>) {
        let mut claims = claims();
        claims["exp"] = exp;
        assert_eq!(verify(&header(), &claims).map(|_| ()), expected);
    }

    #[test]
    fn the_length_of_a_token_is_bounded() {
        let mut claims = claims();
        claims["note"] = json!("x".repeat(TOKEN_BYTES_MAX));
        assert_eq!(verify(&header(), &claims), Err(AuthError::TooLong));
    }

    #[test]
    fn no_token_is_another_thing_than_a_bad_one() {
        assert_eq!(check(""), Err(AuthError::Missing));
        assert_eq!(AuthError::Missing.code(), "unauthenticated");
        assert_eq!(AuthError::Expired.code(), "token_expired");
        for bad in [".", "..", "a.b", "a.b.c", "a.b.c.d", "ey.ey.ey", "\u{0}", "é.é.é"] {
            assert_eq!(check(bad).unwrap_err().code(), "token_invalid", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_token_with_one_character_changed_is_refused(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
            let token = sign(&header().to_string(), &claims().to_string());
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != token);
            prop_assert!(check(&changed).is_err());
        }

        #[test]
        fn no_text_makes_the_check_panic(text in ".{0,200}") {
            prop_assert!(check(&text).is_err());
        }
    }

    fn secret(seed: u8) -> Secret {
        Secret::new(vec![seed; 32]).unwrap()
    }

    fn keyring() -> Keyring {
        Keyring::new(&secret(1))
    }

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp(i64::try_from(seconds).unwrap() * 1000)
    }

    fn header() -> Value {
        json!({"alg": "HS256", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"iss": "chinwag", "aud": "chinwag", "sub": "ann", "iat": ISSUED, "exp": ENDS})
    }

    fn verify(header: &Value, claims: &Value) -> Result<Principal, AuthError> {
        check(&sign(&header.to_string(), &claims.to_string()))
    }

    /// The usual claims, but for one: `value` is its JSON.
    fn with_claim(claim: &str, value: &str) -> Result<Principal, AuthError> {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        let payload = claims.to_string();
        let payload = format!("{},\"{claim}\":{value}}}", payload.strip_suffix('}').unwrap());
        check(&sign(&header().to_string(), &payload))
    }

    fn check(token: &str) -> Result<Principal, AuthError> {
        keyring().verify(token, seconds(ISSUED + 60))
    }

    /// Any header and payload, rightly signed: what a careless minter with the right secret could send.
    fn sign(header: &str, payload: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let key = EncodingKey::from_secret(secret(1).bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }
}
