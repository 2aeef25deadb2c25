//! The overview of a host: what stands in the way, which plans cover it, what it is, and how to get files back.

use maud::{Markup, html};

use crate::{
    domain::{host::HostStatus, user::Role},
    paths::{self, route},
    views::{
        Shell,
        components::{self, JobColumns, PostButton},
        form::{Field, Form},
        format,
        host::{CoveringPlan, HostPage, Vitals},
        reach::WaysCard,
    },
};

impl HostPage {
    pub(super) fn overview(&self, shell: &Shell) -> Markup {
        html! {
            (self.obstacles())
            (self.troubles())
            .cols {
                .stack.wide {
                    // What waits for a decision comes before what is only to be read.
                    @if self.ways_wait() { (self.ways(shell)) (self.status_card.render(shell)) }
                    @else { (self.status_card.render(shell)) (self.ways(shell)) }
                    (self.plans_card(shell))
                    (self.schedules_card(shell))
                    @if !self.jobs.rows.is_empty() {
                        section.card aria-labelledby="latest-title" {
                            header { h2 #latest-title { "Latest jobs" } a href=(paths::host_tab(self.host.id, "jobs")) { "All jobs" } }
                            (components::job_table(shell, &self.jobs, "Latest jobs of this host", JobColumns::WithoutHost))
                        }
                    }
                    @if self.ways.has_agent() {
                        (self.restore_card(shell))
                        (self.once_card(shell))
                    }
                }
                (self.facts_card(shell))
            }
        }
    }

    /// Whether someone has just tested the ways, or has a key to confirm.
    fn ways_wait(&self) -> bool {
        self.tested.is_some() || matches!(self.ways.reach.ssh.state, "untrusted" | "host_key_changed")
    }

    fn ways(&self, shell: &Shell) -> Markup {
        html! { @if !self.host.own && (self.ways.any() || !self.ways.has_agent()) { (self.ways_card().render(shell)) } }
    }

    fn ways_card(&self) -> WaysCard<'_> {
        WaysCard { id: self.host.id, name: &self.host.name, ways: &self.ways, tested: self.tested.as_ref() }
    }

    fn obstacles(&self) -> Markup {
        let host = &self.host;
        if !self.ways.has_agent() && !host.own {
            return html! {};
        }
        html! {
            @if host.revoked_at.is_some() {
                .notice.bad { p { b { "The agent's identity is revoked. " } "It cannot connect. To bring the machine back, enrol it again with a new token." } }
            } @else if self.status == HostStatus::Never {
                .notice.warn { p { b { "The agent was never here. " } "Run the enrolment command on the machine. " a href=(route::HOST_NEW) { "Make a new one" } } }
            } @else if self.status == HostStatus::Offline {
                .notice.warn { p { b { "The agent is not connected. " } "Jobs wait in the queue until it is back. On the machine, " code { "systemctl status flotilla-agent" } " tells why." } }
            }
            @if self.status != HostStatus::Never && host.restic_version.is_none() {
                .notice.warn.stack {
                    p { b { "No restic on this host, so it cannot back up. " } "Install version 0.14 or newer; the agent notices within a minute." }
                    (components::copyable("cmd-restic", "Command that installs restic on Debian or Ubuntu", "apt-get install -y restic"))
                }
            }
        }
    }

    fn plans_card(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="plans-title" {
                header { h2 #plans-title { "Backups" } (components::strip(&self.strip, shell.now)) }
                @if self.plans.is_empty() {
                    @if !self.ways.has_agent() {
                        p.pad { "No plan covers " b { (self.host.name) } ", and it has no agent, so Flotilla does not back it up. " a href=(route::HOST_NEW) { "An agent" } " on the machine is a host of its own here." }
                    } @else { .pad.stack {
                        p { "No plan covers " b { (self.host.name) } ", so nothing of it is backed up. A plan names hosts, or tags that hosts bear." }
                        div { a.btn.primary href=(route::PLAN_NEW) { "Make a plan" } }
                    } }
                } @else {
                    ul.list { @for covering in &self.plans { (self.plan_item(shell, covering)) } }
                }
            }
        }
    }

    fn plan_item(&self, shell: &Shell, covering: &CoveringPlan) -> Markup {
        let plan = &covering.plan;
        let running = covering.last.as_ref().filter(|job| !job.status.is_final());
        html! {
            li {
                .grow {
                    a href=(paths::plan(plan.id)) { b { (plan.name) } }
                    " to " a href=(paths::repo(plan.repo_id)) { (plan.repo_name) }
                    p.muted { (plan.paths.join(", ")) }
                    @match &covering.last {
                        Some(job) => p.row {
                            a href=(paths::job(job.id)) { (components::job_pill(job.status)) }
                            small { (format::ago(shell.now, job.finished_at.unwrap_or(job.created_at))) }
                            @if let Some(error) = &job.error { small.bad-text { (error) } }
                        },
                        None => p { small { "Never ran here" } },
                    }
                }
                @match running {
                    Some(job) => a.btn href=(paths::job(job.id)) { "Watch" },
                    None => (PostButton {
                        action: paths::host_run_backup(self.host.id),
                        label: "Back up now",
                        class: "primary",
                        fields: vec![("plan_id", plan.id.to_string())],
                        needs: Role::Operator,
                        aria: format!("Back up now by plan {}", plan.name),
                    }.render(shell)),
                }
            }
        }
    }

    fn repo_choices(&self) -> Vec<(String, String)> {
        self.repos.iter().map(|(id, name)| (id.to_string(), name.clone())).collect()
    }

