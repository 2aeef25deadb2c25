//! Every route and every kind of caller: what the table says is what happens.

use std::collections::BTreeSet;

use flotilla::{
    domain::user::{Role, User},
    http::{Access, Route, RouteInfo, api::openapi, table},
};
use reqwest::{Method, RequestBuilder, Response};

use crate::server::{TestServer, problem};

/// An id that nothing has.
const NO_ID: &str = "01JD3K8ZQV5C0F8R4X7M2N9ABC";

fn path_of(route: &RouteInfo) -> String {
    let mut path = route.path.replace("{id}", NO_ID);
    while let Some((start, rest)) = path.split_once('{') {
        path = format!("{start}x{}", rest.split_once('}').unwrap().1);
    }
    path
}

fn is_page(route: &RouteInfo) -> bool {
    !route.path.starts_with("/api") && !["/healthz", "/readyz", "/metrics"].contains(&route.path)
}

fn changes_state(route: &RouteInfo) -> bool {
    route.method != Method::GET
}

/// A request that no handler accepts further than its body: nothing is changed, whoever asks.
fn request(server: &TestServer, route: &RouteInfo) -> RequestBuilder {
    let request = server.ask(route.method.clone(), &path_of(route));
    if changes_state(route) {
        request.header("content-type", "application/json").body("{\"no_such_field\":1}")
    } else {
        request
    }
}

