// Making elements. Whatever comes from the store only ever becomes text: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/** Text in which characters that would not be seen, or would move others, are shown as symbols. */
export function visible(text, keepLines = false) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (c) => {
    if (keepLines && (c === "\n" || c === "\t")) return c;
    const code = c.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : visible(child));
  }
  return node;
}

export const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** Rebuilds the content of a place only when what it shows has changed, so that focus and selection stay. */
export function show(place, data, build) {
  const said = JSON.stringify(data);
  if (place.shown === said) return;
  place.shown = said;
  place.replaceChildren(...[build(data)].flat(3).filter((n) => n));
}

/** Keyed children of a list or table: those that stay are updated in place. `make(item)` gives {node, update}. */
export function reconcile(place, items, keyOf, make) {
  const known = place.known ?? new Map();
  const next = new Map();
  let at = place.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const entry = known.get(key) ?? make(item);
    known.delete(key);
    next.set(key, entry);
    entry.update(item);
    if (entry.node === at) at = at.nextElementSibling;
    else place.insertBefore(entry.node, at);
  }
  for (const entry of known.values()) entry.node.remove();
  place.known = next;
}

/** Sets a text, only if it is another. */
export function say(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

export const GROUPS = {
  REGISTERED: "waiting", SCHEDULED: "waiting", CONCURRENCY_CONTROLLED: "held", REROUTED: "waiting", RETRY: "held",
  PENDING: "taken", RUNNING: "working", PAUSED: "paused", RESUMED: "working",
  KILLED: "lost", PENDING_RECOVERY: "lost", RUNNING_RECOVERY: "lost",
  SUCCESS: "good", FAILED: "bad", CONCURRENCY_CONTROLLED_FINAL: "gone", CANCELLED: "gone",
};
export const FINAL = new Set(["SUCCESS", "FAILED", "CONCURRENCY_CONTROLLED_FINAL", "CANCELLED"]);
const WORDS = { CONCURRENCY_CONTROLLED: "held back", CONCURRENCY_CONTROLLED_FINAL: "refused", PENDING_RECOVERY: "recovered (taken)", RUNNING_RECOVERY: "recovered (running)" };
export const wordOf = (status) => WORDS[status] ?? status.toLowerCase().replaceAll("_", " ");

export function badge(status) {
  const node = el("span", { class: "badge" });
  setBadge(node, status);
  return node;
}
export function setBadge(node, status) {
  if (node.dataset.status === status) return;
  node.dataset.status = status;
  node.dataset.group = GROUPS[status] ?? "waiting";
  node.title = status;
  node.textContent = wordOf(status);
}

/** An id as it fits into a line; the whole of it is in the title. */
export function shortId(name) {
  const text = name.id;
  const short = /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(text) ? text.slice(0, 8) : text.length > 40 ? text.slice(0, 38) + "\u2026" : text;
  return short === "" ? "(empty)" : short;
}
export function idLink(name, kind = "invocation") {
  const properties = { class: "id", title: visible(name.id) };
  if (name.key === null) return el("span", properties, shortId(name));
  return el("a", { ...properties, href: `#/${kind}/${name.key}` }, shortId(name));
}

// ---- times ----

let skew = 0;
/** The server's clock, from an answer's `now`. */
export const noteNow = (now) => { skew = now - Date.now(); };
export const now = () => Date.now() + skew;

export function duration(ms) {
  if (!(ms >= 0)) return "0 ms";
  if (ms < 0.995) return `${Math.round(ms * 1000)} \u00b5s`;
  if (ms < 99.5) return `${ms.toFixed(ms < 9.95 ? 1 : 0)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 59.95) return `${s.toFixed(s < 9.995 ? 2 : 1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
function agoText(at) {
  const s = (now() - at) / 1000;
  if (s < -1) return `in ${duration(-s * 1000)}`;
  if (s < 2) return "just now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}
const pad = (n, width = 2) => String(n).padStart(width, "0");
export function clock(ms, fine = true) {
  const d = new Date(ms);
  const time = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  return fine ? `${time}.${pad(d.getMilliseconds(), 3)}` : time;
}
export const date = (ms) => { const d = new Date(ms); return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`; };

/** A time that tells how long ago it was, and goes on telling. */
export function ago(at) {
  const node = el("time", { class: "ago" });
  setAgo(node, at);
  return node;
}
export function setAgo(node, at) {
  if (node.at !== at) {
    node.at = at;
    node.dateTime = new Date(at).toISOString();
    node.title = `${date(at)} ${clock(at)}`;
  }
  say(node, agoText(at));
}
setInterval(() => { for (const node of document.querySelectorAll("time.ago")) say(node, agoText(node.at)); }, 1000);