    fn restore_card(&self, shell: &Shell) -> Markup {
        let form = Form::new("restore", &self.restore_form);
        let open = !self.restore_form.is_untouched();
        let overwrite: Vec<(String, String)> = [
            ("never", "Leave it as it is"),
            ("if-newer", "Replace it if the snapshot's is newer"),
            ("if-changed", "Replace it if it differs"),
            ("always", "Replace it"),
        ]
        .map(|(value, label)| (value.to_owned(), label.to_owned()))
        .to_vec();
        html! {
            section.card.pad.row aria-label="Restore" {
                .grow { b { "Get files back" } p.muted { "Look into the snapshots of " (self.host.name) ", pick files, download them or restore them here or on another host." } }
                a.btn.primary href=(paths::restore_of_host(self.host.id)) { "Restore…" }
            }
            details.card open[open] {
                summary { h2 { "Restore files by path" } }
                @if self.repos.is_empty() { p.pad { "There is no repository to restore from." } } @else {
                    form.pad.stack method="post" action=(paths::host_restore(self.host.id)) {
                        (shell.csrf_field())
                        p.muted { "Files are written into a folder of your choice on " b { (self.host.name) } ". The originals stay untouched unless you name their place." }
                        (form.errors(&["repo_id", "snapshot", "paths", "target", "overwrite", "confirm"]))
                        .fields {
                            (form.select(&Field::text("repo_id", "From repository"), &self.repo_choices()))
                            (form.field(&Field::text("snapshot", "Snapshot").default("latest").required().hint("latest, or an id such as 5fa1c2d8.")))
                        }
                        (form.lines(&Field::text("paths", "Paths").placeholder("/etc/hosts").hint("One a line. Empty: everything in the snapshot."), 3))
                        .fields {
                            (form.field(&Field::text("target", "Into the folder").placeholder("/srv/restore").required().hint("An absolute path; it is made where it does not exist. / is the original place, and needs the confirmation below.")))
                            (form.select(&Field::text("overwrite", "A file that is there already").default("never"), &overwrite))
                        }
                        (form.field(&Field::text("confirm", "Confirmation").placeholder(&self.host.name).hint("Only for the original place (/), where files are overwritten: the host's name.")))
                        (submit(shell, "Restore"))
                    }
                }
            }
        }
    }

    fn once_card(&self, shell: &Shell) -> Markup {
        let form = Form::new("once", &self.once_form);
        let open = !self.once_form.is_untouched();
        html! {
            details.card open[open] {
                summary { h2 { "Back up paths once" } }
                @if self.repos.is_empty() { p.pad { "There is no repository to back up to." } } @else {
                    form.pad.stack method="post" action=(paths::host_run_backup(self.host.id)) {
                        (shell.csrf_field())
                        p.muted { "Without a plan: nothing is excluded, and no retention rule is tied to it." }
                        (form.errors(&["repo_id", "paths"]))
                        (form.select(&Field::text("repo_id", "To repository"), &self.repo_choices()))
                        (form.lines(&Field::text("paths", "Paths").placeholder("/etc").required().hint("One a line, absolute."), 3))
                        (submit(shell, "Back up once"))
                    }
                }
            }
        }
    }

    fn facts_card(&self, shell: &Shell) -> Markup {
        let host = &self.host;
        let or_dash = |text: Option<&str>| html! { (text.unwrap_or("—")) };
        let mut pairs = vec![
            (
                "Last seen",
                match host.last_seen_at {
                    _ if self.status == HostStatus::Online => html! { "now" },
                    Some(at) => format::ago(shell.now, at),
                    None => html! { "never" },
                },
            ),
            ("Host name", or_dash(host.hostname.as_deref())),
            ("System", html! { (host.os.as_deref().unwrap_or("—")) " " (host.arch.as_deref().unwrap_or("")) }),
            ("Agent", or_dash(host.agent_version.as_deref())),
            ("restic", html! { (host.restic_version.as_deref().unwrap_or("not found")) }),
            ("Name in restic", html! { code { (host.slug) } }),
            ("Added", format::moment(host.created_at)),
        ];
        if !self.ways.has_agent() && !host.own {
            // The rest is what an agent says.
            pairs.retain(|(name, _)| *name == "Added");
        }
        if let Some(vitals) = &self.vitals {
            pairs.extend(vital_facts(vitals));
        }
        html! { section.card.pad aria-label="Facts" { (components::facts(&pairs)) } }
    }
}

fn vital_facts(vitals: &Vitals) -> Vec<(&str, Markup)> {
    let share = |free: u64, total: u64| {
        html! {
            (format::bytes(free)) " free of " (format::bytes(total))
            meter min="0" max=(total) high=(total / 10 * 9) value=(total.saturating_sub(free)) aria-label="In use" {}
        }
    };
    let mut pairs = Vec::new();
    if let Some([one, five, fifteen]) = vitals.load {
        pairs.push(("Load", html! { (format!("{one:.2}  {five:.2}  {fifteen:.2}")) }));
    }
    pairs.extend(vitals.mem.map(|(free, total)| ("Memory", share(free, total))));
    pairs.extend(vitals.disks.iter().map(|(mount, free, total)| (mount.as_str(), share(*free, *total))));
    pairs
}

/// The button of a form, greyed out with the reason where the viewer may not.
fn submit(shell: &Shell, label: &str) -> Markup {
    let refusal = shell.refusal(Role::Operator);
    html! {
        .row {
            button.btn.primary type="submit" disabled[refusal.is_some()] { (label) }
            @if let Some(reason) = refusal { small { (reason) } }
        }
    }
}
