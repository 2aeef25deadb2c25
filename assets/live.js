// The live log of a job. Takes over the lines that the server rendered, follows the stream, and keeps only what is
// visible in the page.
//
// Every line has a number (seq, from 1, without gaps), and lines are stored by it. So it does not matter how often or in which
// order a line arrives (stream, replay after a reconnect, a fetched page): none can be doubled, and one that is missing is
// seen as a hole and fetched.
"use strict";
(() => {
  const log = document.getElementById("log");
  if (!log) return;
  const $ = (id) => document.getElementById(id);
  const { logUrl, streamUrl, headerUrl } = log.dataset;

  const LINE = 20; // Height of an unwrapped line in pixels, as in flotilla.css.
  const BLOCK = 100; // Lines per element that is filled or emptied as a whole.
  const PAGE = 1000; // Lines per request and per store page.
  const MAX_SHOWN = 800000; // Taller elements than this are cut by browsers; the raw log has the rest.
  const MAX_SEARCHED = 200000;

  let total = Number(log.dataset.total);
  let final = log.dataset.final === "true";
  const base = Math.max(0, Math.ceil((total - MAX_SHOWN) / PAGE) * PAGE); // Lines before the first that is shown.

  // ---------------------------------------------------------------- store
  const STREAMS = ["stdout", "stderr", "system"];
  const store = new Map(); // page number -> { texts, at, stream, filled }

  const pageOf = (seq) => Math.floor((seq - 1) / PAGE);
  const expected = (page) => Math.max(0, Math.min(PAGE, total - page * PAGE));
  const isWhole = (page) => (store.get(page)?.filled ?? 0) >= expected(page);

  function put(line) {
    const number = pageOf(line.seq);
    let page = store.get(number);
    if (!page) {
      page = { texts: new Array(PAGE), at: new Float64Array(PAGE), stream: new Uint8Array(PAGE), filled: 0 };
      store.set(number, page);
    }
    const i = (line.seq - 1) % PAGE;
    if (page.texts[i] !== undefined) return;
    page.texts[i] = line.text;
    page.at[i] = Date.parse(line.at);
    page.stream[i] = Math.max(0, STREAMS.indexOf(line.stream));
    page.filled += 1;
    if (line.seq > total) total = line.seq;
  }
  const textOf = (seq) => store.get(pageOf(seq))?.texts[(seq - 1) % PAGE];

  // ---------------------------------------------------------------- fetching
  const loading = new Map(); // page number -> promise, so that a page is asked for once at a time
  let retry = 0;

  async function fetchAfter(after) {
    const answer = await fetch(`${logUrl}?after=${after}&limit=${PAGE}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) {
      signedOut();
      throw new Error("signed out");
    }
    if (!answer.ok) throw new Error(`the log endpoint answered ${answer.status}`);
    return (await answer.json()).lines;
  }

  function load(page) {
    if (page < 0 || isWhole(page)) return Promise.resolve();
    let request = loading.get(page);
    if (!request) {
      request = fetchAfter(page * PAGE)
        .then((lines) => {
          lines.forEach(put);
          redrawPage(page);
        })
        .finally(() => loading.delete(page));
      loading.set(page, request);
      // What is still missing then (a network that went away) is asked for again while someone looks at it.
      request.catch(() => {
        clearTimeout(retry);
        retry = setTimeout(() => visible.forEach(fill), 2000);
      });
    }
    return request;
  }

  // ---------------------------------------------------------------- ANSI colours: the rules of src/views/ansi.rs
  const ESCAPES = /\x1b(?:\[([\x20-\x3f]*)([\x40-\x7e])?|\](?:[^\x07\x1b]*(?:\x07|\x1b\\))?|[^])?/gu;
  const CONTROLS = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;
  const plain = (text) => (/[\x00-\x1f\x7f-\x9f]/.test(text) ? text.replace(ESCAPES, "").replace(CONTROLS, "") : text);

  function obey(style, numbers) {
    const codes = numbers.split(/[;:]/).map((n) => Number(n) || 0);
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      if (code === 0) style = { colour: "", marks: new Set() };
      else if (code >= 1 && code <= 4) style.marks.add("_bdiu"[code]);
      else if (code === 22) ["b", "d"].forEach((mark) => style.marks.delete(mark));
      else if (code === 23) style.marks.delete("i");
      else if (code === 24) style.marks.delete("u");
      else if (code >= 30 && code <= 37) style.colour = `a${code - 30}`;
      else if (code >= 90 && code <= 97) style.colour = `a${code - 82}`;
      else if (code === 39) style.colour = "";
      // 256 and 24-bit colours: their arguments are skipped, lest they be taken for codes.
      else if (code === 38 || code === 48 || code === 58) i += codes[i + 1] === 5 ? 2 : codes[i + 1] === 2 ? 4 : 1;
    }
    return style;
  }

  function paint(into, text) {
    if (!/[\x00-\x1f\x7f-\x9f]/.test(text)) {
      into.append(...withMarks(text));
      return;
    }
    let style = { colour: "", marks: new Set() };
    let from = 0;
    const emit = (run) => {
      run = run.replace(CONTROLS, "");
      if (!run) return;
      const classes = [style.colour, ...Array.from(style.marks, (mark) => `a${mark}`)].filter(Boolean);
      if (!classes.length) return into.append(run);
      const span = document.createElement("span");
      span.className = classes.join(" ");
      span.textContent = run;
      into.append(span);
    };
    for (const match of text.matchAll(ESCAPES)) {
      emit(text.slice(from, match.index));
      from = match.index + match[0].length;
      if (match[2] === "m") style = obey(style, match[1]);
    }
    emit(text.slice(from));
  }

  // ---------------------------------------------------------------- drawing
  // The log is a column of blocks of fixed (wrapped: measured) height; those near the view are filled.
  const blocks = [];
  const visible = new Set();
  let wrap = false;
  let target = 0; // The line that the address names.
  const linesIn = (i) => Math.max(0, Math.min(BLOCK, total - base - i * BLOCK));
  const blockOf = (seq) => Math.floor((seq - 1 - base) / BLOCK);

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target: block, isIntersecting } of entries) {
        if (isIntersecting) {
          visible.add(block.index);
          fill(block.index);
        } else if (visible.delete(block.index)) {
          empty(block.index);
        }
      }
      pin();
    },
    { root: log, rootMargin: "800px 0px" },
  );

  function row(seq) {
    const page = store.get(pageOf(seq));
    const i = (seq - 1) % PAGE;
    const text = page?.texts[i];
    const element = document.createElement("div");
    element.id = `L${seq}`;
    const number = element.appendChild(document.createElement("a"));
    number.href = `#L${seq}`;
    number.textContent = seq;
    const span = element.appendChild(document.createElement("span"));
    if (text === undefined) return element;
    number.title = new Date(page.at[i]).toLocaleString();
    const classes = ["", "e", "s"][page.stream[i]] ? [["", "e", "s"][page.stream[i]]] : [];
    // The head of a runbook's step: the rule of src/views/job/log.rs.
    if (page.stream[i] === 2 && text.startsWith("=== ")) classes.push("h");
    if (query && plain(text).toLowerCase().includes(query)) classes.push("hit");
    if (query && seq === matches[current]) classes.push("now");
    if (seq === target) classes.push("target");
    element.className = classes.join(" ");
    paint(span, text);
    return element;
  }

  function fill(i) {
    const block = blocks[i];
    if (!block) return;
    const first = base + i * BLOCK + 1;
    const rows = [];
    for (let seq = first; seq < first + linesIn(i); seq++) rows.push(row(seq));
    block.replaceChildren(...rows);
    block.filled = rows.length;
    block.style.height = wrap ? "" : `${rows.length * LINE}px`;
    const page = pageOf(first);
    if (!isWhole(page)) load(page).catch(() => {});
  }

  function empty(i) {
    const block = blocks[i];
    if (wrap) block.style.height = `${block.offsetHeight}px`;
    block.replaceChildren();
    block.filled = 0;
  }

  /** Makes the blocks for all lines that are known of, and adds new lines to a block that is filled. */
  function grow() {
    while (base + blocks.length * BLOCK < total) {
      const block = document.createElement("div");
      block.index = blocks.length;
      block.filled = 0;
      blocks.push(block);
      block.style.height = `${linesIn(block.index) * LINE}px`;
      log.append(block);
      watcher.observe(block);
    }
    for (const i of visible) {
      const block = blocks[i];
      const first = base + i * BLOCK + 1;
      if (!block.filled) continue;
      for (let n = block.filled; n < linesIn(i); n++) block.append(row(first + n));
      block.filled = linesIn(i);
      if (!wrap) block.style.height = `${block.filled * LINE}px`;
    }
    const last = blocks.at(-1);
    if (last && !last.filled && !wrap) last.style.height = `${linesIn(last.index) * LINE}px`;
    $("log-total").textContent = total === 1 ? "1 line" : `${total.toLocaleString("en")} lines`;
  }

  function redrawPage(page) {
    for (const i of visible) if (pageOf(base + i * BLOCK + 1) === page) fill(i);
    pin();
  }

  // One drawing per frame, however many messages came. A hidden tab draws nothing and loses nothing.
  let frame = 0;
  function draw() {
    if (!frame && started) {
      frame = requestAnimationFrame(() => {
        frame = 0;
        grow();
        pin();
        showFollow();
      });
    }
  }

  // ---------------------------------------------------------------- following the tail
  const button = $("log-follow");
  let follow = !log.dataset.from && !/^#L\d+$/.test(location.hash);
  let lastTop = 0;
  let seen = total; // What was there when the reader left the tail.

  const pin = () => {
    if (follow) {
      log.scrollTop = log.scrollHeight;
      lastTop = log.scrollTop;
    }
  };
  function setFollow(on) {
    if (follow && !on) seen = total;
    follow = on;
    // Following means that the end stays; reading means that what is read stays.
    log.style.overflowAnchor = on ? "none" : "auto";
    showFollow();
  }
  function showFollow() {
    const fresh = follow ? 0 : total - seen;
    button.hidden = follow || (final && fresh === 0);
    const count = fresh === 1 ? "1 new line" : `${fresh.toLocaleString("en")} new lines`;
    const text = (final ? "↓ End" : "⇢ Follow") + (fresh ? ` · ${count}` : "");
    if (button.textContent !== text) button.textContent = text;
  }
  log.addEventListener("scroll", () => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < LINE;
    if (atEnd && !follow) setFollow(true);
    // Only a move upwards leaves the tail: growth below and re-measured blocks do not.
    else if (!atEnd && follow && log.scrollTop < lastTop) setFollow(false);
    lastTop = log.scrollTop;
  }, { passive: true });
  button.addEventListener("click", () => {
    setFollow(true);
    pin();
    log.focus({ preventScroll: true });
  });
  new ResizeObserver(pin).observe(log);

  // ---------------------------------------------------------------- a line's address
  async function goTo(seq) {
    if (!(seq > base && seq <= total)) return;
    setFollow(false);
    await load(pageOf(seq)).catch(() => {});
    grow();
    const i = blockOf(seq);
    // Filled at once, not when the watcher gets to it: the row must be there to scroll to.
    visible.add(i);
    fill(i);
    const element = $(`L${seq}`);
    const offset = element.getBoundingClientRect().top - log.getBoundingClientRect().top;
    log.scrollTop += offset - log.clientHeight / 3;
    lastTop = log.scrollTop;
  }
  function readAddress() {
    const match = /^#L(\d+)$/.exec(location.hash);
    target = match ? Number(match[1]) : 0;
    return target;
  }
  function markTarget() {
    for (const old of log.querySelectorAll(".target")) old.classList.remove("target");
    $(`L${target}`)?.classList.add("target");
  }
  log.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#L"]');
    if (!link) return;
    // The address changes and the page stays where it is.
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    readAddress();
    markTarget();
  });
  addEventListener("hashchange", () => {
    if (readAddress()) goTo(target).then(markTarget);
  });

  // ---------------------------------------------------------------- finding
  const input = $("log-query");
  const count = $("log-count");
  let query = "";
  let matches = [];
  let current = -1;
  let searched = 0; // Lines up to this one were looked at.
  let search = 0; // Number of the latest search: an older one stops when it sees a newer.

  function withMarks(text) {
    const lower = query ? text.toLowerCase() : "";
    // Lower-casing may change a text's length in some scripts; then the row alone is marked.
    if (!query || lower.length !== text.length || !lower.includes(query)) return [text];
    const parts = [];
    let from = 0;
    for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + query.length);
      parts.push(text.slice(from, at), mark);
      from = at + query.length;
    }
    parts.push(text.slice(from));
    return parts;
  }
  function searchUpTo(last) {
    for (let seq = searched + 1; seq <= last; seq++) {
      const text = textOf(seq);
      if (text !== undefined && plain(text).toLowerCase().includes(query)) matches.push(seq);
    }
    searched = Math.max(searched, last);
  }
  function tell(more = "") {
    const n = matches.length.toLocaleString("en");
    count.textContent = query ? (matches.length ? `${(current + 1).toLocaleString("en")} of ${n}${more}` : more || "no match") : "";
  }
  async function find() {
    const mine = ++search;
    query = input.value.toLowerCase();
    matches = [];
    current = -1;
    const first = Math.max(base, total - MAX_SEARCHED);
    searched = first;
    visible.forEach(fill);
    tell();
    if (!query) return;
    const end = total;
    for (let page = pageOf(first + 1); page <= pageOf(end); page += 4) {
      const wanted = [page, page + 1, page + 2, page + 3].filter((p) => p <= pageOf(end) && !isWhole(p));
      if (wanted.length) {
        tell(` searching…`);
        await Promise.all(wanted.map(load)).catch(() => {});
        if (mine !== search) return;
      }
      searchUpTo(Math.min(end, (page + 4) * PAGE));
    }
    if (matches.length) {
      const top = base + Math.floor(log.scrollTop / LINE);
      const near = follow ? matches.length - 1 : matches.findIndex((seq) => seq >= top);
      await show(near < 0 ? 0 : near);
    }
    tell(first > base ? ` in the last ${MAX_SEARCHED.toLocaleString("en")} lines` : "");
  }
  async function show(i) {
    if (!matches.length) return;
    const before = matches[current];
    current = (i + matches.length) % matches.length;
    await goTo(matches[current]);
    if (before && visible.has(blockOf(before))) fill(blockOf(before));
    tell();
  }
  let typing = 0;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(find, 200);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (input.value.toLowerCase() !== query) find();
    else show(event.shiftKey ? current - 1 : current + 1);
  });
  $("log-prev").addEventListener("click", () => show(current - 1));
  $("log-next").addEventListener("click", () => show(current + 1));

  $("log-wrap").addEventListener("click", (event) => {
    const top = base + Math.floor(log.scrollTop / LINE) + 1;
    const anchor = Array.from(log.querySelectorAll("div[id]")).find((r) => r.getBoundingClientRect().bottom > log.getBoundingClientRect().top);
    const seq = anchor ? Number(anchor.id.slice(1)) : top;
    wrap = !wrap;
    log.classList.toggle("wrap", wrap);
    event.currentTarget.setAttribute("aria-pressed", String(wrap));
    for (const block of blocks) block.style.height = wrap && block.filled ? "" : `${linesIn(block.index) * LINE}px`;
    if (follow) return pin();
    // What stood at the top stays there.
    const again = $(`L${seq}`);
    if (again) log.scrollTop += again.getBoundingClientRect().top - log.getBoundingClientRect().top;
    lastTop = log.scrollTop;
  });

  // ---------------------------------------------------------------- header and progress
  const bar = $("log-bar");
  function say(text) {
    bar.hidden = !text;
    if (text && bar.textContent !== text) bar.textContent = text;
  }
  let out = false;
  function signedOut() {
    if (out) return;
    out = true;
    const link = document.createElement("a");
    link.href = `/login?next=${encodeURIComponent(location.pathname)}`;
    link.textContent = "Log in again";
    bar.replaceChildren("Your session ended. ", link);
    bar.hidden = false;
  }

  /** Replaces the header by the server's newest. The job may have ended while nobody was connected. */
  async function refreshHeader(tries = 5) {
    try {
      const answer = await fetch(headerUrl, { headers: { "HX-Request": "true" } });
      if (answer.status === 401 || new URL(answer.url).pathname === "/login") return signedOut();
      if (!answer.ok) throw new Error(`the header answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job-header");
      const old = $("job-header");
      if (!fresh) throw new Error("no header in the answer");
      const ended = !["queued", "running"].includes(fresh.dataset.status);
      // Someone is about to decide in the dialog: do not take it away while the question still stands.
      if (!ended && old.querySelector("dialog[open]")) return;
      const focused = old.contains(document.activeElement);
      old.replaceWith(fresh);
      if (focused) fresh.querySelector(".btn")?.focus();
      document.title = document.title.replace(/^[^·]*/, `${fresh.querySelector(".pill").textContent} `);
      window.flotilla?.showTimes(fresh);
      window.htmx?.process(fresh);
      if (ended && !final) {
        final = true;
        showFollow();
      }
    } catch {
      if (tries > 0 && !out) setTimeout(() => refreshHeader(tries - 1), 2000);
    }
  }

  const bytes = (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    for (; n >= 1023.95 && unit < units.length - 1; unit++) n /= 1024;
    return `${unit === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
  };
  let sample = null; // The last progress with its time, for the rate.
  let shownStep = "";
  function progress(p) {
    // The steps of a runbook are drawn by the server; between two of them nothing changes.
    if (p.step) {
      const step = `${p.step.teardown ? "t" : "s"}${p.step.at}`;
      if (step !== shownStep) refreshHeader();
      shownStep = step;
      return;
    }
    const part = (name) => document.querySelector(`#job-header [data-p="${name}"]`);
    if (!part("bar")) return refreshHeader();
    const now = performance.now();
    const rate = sample && now > sample.now ? ((p.bytes_done - sample.bytes) * 1000) / (now - sample.now) : 0;
    // Smoothed: a rate that jumps every second cannot be read.
    const smooth = sample?.rate ? sample.rate * 0.7 + rate * 0.3 : rate;
    sample = { now, bytes: p.bytes_done, rate: smooth };
    const of = (done, all) => (all ? `${done} of ${all}` : done);
    const numbers = [
      of(bytes(p.bytes_done), p.bytes_total && bytes(p.bytes_total)),
      `${of(p.files_done.toLocaleString("en"), p.files_total && p.files_total.toLocaleString("en"))} files`,
      smooth > 0 ? `${bytes(smooth)}/s` : "",
      p.eta_s != null ? `about ${window.flotilla.duration(p.eta_s * 1000)} left` : "",
    ];
    part("percent").textContent = `${Math.round(p.percent)} %`;
    part("numbers").textContent = numbers.filter(Boolean).join(" · ");
    part("bar").value = p.percent;
    part("current").textContent = p.current || "";
  }

  // ---------------------------------------------------------------- the stream
  let failures = 0;
  let started = false;

  /** Lines `from..=to` exist and did not come: fetch the pages that hold them. */
  function fillGap(from, to) {
    if (to > total) total = to;
    for (let page = pageOf(from); page <= pageOf(to); page++) load(page).catch(() => {});
    draw();
  }
  function take(lines) {
    if (!lines.length) return;
    const from = total + 1;
    lines.forEach(put);
    if (lines[0].seq > from) fillGap(from, lines[0].seq - 1);
    if (query && searched === from - 1) {
      searchUpTo(total);
      tell();
    }
    draw();
  }
  function receive({ type, payload }) {
    if (type === "log.stream") take(payload.lines);
    else if (type === "log.gap") fillGap(payload.from_seq, payload.to_seq);
    else if (type === "job.progress") progress(payload);
    else if (type === "job.started") refreshHeader();
    else if (type === "job.finished") {
      final = true;
      if (payload.last_seq > total) fillGap(total + 1, payload.last_seq);
      showFollow();
      refreshHeader();
    }
  }
  function connect() {
    if (final || out) return say("");
    const url = new URL(streamUrl, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("after", total);
    const socket = new WebSocket(url);
    socket.onopen = () => {
      failures = 0;
      say("");
    };
    socket.onmessage = (event) => {
      try {
        receive(JSON.parse(event.data));
      } catch (error) {
        console.error("a frame of the live log was not understood", error);
      }
    };
    socket.onclose = async (event) => {
      if (final || out) return out || say("");
      // Closed as planned but without an end that we saw: the header knows.
      if (event.code === 1000) await refreshHeader();
      if (final) return catchUp().catch(() => {});
      failures += 1;
      say("Connection lost, reconnecting…");
      // Also the way for networks that let no WebSocket through: slower, but nothing is missed.
      catchUp().then(() => failures > 2 && refreshHeader(0)).catch(() => {});
      const pause = Math.min(15000, 500 * 2 ** Math.min(failures, 5));
      setTimeout(connect, pause / 2 + (Math.random() * pause) / 2);
    };
  }
  async function catchUp() {
    for (;;) {
      const lines = await fetchAfter(total);
      take(lines);
      if (lines.length < PAGE) return;
    }
  }

  // ---------------------------------------------------------------- start
  async function start() {
    const first = readAddress() || Number(log.dataset.from) || total;
    try {
      await Promise.all([load(pageOf(first)), load(pageOf(first) - 1), load(pageOf(total))]);
    } catch {
      // The server's lines stay readable meanwhile.
      if (!out) say("The log could not be loaded, trying again…");
      return void setTimeout(start, 3000);
    }
    say("");
    started = true;
    log.replaceChildren();
    log.classList.add("live");
    $("log-find").hidden = false;
    setFollow(follow);
    // A phone has no room for long lines.
    if (matchMedia("(max-width: 640px)").matches) $("log-wrap").click();
    grow();
    pin();
    if (!follow) await goTo(Math.min(first, total)).then(markTarget);
    connect();
  }
  start();
})();
