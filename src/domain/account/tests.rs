//! Given an account, a login or an invite, when somebody asks, then what it is afterwards, or a rejection.

use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const DAY: i64 = 24 * 3_600_000;

#[test]
fn who_may_register_depends_on_the_setting_and_the_invite() {
    let invite = Invite::new([1; 32], ann(), Rank::Admin, 1, NOW, DAY);
    let (shown, wrong) = (Some((&invite, [1; 32])), Some((&invite, [2; 32])));
    let cases = [
        (Registration::Off, None, Err(AccountRejection::RegistrationClosed)),
        (Registration::Off, shown, Err(AccountRejection::RegistrationClosed)),
        (Registration::Invited, None, Err(AccountRejection::RegistrationClosed)),
        (Registration::Invited, shown, Ok(Rank::Admin)),
        (Registration::Invited, wrong, Err(AccountRejection::InviteInvalid)),
        (Registration::Open, None, Ok(Rank::Member)),
        (Registration::Open, shown, Ok(Rank::Admin)),
        (Registration::Open, wrong, Err(AccountRejection::InviteInvalid)),
    ];
    for (registration, invite, expected) in cases {
        assert_eq!(register(registration, &ann(), false, invite, NOW), expected, "{registration:?}");
    }
}

#[test]
fn a_name_is_had_once_and_none_is_the_servers() {
    let with = |name: &UserId, taken| register(Registration::Open, name, taken, None, NOW);
    assert_eq!(with(&ann(), true), Err(AccountRejection::NameTaken));
    assert_eq!(with(&UserId::operator(), false), Err(AccountRejection::NameReserved));
    assert_eq!(with(&ann(), false), Ok(Rank::Member));
}

#[test]
fn an_invite_ends_with_its_time_and_with_its_uses() {
    let invite = Invite::new([1; 32], ann(), Rank::Member, 2, NOW, DAY);
    let last = Timestamp(NOW.0 + DAY - 1);
    assert!(invite.is_open(last) && !invite.is_open(Timestamp(last.0 + 1)));
    assert_eq!(invite.used().map(|invite| invite.uses_left), Some(1));
    assert!(invite.used().and_then(|invite| invite.used()).is_none());
}

#[test]
fn a_password_is_neither_short_nor_long_nor_the_name_nor_what_is_tried_first() {
    let name = UserId::new("ann.of.the.harbour").unwrap();
    let longest = "x".repeat(PASSWORD_BYTES_MAX);
    for good in ["correct horse", "ééééé", longest.as_str()] {
        assert_eq!(check_password(&name, good), Ok(()), "{good}");
    }
    let too_long = "x".repeat(PASSWORD_BYTES_MAX + 1);
    for bad in ["", "seven77", "Password", "ANN.of.the.harbour", "iloveyou", too_long.as_str()] {
        assert_eq!(check_password(&name, bad), Err(AccountRejection::PasswordRefused), "{bad}");
    }
    assert!(COMMON.split(' ').all(|common| common.len() >= PASSWORD_BYTES_MIN), "shorter ones are refused anyway");
}

#[test]
fn a_device_logs_in_by_the_password_that_is_the_accounts_still() {
    let account = member();
    assert_eq!(account.admits("old"), Ok(()));
    assert_eq!(account.admits("other"), Err(AccountRejection::LoginFailed));
    let disabled = Account { disabled: true, ..account.clone() };
    assert_eq!(disabled.admits("old"), Err(AccountRejection::AccountDisabled));
    assert_eq!(disabled.admits("other"), Err(AccountRejection::LoginFailed), "a guess learns nothing");
    assert_eq!(Account { password: None, ..account }.admits("old"), Err(AccountRejection::LoginFailed));
}

#[test]
fn a_code_sets_a_password_once_and_in_its_time() {
    let account = member().to_reset([7; 32], NOW);
    let last = Timestamp(NOW.0 + RESET_LIFE_MS - 1);
    let reset = account.reset_by([7; 32], "new".to_owned(), last).unwrap();
    assert_eq!(reset.admits("new"), Ok(()));
    assert!(reset.reset_by([7; 32], "newer".to_owned(), last).is_err(), "once");
    assert!(account.reset_by([7; 32], "new".to_owned(), Timestamp(last.0 + 1)).is_err(), "too late");
    assert!(member().reset_by([7; 32], "new".to_owned(), NOW).is_err(), "there is none");
    let disabled = Account { disabled: true, ..account };
    assert!(disabled.reset_by([7; 32], "new".to_owned(), NOW).is_err());
}

