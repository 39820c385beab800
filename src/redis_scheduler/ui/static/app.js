// What the dashboard's pages do in a browser, beside htmx: keys, copying, and no reading in a hidden tab.
"use strict";

const go = (place) => { const link = document.querySelector(`[data-go="${place}"]`); if (link) link.click(); };
const rows = () => [...document.querySelectorAll("table.rows tbody tr")].filter((row) => row.querySelector("a, button"));
const clock = () => new Date().toISOString().slice(11, 19); // in UTC, as all times here
// What many tasks were looked at for is not looked for again, unless somebody asks for it.
const isStill = (part) => part.querySelector(":scope [data-still]") !== null;
const refresh = (all = true) => document.querySelectorAll("[hx-trigger]").forEach((part) => {
  if (all || !isStill(part)) htmx.trigger(part, "refresh");
});

document.addEventListener("htmx:before:request", (event) => {
  const context = event.detail.ctx;
  if (!context) return;
  if (!context.sourceElement.isConnected) { // its form was closed
    event.preventDefault();
    return;
  }
  const panel = panelOf(context.target);
  if (panel && !panel.contains(context.sourceElement)) {
    openers.set(panel, context.request.submitter ?? context.sourceElement);
    context.opens = panel;
  }
  if (context.request.method !== "GET") return;
  if (document.hidden || (context.sourceEvent?.type === "every" && isStill(context.sourceElement))) event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(false); });
document.addEventListener("htmx:after:request", (event) => {
  const context = event.detail.ctx;
  if (!context) return;
  const { status } = context.response, isPost = context.request.method === "POST";
  if (status >= 500 && context.text && (!isPost || manyOf(event.target))) {
    const said = new DOMParser().parseFromString(context.text, "text/html").body.textContent.trim();
    if (keep(event.target, `This stands as it was at ${clock()}. ${said}`)) event.preventDefault();
  } else if (status === 200 && !isPost) partOf(event.target)?.querySelector(":scope > .gone")?.remove();
  if (isPost) refresh(!document.querySelector("#many progress"));
});

// Without an answer of the service, or where it knows nothing without Redis, what stands there is of before: it stays,
// and must not look well. The next answer takes the line away. What is done to many goes on by the same form, by hand.
const partOf = (target) => target instanceof Element ? target.closest("[id^=part-]") : null;
const manyOf = (target) => target instanceof Element ? target.closest("#many form") : null;
function keep(target, why) {
  const form = manyOf(target), place = form ?? partOf(target);
  form?.querySelector("progress")?.remove();
  form?.querySelector("[data-onward]")?.removeAttribute("hidden");
  if (place && !place.querySelector(":scope > .gone")) {
    const said = document.createElement("p");
    said.className = "headline bad gone";
    said.setAttribute("role", "alert");
    said.textContent = why;
    place.prepend(said);
  }
  return place;
}
document.addEventListener("htmx:error", (event) => {
  keep(event.target, `The service has not answered since ${clock()}: this stands as it was.`);
});

// Where the focus is. What is opened beside a list gives it back to what opened it.
const PANELS = ["said", "many", "letter"];
const panelOf = (element) => element instanceof Element ? element.closest(PANELS.map((id) => `#${id}`).join()) : null;
const openers = new Map();
const focus = (...wanted) => wanted.find((one) => one?.isConnected)?.focus({ preventScroll: true });
const main = () => document.getElementById("main");
function drop(panel) {
  if (!panel || panel.querySelector("progress[data-stays]")) return; // what is under way goes on by it
  const had = document.activeElement, hadFocus = panel.contains(had) || had.dataset.drop === panel.id;
  panel.querySelectorAll("form").forEach((form) => htmx.trigger(form, "htmx:abort"));
  panel.replaceChildren();
  if (hadFocus) focus(openers.get(panel), rows()[0]?.querySelector("a, button"), main());
}

// What has it may be gone once a part is read anew: then its row has it, or the row that stands there now, and never
// the same button of another.
let held = null;
document.addEventListener("htmx:before:swap", () => {
  const had = document.activeElement;
  if (had !== document.body) {
    const row = had.closest("tbody tr"), part = partOf(had);
    held = { had, panel: panelOf(had), row, part, at: row && part ? [...part.querySelectorAll("tbody tr")].indexOf(row) : -1 };
  } else if (held?.had.isConnected) held = null;
});
document.addEventListener("htmx:after:swap", (event) => {
  const { opens } = event.detail.ctx;
  if (opens?.id === "many") focus(opens); // a letter is looked at while the list keeps the focus
  opens?.scrollIntoView({ block: "nearest" });
  if (document.activeElement !== document.body || !held) return;
  const anew = held.part ? [...held.part.querySelectorAll("tbody tr")] : [];
  const row = held.row?.isConnected ? held.row : anew[Math.min(held.at, anew.length - 1)];
  focus(held.had, held.panel?.querySelector("[aria-invalid]"), held.panel, row?.querySelector("a, button"), main());
});

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  next.querySelector("a, button").focus();
}

let goingUntil = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), textarea, select")) return;
  const key = event.key;
  if (performance.now() < goingUntil) {
    goingUntil = 0;
    go(key);
    event.preventDefault();
    return;
  }
  const row = document.activeElement && document.activeElement.closest("table.rows tr");
  const actions = {
    "/": () => document.getElementById("find")?.focus(),
    g: () => { goingUntil = performance.now() + 2000; },
    t: () => go("t"),
    j: () => step(1),
    k: () => step(-1),
    x: () => row?.querySelector("input[type=checkbox]")?.click(),
    r: () => refresh(),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  if (Object.hasOwn(actions, key)) {
    actions[key]();
    event.preventDefault();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  const open = PANELS.map((id) => document.getElementById(id)).filter((panel) => panel?.firstElementChild);
  drop(open.find((panel) => panel.contains(document.activeElement)) ?? open.at(-1));
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-drop]");
  if (button) drop(document.getElementById(button.dataset.drop));
});

// Times of a series in the zone of who looks, beside UTC.
const here = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
const localize = () => document.querySelectorAll("time[data-local]").forEach((one) => {
  const time = new Date(one.dateTime);
  if (!time.getTimezoneOffset() || one.textContent.includes("here")) return;
  one.title = here.format(time);
  one.textContent += `, ${one.title} here`;
});
document.addEventListener("htmx:after:swap", localize);
document.addEventListener("DOMContentLoaded", localize);

// Where a page could not be shown it tries again.
if (document.querySelector("[data-again]")) setTimeout(() => location.reload(), 5000);

const origin = document.getElementById("origin");
if (origin) origin.value = location.origin;
