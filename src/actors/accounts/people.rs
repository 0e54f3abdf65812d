//! Accounts of who registers with an address for mail.

use std::sync::Arc;

use super::{Accounts, NewLogin, put, stream};
use crate::actors::failure::read_failed;
use crate::domain::account::{self, Account, AccountRejection, Mate, Person, PersonRole, Rank, Registration};
use crate::domain::{AccountId, Mail, StreamId, TenantId, UserId};
use crate::store::Put;
use crate::store::rows::{Row, accounts as keys, documents, people};
use crate::wire::Refusal;

/// How many users an account has at most.
const MATES_MAX: usize = 1_000;

impl Accounts {
    /// Who has registered with this address.
    pub async fn by_mail(&self, tenant: &TenantId, mail: &Mail) -> Result<Option<UserId>, Refusal> {
        self.row(tenant, &people::by_mail(mail)).await
    }

    /// What is known of a user who has registered with an address.
    pub async fn person(&self, tenant: &TenantId, user: &UserId) -> Result<Option<Person>, Refusal> {
        let Some(person) = self.row::<Person>(tenant, &people::person(user)).await? else { return Ok(None) };
        let answers = self.account(tenant, user).await?.is_some_and(|account| account.rank >= Rank::Admin);
        Ok(Some(Person { role: if answers { PersonRole::Root } else { person.role }, ..person }))
    }

    /// Whether anybody may register, before anything dear is done for it; who is added by somebody of an account may
    /// wherever accounts are made at all.
    pub fn may_register_with_mail(&self, role: PersonRole) -> Result<(), Refusal> {
        match (self.options.registration, role) {
            (Registration::Off, _) | (Registration::Invited, PersonRole::First | PersonRole::Root) => {
                Err(AccountRejection::RegistrationClosed.into())
            }
            (Registration::Open, _) | (Registration::Invited, PersonRole::Added) => Ok(()),
        }
    }

    /// Makes an account that is known by an address, and its first login where there is to be one.
    pub async fn register_with_mail(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        person: Person,
        password: String,
        login: Option<NewLogin>,
    ) -> Result<(), Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            accounts.may_register_with_mail(person.role)?;
            let taken = accounts.by_mail(&tenant, &person.mail).await?.is_some();
            account::register(Registration::Open, &user, taken, None, accounts.now())?;
            if accounts.mates(&tenant, &person.account).await?.len() >= MATES_MAX {
                return Err(AccountRejection::RegistrationClosed.into());
            }
            let account = Account::new(Rank::Member, Some(password), accounts.now());
            let shares = StreamId::User(tenant.clone(), user.clone());
            let mut puts = vec![
                put(&tenant, keys::account(&user), &account),
                put(&tenant, people::by_mail(&person.mail), &user),
                put(&tenant, people::person(&user), &person),
                Put {
                    under: stream(&tenant),
                    key: people::mate(&person.account, &user),
                    value: Some(bytes::Bytes::new()),
                },
                Put { under: shares, key: documents::ACCOUNT.into(), value: Some(person.account.encode()) },
            ];
            puts.extend(login.into_iter().flat_map(|login| accounts.opened(&tenant, &user, login)));
            accounts.commit(&tenant, puts).await
        })
        .await
    }

    /// Who is of an account, in the order of their ids.
    pub async fn mates(&self, tenant: &TenantId, account: &AccountId) -> Result<Vec<Mate>, Refusal> {
        let found = self.registry.store().scan(&stream(tenant), &people::mates(account), None, MATES_MAX).await;
        let mut mates = Vec::new();
        for (key, _) in found.map_err(|error| read_failed(&error))? {
            let user = people::mate_of(account, &key).map_err(|error| read_failed(&error))?;
            mates.extend(self.person(tenant, &user).await?.map(|person| (user, person)));
        }
        Ok(mates)
    }
}
