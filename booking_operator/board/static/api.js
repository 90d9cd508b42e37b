// Talks to the server. The token comes in the fragment of the first address, and stays in this browser.

const KEY = "token";
const SILENCE_MS = 35_000;
const RETRY_MS = 1_000;
/** How long to wait after a refusal. */
const REFUSED_MS = 10_000;

/** An answer of the server that is an error. */
export class RequestError extends Error {
  /**
   * @param {number} status
   * @param {{error: string, hint?: string, field?: string}} answer
   */
  constructor(status, answer) {
    super(answer.error);
    this.status = status;
    this.hint = answer.hint || "";
    this.field = answer.field || "";
  }
}

/** Take the token out of the address, so that the address can be shared. */
export function takeToken() {
  if (location.hash.length > 1) {
    localStorage.setItem(KEY, location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
  }
}

/** @returns {Record<string, string>} the token, if there is one; behind a proxy, the proxy knows the user */
function headers() {
  const token = localStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * @param {Response} response
 */
async function parsed(response) {
  if (response.ok) return response.json();
  const answer = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
  throw new RequestError(response.status, answer);
}

/**
 * Read from the server.
 * @param {string} name
 * @param {Record<string, string>} [query]
 * @param {AbortSignal} [signal]
 */
export async function read(name, query = {}, signal) {
  const response = await fetch(`/api/${name}?${new URLSearchParams(query)}`, { headers: headers(), signal });
  return parsed(response);
}

/**
 * Change something.
 * @param {string} name
 * @param {Record<string, string>} body
 */
export async function change(name, body) {
  const response = await fetch(`/api/${name}`, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return parsed(response);
}

/**
 * Follow the changes in a namespace. The stream pauses while the page is hidden.
 * @param {() => string} namespace
 * @param {{changed: () => void, known: (version: number) => void, lost: (since: Date) => void, found: () => void}} handlers
 * @returns {() => void} starts the stream again, for another namespace
 */
export function follow(namespace, handlers) {
  let heardAt = new Date();
  let isLost = false;
  /** @type {AbortController | null} */
  let controller = null;

  function heard() {
    heardAt = new Date();
    if (isLost) handlers.found();
    isLost = false;
  }

  async function once() {
    controller = new AbortController();
    const query = new URLSearchParams({ ns: namespace() });
    const response = await fetch(`/api/events?${query}`, { headers: headers(), signal: controller.signal });
    heard(); // a refusal is an answer, too, and the view says what is missing
    if (!response.ok || !response.body) throw new RequestError(response.status, { error: "refused" });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const events = (text + value).split("\n\n");
      text = events.pop() || "";
      for (const event of events) {
        if (event.startsWith("event: changed")) handlers.changed();
        if (event.startsWith("event: known")) handlers.known(Number(event.split("data: ")[1]));
      }
    }
  }

  async function forever() {
    for (;;) {
      const error = document.hidden || !namespace() ? null : await once().catch((reason) => reason);
      const pause = error instanceof RequestError ? REFUSED_MS : RETRY_MS;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  setInterval(() => {
    if (document.hidden || isLost || !namespace() || Date.now() - heardAt.getTime() < SILENCE_MS) return;
    isLost = true;
    handlers.lost(heardAt);
    controller?.abort();
  }, RETRY_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) controller?.abort();
    else heardAt = new Date();
  });
  forever();
  return () => controller?.abort();
}