/// The word that ends the problem's type, empty where the answer is no problem.
async fn code(response: Response) -> String {
    let text = response.text().await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    value["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default().to_owned()
}

fn json(request: RequestBuilder) -> RequestBuilder {
    request.header("accept", "application/json")
}

async fn check_nobody(server: &TestServer, route: &RouteInfo) {
    let response = json(request(server, route)).send().await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
    let code = code(response).await;
    match (route.access, route.access.role()) {
        (Access::Setup, _) => assert_eq!(code, "setup_closed", "{route:?}"),
        (_, None) => assert_ne!(code, "unauthenticated", "{route:?}"),
        (_, Some(_)) if is_page(route) && !changes_state(route) => {
            assert_eq!(status, 303, "{route:?}");
            assert!(location.unwrap().starts_with("/login?next=%2F"), "{route:?}");
        }
        (_, Some(_)) => assert_eq!((status, code.as_str()), (401, "unauthenticated"), "{route:?}"),
    }
}

async fn check_account(server: &TestServer, route: &RouteInfo, user: &User, token: &str) {
    let allowed = route.access.role().is_none_or(|least| user.role >= least);
    let refused = |code: &str| ["forbidden", "unauthenticated", "csrf", "foreign_origin"].contains(&code);
    let with_token = json(request(server, route)).bearer_auth(token);
    let code_of_token = code(with_token.send().await.unwrap()).await;
    // A session each, for one of the routes ends it.
    let session = server.session(user).await;
    let by_session =
        json(request(server, route)).header("cookie", &session.cookie).header("x-csrf-token", &session.csrf);
    let code_of_session = code(by_session.send().await.unwrap()).await;
    for code in [code_of_token, code_of_session] {
        if allowed {
            assert!(!refused(&code), "{route:?} refused {}: {code}", user.role);
        } else {
            assert_eq!(code, "forbidden", "{route:?} for {}", user.role);
        }
    }
}

async fn check_forgery(server: &TestServer, route: &RouteInfo, admin: &User, token: &str) {
    if !changes_state(route) {
        return;
    }
    let session = server.session(admin).await;
    let ask = || json(request(server, route)).header("cookie", &session.cookie);
    let of = async |request: RequestBuilder| code(request.send().await.unwrap()).await;
    if route.access.role().is_some() {
        assert_eq!(of(ask()).await, "csrf", "{route:?} without a CSRF token");
        assert_eq!(of(ask().header("x-csrf-token", "wrong")).await, "csrf", "{route:?} with a wrong CSRF token");
    }
    let right = || ask().header("x-csrf-token", &session.csrf);
    assert_eq!(of(right().header("origin", "https://evil.example")).await, "foreign_origin", "{route:?}");
    assert_eq!(of(right().header("sec-fetch-site", "cross-site")).await, "foreign_origin", "{route:?}");
    let own = format!("http://{}", server.address);
    assert_ne!(of(right().header("origin", own)).await, "foreign_origin", "{route:?}");
    if route.access.role().is_some() {
        let by_token = json(request(server, route)).bearer_auth(token).header("origin", "https://evil.example");
        assert_ne!(of(by_token).await, "foreign_origin", "{route:?}: a token needs no origin");
    }
}

#[tokio::test]
async fn every_route_holds_its_rule_for_every_caller() {
    let server = TestServer::start().await;
    let mut accounts = Vec::new();
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let user = server.user(role.as_str(), role).await;
        let token = server.token(&user).await;
        accounts.push((user, token));
    }
    let (admin, admin_token) = accounts.last().unwrap();
    assert!(table().len() > 20);
    for route in table() {
        check_nobody(&server, &route).await;
        check_forgery(&server, &route, admin, admin_token).await;
        for (user, token) in &accounts {
            check_account(&server, &route, user, token).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_beside_a_good_session() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Admin).await;
    let session = server.session(&user).await;
    let both = server.get("/api/hosts").header("cookie", &session.cookie).bearer_auth("flo_wrong");
    problem(both.send().await.unwrap(), 401).await;
    for value in ["", "Bearer", "Bearer ", "Basic x", "flo_x"] {
        let odd = server.get("/api/hosts").header("authorization", value);
        problem(odd.send().await.unwrap(), 401).await;
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405_in_the_form_that_was_asked_for() {
    let server = TestServer::start().await;
    problem(server.get("/api/nothing").send().await.unwrap(), 404).await;
    let wrong = server.ask(Method::PUT, "/api/hosts").send().await.unwrap();
    assert!(wrong.headers()["allow"].to_str().unwrap().contains("GET"));
    problem(wrong, 405).await;
    let page = server.get("/nothing").header("accept", "text/html").send().await.unwrap();
    assert_eq!(
        (page.status().as_u16(), page.headers()["content-type"].to_str().unwrap()),
        (404, "text/html; charset=utf-8")
    );
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = TestServer::start().await;
    for path in ["/healthz", "/api/hosts", "/nothing", "/api/openapi.json"] {
        let answer = server.get(path).send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
        assert!(header("content-security-policy").starts_with("default-src 'self';"), "{path}");
        assert!(!header("content-security-policy").contains("unsafe"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert!(!header("x-request-id").is_empty(), "{path}");
    }
}

async fn broken() -> &'static str {
    panic!("on purpose: planted-detail")
}

#[tokio::test]
async fn a_handler_that_panics_costs_one_bland_answer_and_no_more() {
    let server = TestServer::start_with(vec![Route::get("/api/broken", Access::Public, broken)]).await;
    for _ in 0..2 {
        let answer = problem(server.get("/api/broken").send().await.unwrap(), 500).await;
        assert!(!answer.to_string().contains("planted-detail"));
    }
    server.stop().await;
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_take_it() {
    let server = TestServer::start().await;
    for (accepted, used) in [("zstd, gzip", "zstd"), ("gzip", "gzip"), ("identity", "")] {
        let answer = server.get("/api/openapi.json").header("accept-encoding", accepted).send().await.unwrap();
        let encoding = answer.headers().get("content-encoding").map_or("", |value| value.to_str().unwrap());
        assert_eq!(encoding, used, "{accepted}");
    }
}

#[test]
fn the_document_names_each_route_of_the_api_and_no_other() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["responses"].as_object().is_some_and(|answers| !answers.is_empty()), "{method} {path}");
            described.insert((path.clone(), method.to_uppercase()));
        }
    }
    let routes: BTreeSet<_> = table()
        .into_iter()
        .filter(|route| route.path.starts_with("/api/"))
        .map(|route| (route.path.to_owned(), route.method.to_string()))
        .collect();
    assert_eq!(described, routes);
}
