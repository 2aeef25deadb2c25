//! Accounts, log-in, sessions, tokens, setup: what proves who someone is, and when it ceases to.

use flotilla::{
    domain::{job::Actor, user::Role},
    http::auth::{self, LoginError},
    ops::accounts,
};
use serde_json::json;

use crate::server::{PASSWORD, Session, TestServer, problem};

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

async fn opens(server: &TestServer, session: &Session) -> bool {
    server.get("/api/me").header("cookie", &session.cookie).send().await.unwrap().status() == 200
}

async fn token_opens(server: &TestServer, token: &str) -> bool {
    server.get("/api/me").bearer_auth(token).send().await.unwrap().status() == 200
}

#[tokio::test]
async fn a_log_in_gives_a_cookie_that_scripts_cannot_read_and_that_opens_the_api() {
    let server = TestServer::start().await;
    server.user("Ada", Role::Viewer).await;
    let (user, cookie) = auth::log_in(&server.state, HERE, " ada ", PASSWORD.into()).await.unwrap();
    assert_eq!(user.name, "Ada");
    let cookie = cookie.to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let answer = server.get("/api/me").header("cookie", cookie.split(';').next().unwrap()).send().await.unwrap();
    let me: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((me["name"].as_str(), me["role"].as_str()), (Some("Ada"), Some("viewer")));
}

#[tokio::test]
async fn a_wrong_password_an_unknown_name_and_a_closed_account_get_one_answer() {
    let server = TestServer::start().await;
    server.user("ada", Role::Admin).await;
    let bob = server.user("bob", Role::Viewer).await;
    accounts::set_standing(&server.state.store, Actor::system(), bob.id, None, Some(true)).await.unwrap();
    for (name, password) in [("ada", "wrong password"), ("nobody", PASSWORD), ("bob", PASSWORD), ("", "")] {
        let refused = auth::log_in(&server.state, HERE, name, password.into()).await;
        assert!(matches!(refused, Err(LoginError::Refused)), "{name:?}: {refused:?}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_by_account_wherever_it_comes_from() {
    let server = TestServer::start().await;
    server.user("ada", Role::Admin).await;
    for n in 0..6_u8 {
        let from = std::net::IpAddr::from([10, 0, 0, n]);
        assert!(matches!(
            auth::log_in(&server.state, from, "ada", "wrong password".into()).await,
            Err(LoginError::Refused)
        ));
    }
    let next = auth::log_in(&server.state, HERE, "ADA", PASSWORD.into()).await;
    assert!(matches!(next, Err(LoginError::Throttled(1..))), "{next:?}");
}

#[tokio::test]
async fn a_session_ends_by_log_out_and_two_weeks_without_use_and_lives_on_by_use() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Admin).await;
    let session = server.session(&user).await;
    assert!(opens(&server, &session).await);
    server.clock.advance(13 * 86_400);
    let used = server.get("/api/me").header("cookie", &session.cookie).send().await.unwrap();
    assert!(used.headers().contains_key("set-cookie"), "a used session is renewed");
    server.clock.advance(13 * 86_400);
    assert!(opens(&server, &session).await);
    server.clock.advance(14 * 86_400 + 1);
    assert!(!opens(&server, &session).await);

    let session = server.session(&user).await;
    let other = server.session(&user).await;
    let mut headers = axum::http::HeaderMap::new();
    headers.insert("cookie", session.cookie.parse().unwrap());
    assert!(opens(&server, &session).await);
    let current = current_user(&server, &session).await;
    auth::log_out(&server.state, &current).await.unwrap();
    assert!(!opens(&server, &session).await);
    assert!(opens(&server, &other).await);
}

/// Whom a session stands for, as a handler is told.
async fn current_user(server: &TestServer, session: &Session) -> auth::CurrentUser {
    let request = axum::http::Request::builder().header("cookie", &session.cookie).body(()).unwrap();
    let mut parts = request.into_parts().0;
    let user = <auth::CurrentUser as axum::extract::OptionalFromRequestParts<_>>::from_request_parts(
        &mut parts,
        &server.state,
    );
    user.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_keeps_the_one_that_asked() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Viewer).await;
    let (mine, other) = (server.session(&user).await, server.session(&user).await);
    assert!(opens(&server, &other).await);
    let change = |current: &str, new: &str| {
        server
            .post("/api/me/password", &json!({"current_password": current, "password": new}))
            .header("cookie", &mine.cookie)
            .header("x-csrf-token", &mine.csrf)
            .send()
    };
    let wrong = problem(change("wrong", "a new long password").await.unwrap(), 422).await;
    assert_eq!(wrong["errors"][0]["field"], "current_password");
    let short = problem(change(PASSWORD, "short").await.unwrap(), 422).await;
    assert_eq!(short["errors"][0]["field"], "password");
    assert_eq!(change(PASSWORD, "a new long password").await.unwrap().status(), 204);
    assert!(opens(&server, &mine).await);
    assert!(!opens(&server, &other).await);
    assert!(auth::log_in(&server.state, HERE, "ada", PASSWORD.into()).await.is_err());
    assert!(auth::log_in(&server.state, HERE, "ada", "a new long password".into()).await.is_ok());
}

