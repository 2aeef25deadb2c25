// Small helps on every page. Without this file every page still works, except for opening dialogs in old browsers.
"use strict";
(() => {
  const all = (selector, root = document) => root.querySelectorAll(selector);
  const on = (type, selector, handler) =>
    document.addEventListener(type, (event) => {
      const target = event.target instanceof Element && event.target.closest(selector);
      if (target) handler(target, event);
    });

  // --- Times, in the reader's own zone and words. The server wrote UTC; an untouched element keeps that.
  // The zone is always said: who reads at night may sit in another one than the host.
  const moment = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
  const slot = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  // A browser's clock may be wrong by hours: all counting is by the server's, which wrote its time into the page.
  const skew = Date.parse(document.body.dataset.now) - Date.now() || 0;
  const duration = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const span = (s) => {
    if (s < 90) return `${s} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 129600) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} days`;
  };
  const ago = (ms) => {
    const s = Math.round(ms / 1000);
    if (Math.abs(s) < 5) return "just now";
    return s > 0 ? `${span(s)} ago` : `in ${span(-s)}`;
  };
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const showTimes = (root) => {
    for (const element of all("time[data-time]", root)) {
      const at = new Date(element.dateTime);
      if (Number.isNaN(at.valueOf())) continue;
      element.title = exact.format(at);
      if (element.dataset.time === "moment") {
        const today = at.toDateString() === new Date().toDateString();
        write(element, today ? `today, ${clock.format(at)}` : moment.format(at));
      } else if (element.dataset.time === "local") {
        const until = new Date(element.dataset.until || at);
        write(element, until > at ? slot.formatRange(at, until) : slot.format(at));
      }
    }
  };
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now() + skew;
    for (const element of all('time[data-time="since"]')) write(element, duration(now - new Date(element.dateTime)));
    for (const element of all('time[data-time="ago"]')) write(element, ago(now - new Date(element.dateTime)));
  };
  showTimes(document);
  setInterval(tick, 1000);

  // --- On a narrow screen the navigation scrolls sideways: show where we are.
  const here = document.querySelector(".nav [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;

  // --- Copy buttons.
  on("click", "[data-copy]", async (button) => {
    const source = document.getElementById(button.dataset.copy);
    let copied = true;
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // No clipboard without TLS: select the text, so that one key press copies it.
      getSelection().selectAllChildren(source);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });

  // --- Dialogs: browsers without invoker commands get them from here.
  if (!("commandForElement" in HTMLButtonElement.prototype)) {
    on("click", "button[commandfor]", (button) => {
      const dialog = document.getElementById(button.getAttribute("commandfor"));
      if (button.getAttribute("command") === "show-modal") dialog.showModal();
      else dialog.close();
    });
  }
  // One that the server sent open has a question that must be answered first.
  const openDialogs = (root) => {
    for (const dialog of all("dialog[open][data-modal]", root)) {
      dialog.close();
      dialog.showModal();
    }
  };
  openDialogs(document);
  on("input", "[data-must-be]", (input) => {
    const same = input.value.trim() === input.dataset.mustBe;
    input.setCustomValidity(same ? "" : `Type ${input.dataset.mustBe} to confirm`);
  });

  // --- A password nobody has to think of: 32 characters of 64, 192 bits. Shown once, so that it can be copied.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (const button of all("[data-generate]")) button.hidden = false;
  on("click", "[data-generate]", (button) => {
    const input = document.getElementById(button.dataset.generate);
    const random = crypto.getRandomValues(new Uint8Array(32));
    input.value = Array.from(random, (byte) => alphabet[byte & 63]).join("");
    input.type = "text";
    input.focus();
    input.select();
  });

  // --- Filters apply when chosen.
  on("change", "[data-submit-on-change] select", (select) => select.form.requestSubmit());

  // --- A plan in words while it is typed.
  const planForm = document.getElementById("plan-form");
  const describePlan = () => {
    const data = new FormData(planForm);
    const lines = (name) => String(data.get(name) || "").split("\n").map((line) => line.trim()).filter(Boolean);
    const keeps = ["last", "hourly", "daily", "weekly", "monthly", "yearly"]
      .map((word) => [data.get(`retention.keep_${word}`), word])
      .filter(([count]) => count)
      .map(([count, word]) => `${count} ${word}`);
    if (data.get("retention.keep_within")) keeps.push(`all within ${data.get("retention.keep_within")}`);
    const repo = planForm.elements.repo_id.selectedOptions[0]?.textContent || "nowhere";
    const hosts = data.getAll("hosts").length;
    const tags = String(data.get("tags") || "").split(/[\s,]+/).filter(Boolean);
    const whom = [];
    if (hosts || !tags.length) whom.push(hosts === 1 ? "1 host" : `${hosts} hosts`);
    if (tags.length) whom.push(`every host tagged ${tags.join(" or ")}`);
    const words = document.getElementById("plan-words");
    words.hidden = false;
    write(words, `Backs up ${lines("paths").join(", ") || "nothing yet"} of ${whom.join(" and ")} to ${repo} and is to keep ${keeps.join(", ") || "everything"}.`);
  };
  if (planForm) {
    planForm.addEventListener("input", describePlan);
    describePlan();
  }

  // --- When something runs: only the fields of the chosen preset, and the cron line that comes of them.
  for (const when of all("[data-schedule]")) {
    const field = (name) => when.querySelector(`[name="schedule.${name}"]`);
    const number = (name) => Number.parseInt(field(name).value, 10) || 0;
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if ("fresh" in when.dataset && zone) field("timezone").value = zone;
    for (const hint of all("[data-when-hint]", when)) hint.hidden = true;
    const minutes = (name) => {
      const [hour, minute] = field(name).value.split(":").map(Number);
      return hour * 60 + minute || 0;
    };
    const cron = (preset) => {
      const from = minutes("from");
      const at = `${from % 60} ${Math.floor(from / 60)}`;
      const spread = (minutes("to") + 1440 - from) % 1440;
      switch (preset) {
        case "daily": return [`${at} * * *`, spread];
        case "weekly": return [`${at} * * ${number("weekday")}`, spread];
        case "monthly": return [`${at} ${number("monthday")} * *`, spread];
        case "hourly": return [`${number("minute")} * * * *`, 0];
        case "hours": return [`${number("minute")} */${number("hours")} * * *`, 0];
        default: return [field("cron").value, number("jitter_min")];
      }
    };
    const follow = () => {
      const preset = field("preset").value;
      for (const part of all("[data-when]", when)) part.hidden = !part.dataset.when.split(" ").includes(preset);
      const words = when.querySelector("[data-cron-words]");
      words.hidden = preset === "none" || preset === "custom";
      const [line, spread] = cron(preset);
      const over = [Math.floor(spread / 60) && `${Math.floor(spread / 60)} h`, spread % 60 && `${spread % 60} min`].filter(Boolean);
      write(words, `Cron: ${line}${spread ? `, spread over ${over.join(" ")}` : ""}`);
    };
    when.addEventListener("input", follow);
    follow();
  }

  // --- The 30-day strip tells each day on hover, and its sum on focus.
  let tip = null;
  const hideTip = () => {
    tip?.remove();
    tip = null;
  };
  const showTip = (near, text) => {
    hideTip();
    tip = document.createElement("div");
    tip.className = "tip";
    tip.textContent = text;
    document.body.append(tip);
    const box = near.getBoundingClientRect();
    const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 6;
    // Set through the object model: a style attribute would be against the policy.
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above < 4 ? box.bottom + 6 : above}px`;
  };
  const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
  const dayWords = { o: "fine", w: "with warnings", x: "failed", "": "no backup" };
  on("mouseover", ".strip i", (square) => {
    const strip = square.parentElement;
    const back = strip.children.length - 1 - Array.prototype.indexOf.call(strip.children, square);
    const at = new Date(Date.parse(strip.dataset.last) - back * 86400000);
    showTip(square, `${day.format(at)}: ${dayWords[square.className]}`);
  });
  on("mouseout", ".strip", hideTip);
  on("focusin", ".strip", (strip) => strip.matches(":focus-visible") && showTip(strip, strip.dataset.tip));
  on("focusout", ".strip", hideTip);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

  // --- One box for all of a list; without this script each is ticked by itself.
  for (const form of all("form[data-boxes]")) {
    const one = form.querySelector("[data-all-boxes]");
    const boxes = () => Array.from(all('tbody input[type="checkbox"]', form));
    const show = () => {
      const ticked = boxes().filter((box) => box.checked).length;
      one.checked = ticked > 0 && ticked === boxes().length;
      one.indeterminate = ticked > 0 && !one.checked;
    };
    one.parentElement.hidden = false;
    one.addEventListener("change", () => boxes().forEach((box) => (box.checked = one.checked)));
    form.addEventListener("change", (event) => event.target !== one && show());
    show();
  }

  // --- Updates by htmx that disturb nobody.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const target = event.detail.target;
    if (!target.matches("[data-calm]") || event.detail.requestConfig.verb !== "get") return;
    // Nobody looks, or someone is in the middle of something: the next turn will do.
    const busy = target.contains(document.activeElement) || target.querySelector("dialog[open]");
    const selecting = !getSelection().isCollapsed && target.contains(getSelection().anchorNode);
    if (document.hidden || busy || selecting) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    // The session ended: the answer is the log-in page, which must not land inside of this one.
    if (new URL(xhr.responseURL || location.href, location.href).pathname === "/login" && location.pathname !== "/login") {
      event.detail.shouldSwap = false;
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    if (!target.matches(":hover") || !target.querySelector("[data-steady]")) return;
    // Rows keep their order under the pointer: the new ones are put where their namesakes are.
    const parsed = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
    const old = all("[data-steady]", target);
    all("[data-steady]", parsed).forEach((body, i) => {
      const place = new Map(Array.from(old[i]?.children || [], (row, n) => [row.dataset.key, n]));
      const rows = Array.from(body.children);
      rows.sort((a, b) => (place.get(a.dataset.key) ?? place.size) - (place.get(b.dataset.key) ?? place.size));
      body.append(...rows);
    });
    event.detail.serverResponse = parsed.body.innerHTML;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    hideTip();
    showTimes(event.detail.elt.isConnected ? event.detail.elt : document);
  });

  // --- The tree of a restore is replaced as a whole: who walks it by keyboard goes on in it, not at the top of the page.
  let pressed = "";
  on("click", "#picker button", (button) => (pressed = button.name));
  document.addEventListener("htmx:afterSettle", () => {
    const picker = document.getElementById("picker");
    if (!picker || !pressed || document.activeElement !== document.body) return;
    const place = picker.querySelector(pressed === "drop" ? "[name=drop]" : "table :is(input, button):enabled") || picker.querySelector("[name=look]");
    place?.focus({ preventScroll: true });
  });

  // For live.js, which writes the same kind of words.
  window.flotilla = { duration, showTimes };
})();
