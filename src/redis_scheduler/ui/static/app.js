// What the dashboard's pages do in a browser, beside htmx: keys, copying, and no reading in a hidden tab.
"use strict";

const go = (place) => { const link = document.querySelector(`[data-go="${place}"]`); if (link) link.click(); };
const rows = () => [...document.querySelectorAll("table.rows tbody tr")];
const refresh = () => document.querySelectorAll("[hx-trigger]").forEach((part) => htmx.trigger(part, "refresh"));

document.addEventListener("htmx:before:request", (event) => {
  const context = event.detail.ctx;
  if (document.hidden && context && context.request.method === "GET") event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.addEventListener("htmx:after:request", (event) => {
  const context = event.detail.ctx;
  if (context && context.request.method === "POST") refresh();
});

// Without an answer of the service what stands there is of before: it must not look well. The next answer takes the
// line away.
document.addEventListener("htmx:error", (event) => {
  const part = event.target instanceof Element && event.target.closest("[id^=part-]");
  if (!part || part.querySelector(":scope > .gone")) return;
  const said = document.createElement("p");
  said.className = "headline bad gone";
  said.setAttribute("role", "alert");
  said.textContent = `The service does not answer since ${new Date().toLocaleTimeString()}: this stands as it was.`;
  part.prepend(said);
});

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  next.querySelector("a")?.focus();
}

let isGoing = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), textarea, select")) return;
  const key = event.key;
  if (isGoing) {
    isGoing = false;
    go(key);
    event.preventDefault();
    return;
  }
  const row = document.activeElement && document.activeElement.closest("table.rows tr");
  const actions = {
    "/": () => document.getElementById("find")?.focus(),
    g: () => { isGoing = true; setTimeout(() => { isGoing = false; }, 2000); },
    t: () => go("t"),
    j: () => step(1),
    k: () => step(-1),
    x: () => row?.querySelector("input[type=checkbox]")?.click(),
    r: refresh,
    "?": () => document.getElementById("keys")?.showModal(),
  };
  if (Object.hasOwn(actions, key)) {
    actions[key]();
    event.preventDefault();
  }
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
const localize = () => document.querySelectorAll("time[data-local]").forEach((one) => {
  one.title = new Date(one.dateTime).toLocaleString();
  if (!one.textContent.includes("here")) one.textContent += `, ${one.title} here`;
});
document.addEventListener("htmx:after:swap", localize);
document.addEventListener("DOMContentLoaded", localize);

const origin = document.getElementById("origin");
if (origin) origin.value = location.origin;
