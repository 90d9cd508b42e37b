// The view Agenda: a table for each day.

import { element } from "./dom.js";

/**
 * Return the view.
 * @param {any} answer the answer of `/api/agenda`
 * @param {{details: (row: any, bar: any) => void}} actions
 */
export function agenda(answer, actions) {
  const days = answer.days.filter((/** @type {any} */ day) => day.entries.length || day.today);
  const made = days.map((/** @type {any} */ day) => section(day, actions));
  if (!made.length) made.push(element("p", { class: "empty" }, "No bookings in this time."));
  return element("section", { class: "agenda", "aria-label": answer.name }, ...made);
}

function section(/** @type {any} */ day, /** @type {any} */ actions) {
  const title = element("h3", { class: day.today ? "today" : "" }, day.today ? `${day.name}, today` : day.name);
  if (!day.entries.length) return element("div", {}, title, element("p", { class: "empty" }, "No bookings."));
  const head = element("tr", {}, ...["Time", "Resource", "User", "State"].map((name) => element("th", { scope: "col" }, name)));
  const rows = day.entries.map((/** @type {any} */ entry) => {
    const open = () => actions.details({ namespace: entry.namespace, resource: entry.resource }, entry.bar);
    return element(
      "tr",
      {},
      element("td", {}, element("button", { type: "button", "aria-label": entry.bar.name, onclick: open }, entry.times)),
      element("td", {}, entry.resource),
      element("td", {}, entry.bar.user),
      element("td", {}, entry.bar.situation),
    );
  });
  return element("div", {}, title, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}
