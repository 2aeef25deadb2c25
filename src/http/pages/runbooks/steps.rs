//! Pasted steps: for administrators, once, on a host.

use axum::response::Response;
use serde_json::{Map, Value};

use super::{BookQuery, WHOLE, chosen, earlier, foreseen, order, preview, where_to};
use crate::{
    domain::JobKind,
    http::{
        HttpError,
        extract::{FormFields, Query},
        pages::{Ui, forms, redraw},
    },
    ops::jobs::JobRequest,
    paths,
    runbook::{self, Entry, Origin},
    views::{
        FormState,
        runbooks::{Earlier, STEPS_FIELD, StepsPage},
    },
};

/// Their kind.
const KIND: &str = "steps";
/// What stands for any steps where it is asked which way they would take.
const ANY: &str = r#"[{"type": "ssh", "label": "Any", "cmd": "true"}]"#;

/// `GET /runbooks/steps`.
///
/// # Errors
/// 404 for the host.
pub async fn show(ui: Ui, Query(query): Query<BookQuery>) -> Result<Response, HttpError> {
    let mut page = load(&ui, &query.host, &query.q).await?;
    if let Some(job) = earlier(&ui, &query.from).await?
        && let Some(steps) = job.input.runbook.as_ref().and_then(|input| runbook::steps_as_json(&input.text))
        && job.kind.as_str() == KIND
    {
        page.form = FormState::of([(STEPS_FIELD, steps)]);
        page.earlier = Some(Earlier { job: job.id, changed: false });
    }
    ui.show(&page).await
}

/// `POST /runbooks/steps`: runs them. Leads to the job.
///
/// # Errors
/// 404 for the host; what was wrong is shown in the form.
pub async fn run(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let host = chosen(&fields)?;
    let ordered = match request(&fields) {
        Ok(request) => order(&ui, host, request).await,
        Err(e) => Err(e),
    };
    match ordered {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &WHOLE)?;
            ui.show_as(status, &StepsPage { form, ..load(&ui, &host.to_string(), "").await? }).await
        }
    }
}

/// `POST /runbooks/steps/preview`: what they would do, under the form, as [`super::foresee`].
///
/// # Errors
/// 404 for the host; what was wrong is shown in the form.
pub async fn foresee(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let host = chosen(&fields)?;
    let seen = match request(&fields) {
        Ok(request) => preview::of(&ui, host, request).await,
        Err(e) => Err(e),
    };
    let (status, form, preview) = foreseen(seen, &fields)?;
    let page = StepsPage { form, preview, ..load(&ui, &host.to_string(), "").await? };
    if ui.by_htmx { ui.fragment(|shell| page.form(shell)).await } else { ui.show_as(status, &page).await }
}

/// The order that a form asks for. The text is held against the same parser that the order is, so that what is no JSON is said in its words.
fn request(fields: &FormFields) -> Result<JobRequest, HttpError> {
    let text = fields.text(STEPS_FIELD);
    let refused = |why: String| HttpError::invalid_field(STEPS_FIELD, why);
    runbook::parse_steps(text).map_err(|error| refused(error.to_string()))?;
    let steps: Value = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    Ok(JobRequest {
        params: Some(Map::from_iter([("steps".to_owned(), steps)])),
        confirm: forms::text(fields, "confirm"),
        ..JobRequest::of(&JobKind::Runbook(KIND.to_owned()))
    })
}

async fn load(ui: &Ui, host: &str, q: &str) -> Result<StepsPage, HttpError> {
    let (state, text) = match runbook::parse_steps(ANY) {
        Ok((book, text)) => (Ok(book), text),
        Err(error) => (Err(error), String::new()),
    };
    let any = Entry { name: KIND.to_owned(), origin: Origin::Shipped, text, state };
    let (host, chooser) = where_to(ui, any, host, q).await?;
    Ok(StepsPage { host, chooser, form: FormState::default(), preview: None, earlier: None })
}
