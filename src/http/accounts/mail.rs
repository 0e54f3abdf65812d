//! Registering and logging in with an address for mail, as StaticBackend's clients do.

use std::time::Duration;

use uuid::Uuid;

use super::{Counted, Reception, new_login};
use crate::auth::Claims;
use crate::auth::codes::RefreshToken;
use crate::auth::passwords::Password;
use crate::clock::random_uuid;
use crate::domain::account::{self, AccountRejection, Mate, Person, PersonRole};
use crate::domain::{AccountId, Mail, Principal, TenantId, UserId};
use crate::wire::Refusal;

/// How long their tokens are good, as in the original: there is no other to be had for one.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

impl Reception {
    /// Makes a user with an account of its own; says the token.
    pub async fn register_with_mail(
        &self,
        counted: &Counted<'_>,
        tenant: TenantId,
        mail: Mail,
        password: Password,
    ) -> Result<String, Refusal> {
        let (user, password) = self.newcomer(counted, &tenant, PersonRole::First, password).await?;
        let account = AccountId::new(&random_uuid().to_string()).expect("a uuid is an id");
        let (token, mut login) = new_login(&tenant, None)?;
        login.tokens_for = Some(TOKEN_LIFE);
        let person = Person { mail, account, role: PersonRole::First };
        self.accounts.register_with_mail(tenant, user.clone(), person, password, Some(login)).await?;
        self.token_of(counted, &token, &user)
    }

    /// Makes another user of the account that `by` is of.
    pub async fn add_with_mail(
        &self,
        counted: &Counted<'_>,
        by: &Principal,
        mail: Mail,
        password: Password,
    ) -> Result<Mate, Refusal> {
        let own = self.person(by).await?;
        if own.role < PersonRole::First {
            return Err(AccountRejection::RankTooLow.into());
        }
        let (user, password) = self.newcomer(counted, &by.tenant, PersonRole::Added, password).await?;
        let person = Person { mail, account: own.account, role: PersonRole::Added };
        self.accounts.register_with_mail(by.tenant.clone(), user.clone(), person.clone(), password, None).await?;
        Ok((user, person))
    }

    /// Logs somebody in; says the token.
    pub async fn log_in_with_mail(
        &self,
        counted: &Counted<'_>,
        tenant: TenantId,
        mail: &Mail,
        password: Password,
    ) -> Result<String, Refusal> {
        // Where there is nobody it takes as long, and is counted against nobody's name.
        let user = self.accounts.by_mail(&tenant, mail).await?;
        let user = user.unwrap_or_else(|| UserId::new(&random_uuid().to_string()).expect("a uuid is an id"));
        let verified = self.verify(counted, &tenant, &user, password).await?;
        let (token, mut login) = new_login(&tenant, None)?;
        login.tokens_for = Some(TOKEN_LIFE);
        self.accounts.log_in(tenant, user.clone(), verified, login).await?;
        self.token_of(counted, &token, &user)
    }

    /// Who somebody is; of who has not registered with an address nothing is known.
    pub async fn person(&self, by: &Principal) -> Result<Person, Refusal> {
        let person = self.accounts.person(&by.tenant, &by.user).await?;
        person.ok_or_else(|| AccountRejection::AccountNotFound.into())
    }

    /// Who is of the account that `by` is of.
    pub async fn mates(&self, by: &Principal) -> Result<Vec<Mate>, Refusal> {
        self.accounts.mates(&by.tenant, &self.person(by).await?.account).await
    }

    /// Whether somebody has registered with this address.
    pub async fn has_mail(&self, tenant: &TenantId, mail: &Mail) -> Result<bool, Refusal> {
        Ok(self.accounts.by_mail(tenant, mail).await?.is_some())
    }

    /// The id of a user that is to be, and the digest of its password.
    async fn newcomer(
        &self,
        counted: &Counted<'_>,
        tenant: &TenantId,
        role: PersonRole,
        password: Password,
    ) -> Result<(UserId, String), Refusal> {
        let user = UserId::new(&random_uuid().to_string()).expect("a uuid is an id");
        counted.may_try(tenant, &user)?;
        self.accounts.may_register_with_mail(role)?;
        account::check_password(&user, password.as_str())?;
        let password = self.hash(password).await?;
        Ok((user, password))
    }

    fn token_of(&self, counted: &Counted<'_>, refresh: &RefreshToken, user: &UserId) -> Result<String, Refusal> {
        let claims = Claims {
            tenant: refresh.tenant.clone(),
            user: user.clone(),
            issued_at: counted.registry.now(),
            lifetime: TOKEN_LIFE,
            id: Uuid::new_v4(),
            login: Some(refresh.login),
        };
        self.keyring.mint(&claims).map_err(|_| Refusal::internal())
    }
}
