// The invocations: how many there are of each status, and a page of them.

import { get } from "/api.js";
import { ago, badge, el, FINAL, duration, GROUPS, idLink, reconcile, say, setAgo, setBadge, visible, wordOf } from "/dom.js";

const PAGE = 50;
const ALWAYS = ["REGISTERED", "RUNNING", "SUCCESS", "FAILED"];
const tasksSeen = new Set();

export const address = (query) => {
  const text = Object.entries(query).filter(([, v]) => v !== "" && v !== undefined && v !== null).map(([k, v]) => `${k}=${v}`).join("&");
  return text ? `#/?${text}` : "#/";
};

/** A row of a table of invocations. */
export function row(item) {
  const status = badge(item.status);
  const created = ago(item.created);
  const took = el("span", { class: "number" });
  const retries = el("span");
  const runner = el("td", { class: "wide" });
  const link = item.key === null ? el("span", { class: "task" }, item.task.id) : el("a", { class: "task", href: `#/invocation/${item.key}`, title: visible(item.task.id) }, item.task.id || "(no name)");
  const node = el("tr", { "data-key": item.key },
    el("td", {}, status),
    el("td", { class: "main" }, el("div", { class: "call" }, link, " ", el("code", { class: "preview" }, item.args.text, item.args.cut ? "\u2026" : ""))),
    el("td", { class: "medium" }, idLink(item)),
    el("td", { class: "wide" }, el("span", { class: "clip" }, item.queue)),
    runner,
    el("td", { class: "medium right" }, retries),
    el("td", { class: "right" }, created),
    el("td", { class: "medium right" }, took));
  const update = (i) => {
    setBadge(status, i.status);
    node.dataset.status = i.status;
    setAgo(created, i.created);
    say(took, FINAL.has(i.status) ? duration(i.changed - i.created) : "\u2013");
    say(retries, i.retries || "\u2013");
    const owner = i.owner?.id ?? "";
    if (runner.dataset.owner !== owner) {
      runner.dataset.owner = owner;
      runner.replaceChildren(i.owner ? el("span", { class: "id clip", title: visible(owner) }, owner.slice(0, 8)) : "\u2013");
    }
  };
  return { node, update };
}

export function table(caption) {
  const body = el("tbody");
  const node = el("div", { class: "scroll" }, el("table", {}, el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {},
      el("th", { scope: "col" }, "Status"), el("th", { scope: "col" }, "Call"), el("th", { scope: "col", class: "medium" }, "Invocation"),
      el("th", { scope: "col", class: "wide" }, "Queue"), el("th", { scope: "col", class: "wide" }, "Runner"),
      el("th", { scope: "col", class: "medium right" }, "Retries"), el("th", { scope: "col", class: "right" }, "Registered"),
      el("th", { scope: "col", class: "medium right", title: "From registered to its end" }, "Took"))),
    body));
  return { node, body };
}

export function invocations(query, site) {
  const status = query.status ?? "";
  const task = query.task ?? "";
  const offset = Math.max(0, Number.parseInt(query.offset ?? "0", 10) || 0);
  const taskText = (() => { try { return decodeURIComponent(task); } catch { return task; } })();
  const counts = el("div", { class: "counts", role: "group", "aria-label": "Filter by status" });
  const { node: list, body } = table("Invocations, newest first");
  const nothing = el("p", { class: "nothing", hidden: true });
  const place = el("span", { class: "quiet" });
  const newer = el("a", { class: "button" }, "Newer");
  const older = el("a", { class: "button" }, "Older");
  const known = el("datalist", { id: "tasks" });
  const filter = el("input", { type: "search", id: "task", value: taskText, placeholder: "Task name or invocation id", list: "tasks", autocomplete: "off", spellcheck: "false", "aria-label": "Task name or invocation id" });
  const form = el("form", { class: "filter", onsubmit: (event) => {
    event.preventDefault();
    find(filter.value.trim());
  } }, filter, known, el("button", { class: "button" }, "Find"));
  const purge = site.mayWrite() && el("button", { class: "button danger", type: "button", onclick: () => site.purge() }, "Purge\u2026");

  async function find(text) {
    const key = encodeURIComponent(text);
    if (text) {
      try {
        await get(`invocations/${key}`);
        location.hash = `#/invocation/${key}`;
        return;
      } catch (error) {
        if (error.status !== 404) return site.tell(error);
      }
    }
    location.hash = address({ status, task: key });
  }

  function chip(name, label, n, group) {
    const node = el("a", { class: "count", "data-status": name });
    const number = el("strong");
    node.append(number, el("span", { class: "word" }, label));
    const update = (value) => {
      node.href = address({ status: name, task });
      node.dataset.group = group;
      if (name === status) node.setAttribute("aria-current", "true");
      say(number, value.n.toLocaleString("en"));
    };
    return { node, update };
  }

  function update(state) {
    const names = Object.keys(GROUPS).filter((s) => ALWAYS.includes(s) || state.counts[s] > 0 || s === status);
    const items = [{ name: "", label: "all", n: state.total, group: "all" },
      ...names.map((name) => ({ name, label: wordOf(name), n: state.counts[name] ?? 0, group: GROUPS[name] }))];
    reconcile(counts, items, (i) => i.name, (i) => chip(i.name, i.label, i.n, i.group));
  }

  async function load() {
    const data = await get(`invocations?limit=${PAGE}&offset=${offset}&status=${status}&task=${task}`);
    reconcile(body, data.items, (i) => i.key ?? i.id, row);
    for (const i of data.items) {
      if (i.task.key === null || tasksSeen.size >= 500 || tasksSeen.has(i.task.id)) continue;
      tasksSeen.add(i.task.id);
    }
    for (const name of tasksSeen) if (![...known.children].some((o) => o.value === name)) known.append(el("option", { value: name }));
    const none = data.items.length === 0;
    nothing.hidden = !none;
    list.hidden = none;
    if (none) say(nothing, status || task || offset ? "No invocation matches." : "No invocation yet. Calls appear here as soon as a program makes them.");
    say(place, none ? "" : `${(offset + 1).toLocaleString("en")}\u2013${(offset + data.items.length).toLocaleString("en")}`);
    newer.hidden = offset === 0;
    newer.href = address({ status, task, offset: Math.max(0, offset - PAGE) || "" });
    older.hidden = !data.more;
    older.href = address({ status, task, offset: offset + PAGE });
  }

  return {
    title: "Invocations",
    node: el("section", {}, el("h1", { class: "hidden" }, "Invocations"), counts, el("div", { class: "bar" }, form, el("span", { class: "spring" }), purge),
      list, nothing, el("div", { class: "pager" }, newer, place, older)),
    load,
    update,
  };
}
