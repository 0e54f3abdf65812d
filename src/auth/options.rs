//! Whose tokens are taken, as the operator has decided: plain values, checked when an `Identity` is made of them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{LEEWAY, LIFETIME_MAX};

/// Everything about who may come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityOptions {
    /// How far the clocks of an issuer and of this server may be apart: a minute at most.
    pub leeway: Duration,
    /// The longest life of a token, from `iat` to `exp`.
    pub lifetime_max: Duration,
    /// Whether tokens of `chinwag token create` are taken: issuer `chinwag`, the secret of the data directory.
    pub own_issuer: bool,
    pub issuers: Vec<IssuerOptions>,
}

/// Somebody else who says who people are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerOptions {
    /// What logs and refusals to the operator call it.
    pub name: String,
    /// The claim `iss` of its tokens, to the letter. No two issuers share one, and `chinwag` is the server's own.
    pub iss: String,
    /// One of them has to be among the token's `aud`. At least one.
    pub audiences: Vec<String>,
    /// What the header's `typ` may be; letters of either case are alike (RFC 7515, section 4.1.9). At least one.
    pub typ: Vec<String>,
    /// Which claim names the user.
    pub user_claim: String,
    pub tenant: TenantSource,
    pub profile: ProfileClaims,
    /// Claims that have to be there, each with a value.
    pub required: Vec<RequiredClaim>,
    pub keys: Vec<KeyOptions>,
    /// A set of public keys (RFC 7517) that is read again from time to time.
    pub jwks: Option<JwksOptions>,
}

/// Which tenant the users of an issuer belong to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TenantSource {
    /// Always this one.
    Fixed(String),
    /// The one that this claim of the token names. The claim has to be there.
    Claim(String),
}

/// Which claims say who a user is to the others; an empty name: none does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProfileClaims {
    pub name: String,
    pub avatar: String,
    pub about: String,
    pub email: String,
    pub telephone: String,
    /// They stand before what the user says.
    pub win: bool,
}

/// A claim that a token has to bring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequiredClaim {
    pub claim: String,
    /// One of these: equal to the claim's text, one of its words between spaces (`scope`, RFC 8693, section 4.2), or
    /// one of its list (`amr`). At least one.
    pub any_of: Vec<String>,
}

/// One key of an issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyOptions {
    /// The `kid` of the tokens that it checks; `None`: those without.
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    pub source: KeySource,
}

/// Where a key is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// A file that holds a shared secret (HS256, HS384, HS512) as base64url text.
    SecretFile(PathBuf),
    /// A file that holds a public key as PEM.
    PemFile(PathBuf),
    /// An environment variable that holds what either file would.
    Environment(String),
}

/// A set of public keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwksOptions {
    pub source: JwksSource,
    /// Between two looks.
    pub refresh_every: Duration,
    /// Between two looks that tokens with an unknown `kid` may cause: 30 seconds at least.
    pub min_refresh: Duration,
    /// How long a key that has left the set is still taken: tokens that it signed live on.
    pub keep_old: Duration,
}

/// Where a set of keys is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JwksSource {
    /// `https`; or `http` on a loopback address.
    Url(String),
    File(PathBuf),
}

/// How a key signs (RFC 7518, section 3.1; RFC 8037). A key has one of them, whatever a token says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl IdentityOptions {
    /// How far the clocks may be apart at most.
    pub const LEEWAY_MAX: Duration = Duration::from_secs(60);
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self { leeway: LEEWAY, lifetime_max: LIFETIME_MAX, own_issuer: true, issuers: Vec::new() }
    }
}

impl IssuerOptions {
    /// What `typ` is where nothing else is said.
    pub fn typ_default() -> Vec<String> {
        vec!["JWT".to_owned()]
    }

    /// Which claim names the user where nothing else is said.
    pub const USER_CLAIM_DEFAULT: &'static str = "sub";
}

impl JwksOptions {
    pub const REFRESH_EVERY_DEFAULT: Duration = Duration::from_secs(10 * 60);
    pub const MIN_REFRESH: Duration = Duration::from_secs(30);
    pub const KEEP_OLD_DEFAULT: Duration = LIFETIME_MAX;

    /// A set at `source`, with times that suit most issuers.
    pub fn of(source: JwksSource) -> Self {
        Self {
            source,
            refresh_every: Self::REFRESH_EVERY_DEFAULT,
            min_refresh: Self::MIN_REFRESH,
            keep_old: Self::KEEP_OLD_DEFAULT,
        }
    }
}

impl Algorithm {
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// How long a shared secret has to be at least: as its hash (RFC 7518, section 3.2). `None` where keys come in pairs.
    pub fn secret_bytes_min(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            Self::Rs256
            | Self::Rs384
            | Self::Rs512
            | Self::Ps256
            | Self::Ps384
            | Self::Ps512
            | Self::Es256
            | Self::Es384
            | Self::EdDsa => None,
        }
    }

    /// Its name in a token's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name, to the letter. `none` is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
