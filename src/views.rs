//! What people see: pure functions of plain structs to markup. Views never touch store, request or clock; the handler
//! passes a [`Shell`]. One struct per page and per live fragment; a page embeds its fragments, so first render and update cannot diverge.

pub mod alerts;
pub mod ansi;
pub mod auth;
pub mod chart;
pub mod components;
pub mod dashboard;
pub mod downloads;
pub mod form;
pub mod format;
pub mod host;
pub mod hosts;
pub mod job;
pub mod jobs;
pub mod layout;
pub mod plans;
pub mod probes;
pub mod problem;
pub mod reach;
pub mod repos;
pub mod restore;
pub mod retention;
pub mod runbooks;
#[doc(hidden)]
pub mod samples;
pub mod schedules;
pub mod settings;
pub mod sites;
pub mod snapshots;
pub mod status;
#[cfg(test)]
mod tests;
pub mod waves;

pub use form::FormState;
pub use layout::{AssetUrls, Flash, NavCounts, Shell, Viewer, render};

/// What views make, for those who pass it on.
pub use maud::Markup;

/// A whole page. [`layout::render`] puts the shell around it.
pub trait Page {
    /// For the browser's tab, without the product's name.
    fn title(&self) -> String;
    /// The content of `<main>`.
    fn body(&self, shell: &Shell) -> Markup;
    /// Which entry of the navigation is current.
    fn nav(&self) -> Nav;
    /// Whether the live log's script is needed.
    fn needs_live_script(&self) -> bool {
        false
    }
}

/// Entries of the navigation; `None` for pages outside of it (log in, errors).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nav {
    /// `/`
    Dashboard,
    /// `/hosts`
    Hosts,
    /// `/jobs`
    Jobs,
    /// `/runbooks`
    Operations,
    /// `/restore`
    Restore,
    /// `/repos`
    Repos,
    /// `/plans`
    Plans,
    /// `/schedules`
    Schedules,
    /// `/alerts`
    Alerts,
    /// `/settings`
    Settings,
    /// None of them.
    None,
}
