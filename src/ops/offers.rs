//! Which runbooks can run on which hosts: by which way an order would go if it were made now, or why it would be refused. Pages show it beforehand; the order itself
//! decides again.

use crate::{
    domain::{
        Way,
        facet::{self, Facets},
        host::Host,
    },
    runbook::{Entry, FileError, Runbook, Scope},
};

/// The way that an order of this runbook would take on this host; `connected`: its agent is here.
///
/// # Errors
/// Why it would be refused, for people.
pub fn offer(host: &Host, facets: &Facets, entry: &Entry, connected: bool) -> Result<Way, String> {
    let book = entry.state.as_ref().map_err(broken)?;
    if book.scope == Scope::Site {
        return Err("it is about a site, not about a host".to_owned());
    }
    offer_there(host, facets, entry, connected)
}

/// The same where what a runbook is about, a site of the host or the host itself, is chosen.
///
/// # Errors
/// As [`offer`].
pub fn offer_there(host: &Host, facets: &Facets, entry: &Entry, connected: bool) -> Result<Way, String> {
    let book = entry.state.as_ref().map_err(broken)?;
    if host.own {
        return Err("runbooks do not run on the control plane itself".to_owned());
    }
    if book.opt_in && !facets.opened {
        return Err("it is off by default: an administrator opens the host for it in its settings".to_owned());
    }
    if facets.restart.is_none() && facet::asks_for_restart(&entry.text) {
        return Err("not configured: the host's settings have no command for a restart".to_owned());
    }
    way(host, facets, book, connected)
}

fn broken(error: &FileError) -> String {
    format!("its file is broken: {error}")
}

fn way(host: &Host, facets: &Facets, book: &Runbook, connected: bool) -> Result<Way, String> {
    facet::choose(host, facets, &book.transports, connected).map_err(|reasons| {
        let words = reasons.into_iter().map(|(way, why)| format!("by {}: {}", facet::in_words(way), why.why(way)));
        words.collect::<Vec<_>>().join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::{Origin, parse};

    fn host(enrolled: bool, own: bool) -> Host {
        Host { own, ..Host::bare(enrolled) }
    }

    fn entry(head: &str, cmd: &str) -> Entry {
        let text = format!(
            "name = \"x\"\ntitle = \"X\"\n{head}\n[[steps]]\ntype = \"ssh\"\nlabel = \"Do\"\ncmd = \"{cmd}\"\n"
        );
        Entry { name: "x".into(), origin: Origin::Shipped, state: parse(&text), text }
    }

    #[test]
    fn what_can_run_says_by_which_way_and_what_can_not_says_why() {
        let none = Facets::default();
        let offered = |enrolled, own, head: &str| offer(&host(enrolled, own), &none, &entry(head, "true"), true);
        assert_eq!(offered(true, false, ""), Ok(Way::Agent));
        let why = offered(false, false, "").unwrap_err();
        assert!(why.contains("by its agent: the host has no agent; by SSH: the host has no SSH access"), "{why}");
        assert!(offered(true, true, "").unwrap_err().contains("control plane"));
        assert!(offered(true, false, "opt_in = true").unwrap_err().contains("off by default"));
        assert!(offered(true, false, "scope = \"site\"").unwrap_err().contains("about a site"));
        assert!(offered(true, false, "comand = 1").unwrap_err().contains("broken: line 3"));
        let opened = Facets { opened: true, ..Facets::default() };
        assert_eq!(offer(&host(true, false), &opened, &entry("opt_in = true", "true"), true), Ok(Way::Agent));
    }

    #[test]
    fn a_restart_needs_the_hosts_command() {
        let restart = entry("", "{{ host.restart_command | raw }}");
        assert!(restart.state.is_ok(), "{:?}", restart.state);
        let why = offer(&host(true, false), &Facets::default(), &restart, true).unwrap_err();
        assert!(why.starts_with("not configured"), "{why}");
    }
}