#[tokio::test]
async fn closing_an_account_ends_its_sessions_and_tokens_at_once() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let bob = server.user("bob", Role::Operator).await;
    let (session, token) = (server.session(&bob).await, server.token(&bob).await);
    assert!(opens(&server, &session).await && token_opens(&server, &token).await);
    let close = server
        .ask(reqwest::Method::PATCH, &format!("/api/users/{}", bob.id))
        .json(&json!({"disabled": true}))
        .bearer_auth(&admin);
    assert_eq!(close.send().await.unwrap().status(), 200);
    assert!(!opens(&server, &session).await && !token_opens(&server, &token).await);
}

#[tokio::test]
async fn the_last_open_administrator_can_be_neither_closed_nor_demoted() {
    let server = TestServer::start().await;
    let ada = server.user("ada", Role::Admin).await;
    let token = server.token(&ada).await;
    for change in [json!({"disabled": true}), json!({"role": "viewer"})] {
        let ask =
            server.ask(reqwest::Method::PATCH, &format!("/api/users/{}", ada.id)).json(&change).bearer_auth(&token);
        problem(ask.send().await.unwrap(), 409).await;
    }
    server.user("eve", Role::Admin).await;
    let ask = server.ask(reqwest::Method::PATCH, &format!("/api/users/{}", ada.id)).json(&json!({"role": "viewer"}));
    assert_eq!(ask.bearer_auth(&token).send().await.unwrap().status(), 200);
    problem(server.get("/api/users").bearer_auth(&token).send().await.unwrap(), 403).await;
}

#[tokio::test]
async fn a_token_ends_on_its_day_may_no_more_than_its_maker_and_is_shown_once() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Operator).await;
    let token = server.token(&user).await;
    let make = |body: serde_json::Value, token: String| server.post("/api/tokens", &body).bearer_auth(token).send();
    let made = make(json!({"label": "ci", "role": "viewer", "expires_in_s": 60}), token.clone()).await.unwrap();
    assert_eq!(made.status(), 201);
    let made: serde_json::Value = made.json().await.unwrap();
    let secret = made["token"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("flo_"));
    assert!(token_opens(&server, &secret).await);

    let higher = make(json!({"label": "x", "role": "admin"}), token.clone()).await.unwrap();
    assert_eq!(problem(higher, 422).await["errors"][0]["field"], "role");
    let more_than_itself = make(json!({"label": "x", "role": "operator"}), secret.clone()).await.unwrap();
    assert_eq!(problem(more_than_itself, 422).await["errors"][0]["field"], "role");
    let same: serde_json::Value = make(json!({"label": "x"}), secret.clone()).await.unwrap().json().await.unwrap();
    assert_eq!(same["role"], "viewer");

    let list = server.get("/api/tokens").bearer_auth(&token).send().await.unwrap().text().await.unwrap();
    assert!(list.contains("\"ci\"") && !list.contains(&secret));
    server.clock.advance(61);
    assert!(!token_opens(&server, &secret).await);
}

#[tokio::test]
async fn the_setup_token_makes_one_administrator_once() {
    let server = TestServer::start().await;
    let (store, passwords) = (&server.state.store, &server.state.passwords);
    let old = accounts::setup_link(store).await.unwrap().unwrap();
    let token = accounts::setup_link(store).await.unwrap().unwrap();
    assert!(!accounts::setup_token_fits(store, old.expose()).await.unwrap(), "a fresh link voids the one before");
    let make = |token: String| async move {
        accounts::first_admin(store, passwords, &token, "ada".to_owned(), PASSWORD.into()).await
    };
    assert!(make("guess".to_owned()).await.is_err());
    assert_eq!(make(token.expose().to_owned()).await.unwrap().role, Role::Admin);
    assert!(make(token.expose().to_owned()).await.is_err());
    assert!(accounts::setup_link(store).await.unwrap().is_none());
}
