// What the dashboard's pages do in a browser, beside htmx: keys, copying, and no reading in a hidden tab.
"use strict";

const go = (place) => { const link = document.querySelector(`[data-go="${place}"]`); if (link) link.click(); };
const rows = () => [...document.querySelectorAll("table.rows tbody tr")];
const clock = () => new Date().toISOString().slice(11, 19); // in UTC, as all times here
// What many tasks were looked at for is not looked for again, unless somebody asks for it.
const isStill = (part) => part.querySelector(":scope [data-still]") !== null;
const refresh = (all = true) => document.querySelectorAll("[hx-trigger]").forEach((part) => {
  if (all || !isStill(part)) htmx.trigger(part, "refresh");
});

document.addEventListener("htmx:before:request", (event) => {
  const context = event.detail.ctx;
  if (!context || context.request.method !== "GET") return;
  if (document.hidden || (context.sourceEvent?.type === "every" && isStill(context.sourceElement))) event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(false); });
document.addEventListener("htmx:after:request", (event) => {
  const context = event.detail.ctx;
  if (!context) return;
  if (context.request.method === "POST") refresh(!document.querySelector("#many progress"));
  else if (context.response.status >= 500 && context.text) {
    const said = new DOMParser().parseFromString(context.text, "text/html").body.textContent.trim();
    if (keep(event.target, `This stands as it was at ${clock()}. ${said}`)) event.preventDefault();
  } else if (context.response.status === 200) partOf(event.target)?.querySelector(":scope > .gone")?.remove();
});

// Without an answer of the service, or where it knows nothing without Redis, what stands there is of before: it stays,
// and must not look well. The next answer takes the line away.
const partOf = (target) => target instanceof Element ? target.closest("[id^=part-]") : null;
function keep(target, why) {
  const part = partOf(target);
  if (part && !part.querySelector(":scope > .gone")) {
    const said = document.createElement("p");
    said.className = "headline bad gone";
    said.setAttribute("role", "alert");
    said.textContent = why;
    part.prepend(said);
  }
  return part;
}
document.addEventListener("htmx:error", (event) => {
  keep(event.target, `The service has not answered since ${clock()}: this stands as it was.`);
});

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  next.querySelector("a")?.focus();
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
  if (event.key === "Escape") document.getElementById("letter")?.replaceChildren();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-drop]");
  if (button) document.getElementById(button.dataset.drop).replaceChildren();
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
