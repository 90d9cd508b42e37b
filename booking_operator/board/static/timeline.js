// The view Timeline: places the bars and the free spans that the server has computed.

import { element, place } from "./dom.js";
import { addKeyboard } from "./grid.js";

/** The rows of the last view, by their Resource: a row that has not changed is used again. */
/** @type {Map<string, any>} */
let known = new Map();

const ICONS = { late: "◷", failed: "⚠", conflict: "⇄" };

/**
 * Return the view.
 * @param {any} answer the answer of `/api/timeline`
 * @param {{book: (row: any, free: any) => void, details: (row: any, bar: any) => void,
 *   explain: (row: any) => void, letters: Record<string, () => void>}} actions
 */
export function timeline(answer, actions) {
  /** @type {any[][]} */
  const cells = [];
  const opens = new Map();
  const grid = element("div", {
    role: "grid",
    class: "timeline",
    "aria-label": answer.name,
    "aria-rowcount": answer.rows.length,
    "aria-readonly": "true",
  });
  grid.append(ticks(answer), lines(answer));
  /** @type {Map<string, any>} */
  const rows = new Map();
  for (const row of answer.rows) {
    const key = `${row.namespace}/${row.resource}`;
    const look = signature(row);
    const before = known.get(key);
    const made = before?.look === look ? moved(before, row) : { ...resource(row, actions), look };
    rows.set(key, made);
    cells.push(made.cells);
    for (const [cell, open] of made.opens) opens.set(cell, open);
    grid.append(made.row);
  }
  known = rows;
  cells[0]?.[0].setAttribute("tabindex", "0");
  grid.addEventListener("click", (/** @type {any} */ event) => opens.get(event.target.closest("[tabindex]"))?.());
  addKeyboard(grid, { rows: () => cells, open: (cell) => opens.get(cell)?.(), letters: actions.letters });
  return grid;
}

/** What a row looks like, apart from the begin of a span that is free now, which moves with the time. */
function signature(/** @type {any} */ row) {
  return JSON.stringify(row, (_, value) => (value?.start === "now" ? { ...value, left: 0 } : value));
}

/** Return a row that still looks the same, with the begin of a span that is free now. */
function moved(/** @type {any} */ made, /** @type {any} */ row) {
  for (const cell of made.cells) cell.setAttribute("tabindex", "-1");
  if (made.free) place(made.free, row.free[0].left, row.free[0].right);
  return made;
}

/** What the looks of the bars mean. The names of the cells say the same to a screen reader. */
export function legend() {
  const looks = { holds: "holds the lock", other: "runs too", warm: "warm-up", mine: "yours" };
  const items = Object.entries(looks).map(([look, text]) => element("span", {}, element("i", { class: look }), text));
  return element("p", { class: "legend", "aria-hidden": "true" }, ...items);
}

function ticks(/** @type {any} */ answer) {
  const line = element("div", { class: "lanes" });
  for (const tick of answer.ticks) {
    const made = element("span", { class: tick.day ? "tick day" : "tick" }, tick.label);
    place(made, tick.at, tick.at);
    line.append(made);
  }
  return element("div", { class: "row head", "aria-hidden": "true" }, element("span", { class: "name" }), line);
}

function lines(/** @type {any} */ answer) {
  const made = element("div", { class: "lines", "aria-hidden": "true" });
  for (const tick of answer.ticks) {
    const line = element("i", { class: tick.day ? "line day" : "line" });
    place(line, tick.at, tick.at);
    made.append(line);
  }
  if (answer.now !== null) {
    const now = element("i", { class: "line now" });
    place(now, answer.now, answer.now);
    made.append(now);
  }
  return made;
}

function resource(/** @type {any} */ row, /** @type {any} */ actions) {
  /** @type {Map<any, () => void>} */
  const opens = new Map();
  const header = element(
    "div",
    { role: "rowheader", class: "name", tabindex: -1, "aria-label": row.name, "data-key": `${row.resource}/` },
    element("strong", {}, row.resource),
    element("span", { class: `power ${row.power}` }, `${row.power} ${row.counts}`),
    row.note ? element("span", { class: "note" }, `⚠ ${row.note}`) : null,
    ...row.signs.map((/** @type {string} */ sign) => element("span", { class: "sign" }, sign)),
  );
  opens.set(header, () => actions.explain(row));
  const lanes = element("div", { class: "lanes", role: "presentation" });
  lanes.style.setProperty("--lanes", String(Math.max(row.lanes.length + (row.hidden ? 1 : 0), 1)));
  /** @type {any[]} */
  const cells = [];
  for (const free of row.free) {
    const made = element("div", {
      role: "gridcell",
      class: "free",
      tabindex: -1,
      "aria-label": free.name,
      "data-key": `${row.resource}/free/${free.end}`,
    });
    place(made, free.left, free.right);
    opens.set(made, () => actions.book(row, free));
    cells.push(made);
  }
  row.lanes.forEach((/** @type {any[]} */ lane, /** @type {number} */ number) => {
    for (const bar of lane) cells.push(booking(row, bar, number, lanes, actions, opens));
  });
  cells.sort((one, other) => left(one) - left(other));
  lanes.append(...cells);
  if (row.hidden) {
    const more = element("span", { class: "more" }, `+${row.hidden} more`);
    more.style.setProperty("--lane", String(row.lanes.length));
    lanes.append(more);
  }
  const free = row.free[0]?.start === "now" ? cells.find((cell) => cell.classList.contains("free")) : null;
  return {
    row: element("div", { role: "row", class: "row" }, header, lanes),
    cells: [header, ...cells],
    free,
    opens,
  };
}

function left(/** @type {any} */ cell) {
  return Number.parseFloat(cell.style.getPropertyValue("--left"));
}

function booking(
  /** @type {any} */ row,
  /** @type {any} */ bar,
  /** @type {number} */ lane,
  /** @type {any} */ lanes,
  /** @type {any} */ actions,
  /** @type {Map<any, () => void>} */ opens,
) {
  const classes = ["bar", bar.holds ? "holds" : "other", bar.state.replace(" ", "-")];
  if (bar.mine) classes.push("mine");
  if (!bar.opens) classes.push("from-before");
  if (!bar.closes) classes.push("goes-on");
  if (bar.badge) classes.push(bar.badge);
  if (bar.through) classes.push("required");
  const made = element(
    "div",
    {
      role: "gridcell",
      class: classes.join(" "),
      tabindex: -1,
      "aria-label": bar.name,
      title: bar.name,
      "data-key": `${row.resource}/${bar.booking}`,
    },
    bar.badge
      ? element("b", { class: "badge" }, ICONS[/** @type {"late"} */ (bar.badge)], element("span", { class: "word" }, ` ${bar.badge}`))
      : null,
    element("span", { class: "user" }, bar.user),
    bar.through ? element("span", { class: "through" }, `↳ ${bar.through}`) : null,
    element("span", { class: "times" }, bar.times),
  );
  place(made, bar.left, bar.right);
  made.style.setProperty("--lane", String(lane));
  opens.set(made, () => actions.details(row, bar));
  if (bar.warm_up < bar.left) {
    const warmUp = element("i", { class: "warm-up", "aria-hidden": "true" });
    place(warmUp, bar.warm_up, bar.left);
    warmUp.style.setProperty("--lane", String(lane));
    lanes.append(warmUp);
  }
  return made;
}
