// Who is there to work, and what waits for them.

import { get } from "/api.js";
import { ago, duration, el, now, reconcile, say, setAgo, visible, wordOf } from "/dom.js";

function runnerRow(r) {
  const alive = el("span", { class: "state" });
  const beat = ago(r.last_heartbeat), started = ago(r.started);
  const work = el("td", { class: "main" });
  const node = el("tr", {},
    el("td", {}, alive),
    el("td", { class: "third" }, el("div", { class: "clip" }, el("strong", {}, r.description || "runner")), el("div", { class: "id quiet clip", title: visible(r.id) }, r.id)),
    work,
    el("td", { class: "right" }, beat),
    el("td", { class: "medium right" }, started));
  const update = (i) => {
    const lives = i.lease_until > now();
    alive.dataset.alive = lives;
    say(alive, lives ? "alive" : "lost");
    alive.title = lives ? `Its lease ends in ${duration(i.lease_until - now())}` : `Its lease ended ${duration(now() - i.lease_until)} ago`;
    setAgo(beat, i.last_heartbeat);
    setAgo(started, i.started);
    const said = JSON.stringify(i.work.map((w) => w.key ?? w.id));
    if (work.said !== said) {
      work.said = said;
      work.replaceChildren(...(i.work.length === 0 ? [el("span", { class: "quiet" }, "nothing")]
        : i.work.slice(0, 4).map((w) => el("div", { class: "clip" }, w.key === null ? el("span", { class: "task" }, w.task.id) : el("a", { class: "task", href: `#/invocation/${w.key}` }, w.task.id), " ", el("code", { class: "preview" }, w.args.text)))),
        i.work.length > 4 ? el("div", { class: "quiet" }, `and ${i.work.length - 4} more`) : "");
    }
  };
  return { node, update };
}

function queueRow(q) {
  const number = el("td", { class: "right number" }), kinds = el("td", { class: "quiet" }), fill = el("span", { class: "fill" });
  const node = el("tr", {}, el("td", { class: "main" }, el("strong", { class: "clip" }, q.name || "(no name)")), number, el("td", { class: "gauge-cell" }, el("span", { class: "gauge" }, fill)), kinds);
  const update = (i) => {
    say(number, i.n.toLocaleString("en"));
    fill.style.width = `${(100 * i.n) / i.most}%`;
    say(kinds, Object.entries(i.waiting).map(([s, n]) => `${n.toLocaleString("en")} ${wordOf(s)}`).join(", "));
  };
  return { node, update };
}

export function runners() {
  const list = el("tbody"), queues = el("tbody");
  const none = el("p", { class: "nothing", hidden: true }, "No runner is there: what is registered waits until one starts.");
  const empty = el("p", { class: "nothing", hidden: true }, "Nothing waits.");
  const part = el("p", { class: "quiet", hidden: true }, "More wait than were looked at: these numbers are the least.");
  const head = (...names) => el("thead", {}, el("tr", {}, names.map(([text, kind]) => el("th", { scope: "col", class: kind }, text))));
  const runnerTable = el("div", { class: "scroll" }, el("table", {}, el("caption", { class: "hidden" }, "Runners"), head(["State"], ["Runner"], ["Works on"], ["Heartbeat", "right"], ["Started", "medium right"]), list));
  const queueTable = el("div", { class: "scroll" }, el("table", {}, el("caption", { class: "hidden" }, "Queues"), head(["Queue"], ["Waiting", "right"], [""], ["Of which"]), queues));
  let state = null, work = new Map();

  function draw() {
    if (!state) return;
    reconcile(list, state.runners.map((r) => ({ ...r, work: work.get(r.id) ?? [] })), (r) => r.key ?? r.id, runnerRow);
    none.hidden = state.runners.length > 0;
    runnerTable.hidden = state.runners.length === 0;
  }

  return {
    title: "Runners",
    node: el("section", {}, el("div", { class: "headline" }, el("h1", {}, "Runners")), runnerTable, none,
      el("div", { class: "headline" }, el("h2", { class: "like-h1" }, "Queues")), queueTable, empty, part),
    update(next) {
      state = next;
      draw();
    },
    async load() {
      const owned = ["RUNNING", "RESUMED", "PAUSED", "PENDING"].filter((s) => !state || state.counts[s] > 0);
      const answers = await Promise.all([get("queues"), ...owned.map((s) => get(`invocations?status=${s}&limit=200`))]);
      work = Map.groupBy(answers.slice(1).flatMap((a) => a.items).filter((i) => i.owner), (i) => i.owner.id);
      draw();
      const counted = answers[0].queues.map((q) => ({ ...q, n: Object.values(q.waiting).reduce((a, b) => a + b, 0) }));
      const most = Math.max(1, ...counted.map((q) => q.n));
      reconcile(queues, counted.map((q) => ({ ...q, most })), (q) => q.name, queueRow);
      empty.hidden = counted.length > 0;
      queueTable.hidden = counted.length === 0;
      part.hidden = answers[0].all;
    },
  };
}
