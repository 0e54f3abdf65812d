//! Accounts of a tenant: registering, logging in, devices, passwords, invites, bans.

use super::{Body, NO_QUERY, PAGE, Query, Route, Serves, Shape, Verb};
use crate::http::accounts::Act;

/// What undertakings about accounts may be refused for.
macro_rules! of_accounts {
    ($($more:literal),* $(,)?) => {
        &["route_not_found", "busy", "storage_full", "shutting_down", $($more),*]
    };
}

/// The same, where nobody has said yet who it is.
macro_rules! stranger {
    ($($more:literal),* $(,)?) => {
        of_accounts![
            "bad_request", "media_type_unsupported", "body_too_large", "body_too_slow", "rate_limited", "unavailable",
            $($more),*
        ]
    };
}

pub const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/v1/accounts",
        serves: Serves::Accounts(Act::Register),
        summary: "Make an account, and log in",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Register",
            example: r#"{"name":"ann","password":"correct horse","invite":"q83vEjRWeJA","device":"phone"}"#,
        }),
        success: &[(201, Shape::Json("LoggedIn"))],
        codes: stranger![
            "registration_closed",
            "invite_invalid",
            "name_taken",
            "name_reserved",
            "password_refused",
            "tenant_banned"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/accounts",
        serves: Serves::Accounts(Act::List),
        summary: "The accounts of the tenant, for admins and owners",
        query: &[Query { name: "after", about: "the name after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Accounts"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/accounts/{user}",
        serves: Serves::Accounts(Act::Change),
        summary: "Disable an account, or change its rank; one that is disabled is logged out everywhere",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "ChangeAccount", example: r#"{"rank":"admin","disabled":false}"# }),
        success: &[(200, Shape::Json("Account"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "account_not_found",
            "last_account_owner",
            "too_many_exclusions"
        ],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/accounts/{user}/reset",
        serves: Serves::Accounts(Act::MakeReset),
        summary: "Make a code that sets another password, for an admin to hand over",
        query: NO_QUERY,
        body: None,
        success: &[(201, Shape::Json("ResetCode"))],
        codes: of_accounts!["rank_too_low", "account_not_found"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/logins",
        serves: Serves::Accounts(Act::LogIn),
        summary: "Log in",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "LogIn",
            example: r#"{"name":"ann","password":"correct horse","device":"phone"}"#,
        }),
        success: &[(201, Shape::Json("LoggedIn"))],
        codes: stranger!["login_failed", "account_disabled", "tenant_banned"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/logins/refresh",
        serves: Serves::Accounts(Act::Refresh),
        summary: "Get another token, and another refresh token in place of this one",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "Refresh", example: r#"{"refresh":"AZr8SQ"}"# }),
        success: &[(200, Shape::Json("LoggedIn"))],
        codes: stranger!["refresh_invalid", "account_disabled", "tenant_banned"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/me/logins",
        serves: Serves::Accounts(Act::Logins),
        summary: "The devices on which you are logged in",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Logins"))],
        codes: of_accounts![],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/me/logins",
        serves: Serves::Accounts(Act::EndOthers),
        summary: "End all of your logins but this one; answered when nothing can reach those devices any more",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts![],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/me/logins/{login}",
        serves: Serves::Accounts(Act::End),
        summary: "End a login of yours; `current` is this one: log out",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts!["login_not_found"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/me/password",
        serves: Serves::Accounts(Act::Password),
        summary: "Change your password, and end all of your other logins",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "ChangePassword",
            example: r#"{"password":"correct horse","new_password":"battery staple"}"#,
        }),
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "login_failed",
            "password_refused",
            "account_not_found"
        ],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/resets",
        serves: Serves::Accounts(Act::Reset),
        summary: "Set another password with a code, and end all of your logins",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Reset",
            example: r#"{"name":"ann","code":"ABCD-EFGH-JKMN","password":"battery staple"}"#,
        }),
        success: &[(200, Shape::Json("Ended"))],
        codes: stranger!["code_invalid", "password_refused"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/resets/codes",
        serves: Serves::Accounts(Act::AskForCode),
        summary: "Have a code sent that sets another password; answered alike whether there is such an account or not",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "AskForCode", example: r#"{"name":"ann"}"# }),
        success: &[(202, Shape::Json("Done"))],
        codes: stranger!["resets_off"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/invites",
        serves: Serves::Accounts(Act::Invite),
        summary: "Invite whoever has the code that is answered",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "MakeInvite",
            example: r#"{"rank":"member","uses":1,"life_ms":604800000}"#,
        }),
        success: &[(201, Shape::Json("MadeInvite"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "too_many_invites"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/invites",
        serves: Serves::Accounts(Act::Invites),
        summary: "The invites that are open, for admins and owners",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Invites"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/invites/{invite}",
        serves: Serves::Accounts(Act::TakeBack),
        summary: "Take an invite back",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Done"))],
        codes: of_accounts!["rank_too_low", "invite_not_found"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/bans",
        serves: Serves::Accounts(Act::Ban),
        summary: "Ban a user from the tenant; answered when nothing can reach the user any more",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "BanFromTenant",
            example: r#"{"user":"mallory","until":4102444800000,"reason":"spam"}"#,
        }),
        success: &[(201, Shape::Json("Banned"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "last_account_owner",
            "name_reserved",
            "ends_too_soon",
            "too_many_exclusions"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/bans",
        serves: Serves::Accounts(Act::Bans),
        summary: "Who is banned from the tenant, for admins and owners",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("TenantBans"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/bans/{user}",
        serves: Serves::Accounts(Act::Unban),
        summary: "Let a user who is banned from the tenant in again",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Done"))],
        codes: of_accounts!["rank_too_low", "ban_not_found"],
    },
];
