//! The web from outside: a real server, real HTTP and WebSockets, a real database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "web/access.rs"]
mod access;
#[path = "web/api.rs"]
mod api;
#[path = "web/database.rs"]
mod database;
#[path = "web/live.rs"]
mod live;
#[path = "web/sessions.rs"]
mod sessions;

#[path = "support/server.rs"]
mod server;
