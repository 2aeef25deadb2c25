//! Sites: the list, a host's, one of them.

use maud::{Markup, html};

use crate::{
    domain::{HostId, SiteId, site::Site, user::Role},
    paths,
    views::{
        FormState, Nav, Page, Shell,
        components::{self, Confirm, JobColumns, JobList, PostButton},
        form::{Field, Form},
        format,
        snapshots::filename::visible,
    },
};

/// A kind of site in words.
#[must_use]
pub fn kind_word(kind: &str) -> &str {
    match kind {
        "wordpress" => "WordPress",
        "laravel" => "Laravel",
        "django" => "Django",
        "compose" => "Compose project",
        "dotenv" => "Project",
        "web" => "Web site",
        "other" => "Site",
        other => other,
    }
}

/// A fact's name as people write it.
fn fact_word(name: &str) -> String {
    format::sentence_case(&name.replace("db_", "database ").replace('_', " "))
}

/// `/sites`.
#[derive(Debug, Clone, PartialEq)]
pub struct SitesPage {
    /// By name.
    pub rows: Vec<Site>,
    /// The last one, where there are more.
    pub next: Option<SiteId>,
}

/// A table of sites.
fn table(sites: &[Site], with_host: bool) -> Markup {
    html! {
        .scroll { table.cards {
            caption.vh { "Sites" }
            thead { tr {
                th scope="col" { "Site" } @if with_host { th scope="col" { "Host" } }
                th scope="col" { "Kind" } th scope="col" { "Where" } th scope="col" { "Address" }
            } }
            tbody { @for site in sites { @let fields = &site.fields; tr {
                td.title { a href=(paths::sites::site(site.id)) { b { (fields.name) } } }
                @if with_host { td { a href=(paths::host(site.host_id)) { (site.host_name) } } }
                td { (kind_word(&fields.kind)) }
                td.hide-s[fields.root.is_none() && fields.container.is_none()] {
                    @if let Some(root) = &fields.root { code { (visible(root)) } }
                    @if let Some(container) = &fields.container { small.line { "in " (container.name) } }
                }
                td.hide-s[fields.url.is_none()] { @if let Some(url) = &fields.url { span.long { (visible(url)) } } @else { "—" } }
            } } }
        } }
    }
}

fn discover(host: HostId, class: &'static str) -> PostButton<'static> {
    PostButton {
        action: paths::sites::discover(host),
        label: "Discover sites",
        class,
        fields: Vec::new(),
        needs: Role::Operator,
        aria: String::new(),
    }
}

/// The tab of a host's page.
#[must_use]
pub fn of_host(shell: &Shell, host: HostId, sites: &[Site]) -> Markup {
    html! {
        @if sites.is_empty() {
            .card.empty {
                h2 { "No sites yet" }
                p { "Discovery looks through the host and its containers for WordPress, Laravel, Django, compose projects and virtual hosts. It reads only, and prints no secret." }
                p { (discover(host, "primary").render(shell)) }
            }
        } @else {
            section.card aria-labelledby="sites-title" {
                header { h2 #sites-title { "Sites" } .row { a href=(paths::sites::LIST) { "Sites of all hosts" } (discover(host, "").render(shell)) } }
                (table(sites, false))
            }
        }
    }
}

impl Page for SitesPage {
    fn title(&self) -> String {
        "Sites".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, _shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(paths::route::HOSTS) { "Hosts" } }
                (components::headline("Sites", &html! {}))
            }
            @if self.rows.is_empty() {
                (components::empty("No sites yet", "A site is what lives on a host: a WordPress, a Laravel, a compose project. Open a host, there the tab Sites, and let it be looked through; each site that is found can then be added. Or add one over the API, with POST /api/sites.", Some((paths::route::HOSTS, "Choose a host"))))
            } @else {
                section.card aria-label="Sites" {
                    (table(&self.rows, true))
                    @if let Some(next) = self.next {
                        p.pad { a href=(paths::with_query(paths::sites::LIST, &[("after", &next.to_string())])) { "More" } }
                    }
                }
            }
        }
    }
}

/// A runbook that is about a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRunbook {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// It needs no answers and removes nothing: a button runs it.
    pub at_once: bool,
    /// Who may.
    pub needs: Role,
}

/// `/sites/{id}`. POST carries `name`, `slug`, `kind`, `root`, `url`.
#[derive(Debug, Clone, PartialEq)]
pub struct SitePage {
    /// The site.
    pub site: Site,
    /// Its latest jobs.
    pub jobs: JobList,
    /// What can be run on it.
    pub runbooks: Vec<SiteRunbook>,
    /// What was typed. Untouched: the site's own values are shown.
    pub form: FormState,
}