#[test]
fn after_five_wrong_codes_the_right_one_is_wrong_too() {
    let mut account = member().to_reset([7; 32], NOW);
    for _ in 1..RESET_TRIES {
        account = account.reset_by([8; 32], "new".to_owned(), NOW).unwrap_err();
    }
    assert!(account.reset_by([7; 32], "new".to_owned(), NOW).is_ok(), "four may be wrong");
    account = account.reset_by([8; 32], "new".to_owned(), NOW).unwrap_err();
    assert_eq!(account.reset_by([7; 32], "new".to_owned(), NOW), Err(member()));
}

#[test]
fn admins_decide_over_members_and_owners_over_all() {
    let (admin, owner) = (Some(Rank::Admin), Some(Rank::Owner));
    let of = |rank| Account { rank, ..member() };
    let disable = |by, rank| of(rank).changed(by, None, Some(true), 2).map(|account| account.disabled);
    assert_eq!(disable(Some(Rank::Member), Rank::Member), Err(AccountRejection::RankTooLow));
    assert_eq!(disable(admin, Rank::Member), Ok(true));
    assert_eq!(disable(admin, Rank::Admin), Err(AccountRejection::RankTooLow));
    assert_eq!(disable(owner, Rank::Owner), Ok(true));
    let raise = |by, to| member().changed(by, Some(to), None, 2).map(|account| account.rank);
    assert_eq!(raise(admin, Rank::Admin), Err(AccountRejection::RankTooLow));
    assert_eq!(raise(owner, Rank::Owner), Ok(Rank::Owner));
    assert_eq!(raise(None, Rank::Owner), Ok(Rank::Owner), "the operator");
}

#[test]
fn the_last_owner_stays_one() {
    let owner = Account { rank: Rank::Owner, ..member() };
    for by in [None, Some(Rank::Owner)] {
        assert_eq!(owner.changed(by, Some(Rank::Member), None, 1), Err(AccountRejection::LastAccountOwner));
        assert_eq!(owner.changed(by, None, Some(true), 1), Err(AccountRejection::LastAccountOwner));
        assert!(owner.changed(by, Some(Rank::Member), None, 2).is_ok());
    }
    let disabled = Account { disabled: true, ..owner };
    assert!(disabled.changed(None, Some(Rank::Member), None, 1).is_ok(), "it was none of them");
}

#[test]
fn a_refresh_token_is_good_once_and_an_old_one_ends_the_login() {
    let first = Shown { family: [1; 32], latest: [2; 32] };
    let login = login(NOW);
    let next = login.refreshed(first, [3; 32], NOW, NOW, DAY).unwrap();
    assert_eq!(next.latest, [3; 32]);
    assert_eq!(next.refreshed(first, [4; 32], NOW, NOW, DAY).err(), Some(Refreshing::Ends));
    let guessed = Shown { family: [9; 32], latest: [2; 32] };
    assert_eq!(login.refreshed(guessed, [4; 32], NOW, NOW, DAY).err(), Some(Refreshing::Foreign));
    let late = Timestamp(NOW.0 + DAY);
    assert_eq!(login.refreshed(first, [3; 32], late, late, DAY).err(), Some(Refreshing::Ends));
}

#[test]
fn with_too_many_devices_those_end_that_were_not_used_for_longest() {
    let id = |n: usize| LoginId(Uuid::from_u128(n as u128));
    let at = |n: usize| Timestamp(NOW.0 + i64::try_from(n).unwrap());
    let logins: Vec<_> = (0..LOGINS_MAX + 1).map(|n| (id(n), login(at(n)))).collect();
    assert_eq!(crowded_out(&logins, NOW, DAY), [id(0), id(1)]);
    assert_eq!(crowded_out(&logins[..LOGINS_MAX - 1], NOW, DAY), []);
    assert_eq!(crowded_out(&logins[..2], Timestamp(NOW.0 + DAY), DAY), [id(0)], "it is over");
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn member() -> Account {
    Account::new(Rank::Member, Some("old".to_owned()), NOW)
}

fn login(used: Timestamp) -> Login {
    Login { user: ann(), device: None, since: NOW, used, tokens_until: NOW, family: [1; 32], latest: [2; 32] }
}
