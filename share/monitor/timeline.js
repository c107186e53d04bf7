// Who ran what when: a lane a runner, a bar for each time an invocation was its.

import { get } from "/api.js";
import { clock, duration, el, GROUPS, show, svg, visible, wordOf } from "/dom.js";

const BAR = 16, GAP = 4, LANE = 14, AXIS = 26, MOST_ROWS = 40;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];
const SPANS = [[60, "1 minute"], [300, "5 minutes"], [900, "15 minutes"], [3600, "1 hour"], [21600, "6 hours"], [86400, "1 day"]];

/** Bars of one invocation share a row; invocations that were there at the same time do not. */
function pack(bars) {
  const extents = new Map();
  for (const bar of bars) {
    const e = extents.get(bar.of) ?? { from: bar.from, to: bar.to };
    e.from = Math.min(e.from, bar.from);
    e.to = Math.max(e.to, bar.to);
    extents.set(bar.of, e);
  }
  const ends = [], rowOf = new Map();
  for (const [of, e] of [...extents].sort((a, b) => a[1].from - b[1].from)) {
    let row = ends.findIndex((end) => end <= e.from);
    if (row < 0) row = ends.length < MOST_ROWS ? ends.length : ends.indexOf(Math.min(...ends));
    ends[row] = Math.max(ends[row] ?? 0, e.to);
    rowOf.set(of, row);
  }
  return { rowOf, rows: Math.max(1, ends.length) };
}

/** What is drawn: from the first bar to now, at most the time asked for. */
function drawing(data, width) {
  const first = Math.min(...data.lanes.flatMap((l) => l.bars.map((b) => b.from)));
  const last = Math.max(...data.lanes.flatMap((l) => l.bars.map((b) => b.to)));
  const running = data.lanes.some((l) => l.bars.some((b) => b.open));
  const from = Math.max(first, data.from), to = Math.max(running ? data.now : last, from + 1);
  const room = (to - from) * 0.01;
  const left = from - room, right = to + room, plot = Math.max(200, width);
  const x = (t) => ((Math.max(t, left) - left) / (right - left)) * plot;
  const step = STEPS.find((s) => (right - left) / s <= plot / 90) ?? STEPS.at(-1);

  const lanes = [], parts = [];
  let y = AXIS;
  for (const lane of data.lanes) {
    const { rowOf, rows } = pack(lane.bars);
    const height = rows * (BAR + GAP) - GAP + LANE;
    parts.push(svg("rect", { class: "lane", x: 0, y, width: plot, height }));
    for (const bar of lane.bars) {
      const of = data.invocations[bar.of];
      const outcome = bar.status === "PENDING" || bar.status === "PAUSED" ? GROUPS[bar.status] : bar.open ? "working" : GROUPS[of.status];
      const rect = svg("rect", {
        class: "bar", x: x(bar.from).toFixed(2), y: y + LANE / 2 + rowOf.get(bar.of) * (BAR + GAP), height: BAR, rx: 3,
        width: Math.max(2, x(bar.to) - x(bar.from)).toFixed(2), "data-group": outcome, "data-open": bar.open, "data-wide": x(bar.to) - x(bar.from) > 6,
      });
      const about = svg("title", {}, `${of.task}\n${of.id}\n${wordOf(bar.status)} ${duration(bar.to - bar.from)} from ${clock(bar.from)}\nnow ${wordOf(of.status)}`);
      parts.push(of.key === null ? svg("g", {}, about, rect) : svg("a", { href: `#/invocation/${of.key}`, tabindex: bar.status === "RUNNING" ? null : "-1" }, about, rect));
    }
    lanes.push({ lane, y, height });
    y += height + 6;
  }
  const axis = [];
  for (let t = Math.ceil(left / step) * step; t < right; t += step) {
    const at = x(t).toFixed(2);
    axis.push(svg("line", { class: "tick", x1: at, x2: at, y1: AXIS - 5, y2: y - 6 }));
    if (x(t) > 24 && x(t) < plot - 24) axis.push(svg("text", { class: "tick-text", x: at, y: AXIS - 11, "text-anchor": "middle" }, clock(t, step < 1000)));
  }
  return { picture: svg("svg", { class: "timeline", role: "group", "aria-label": "Timeline", width: plot, height: y, viewBox: `0 0 ${plot} ${y}` }, axis, parts), lanes };
}

const LEGEND = [["taken", "taken, not begun"], ["working", "running"], ["paused", "waits for another"], ["good", "succeeded"], ["bad", "failed"], ["held", "tried again"], ["gone", "cancelled"], ["lost", "its runner was lost"]];

export function timeline(query) {
  const seconds = SPANS.some(([s]) => String(s) === query.seconds) ? query.seconds : "300";
  const choice = el("select", { id: "span", onchange: () => { location.hash = `#/timeline?seconds=${choice.value}`; } },
    SPANS.map(([s, text]) => el("option", { value: s, selected: String(s) === seconds }, text)));
  const place = el("div", { class: "lanes" });
  let data = null;

  function draw() {
    if (!data) return;
    const width = Math.max(320, place.clientWidth - (place.clientWidth > 640 ? 190 : 0));
    show(place, [data.lanes, data.invocations, width, data.lanes.some((l) => l.bars.some((b) => b.open)) && data.now], () => {
      if (data.lanes.length === 0) return el("p", { class: "nothing" }, "No runner had anything in this time.");
      const { picture, lanes } = drawing(data, width);
      const names = el("div", { class: "names", "aria-hidden": "true" }, lanes.map(({ lane, y, height }) => {
        const name = el("div", { class: "lane-name" }, el("strong", { class: "clip" }, lane.description || lane.id), el("span", { class: "id quiet clip" }, lane.description ? lane.id : lane.description === null ? "gone" : ""));
        name.style.top = `${y}px`;
        name.style.height = `${height}px`;
        name.title = visible(lane.id);
        return name;
      }));
      return [names, el("div", { class: "scroll" }, picture)];
    });
  }
  const watcher = new ResizeObserver(draw);
  watcher.observe(place);

  return {
    title: "Timeline",
    node: el("section", {},
      el("div", { class: "headline" }, el("h1", {}, "Timeline"), el("span", { class: "spring" }), el("label", { for: "span", class: "quiet" }, "The last"), choice),
      el("section", { class: "card" }, place),
      el("ul", { class: "legend" }, LEGEND.map(([group, text]) => el("li", {}, el("span", { class: "swatch", "data-group": group }), text)))),
    async load() {
      data = await get(`timeline?seconds=${seconds}`);
      draw();
    },
    close: () => watcher.disconnect(),
  };
}