impl SitePage {
    fn facts(&self) -> Markup {
        let fields = &self.site.fields;
        let mut pairs: Vec<(&str, Markup)> = vec![
            ("Host", html! { a href=(paths::host_tab(self.site.host_id, "sites")) { (self.site.host_name) } }),
            ("Kind", html! { (kind_word(&fields.kind)) }),
        ];
        pairs.extend(fields.url.as_ref().map(|url| ("Address", html! { (visible(url)) })));
        pairs.extend(fields.root.as_ref().map(|root| ("Folder", html! { code { (visible(root)) } })));
        pairs.extend(fields.container.as_ref().map(|container| {
            let user = container.user.as_ref().map(|user| format!(", as {user}")).unwrap_or_default();
            ("Container", html! { (container.name) small.line { (container.cli) (user) } })
        }));
        let more: Vec<(String, &String)> = fields.facts.iter().map(|(name, value)| (fact_word(name), value)).collect();
        pairs.extend(more.iter().map(|(name, value)| (name.as_str(), html! { (visible(value)) })));
        pairs.push(("Added", format::moment(self.site.created_at)));
        html! { section.card.pad aria-label="Facts" { (components::facts(&pairs)) } }
    }

    fn runbooks(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="books-title" {
                header { h2 #books-title { "Runbooks for sites" } }
                @if self.runbooks.is_empty() {
                    p.pad { "None yet. A file with " code { "scope = \"site\"" } " in the data folder's " code { "runbooks" } " stands here as soon as it is there." }
                } @else {
                    ul.list { @for book in &self.runbooks { li {
                        .grow { b { (book.title) } @if !book.description.is_empty() { p.muted { (book.description.lines().next().unwrap_or_default()) } } }
                        @if book.at_once {
                            (PostButton {
                                action: paths::sites::run(self.site.id),
                                label: "Run",
                                class: "",
                                fields: vec![("kind", book.name.clone())],
                                needs: book.needs,
                                aria: format!("Run {} on {}", book.title, self.site.fields.name),
                            }.render(shell))
                        } @else { a.btn href=(paths::runbook_on_site(&book.name, self.site.id)) aria-label=(format!("Open {}", book.title)) { "Run…" } }
                    } } }
                }
            }
        }
    }

    fn change(&self, shell: &Shell) -> Markup {
        let fields = &self.site.fields;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let stored = FormState::of([
            ("name", fields.name.clone()),
            ("slug", fields.slug.clone()),
            ("kind", fields.kind.clone()),
            ("root", text(&fields.root)),
            ("url", text(&fields.url)),
        ]);
        let state = if self.form.is_untouched() { &stored } else { &self.form };
        let form = Form::new("site", state);
        let refusal = shell.refusal(Role::Operator);
        html! {
            details.card open[!self.form.is_untouched()] {
                summary.pad { h2 { "Change" } }
                form.pad.stack method="post" action=(paths::sites::site(self.site.id)) {
                    (shell.csrf_field())
                    (form.errors(&["name", "slug", "kind", "root", "url"]))
                    .fields {
                        (form.field(&Field::text("name", "Name").required()))
                        (form.field(&Field::text("slug", "Slug").required().hint("Unique among sites: a-z, 0-9 and -.")))
                        (form.field(&Field::text("kind", "Kind").required().hint("A word, such as wordpress.")))
                        (form.field(&Field::text("root", "Folder").hint("On the host, or in its container.")))
                        (form.field(&Field::text("url", "Address").placeholder("https://shop.example")))
                    }
                    .row {
                        button.btn.primary type="submit" disabled[refusal.is_some()] { "Save" }
                        @if let Some(reason) = &refusal { small { (reason) } }
                    }
                }
            }
        }
    }

    fn removal(&self, shell: &Shell) -> Markup {
        let name = &self.site.fields.name;
        html! {
            section.card.danger-zone aria-label="Remove" { ul.list { li {
                .grow { b { "Remove the site" } p.muted { "Flotilla forgets it; on the host nothing is changed. Its past jobs stay." } }
                (Confirm {
                    id: "remove".to_owned(),
                    action: paths::sites::remove(self.site.id),
                    label: "Remove the site",
                    question: format!("Remove the site {name}?"),
                    consequence: format!("Flotilla forgets it. What lies on {} stays as it is, and a discovery finds it again.", self.site.host_name),
                    typed: None,
                    needs: Role::Operator,
                }.render(shell))
            } } }
        }
    }
}

impl Page for SitePage {
    fn title(&self) -> String {
        self.site.fields.name.clone()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(paths::sites::LIST) { "Sites" } }
                .row { h1 { (self.site.fields.name) } span.tag { (kind_word(&self.site.fields.kind)) } }
            }
            .cols {
                .stack.wide {
                    (self.runbooks(shell))
                    @if self.jobs.rows.is_empty() {
                        (components::empty("No jobs yet", "Runbooks that ran on this site are listed here, each with its whole log.", None))
                    } @else {
                        section.card aria-labelledby="jobs-title" {
                            header { h2 #jobs-title { "Latest jobs" } }
                            (components::job_table(shell, &self.jobs, "Latest jobs of this site", JobColumns::WithoutHost))
                        }
                    }
                    (self.change(shell))
                    (self.removal(shell))
                }
                (self.facts())
            }
        }
    }
}
