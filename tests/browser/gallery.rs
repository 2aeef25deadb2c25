//! Every sample page in a real browser: on a phone, with a finger, in the light; and on a desk in the dark.

use axum::{Router, http::header::CONTENT_TYPE, response::Html, routing::get};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::house::browser::Browser;

/// What breaks a rule on the page that is open, in words. `arguments[0]`: whether it is a phone.
const FAULTS: &str = r##"
    const [phone] = arguments;
    const faults = [];
    const seen = (e) => e.checkVisibility() && !e.closest(".vh");
    const say = (rule, e) => faults.push(`${rule}: <${e.tagName.toLowerCase()} class="${e.getAttribute("class") || ""}"> ${e.textContent.trim().slice(0, 50)}`);
    if (document.scrollingElement.scrollWidth > (phone ? 390 : 1440)) faults.push(`scrolls sideways: ${document.scrollingElement.scrollWidth} px`);

    // Contrast of text, with what shines through.
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const known = new Map();
    const rgba = (colour) => {
      if (!known.has(colour)) {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        known.set(colour, [r, g, b, a / 255]);
      }
      return known.get(colour);
    };
    const over = (top, below, alpha) => [0, 1, 2].map((i) => top[i] * alpha + below[i] * (1 - alpha));
    const ground = (e) => {
      if (!e) return [255, 255, 255];
      const own = rgba(getComputedStyle(e).backgroundColor);
      return own[3] === 1 ? own : over(own, ground(e.parentElement), own[3]);
    };
    const light = (colour) => {
      const [r, g, b] = colour.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    for (const e of document.body.querySelectorAll("*")) {
      const text = Array.from(e.childNodes).some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
      if (!text || !seen(e) || e.closest("svg, :disabled")) continue;
      let opacity = 1;
      for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
      const below = ground(e);
      const ink = rgba(getComputedStyle(e).color);
      const [a, b] = [light(over(ink, below, ink[3] * opacity)), light(below)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) say(`contrast ${contrast.toFixed(2)}`, e);
    }

    // What a finger has to meet; links within a line of text are excused, as WCAG excuses them.
    for (const e of phone ? document.querySelectorAll("a, button, input, select, textarea, summary") : []) {
      if (!seen(e) || e.type === "hidden" || getComputedStyle(e).display === "inline" || e.closest(".log")) continue;
      const { height } = (e.matches("[type=checkbox], [type=radio]") && e.labels[0] ? e.labels[0] : e).getBoundingClientRect();
      if (height > 0 && height < 39.5 && !e.matches("td > input")) say(`${Math.round(height)} px high`, e);
    }

    let level = 0;
    for (const e of Array.from(document.querySelectorAll("h1, h2, h3, h4")).filter(seen)) {
      const own = Number(e.tagName[1]);
      if (own > level + 1) say(`a heading of level ${own} after ${level}`, e);
      level = own;
    }
    if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
    return faults;
"##;

/// A server of the samples, with the real styles and the small script. What fetches stays out: there is nothing behind the pages.
#[expect(clippy::disallowed_methods, reason = "the handle is its owner: the test ends it")]
async fn serve() -> (String, Vec<String>, JoinHandle<()>) {
    let mut router = Router::new()
        .route(
            "/assets/flotilla.css",
            get(async || ([(CONTENT_TYPE, "text/css")], include_str!("../../assets/flotilla.css"))),
        )
        .route(
            "/assets/app.js",
            get(async || ([(CONTENT_TYPE, "text/javascript")], include_str!("../../assets/app.js"))),
        )
        .route(
            "/assets/icon.svg",
            get(async || ([(CONTENT_TYPE, "image/svg+xml")], include_str!("../../assets/icon.svg"))),
        )
        .route("/assets/{script}", get(async || ([(CONTENT_TYPE, "text/javascript")], "")));
    let mut names = Vec::new();
    for (name, markup) in flotilla::views::samples::all() {
        router = router.route(&format!("/{name}"), get(async move || Html(markup.into_string())));
        names.push(format!("/{name}"));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, names, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_can_be_read_and_touched_and_fits_on_phone_and_desk() {
    let (url, names, task) = serve().await;
    let browser = Browser::open(&url).await;
    browser.devtools("Emulation.setTouchEmulationEnabled", json!({"enabled": true})).await;
    let mut faults = Vec::new();
    for name in &names {
        browser.resize(390, 900).await;
        browser.prefer("light").await;
        browser.goto(name).await;
        for (width, scheme, phone) in [(390, "light", true), (1440, "dark", false)] {
            browser.resize(width, 900).await;
            browser.prefer(scheme).await;
            let found = browser.page.execute(FAULTS, vec![json!(phone)]).await.unwrap();
            faults.extend(
                found.as_array().unwrap().iter().map(|fault| format!("{name} at {width} px, {scheme}: {fault}")),
            );
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    browser.close().await;
    task.abort();
}
