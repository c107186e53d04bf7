// Who called whom, as a drawing: callers on the left, what they called on the right.

import { duration, FINAL, GROUPS, svg, visible, wordOf } from "/dom.js";

const WIDTH = 210, HEIGHT = 46, GAP_X = 44, GAP_Y = 12, EDGE = 10;

const clip = (text, n) => (text.length > n ? text.slice(0, n - 1) + "\u2026" : text);

/** Places of the nodes: a column a generation, leaves below each other, a caller at the middle of what it called. */
function layout(nodes) {
  const byKey = new Map(nodes.map((n) => [n.key ?? n.id, { node: n, children: [], x: 0, y: 0 }]));
  const roots = [];
  for (const place of byKey.values()) {
    const parent = place.node.parent && byKey.get(place.node.parent.key ?? place.node.parent.id);
    if (parent && parent !== place) parent.children.push(place);
    else roots.push(place);
  }
  let next = 0, deepest = 0;
  const seen = new Set();
  const put = (place, depth) => {
    seen.add(place);
    deepest = Math.max(deepest, depth);
    place.x = depth * (WIDTH + GAP_X);
    place.children = place.children.filter((c) => !seen.has(c));
    place.children.sort((a, b) => a.node.created - b.node.created);
    for (const child of place.children) put(child, depth + 1);
    if (place.children.length > 0) {
      place.y = (place.children[0].y + place.children.at(-1).y) / 2;
    } else {
      place.y = next;
      next += HEIGHT + GAP_Y;
    }
  };
  roots.sort((a, b) => a.node.created - b.node.created);
  for (const root of roots) put(root, 0);
  return { places: [...seen], width: deepest * (WIDTH + GAP_X) + WIDTH, height: Math.max(HEIGHT, next - GAP_Y) };
}

export function tree(nodes, current) {
  const { places, width, height } = layout(nodes);
  const edges = [], boxes = [];
  for (const place of places) {
    for (const child of place.children) {
      const [x1, y1, x2, y2] = [place.x + WIDTH, place.y + HEIGHT / 2, child.x, child.y + HEIGHT / 2];
      const middle = (x1 + x2) / 2;
      edges.push(svg("path", { class: "edge", d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` }));
    }
    const n = place.node;
    const took = FINAL.has(n.status) ? `, ${duration(n.changed - n.created)}` : "";
    const box = [
      svg("title", {}, `${n.task.id}\n${n.id}\n${n.status}${took}`),
      svg("rect", { class: "box", x: place.x, y: place.y, width: WIDTH, height: HEIGHT, rx: 8 }),
      svg("rect", { class: "mark", x: place.x + 7, y: place.y + 9, width: 4, height: HEIGHT - 18, rx: 2 }),
      svg("text", { class: "name", x: place.x + 20, y: place.y + 20 }, clip(visible(n.task.id) || "(no name)", 27)),
      svg("text", { class: "about", x: place.x + 20, y: place.y + 36 }, wordOf(n.status) + took),
    ];
    const properties = { class: "person", "data-group": GROUPS[n.status], "data-status": n.status, "data-key": n.key };
    if (n.key === null) boxes.push(svg("g", properties, box));
    else boxes.push(svg("a", { ...properties, href: `#/invocation/${n.key}`, "aria-current": n.key === current ? "true" : null }, box));
  }
  return svg("svg", {
    class: "tree", role: "group", "aria-label": `Family of ${nodes.length} invocations`, width: width + 2 * EDGE, height: height + 2 * EDGE,
    viewBox: `${-EDGE} ${-EDGE} ${width + 2 * EDGE} ${height + 2 * EDGE}`,
  }, edges, boxes);
}
