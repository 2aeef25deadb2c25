//! Waves: the list, one with its table, and a new one over the hosts that were ticked, bear a tag, or are all there are.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{
        HostId, WaveId,
        facet::Facets,
        host::Host,
        user::Role,
        wave::{Pace, Tally, WaveOrder},
    },
    http::{
        HttpError,
        api::{runbooks::all, waves::columns},
        extract::{FormFields, Id, Query},
        pages::{
            Ui,
            forms::{self, Reader},
            redraw,
            runbooks::fields::answers,
        },
    },
    ops::{
        OpError,
        offers::offer,
        waves::{self as ops, Made, Selection, WaveAgain, WaveRequest},
    },
    paths,
    runbook::{self, Entry, Runbook},
    store::{StoreError, facets, waves},
    views::{
        FormState,
        components::Tone,
        format,
        runbooks::inputs::Choices,
        waves::{HostLine, NewWavePage, WAVE_HOSTS_A_PAGE, WAVES_A_PAGE, WaveBook, WaveLive, WavePage, WavesPage},
    },
};

/// Where the list goes on.
#[derive(Debug, Deserialize)]
pub struct WavesQuery {
    after: Option<WaveId>,
}

/// `GET /waves`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui, Query(query): Query<WavesQuery>) -> Result<Response, HttpError> {
    let mut rows = ui.store().read(move |db| waves::list(db, query.after, WAVES_A_PAGE + 1)).await?;
    let more = rows.len() > WAVES_A_PAGE as usize;
    rows.truncate(WAVES_A_PAGE as usize);
    ui.show(&WavesPage { rows, more }).await
}

/// Which part of a wave's page.
#[derive(Debug, Deserialize)]
pub struct WaveQuery {
    fragment: Option<String>,
    #[serde(default)]
    from: u32,
}

/// `GET /waves/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<WaveId>, Query(query): Query<WaveQuery>) -> Result<Response, HttpError> {
    let found = ui
        .store()
        .read(move |db| {
            let Some(wave) = waves::lookup(db, id)? else { return Ok(None) };
            let tally = Tally::of(&waves::standings(db, id)?);
            Ok::<_, StoreError>(Some((wave, tally, waves::hosts(db, id, query.from, WAVE_HOSTS_A_PAGE)?)))
        })
        .await?;
    let (wave, tally, rows) = found.ok_or_else(|| HttpError::not_found("such wave"))?;
    let destroys = runbook::parse(&wave.spec.text).is_ok_and(|book| destroys(&book));
    let live = WaveLive { columns: columns(&wave), wave, tally, rows, from: query.from, destroys };
    if query.fragment.is_some() {
        return ui.fragment(|shell| live.render(shell)).await;
    }
    ui.show(&WavePage { live }).await
}

/// Whether it may remove or replace something, whatever is answered.
fn destroys(book: &Runbook) -> bool {
    book.destructive || book.steps.iter().any(|step| step.destructive)
}

/// `POST /waves/{id}/cancel`.
///
/// # Errors
/// 404; 409 where it is over.
pub async fn cancel(ui: Ui, Id(id): Id<WaveId>) -> Result<Response, HttpError> {
    ops::cancel(&ui.state.desk(), ui.actor(), id).await?;
    Ok(ui.go_saying(&paths::wave(id), Tone::Ok, "Nothing more begins. What runs is asked to stop."))
}

/// `POST /waves/{id}/rerun`: leads to the new wave.
///
/// # Errors
/// 403 for what is for administrators, 404; 409 where it goes on or nothing is left of it; 422 without its confirmation.
pub async fn rerun(ui: Ui, Id(id): Id<WaveId>, fields: FormFields) -> Result<Response, HttpError> {
    let desk = ui.state.desk();
    ui.user.needs(ops::role_again(&desk, id).await?)?;
    let again = WaveAgain { params: None, confirm: forms::text(&fields, "confirm") };
    let made = ops::rerun_unfinished(&desk, ui.actor(), id, again).await?;
    Ok(lead(&ui, &made))
}

/// Leads to a wave that was made, and says who was left out.
fn lead(ui: &Ui, made: &Made) -> Response {
    let to = paths::wave(made.id);
    match made.left_out.len() as u64 {
        0 => ui.go(&to),
        n => {
            let news = format!("Left out, for they can't run it now: {}.", format::plural(n, "host", "hosts"));
            ui.go_saying(&to, Tone::Warn, &news)
        }
    }
}

/// Which hosts, and what is to run there, as an address or a form says it.
#[derive(Debug, Default)]
struct Wish {
    selection: Selection,
    runbook: String,
}

