// The dialogs: book a free span; show, extend and release a booking; explain a Resource.

import { RequestError, change, read } from "./api.js";
import { byId, element } from "./dom.js";

const PREVIEW_DELAY_MS = 250;

/** Open the dialog with some content, and give the focus back when it closes. */
function open(/** @type {string} */ title, /** @type {...any} */ ...content) {
  const dialog = byId("dialog");
  const heading = element("h2", { id: "dialog-title" }, title);
  const before = document.activeElement;
  dialog.replaceChildren(heading, ...content);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.addEventListener("close", () => returnFocus(before), { once: true });
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** Give the focus back to a cell; to the one that has taken its place, or to its row, if it was drawn again. */
function returnFocus(/** @type {Element | null} */ before) {
  const key = before?.getAttribute("data-key") || "";
  const cell = (/** @type {string} */ name) => document.querySelector(`[data-key="${CSS.escape(name)}"]`);
  const target = before?.isConnected ? before : cell(key) || cell(`${key.split("/")[0]}/`);
  if (target instanceof HTMLElement) target.focus({ preventScroll: true });
}

function close() {
  byId("dialog").close();
}

function failure(/** @type {unknown} */ error) {
  const hint = error instanceof RequestError ? error.hint : "";
  const message = error instanceof Error ? error.message : String(error);
  const lines = [element("strong", {}, `Error: ${message}`)];
  if (hint) lines.push(element("span", {}, `Hint: ${hint}`));
  return lines;
}

/** Run a change: disable the buttons, show an error, close after success. */
async function run(/** @type {any} */ output, /** @type {() => Promise<any>} */ work, /** @type {(answer: any) => void} */ done) {
  const buttons = byId("dialog").querySelectorAll("button");
  buttons.forEach((/** @type {any} */ button) => (button.disabled = true));
  try {
    const answer = await work();
    close();
    done(answer);
  } catch (error) {
    output.replaceChildren(...failure(error));
    output.setAttribute("role", "alert");
    buttons.forEach((/** @type {any} */ button) => (button.disabled = false));
  }
}

/**
 * Open the dialog Book.
 * @param {any} row the Resource
 * @param {{start: string, end: string}} free the free span
 * @param {{user: string, tz: string}} viewer
 * @param {(answer: any) => void} done
 */
export function bookDialog(row, free, viewer, done) {
  const from = element("input", { type: "text", id: "from", name: "from", value: free.start, autocomplete: "off", maxlength: 100 });
  const to = element("input", { type: "text", id: "to", name: "to", value: free.end || "+2h", autocomplete: "off", maxlength: 100 });
  const user = element("input", { type: "text", id: "user", name: "user", value: viewer.user, autocomplete: "off", maxlength: 256 });
  const output = element("output", { class: "preview", for: "from to user" });
  const fields = () => ({
    namespace: row.namespace,
    resource: row.resource,
    from: from.value,
    to: to.value,
    user: user.value,
    tz: viewer.tz,
  });
  let timer = 0;
  /** @type {AbortController | null} */
  let last = null;
  const stopPreview = () => {
    clearTimeout(timer);
    last?.abort();
  };
  const preview = () => {
    stopPreview();
    timer = setTimeout(async () => {
      last = new AbortController();
      try {
        const answer = await read("preview", fields(), last.signal);
        const lines = answer.lines.map((/** @type {string} */ line) => element("span", {}, line));
        output.replaceChildren(...(answer.error ? failure(new RequestError(200, answer)) : lines));
        mark(answer.field || "");
      } catch (error) {
        if (!(error instanceof DOMException)) output.replaceChildren(...failure(error));
      }
    }, PREVIEW_DELAY_MS);
  };
  const mark = (/** @type {string} */ field) => {
    for (const input of [from, to, user]) input.setAttribute("aria-invalid", String(input.name === field));
  };
  const form = element(
    "form",
    {
      oninput: preview,
      onsubmit: (/** @type {any} */ event) => {
        event.preventDefault();
        stopPreview(); // it would replace the error of the request
        run(output, () => change("book", fields()), done);
      },
    },
    element("label", { for: "from" }, "From"),
    from,
    element("label", { for: "to" }, "To"),
    to,
    element("label", { for: "user" }, "For user"),
    user,
    element("p", { class: "hint" }, 'Times are like 17:00, "fri 9:00", tomorrow noon or +4h.'),
    output,
    element(
      "div",
      { class: "buttons" },
      element("button", { type: "submit", class: "primary" }, "Book"),
      element("button", { type: "button", onclick: close }, "Cancel"),
    ),
  );
  open(`Book ${row.resource}`, form);
  to.focus();
  to.select();
  preview();
}

function explanation(/** @type {any} */ answer) {
  const lines = [
    ...answer.because.map((/** @type {string} */ text) => ["because", text]),
    ...answer.but.map((/** @type {string} */ text) => ["but", text]),
    ...(answer.next ? [["next", answer.next]] : []),
    ...answer.do.map((/** @type {string} */ text) => ["do", text]),
  ];
  return element(
    "div",
    { class: answer.as_booked ? "why good" : "why bad" },
    element("p", {}, `${answer.subject}: ${answer.state}`),
    element("dl", {}, ...lines.flatMap(([label, text]) => [element("dt", {}, label), element("dd", {}, text)])),
  );
}

async function fill(/** @type {any} */ box, /** @type {Record<string, string>} */ query) {
  try {
    box.replaceChildren(explanation(await read("explain", query)));
  } catch (error) {
    box.replaceChildren(...failure(error));
  }
}

/**
 * Open the details of a booking.
 * @param {any} row the Resource
 * @param {any} bar the booking
 * @param {{tz: string, readOnly: boolean}} viewer
 * @param {(answer: any) => void} done
 */
export function detailsDialog(row, bar, viewer, done) {
  const box = element("div", { class: "box" }, "…");
  const output = element("output", { class: "preview" });
  const until = element("input", { type: "text", id: "until", autocomplete: "off", maxlength: 100, placeholder: "18:00" });
  const target = { namespace: row.namespace, booking: bar.booking, tz: viewer.tz };
  const extend = (/** @type {Record<string, string>} */ more) => run(output, () => change("extend", { ...target, ...more }), done);
  const button = (/** @type {string} */ text, /** @type {() => void} */ act) =>
    element("button", { type: "button", onclick: act }, text);
  const canChange = !viewer.readOnly && bar.booking && bar.state !== "finished";
  const actions = canChange
    ? element(
        "div",
        { class: "actions" },
        button("+15 min", () => extend({ by: "15m" })),
        button("+1 h", () => extend({ by: "1h" })),
        element("label", { for: "until" }, "Until…"),
        until,
        button("Extend", () => extend({ until: until.value })),
        button("Release", () => run(output, () => change("release", target), done)),
      )
    : null;
  open(
    bar.booking || `${row.resource} (ad hoc)`,
    element("p", {}, bar.name),
    box,
    ...[actions].filter(Boolean),
    output,
    element("div", { class: "buttons" }, button("Close", close)),
  );
  fill(box, bar.booking ? { namespace: row.namespace, booking: bar.booking, tz: viewer.tz } : { namespace: row.namespace, resource: row.resource, tz: viewer.tz });
}

/**
 * Open the explanation of a Resource.
 * @param {any} row the Resource
 * @param {{user: string, tz: string, readOnly: boolean}} viewer
 * @param {(answer: any) => void} done
 */
export function resourceDialog(row, viewer, done) {
  const box = element("div", { class: "box" }, "…");
  const book = viewer.readOnly
    ? null
    : element("button", { type: "button", class: "primary", onclick: () => bookDialog(row, { start: "now", end: "" }, viewer, done) }, "Book");
  open(
    row.resource,
    box,
    element("div", { class: "buttons" }, ...[book].filter(Boolean), element("button", { type: "button", onclick: close }, "Close")),
  );
  fill(box, { namespace: row.namespace, resource: row.resource, tz: viewer.tz });
}
