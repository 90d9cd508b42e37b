// The keyboard of a grid: one tab stop, and arrows that move between cells.

/** @typedef {{rows: () => any[][], open: (cell: any) => void, letters: Record<string, () => void>}} Grid */

const PAGE_ROWS = 10;

/** The middle of a cell, as a share of the width of its row. A row header is left of everything. */
function middle(/** @type {any} */ cell) {
  const left = Number.parseFloat(cell.style.getPropertyValue("--left"));
  return Number.isNaN(left) ? -1 : left + Number.parseFloat(cell.style.getPropertyValue("--width")) / 2;
}

/** The cell of a row that has a position, or that is closest to it. */
function closest(/** @type {any[]} */ row, /** @type {number} */ position) {
  return row.reduce((best, cell) =>
    Math.abs(middle(cell) - position) < Math.abs(middle(best) - position) ? cell : best,
  );
}

/**
 * Add the keyboard to a grid.
 * @param {any} root
 * @param {Grid} grid
 */
export function addKeyboard(root, grid) {
  /** The position that up and down keep, also over rows without a cell there. */
  let position = -1;

  function focus(/** @type {any} */ cell, keep = false) {
    root.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    cell.focus();
    if (!keep) position = middle(cell);
  }

  root.addEventListener("focusin", (/** @type {any} */ event) => {
    if (event.target.getAttribute("tabindex") === "0") return;
    focus(event.target);
  });

  root.addEventListener("keydown", (/** @type {any} */ event) => {
    if (event.ctrlKey && event.key !== "Home" && event.key !== "End") return;
    if (event.altKey || event.metaKey) return;
    const rows = grid.rows();
    const y = rows.findIndex((row) => row.includes(event.target));
    if (y < 0) return;
    const x = rows[y].indexOf(event.target);
    const toRow = (/** @type {number} */ number) =>
      focus(closest(rows[Math.min(Math.max(number, 0), rows.length - 1)], position), true);
    const toCell = (/** @type {number} */ number) => focus(rows[y][Math.min(Math.max(number, 0), rows[y].length - 1)]);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => toCell(x - 1),
      ArrowRight: () => toCell(x + 1),
      ArrowUp: () => toRow(y - 1),
      ArrowDown: () => toRow(y + 1),
      PageUp: () => toRow(y - PAGE_ROWS),
      PageDown: () => toRow(y + PAGE_ROWS),
      Home: () => (event.ctrlKey ? focus(rows[0][0]) : toCell(0)),
      End: () => (event.ctrlKey ? focus(rows.at(-1)?.at(-1)) : toCell(rows[y].length - 1)),
      Enter: () => grid.open(event.target),
      " ": () => grid.open(event.target),
      ...grid.letters,
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
