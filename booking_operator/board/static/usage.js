// The view Usage: the report of a month.

import { element } from "./dom.js";

/**
 * Return the view.
 * @param {any} answer the answer of `/api/usage`
 */
export function usage(answer) {
  if (!answer.rows.length) return element("p", { class: "empty" }, `${answer.name}.`);
  const head = answer.columns.map((/** @type {string} */ name) => element("th", { scope: "col" }, name));
  const rows = answer.rows.map((/** @type {any} */ row, /** @type {number} */ number) =>
    element(
      "tr",
      { class: number === answer.rows.length - 1 ? "total" : "" },
      element("th", { scope: "row" }, row.name),
      ...row.cells.map((/** @type {string} */ text) => element("td", {}, text)),
    ),
  );
  const table = element(
    "table",
    { class: "usage" },
    element("caption", {}, answer.name),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
  return element("section", {}, table, element("p", { class: "hint" }, answer.note));
}
