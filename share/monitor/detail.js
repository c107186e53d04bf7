// One invocation: what was called, what became of it, and its family.

import { get, post } from "/api.js";
import { ago, badge, clock, date, duration, el, FINAL, idLink, setBadge, show, visible } from "/dom.js";
import { tree } from "/tree.js";

const size = (n) => (n < 1024 ? `${n} bytes` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`);

function value(v, label) {
  return [el("pre", { class: "value", tabindex: "0", "aria-label": label }, el("code", {}, document.createTextNode(visible(v.text, true)))),
    el("p", { class: "quiet small" }, `${v.format.toUpperCase()}, ${size(v.size)}`, v.cut ? ". Only the beginning is shown." : "")];
}

function facts(i) {
  const list = [
    ["Invocation", el("code", { class: "whole" }, i.id)],
    ["Call", el("code", { class: "whole" }, i.call_id)],
    i.workflow && ["Workflow", idLink(i.workflow, "workflow")],
    ["Parent", i.parent ? idLink(i.parent) : "none"],
    ["Queue", i.queue || "\u2013"],
    ["Priority", i.priority],
    ["Retries", i.retries],
    ["Runner", i.owner ? el("code", { class: "whole" }, i.owner.id) : "\u2013"],
    ["Registered", [`${date(i.created)} ${clock(i.created)} `, el("span", { class: "quiet" }, "(", ago(i.created), ")")]],
  ].filter(Boolean);
  return el("dl", { class: "facts" }, list.map(([name, what]) => el("div", {}, el("dt", {}, name), el("dd", {}, what))));
}

function history(i) {
  const steps = i.history;
  const open = !FINAL.has(i.status);
  return [
    i.history_skipped ? el("p", { class: "quiet" }, `${i.history_skipped} earlier steps are left out.`) : null,
    el("ol", { class: "steps" }, steps.map((step, n) => {
      const next = steps[n + 1];
      const lasted = next ? duration(next.at - step.at) : open ? "so far" : "";
      return el("li", { "data-step": step.status },
        badge(step.status),
        el("time", { class: "number", datetime: new Date(step.at).toISOString(), title: `${date(step.at)} ${clock(step.at)}` }, clock(step.at)),
        el("span", { class: "quiet number" }, lasted),
        step.owner ? el("span", { class: "id quiet clip", title: visible(step.owner.id) }, step.owner.id) : el("span"));
    }))];
}

function failure(chain) {
  return chain.map((e, n) => el("div", { class: "failure" },
    n > 0 && el("p", { class: "quiet" }, "caused by"),
    el("p", { class: "type" }, e.type),
    e.message && el("pre", { class: "value bad", tabindex: "0" }, document.createTextNode(visible(e.message, true))),
    e.details.length > 0 && el("dl", { class: "facts" }, e.details.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, el("code", { class: "whole" }, v)))))));
}

const card = (title, ...content) => el("section", { class: "card" }, el("h2", {}, title), content);

export function invocation(key, site) {
  const status = badge("REGISTERED");
  const heading = el("h1", { class: "mono" }, "\u2026");
  const actions = el("span", { class: "actions" });
  const about = el("div"), given = el("div"), outcome = el("div"), past = el("div"), family = el("div", { class: "family" });
  const outcomeTitle = el("h2", {}, "Result");

  async function act(what) {
    try {
      const answer = await post(`invocations/${key}/${what}`);
      if (what === "cancel") site.tell(answer.cancelled ? "Cancelled, or asked to end." : "It had ended already.");
      else {
        site.tell("The same call was registered anew.");
        location.hash = `#/invocation/${answer.key}`;
      }
      site.refresh();
    } catch (error) {
      site.tell(error);
    }
  }

  async function load() {
    const i = await get(`invocations/${key}`);
    document.title = `${visible(i.task.id)} \u00b7 ${document.title.split(" \u00b7 ").pop()}`;
    heading.textContent = visible(i.task.id) || "(no name)";
    setBadge(status, i.status);
    const { now: ignored, ...fixed } = i;
    show(about, fixed, facts);
    show(given, i.arguments, (a) => value(a, "Arguments"));
    outcomeTitle.textContent = i.error ? "Error" : "Result";
    show(outcome, [i.result, i.error, i.status], () =>
      i.error ? failure(i.error) : i.result ? value(i.result, "Result")
        : el("p", { class: "nothing" }, FINAL.has(i.status) ? "None: it did not run." : "Not yet."));
    show(past, [i.history, i.status], () => history(i));
    show(actions, [i.status, site.mayWrite()], () => !site.mayWrite() ? [] : FINAL.has(i.status)
      ? el("button", { class: "button", type: "button", onclick: () => act("retry") }, "Run again")
      : el("button", { class: "button danger", type: "button", onclick: () => act("cancel") }, "Cancel"));
    const f = await get(`invocations/${key}/family`);
    show(family, [f.nodes, f.cut], () => f.nodes.length < 2
      ? el("p", { class: "nothing" }, "It has neither a parent nor children.")
      : [tree(f.nodes, key), f.cut && el("p", { class: "quiet" }, "The family is larger than what is shown.")]);
  }

  return {
    title: "Invocation",
    node: el("article", {},
      el("div", { class: "headline" }, status, heading, el("span", { class: "spring" }), actions),
      about,
      el("div", { class: "columns" },
        el("div", {}, card("Arguments", given), el("section", { class: "card" }, outcomeTitle, outcome)),
        el("div", {}, card("History", past))),
      card("Family", family)),
    load,
  };
}
