// The invocations of one workflow.

import { get } from "/api.js";
import { badge, el, reconcile, say, show } from "/dom.js";
import { row, table } from "/list.js";
import { tree } from "/tree.js";

export function workflow(key) {
  const { node: list, body } = table("Invocations of the workflow");
  const heading = el("h1", { class: "mono" }, "\u2026"), sums = el("p", { class: "sums" }), drawn = el("div", { class: "family" });
  const more = el("p", { class: "quiet", hidden: true }, "The workflow is larger than what is shown.");
  return {
    title: "Workflow",
    node: el("article", {}, el("div", { class: "headline" }, el("span", { class: "tag" }, "workflow"), heading), sums,
      el("section", { class: "card" }, el("h2", {}, "Calls"), drawn, more), list),
    async load() {
      const data = await get(`workflows/${key}`);
      const root = data.items.find((i) => i.key === key);
      say(heading, root ? root.task.id : data.id);
      const counts = {};
      for (const i of data.items) counts[i.status] = (counts[i.status] ?? 0) + 1;
      show(sums, counts, () => Object.entries(counts).map(([status, n]) => el("span", { class: "sum" }, badge(status), ` ${n}`)));
      show(drawn, data.items, () => (data.items.length > 0 ? tree(data.items, key) : el("p", { class: "nothing" }, "Nothing belongs to it.")));
      more.hidden = !data.more;
      reconcile(body, data.items, (i) => i.key ?? i.id, row);
    },
  };
}
