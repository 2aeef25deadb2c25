//! A made-up page of settings for the samples.

use super::now;
use crate::{
    domain::{
        TokenId, UserId,
        token::ApiToken,
        user::{Role, User},
    },
    views::{
        FormState,
        settings::{DatabaseCard, SettingsPage},
    },
};

pub(super) fn page() -> SettingsPage {
    let user = |n, name: &str, role, disabled| User {
        id: UserId::from_parts(1, n),
        name: name.to_owned(),
        role,
        disabled,
        created_at: now().plus_s(-9_000_000),
    };
    let token = ApiToken {
        id: TokenId::from_parts(1, 1),
        user_id: UserId::from_parts(1, 1),
        label: "monitoring".to_owned(),
        role: Role::Viewer,
        created_at: now(),
        expires_at: Some(now().plus_s(86_400 * 90)),
        last_used_at: Some(now().plus_s(-600)),
    };
    SettingsPage {
        me: UserId::from_parts(1, 1),
        tokens: vec![(token, "ada".to_owned())],
        fresh_token: Some("flt_3k9q-sample-token-value".to_owned()),
        users: Some(vec![
            user(1, "ada", Role::Admin, false),
            user(2, "grace", Role::Operator, false),
            user(3, "old", Role::Viewer, true),
        ]),
        database: Some(DatabaseCard {
            path: "/var/lib/flotilla/flotilla.db".to_owned(),
            bytes: 734_003_200,
            reusable_bytes: 104_857_600,
            log_bytes: 5_368_709_120,
            dir: "/var/lib/flotilla/backups".to_owned(),
            dir_free: Some(21_474_836_480),
            copies: (0..4)
                .map(|n| {
                    let made_at = now().plus_s(-18_000 - n * 86_400);
                    (format!("flotilla-{}.db", made_at.to_string().replace(':', "-")), made_at, 734_003_200)
                })
                .collect(),
            last: Some((now().plus_s(-18_000), 4_200, None)),
            next_at: Some(now().plus_s(68_400)),
            busy: false,
            trouble: None,
        }),
        password_form: FormState::default(),
        token_form: FormState::default(),
        user_form: FormState::of([("name", "ada"), ("password", "planted-secret")])
            .refused(vec![crate::domain::FieldError::new("name", "is taken: choose another")]),
    }
}
