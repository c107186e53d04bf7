// Asking the server, changing things, and hearing of changes.

import { noteNow } from "/dom.js";

// The token comes in the part of the address that browsers keep to themselves, and leaves the address at once.
const KEY = "caller-monitor-token";
if (location.hash.startsWith("#token=")) {
  sessionStorage.setItem(KEY, location.hash.slice(7));
  history.replaceState(null, "", "/#/");
}
export const hasToken = () => Boolean(sessionStorage.getItem(KEY));

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.kind = error?.name ?? "";
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new ApiError(0, { message: "the monitor does not answer" });
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, body.error);
  if (body.now) noteNow(body.now);
  return body;
}

export const get = (path) => ask(`/api/${path}`);
export const post = (path, body = {}) =>
  ask(`/api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Caller-Token": sessionStorage.getItem(KEY) ?? "" },
    body: JSON.stringify(body),
  });

/**
 * Calls back for every state of the store; `trouble` when it cannot be used; `lost` when the monitor has gone.
 * A page that nobody sees does not listen: browsers open few connections to one server, for all pages together.
 */
export function live({ state, trouble, lost }) {
  let source = null, later = 0;
  const open = () => {
    clearTimeout(later);
    if (source || document.hidden) return;
    source = new EventSource("/api/events");
    source.addEventListener("state", (event) => {
      const data = JSON.parse(event.data);
      noteNow(data.now);
      state(data);
    });
    source.addEventListener("trouble", (event) => trouble(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      lost();
      // A server that refused is not asked again by the browser itself.
      if (source.readyState !== EventSource.CLOSED) return;
      source = null;
      later = setTimeout(open, 2000);
    });
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(later);
    if (!document.hidden) return open();
    later = setTimeout(() => {
      source?.close();
      source = null;
    }, 5000);
  });
  open();
}
