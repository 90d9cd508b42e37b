// The page: its state is in the address, and each change of the state or of the cluster draws the view again.

import { RequestError, follow, read, takeToken } from "./api.js";
import { agenda } from "./agenda.js";
import { bookDialog, detailsDialog, resourceDialog } from "./dialogs.js";
import { byId, element } from "./dom.js";
import { legend, timeline } from "./timeline.js";
import { usage } from "./usage.js";

const SKELETON_MS = 300;
const SLOW_MS = 10_000;
/** How long a timeline is unchanged before the agenda for printing is read. */
const PRINT_DELAY_MS = 3_000;
const NARROW = matchMedia("(max-width: 40rem)");

takeToken();
const state = new URLSearchParams(location.search);
/** @type {any} */
let session = null;
/** The namespace of the address when the session was read. */
let sessionOf = "";
/** The bookings that were made here and that no view has shown yet. */
const pending = new Set();
/** @type {any} */
let shown = null;
/** @type {AbortController | null} */
let drawing = null;
/** Whether the view is being read, and whether it has changed meanwhile. */
let reading = false;
let again = false;

function view() {
  return state.get("view") || (NARROW.matches ? "agenda" : "timeline");
}

function viewer() {
  return { user: session.user, tz: zone(session), readOnly: session.read_only };
}

function zone(/** @type {any} */ found) {
  return state.get("tz") || found.zone || Intl.DateTimeFormat().resolvedOptions().timeZone;
}

function namespace() {
  return state.get("ns") || session?.namespace || "";
}

function query() {
  const given = ["from", "span", "q", "month", "by"].map((name) => [name, state.get(name) || ""]);
  return { ...Object.fromEntries(given), ns: namespace(), tz: zone(session) };
}

function set(/** @type {Record<string, string>} */ changes, replace = false) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) state.set(name, value);
    else state.delete(name);
  }
  const address = `/?${state}`;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  draw();
}

function say(/** @type {string} */ text) {
  byId("updates").textContent = text;
}

function warn(/** @type {string} */ text) {
  const alert = byId("alert");
  alert.textContent = text;
  alert.hidden = !text;
}

function done(/** @type {any} */ answer) {
  if (answer.booking) pending.add(answer.booking);
  say([answer.text, answer.booking ? "pending" : "", answer.warning].filter(Boolean).join("; "));
  confirm(byId("view")); // the watch may have been faster than the answer
}

const letters = {
  t: () => go(""),
  n: () => byId("next").click(),
  p: () => byId("previous").click(),
  "/": () => byId("search").focus(),
};
const actions = {
  book: (/** @type {any} */ row, /** @type {any} */ free) => !session.read_only && bookDialog(row, free, viewer(), done),
  details: (/** @type {any} */ row, /** @type {any} */ bar) => detailsDialog(row, bar, viewer(), done),
  explain: (/** @type {any} */ row) => resourceDialog(row, viewer(), done),
  letters,
};
const VIEWS = {
  timeline: (/** @type {any} */ answer) =>
    answer.rows.length ? element("div", {}, timeline(answer, actions), legend()) : empty(),
  agenda: (/** @type {any} */ answer) => agenda(answer, actions),
  usage,
};

function empty() {
  if (state.get("q")) return element("p", { class: "empty" }, "No resource has this text in its name, tag or users.");
  const sample = "apiVersion: manager.kotaico.de/v1\nkind: ResourceMonitor\nmetadata: {name: ec2}\nspec: {type: ec2}";
  return element(
    "section",
    { class: "empty" },
    element("h3", {}, "No resources yet"),
    element("p", {}, "A ResourceMonitor makes a Resource for each group of instances with the tag resource-booking-managed=true:"),
    element("pre", {}, sample),
  );
}

/** Draw the view again after a change in the cluster; after the present drawing, if there is one. */
function redraw() {
  if (reading) again = true;
  else draw();
}

/** Ask for the view, and draw it. The focus stays on the same cell. */
async function draw() {
  drawing?.abort();
  drawing = new AbortController();
  const { signal } = drawing;
  [reading, again] = [true, false];
  byId("content").setAttribute("aria-busy", "true");
  const skeleton = setTimeout(() => (byId("skeleton").hidden = false), SKELETON_MS);
  const slow = setTimeout(() => warn("The answer takes long; still waiting."), SLOW_MS);
  try {
    const wanted = state.get("ns") || "";
    if (!session || sessionOf !== wanted) {
      session = await start(signal);
      sessionOf = wanted;
    }
    const name = view();
    const answer = await read(name, query(), signal);
    if (signal.aborted) return;
    show(name, answer);
    byId("print").replaceChildren();
    if (name === "timeline") preparePrint(signal);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    report(error);
  } finally {
    clearTimeout(skeleton);
    clearTimeout(slow);
    if (!signal.aborted) {
      byId("skeleton").hidden = true;
      reading = false;
      if (again) draw();
    }
  }
}