impl Wish {
    fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, HttpError> {
        let mut wish = Self { selection: Selection { lenient: true, ..Selection::default() }, ..Self::default() };
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            match name {
                "host" => {
                    let id: Result<HostId, _> = value.parse();
                    let id = id.map_err(|_| HttpError::bad_request(format!("{value:?} is no host's id.")))?;
                    wish.selection.hosts.push(id);
                }
                "tag" => wish.selection.tags.push(value.to_owned()),
                "all" => wish.selection.all = true,
                "runbook" | "kind" => value.clone_into(&mut wish.runbook),
                "order" if value == "name" => wish.selection.order = WaveOrder::Name,
                _ => {}
            }
        }
        Ok(wish)
    }

    /// The selection as fields of a form.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let hosts = self.selection.hosts.iter().map(|id| ("host", id.to_string()));
        let tags = self.selection.tags.iter().map(|tag| ("tag", tag.clone()));
        hosts.chain(tags).chain(self.selection.all.then(|| ("all", "1".to_owned()))).collect()
    }

    fn words(&self) -> String {
        let Selection { hosts, tags, all, .. } = &self.selection;
        if *all {
            return "all hosts".to_owned();
        }
        let ticked = (!hosts.is_empty()).then(|| format!("{} ticked", hosts.len()));
        let tagged = (!tags.is_empty()).then(|| format!("all with the tag {}", tags.join(" or ")));
        ticked.into_iter().chain(tagged).collect::<Vec<_>>().join(", and ")
    }
}

/// `GET /waves/new`.
///
/// # Errors
/// 400 for a host's id that is none; 409 where the folder of runbooks can't be read.
pub async fn add(ui: Ui, Query(pairs): Query<Vec<(String, String)>>) -> Result<Response, HttpError> {
    let wish = Wish::of(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let page = load(&ui, &wish, FormState::default()).await?;
    ui.show(&page).await
}

/// `POST /waves`: leads to the wave.
///
/// # Errors
/// 403 for what is for administrators; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let wish = Wish::of(fields.iter())?;
    match order(&ui, &wish, &fields).await {
        Ok(made) => Ok(lead(&ui, &made)),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[("kind", ""), ("hosts", ""), ("tags", "")])?;
            ui.show_as(status, &load(&ui, &wish, form).await?).await
        }
    }
}

async fn order(ui: &Ui, wish: &Wish, fields: &FormFields) -> Result<Made, HttpError> {
    let asked = match all(&ui.state).await?.into_iter().find(|entry| entry.name == wish.runbook) {
        Some(Entry { state: Ok(book), .. }) => book.inputs,
        _ => Vec::new(),
    };
    let mut reader = Reader::default();
    let Selection { hosts, tags, all, order, .. } = wish.selection.clone();
    let request = WaveRequest {
        kind: wish.runbook.clone(),
        params: Some(answers(&asked, fields)),
        hosts,
        tags,
        all,
        leave_out: true,
        canary: reader.value(fields, "canary", "a number"),
        batch: reader.value(fields, "batch", "a number"),
        stop_at: reader.value(fields, "stop_at", "a number"),
        order: Some(order),
        expires_in_s: None,
        confirm: forms::text(fields, "confirm"),
    };
    reader.refuse()?;
    let desk = ui.state.desk();
    ui.user.needs(ops::role_for(&desk, &request).await?)?;
    Ok(ops::create(&desk, ui.actor(), request).await?)
}

async fn load(ui: &Ui, wish: &Wish, form: FormState) -> Result<NewWavePage, HttpError> {
    let entries = all(&ui.state).await?;
    let selection = wish.selection.clone();
    let (hosts, facets) =
        ui.store().read(move |db| Ok::<_, OpError>((ops::chosen(db, &selection)?, facets::all(db)?))).await?;
    let entry = entries.iter().find(|entry| entry.name == wish.runbook);
    let none = Facets::default();
    let line = |host: Host| {
        let online = ui.state.hub.is_online(host.id);
        let facets = facets.get(&host.id).unwrap_or(&none);
        let way = entry.map_or(Ok(None), |entry| offer(&host, facets, entry, online).map(Some));
        HostLine { id: host.id, name: host.name, online, way }
    };
    let hosts: Vec<HostLine> = hosts.into_iter().map(line).collect();
    let choices = Choices { hosts: hosts.iter().map(|host| host.name.clone()).collect(), sites: Vec::new() };
    let titled = |entry: &Entry| {
        let book = entry.state.as_ref().ok().filter(|book| book.scope == runbook::Scope::Host)?;
        Some((entry.name.clone(), book.title.clone()))
    };
    Ok(NewWavePage {
        selection: wish.fields(),
        words: wish.words(),
        books: entries.iter().filter_map(titled).collect(),
        book: entry.and_then(book),
        pace: Pace::of(&wish.runbook),
        hosts,
        choices,
        form,
    })
}

fn book(entry: &Entry) -> Option<WaveBook> {
    let book = entry.state.as_ref().ok()?;
    Some(WaveBook {
        name: entry.name.clone(),
        title: book.title.clone(),
        description: book.description.clone(),
        inputs: book.inputs.clone(),
        destroys: destroys(book),
        role: if book.role == runbook::Role::Admin { Role::Admin } else { Role::Operator },
    })
}
