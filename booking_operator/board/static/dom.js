// Builds elements. Texts of other people only become text nodes, never markup.

/**
 * Return the element with an id, which the page has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Return a new element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] attributes; `on…` adds a listener, `class` sets the class
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * Place an element between two shares of its parent's width.
 * @param {any} made
 * @param {number} left
 * @param {number} right
 */
export function place(made, left, right) {
  made.style.setProperty("--left", `${left * 100}%`);
  made.style.setProperty("--width", `${Math.max(right - left, 0) * 100}%`);
}
