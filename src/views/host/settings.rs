//! The settings of a host: name and tags, and the two ways of parting with it.

use maud::{Markup, html};

use crate::{
    domain::user::Role,
    paths,
    views::{
        FormState, Shell,
        components::Confirm,
        form::{Field, Form},
        host::HostPage,
        reach,
    },
};

impl HostPage {
    pub(super) fn settings(&self, shell: &Shell) -> Markup {
        let host = &self.host;
        let stored = FormState::of([("name", host.name.clone()), ("tags", host.tags.join(", "))]);
        let state = if self.settings_form.is_untouched() { &stored } else { &self.settings_form };
        let form = Form::new("host", state);
        let refusal = shell.refusal(Role::Operator);
        let declared = self.ways.facets.declared.is_some();
        html! {
            @if !declared { form.card.pad.stack method="post" action=(paths::host_settings(host.id)) {
                (shell.csrf_field())
                (form.errors(&["name", "tags"]))
                .fields {
                    (form.field(&Field::text("name", "Name").required().hint("The name inside restic stays as it is, so snapshots are found again.")))
                    (form.field(&Field::text("tags", "Tags").hint("Separated by commas. Plans can cover all hosts with a tag.")))
                }
                .row {
                    button.btn.primary type="submit" disabled[refusal.is_some()] { "Save" }
                    @if let Some(reason) = &refusal { small { (reason) } }
                }
            } }
            (reach::settings(shell, &paths::host_reach(host.id), &self.ways, &self.reach_form))
            section.card.danger-zone aria-labelledby="part-title" {
                header { h2 #part-title { "Disconnect this host" } }
                ul.list {
                    @if host.revoked_at.is_none() && self.ways.has_agent() {
                        li {
                            .grow { b { "Revoke the agent" } p.muted { "The machine loses its access at once, for instance because it was stolen. The host and its history stay." } }
                            (self.revoke().render(shell))
                        }
                    }
                    @if declared { li { .grow { b { "Remove the host" } p.muted { "It is declared in the server's configuration: take it out there first." } } } }
                    @else { li {
                        .grow { b { "Remove the host" } p.muted { "It disappears from Flotilla with its jobs and logs. Snapshots in repositories stay." } }
                        (self.removal().render(shell))
                    } }
                }
            }
        }
    }

    fn revoke(&self) -> Confirm<'_> {
        let name = &self.host.name;
        Confirm {
            id: "revoke".to_owned(),
            action: paths::host_revoke(self.host.id),
            label: "Revoke the agent",
            question: format!("Revoke the agent of {name}?"),
            consequence: "Its running jobs count as lost at once, for nobody will hear how they end; what waits for it is cancelled, and no backup runs until the machine is enrolled again. Snapshots and history stay.".to_owned(),
            typed: Some(name),
            needs: Role::Admin,
        }
    }

    fn removal(&self) -> Confirm<'_> {
        let name = &self.host.name;
        Confirm {
            id: "remove".to_owned(),
            action: paths::host_remove(self.host.id),
            label: "Remove the host",
            question: format!("Remove {name}?"),
            consequence: format!(
                "It disappears from all lists, and its agent can no longer connect. Its running jobs count as lost at once, for nobody will hear how they end, and what waits for it is cancelled. Its past jobs keep their logs, and snapshots of {name} stay in their repositories and can be restored with restic."
            ),
            typed: Some(name),
            needs: Role::Admin,
        }
    }
}
