//! What holds for every page, checked on all samples.

use std::collections::HashSet;

use super::samples;

/// `(tag, attributes)` of every start tag. Enough of a parser for markup that maud writes: attributes are always quoted.
fn tags(html: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        if name.is_empty() {
            continue;
        }
        rest = &rest[name.len()..];
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            let key: String = rest.chars().take_while(|c| !" =>".contains(*c)).collect();
            assert!(!key.is_empty(), "cannot read a tag of <{name}> at {}", &rest[..rest.len().min(40)]);
            rest = &rest[key.len()..];
            let value = rest.strip_prefix("=\"").map(|quoted| {
                let end = quoted.find('"').expect("an attribute is closed");
                rest = &quoted[end + 1..];
                quoted[..end].to_owned()
            });
            attributes.push((key, value.unwrap_or_default()));
        }
        tags.push((name, attributes));
    }
    tags
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn each_page(check: impl Fn(&str, &str, &[(String, Vec<(String, String)>)])) {
    let pages = samples::all();
    assert!(pages.len() > 30);
    for (name, markup) in pages {
        let html = markup.into_string();
        check(name, &html, &tags(&html));
    }
}

#[test]
fn no_page_needs_what_the_content_security_policy_forbids() {
    each_page(|page, _, tags| {
        for (tag, attributes) in tags {
            assert_ne!(tag, "style", "{page} has a style element");
            if tag == "script" {
                let src = attribute(attributes, "src").expect("a script comes from a file");
                assert!(src.starts_with("/assets/"), "{page} loads {src}");
            }
            for (key, value) in attributes {
                assert!(key != "style" && !key.starts_with("on"), "{page}: <{tag} {key}>");
                assert!(!key.starts_with("hx-on") && !value.starts_with("js:"), "{page}: <{tag} {key}>");
                let link = matches!(key.as_str(), "href" | "src" | "action");
                assert!(!link || value.starts_with(['/', '#']), "{page} leaves the site: {key}={value}");
            }
        }
    });
}

#[test]
fn ids_are_unique_and_every_reference_to_one_is_met() {
    each_page(|page, _, tags| {
        let mut ids = HashSet::new();
        for (_, attributes) in tags {
            if let Some(id) = attribute(attributes, "id") {
                assert!(ids.insert(id), "{page} has two elements with the id {id}");
            }
        }
        for (tag, attributes) in tags {
            for key in
                ["for", "aria-labelledby", "aria-describedby", "commandfor", "list", "data-copy", "data-generate"]
            {
                for id in attribute(attributes, key).unwrap_or_default().split_whitespace() {
                    assert!(ids.contains(id), "{page}: <{tag} {key}={id}> points nowhere");
                }
            }
        }
    });
}

#[test]
fn every_input_has_a_label() {
    each_page(|page, _, tags| {
        let labelled: HashSet<&str> =
            tags.iter().filter(|(tag, _)| tag == "label").filter_map(|(_, a)| attribute(a, "for")).collect();
        for (tag, attributes) in tags.iter().filter(|(tag, _)| matches!(tag.as_str(), "input" | "select" | "textarea"))
        {
            let named = attribute(attributes, "aria-label").is_some_and(|label| !label.is_empty());
            let fine = named
                || attribute(attributes, "type") == Some("hidden")
                || attribute(attributes, "id").is_some_and(|id| labelled.contains(id));
            assert!(fine, "{page}: <{tag} {attributes:?}> has no label");
        }
    });
}

#[test]
fn every_posting_form_carries_the_csrf_token() {
    each_page(|page, html, tags| {
        let posts = tags.iter().filter(|(tag, a)| tag == "form" && attribute(a, "method") == Some("post")).count();
        assert_eq!(html.matches(r#"name="csrf" value="csrf-token-of-the-session""#).count(), posts, "{page}");
        let silent = tags.iter().any(|(tag, a)| tag == "form" && attribute(a, "method").is_none());
        assert!(!silent, "{page} has a form without a method");
    });
}

#[test]
fn typed_secrets_never_come_back() {
    each_page(|page, html, tags| {
        assert!(!html.contains("planted-secret"), "{page} shows a password that was typed");
        let filled =
            tags.iter().any(|(_, a)| attribute(a, "type") == Some("password") && attribute(a, "value").is_some());
        assert!(!filled, "{page} has a password field with a value");
    });
}

#[test]
fn hostile_names_are_text_everywhere() {
    let mut seen = 0;
    each_page(|page, html, _| {
        assert!(!html.contains("<script>"), "{page} lets a name become markup");
    });
    for (_, markup) in samples::all() {
        seen += usize::from(markup.into_string().contains("&lt;script&gt;alert("));
    }
    assert!(seen >= 3, "the samples with hostile names are gone");
}

#[test]
fn every_page_names_itself_and_stays_small() {
    each_page(|page, html, tags| {
        assert!(html.contains("<title>") && html.starts_with("<!DOCTYPE html>"), "{page}");
        assert_eq!(tags.iter().filter(|(tag, _)| tag == "h1").count(), 1, "{page} needs exactly one h1");
        assert!(html.len() < 100 * 1024, "{page} has {} bytes", html.len());
    });
}

#[test]
fn a_job_page_with_a_full_first_screen_of_log_stays_under_its_budget() {
    let html = samples::log(200_000, true).render().into_string();
    assert!(html.len() < 110 * 1024, "{} bytes", html.len());
    assert!(html.contains("Lines before 199,501") || html.contains("Lines before 199501"));
}

#[test]
fn the_pages_of_a_thousand_hosts_stay_under_100_kib() {
    let shell = samples::shell(Some(crate::domain::user::Role::Admin));
    let mut page = samples::dashboard();
    page.live.hosts_total = 1000;
    page.live.rows = samples::many_hosts(1000);
    page.live.needy = page.live.needy.iter().cycle().take(300).cloned().collect();
    let dashboard = super::render(&shell, &page).into_string();
    assert!(dashboard.len() < 100 * 1024, "the dashboard has {} bytes", dashboard.len());
    assert!(dashboard.contains("All 1,000 hosts") && dashboard.contains("and 288 more"));
    let hosts = super::hosts::HostsPage {
        rows: samples::many_hosts(super::hosts::HOSTS_A_PAGE),
        next: Some("50".to_owned()),
        total: 1000,
        query: String::new(),
        tag: String::new(),
        tags: Vec::new(),
        restartable: 1000,
        own: None,
    };
    let hosts = super::render(&shell, &hosts).into_string();
    assert!(hosts.len() < 100 * 1024 && hosts.contains("/hosts?after=50"), "the list has {} bytes", hosts.len());
}