/** Read the agenda, which is what a printer gets of a timeline. A page cannot wait for it when it is printed. */
async function preparePrint(/** @type {AbortSignal} */ signal) {
  await new Promise((resolve) => setTimeout(resolve, PRINT_DELAY_MS));
  if (signal.aborted) return;
  const answer = await read("agenda", query(), signal).catch(() => null);
  if (answer) byId("print").replaceChildren(agenda(answer, actions));
}

function report(/** @type {unknown} */ error) {
  const hint = error instanceof RequestError && error.hint ? `; ${error.hint}` : "";
  const text = `${error instanceof Error ? error.message : error}${hint}`;
  warn(text.charAt(0).toUpperCase() + text.slice(1));
  byId("content").setAttribute("aria-busy", "false");
}

function show(/** @type {string} */ name, /** @type {any} */ answer) {
  const [content, view] = [byId("content"), byId("view")];
  const key = document.activeElement?.getAttribute("data-key");
  const scroll = content.scrollTop;
  shown = answer;
  view.replaceChildren(VIEWS[/** @type {"timeline"} */ (name)](answer));
  content.setAttribute("aria-busy", "false");
  content.scrollTop = scroll;
  if (key) view.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  const months = name === "usage";
  byId("range").hidden = false;
  byId("range-title").textContent = answer.range;
  byId("today").textContent = months ? "This month" : "Today";
  byId("next").disabled = !answer.next;
  [byId("spans").hidden, byId("rows").hidden] = [months, !months];
  press("view", name);
  press("span", state.get("span") || "1d");
  press("by", state.get("by") || "resource");
  if (answer.disconnected) warn("The API server does not answer; this is the last known state.");
  else if (answer.silent.length) warn(`The operator is silent: it has not reported on ${answer.silent.join(", ")}.`);
  else warn("");
  confirm(view);
}

/** Mark the button of the choice that the page shows. */
function press(/** @type {string} */ name, /** @type {string} */ chosen) {
  for (const button of document.querySelectorAll(`[data-${name}]`)) {
    button.setAttribute("aria-pressed", String(button.getAttribute(`data-${name}`) === chosen));
  }
}

/** Show another time range: that of a day, or the present one. */
function go(/** @type {string} */ to) {
  set({ [view() === "usage" ? "month" : "from"]: to });
}

/** Report the bookings that the watch has confirmed. */
function confirm(/** @type {any} */ view) {
  for (const booking of pending) {
    if ([...view.querySelectorAll("[data-key]")].some((cell) => cell.getAttribute("data-key").endsWith(`/${booking}`))) {
      pending.delete(booking);
      say(`${booking} is booked`);
    }
  }
}

async function start(/** @type {AbortSignal} */ signal) {
  const found = await read("session", {}, signal);
  const title = ["Bookings", state.get("ns") || found.namespace].filter(Boolean).join(" in ");
  byId("heading").textContent = document.title = title;
  byId("place").textContent = [found.context, found.user].filter(Boolean).join(" · ");
  options(byId("namespace"), found.namespaces, state.get("ns") || found.namespace);
  options(byId("zone"), found.zones, zone(found));
  byId("views").hidden = byId("controls").hidden = false;
  byId("search").value = state.get("q") || "";
  return found;
}

function options(/** @type {any} */ select, /** @type {string[]} */ names, /** @type {string} */ chosen) {
  const all = names.includes(chosen) ? names : [chosen, ...names];
  select.replaceChildren(...all.map((name) => element("option", { value: name, selected: name === chosen }, name)));
}

byId("namespace").addEventListener("change", (/** @type {any} */ event) => {
  set({ ns: event.target.value });
  restart();
});
byId("zone").addEventListener("change", (/** @type {any} */ event) => set({ tz: event.target.value }));
byId("search").addEventListener("input", (/** @type {any} */ event) => set({ q: event.target.value }, true));
byId("controls").addEventListener("submit", (/** @type {any} */ event) => event.preventDefault());
byId("previous").addEventListener("click", () => shown?.previous && go(shown.previous));
byId("next").addEventListener("click", () => shown?.next && go(shown.next));
byId("today").addEventListener("click", () => go(""));
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => set({ view: button.getAttribute("data-view") || "" }));
}
for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => set({ span: button.getAttribute("data-span") || "", from: "" }));
}
for (const button of document.querySelectorAll("[data-by]")) {
  button.addEventListener("click", () => set({ by: button.getAttribute("data-by") || "" }));
}
addEventListener("popstate", () => {
  const before = state.get("ns");
  for (const name of [...state.keys()]) state.delete(name);
  for (const [name, value] of new URLSearchParams(location.search)) state.set(name, value);
  byId("search").value = state.get("q") || "";
  if (session) byId("zone").value = zone(session);
  draw();
  if (state.get("ns") !== before) restart();
});
const restart = follow(namespace, {
  changed: redraw,
  known: (version) => shown && shown.version !== version && redraw(),
  lost: (since) => {
    document.body.classList.add("stale");
    warn(`Connection lost ${since.toTimeString().slice(0, 8)}; this is the state of then`);
  },
  found: () => {
    document.body.classList.remove("stale");
    draw();
  },
});
draw();
