//! Flotilla's control plane.
//!
//! # The two stories
//!
//! **Report.** Agent socket → `fleet`'s link decodes → `fleet::ingest` maps the message to the domain and hands it to the
//! `store`'s writer → the writer commits → after the commit, and only then, the `hub` publishes what happened →
//! `http::live` sends it to browsers, and the link acknowledges; the agent drops what was acknowledged. Repeats are harmless: a job's lines
//! are numbered and accepted only in order. Progress is the one exception: ingest → hub, lossy, never stored line by line.
//!
//! **Order.** Operator's POST → handler → `ops` checks policy and writes a job `queued` plus an audit row → commit → hub
//! → `fleet::dispatch` wakes, *re-reads* queued jobs × connected hosts, marks what it sends and sends it → the agent accepts and runs → story 1.
//! Agent offline: the job stays queued, and a new link is just another wake-up. An order that is not accepted by its deadline goes back to the queue.
//!
//! # Layers
//!
//! High to low; a module imports only from lines below its own (`tests/tidy.rs` holds this):
//!
//! `cli`, `app` · `http`, `fleet` · `views`, `ops` · `store` · `hub` · `domain`
//!
//! `lifecycle`, `config`, `clock`, `credential`, `vault`, `tls`, `runbook`, `probe`, `reach` and `paths` are leaves that anyone above `domain` may use. HTTP handlers and agent links
//! never call each other: an order is a row in the store, and a report is an event of the hub.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod domain;
pub mod fleet;
pub mod http;
pub mod hub;
pub mod lifecycle;
pub mod ops;
pub mod paths;
pub mod probe;
pub mod reach;
pub mod runbook;
pub mod store;
pub mod tls;
pub mod vault;
pub mod views;
