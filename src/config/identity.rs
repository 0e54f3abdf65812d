//! The sections about identity, as the options that `auth` takes. Whether keys can be read and fit their algorithm is
//! seen when they are used.

use super::source::Origin;
use super::{Settings, TenantId};
use crate::auth::options::{
    Algorithm, IdentityOptions, IssuerOptions, JwksOptions, JwksSource, KeyOptions, KeySource, ProfileClaims,
    RequiredClaim, TenantSource,
};

/// A section that there may be several of, and where it begins.
type Listed = (String, Origin);

impl Settings<'_> {
    pub(super) fn auth(&self, listed: &[Listed], mistakes: &mut Vec<String>) -> IdentityOptions {
        let issuers: Vec<_> = listed
            .iter()
            .filter(|(name, _)| name.starts_with("auth.issuers[") && !name["auth.issuers[".len()..].contains('.'))
            .map(|issuer| self.issuer(issuer, listed, mistakes))
            .collect();
        for (at, issuer) in issuers.iter().enumerate() {
            if issuers[..at].iter().any(|other| other.iss == issuer.iss) {
                let name = format!("auth.issuers[{at}].iss");
                mistakes.push(self.origin(&name).mistake(&format!("{name}: another issuer has the same")));
            }
        }
        IdentityOptions {
            leeway: self.duration("auth.leeway"),
            lifetime_max: self.duration("auth.lifetime_max"),
            own_issuer: self.flag("auth.own_issuer"),
            issuers,
        }
    }

    fn issuer(&self, (name, origin): &Listed, all: &[Listed], mistakes: &mut Vec<String>) -> IssuerOptions {
        let text = |key: &str| self.text(&format!("{name}.{key}")).to_owned();
        let texts = |key: &str| self.texts(&format!("{name}.{key}"));
        let mut need = |there: bool, what: &str| {
            if !there {
                mistakes.push(origin.mistake(&format!("{name}: {what}")));
            }
        };
        need(!text("name").is_empty(), "it needs a `name`");
        need(!text("iss").is_empty(), "it needs an `iss`");
        need(!texts("audiences").is_empty(), "it needs `audiences`, one at least");
        need(!texts("typ").is_empty(), "it needs a `typ`, one at least");
        need(!text("user_claim").is_empty(), "it needs a `user_claim`");
        let tenant = text("tenant");
        need(!text("tenant_claim").is_empty() || TenantId::new(&tenant).is_ok(), "its `tenant` cannot be one");
        let (url, file) = (text("jwks_url"), text("jwks_file"));
        need(url.is_empty() || file.is_empty(), "`jwks_url` and `jwks_file` exclude one another");
        let below = |kind: &str| {
            let prefix = format!("{name}.{kind}[");
            all.iter().filter(move |(name, _)| name.starts_with(&prefix))
        };
        let no_set = url.is_empty() && file.is_empty();
        need(!no_set || below("keys").next().is_some(), "it needs a key: [[auth.issuers.keys]], or a `jwks_url`");
        let source = if url.is_empty() { JwksSource::File(file.into()) } else { JwksSource::Url(url) };
        let jwks = (!no_set).then(|| JwksOptions {
            source,
            refresh_every: self.duration(&format!("{name}.jwks_refresh_every")),
            min_refresh: self.duration(&format!("{name}.jwks_min_refresh")),
            keep_old: self.duration(&format!("{name}.jwks_keep_old")),
        });
        let claim = text("tenant_claim");
        IssuerOptions {
            name: text("name"),
            iss: text("iss"),
            audiences: texts("audiences"),
            typ: texts("typ"),
            user_claim: text("user_claim"),
            tenant: if claim.is_empty() { TenantSource::Fixed(tenant) } else { TenantSource::Claim(claim) },
            profile: ProfileClaims {
                name: text("name_claim"),
                avatar: text("avatar_claim"),
                about: text("about_claim"),
                email: text("email_claim"),
                telephone: text("telephone_claim"),
                win: self.flag(&format!("{name}.claims_win")),
            },
            required: below("required").map(|required| self.required(required, mistakes)).collect(),
            keys: below("keys").filter_map(|key| self.key(key, mistakes)).collect(),
            jwks,
        }
    }

    fn required(&self, (name, origin): &Listed, mistakes: &mut Vec<String>) -> RequiredClaim {
        let claim = self.text(&format!("{name}.claim")).to_owned();
        let any_of = self.texts(&format!("{name}.any_of"));
        if claim.is_empty() || any_of.is_empty() {
            mistakes.push(origin.mistake(&format!("{name}: it needs a `claim`, and `any_of` with one at least")));
        }
        RequiredClaim { claim, any_of }
    }

    fn key(&self, (name, origin): &Listed, mistakes: &mut Vec<String>) -> Option<KeyOptions> {
        let text = |key: &str| Some(self.text(&format!("{name}.{key}")).to_owned()).filter(|text| !text.is_empty());
        let sources = [
            text("secret_file").map(|path| KeySource::SecretFile(path.into())),
            text("pem_file").map(|path| KeySource::PemFile(path.into())),
            text("env").map(KeySource::Environment),
        ];
        let mut sources = sources.into_iter().flatten();
        let (Some(source), None) = (sources.next(), sources.next()) else {
            let why = format!("{name}: of `secret_file`, `pem_file` and `env` it needs one, and no second");
            mistakes.push(origin.mistake(&why));
            return None;
        };
        let algorithm = text("algorithm").and_then(|name| Algorithm::named(&name));
        let algorithm = algorithm.expect("the table has the names of algorithms");
        Some(KeyOptions { kid: text("kid"), algorithm, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::{self, Kind};
    use crate::config::{Config, Flags, Mistakes};

    fn load(text: &str) -> Result<IdentityOptions, Mistakes> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(&Flags::default(), [], Some(file.path())).map(|config| config.auth)
    }

    #[test]
    fn issuers_have_their_keys_and_claims_below_them() {
        let text = r#"
            [auth]
            own_issuer = false
            leeway = "0s"
            [[auth.issuers]]
            name = "shop"
            iss = "https://shop.example"
            audiences = ["chat"]
            tenant_claim = "org"
            user_claim = "user_id"
            name_claim = "name"
            avatar_claim = "picture"
            about_claim = "profile"
            email_claim = "email"
            telephone_claim = "phone_number"
            claims_win = true
            [[auth.issuers.keys]]
            kid = "1"
            algorithm = "HS512"
            env = "SHOP_KEY"
            [[auth.issuers.keys]]
            pem_file = "shop.pem"
            [[auth.issuers.required]]
            claim = "scope"
            any_of = ["chat", "admin"]
            [[auth.issuers]]
            name = "games"
            iss = "games"
            audiences = ["chat"]
            tenant = "games"
            jwks_url = "https://games.example/keys"
            jwks_refresh_every = "1h"
        "#;
        let options = load(text).unwrap();
        let key = |kid: Option<&str>, algorithm, source| KeyOptions { kid: kid.map(str::to_owned), algorithm, source };
        let shop = IssuerOptions {
            name: "shop".to_owned(),
            iss: "https://shop.example".to_owned(),
            audiences: vec!["chat".to_owned()],
            typ: IssuerOptions::typ_default(),
            user_claim: "user_id".to_owned(),
            tenant: TenantSource::Claim("org".to_owned()),
            profile: ProfileClaims {
                name: "name".to_owned(),
                avatar: "picture".to_owned(),
                about: "profile".to_owned(),
                email: "email".to_owned(),
                telephone: "phone_number".to_owned(),
                win: true,
            },
            required: vec![RequiredClaim {
                claim: "scope".to_owned(),
                any_of: vec!["chat".to_owned(), "admin".to_owned()],
            }],
            keys: vec![
                key(Some("1"), Algorithm::Hs512, KeySource::Environment("SHOP_KEY".to_owned())),
                key(None, Algorithm::Es256, KeySource::PemFile("shop.pem".into())),
            ],
            jwks: None,
        };
        let set = JwksOptions::of(JwksSource::Url("https://games.example/keys".to_owned()));
        let games = IssuerOptions {
            name: "games".to_owned(),
            iss: "games".to_owned(),
            audiences: vec!["chat".to_owned()],
            typ: IssuerOptions::typ_default(),
            user_claim: IssuerOptions::USER_CLAIM_DEFAULT.to_owned(),
            tenant: TenantSource::Fixed("games".to_owned()),
            profile: ProfileClaims::default(),
            required: Vec::new(),
            keys: Vec::new(),
            jwks: Some(JwksOptions { refresh_every: std::time::Duration::from_secs(3600), ..set }),
        };
        assert_eq!(options.issuers, [shop, games]);
        assert!(!options.own_issuer && options.leeway.is_zero());
    }

    #[test]
    fn everything_that_an_issuer_lacks_is_told_at_its_place() {
        let text = "[[auth.issuers]]\n[[auth.issuers]]\nname = \"a\"\niss = \"i\"\naudiences = [\"c\"]\njwks_url = \
                    \"https://a\"\njwks_file = \"f\"\n[[auth.issuers.keys]]\nenv = \"E\"\npem_file = \
                    \"p\"\n[[auth.issuers.required]]\n[[auth.issuers]]\nname = \"b\"\niss = \"i\"\naudiences = \
                    [\"c\"]\njwks_file = \"f\"\n[auth.issuer]\n";
        let Mistakes(mistakes) = load(text).unwrap_err();
        let told = [
            ":17:",
            "issuers[0]: it needs a `name`",
            "issuers[0]: it needs an `iss`",
            "it needs `audiences`",
            "it needs a key",
            "exclude one another",
            "required[0]: it needs a `claim`",
            "keys[0]: of `secret_file`",
            "issuers[2].iss: another",
        ];
        assert_eq!(mistakes.len(), told.len(), "{mistakes:#?}");
        for (mistake, part) in mistakes.iter().zip(told) {
            assert!(mistake.contains(part) && mistake.contains('^'), "{part}: {mistake}");
        }
    }

    #[test]
    fn the_table_knows_every_algorithm() {
        let kind = table::section("auth.issuers.keys").unwrap().setting("algorithm").unwrap().kind;
        let Kind::OneOf(names) = kind else { panic!("{kind:?}") };
        assert_eq!(names, Algorithm::ALL.map(Algorithm::name));
    }
}
