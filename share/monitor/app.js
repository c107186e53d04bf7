// The page: which view is shown, how it hears of changes, and what is wrong.

import { get, hasToken, live, post } from "/api.js";
import { el, say, visible } from "/dom.js";
import { invocation } from "/detail.js";
import { invocations } from "/list.js";
import { runners } from "/runners.js";
import { timeline } from "/timeline.js";
import { workflow } from "/workflow.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const liveNode = document.getElementById("live");
const liveText = document.getElementById("live-text");
const toast = document.getElementById("toast");

let about = { title: "caller", allow_write: false };
let state = null, view = null, loading = false, again = false, toastTimer = 0;
const wrong = { store: "", monitor: "", view: "" };

function showTrouble() {
  const text = wrong.monitor || wrong.store || wrong.view;
  banner.hidden = text === "";
  say(banner, text);
  liveNode.dataset.live = wrong.monitor ? "lost" : wrong.store ? "trouble" : state ? "live" : "connecting";
  say(liveText, { lost: "Disconnected", trouble: "Store unavailable", live: "Live", connecting: "Connecting" }[liveNode.dataset.live]);
}

const site = {
  mayWrite: () => about.allow_write && hasToken(),
  tell(what) {
    say(toast, what instanceof Error ? what.message : what);
    toast.dataset.kind = what instanceof Error ? "bad" : "good";
    toast.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.hidden = true; }, 5000);
  },
  refresh,
  purge,
};

/** Loads what the view shows; once more if something changed meanwhile. */
async function refresh() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  do {
    again = false;
    const shown = view;
    try {
      await shown.load();
      if (shown === view) wrong.view = "";
    } catch (error) {
      if (shown === view) wrong.view = error.status === 404 ? "There is no such invocation; it may have been purged." : error.message;
    }
    showTrouble();
  } while (again);
  loading = false;
}

function route() {
  const [path, text = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const query = Object.fromEntries(text.split("&").filter(Boolean).map((p) => p.split("=", 2)));
  const [kind, key] = path.split("/");
  view?.close?.();
  wrong.view = "";
  view = kind === "invocation" && key ? invocation(key, site)
    : kind === "workflow" && key ? workflow(key, site)
    : kind === "runners" ? runners()
    : kind === "timeline" ? timeline(query)
    : invocations(query, site);
  document.title = `${view.title} \u00b7 ${visible(about.title)}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === (kind === "runners" || kind === "timeline" ? kind : "invocations")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(view.node);
  scrollTo(0, 0);
  if (state) view.update?.(state);
  refresh();
}

function purge() {
  const dialog = document.getElementById("purge");
  const age = el("select", { id: "age" }, [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["0", "any time"]].map(([v, t]) => el("option", { value: v, selected: v === "86400" }, t)));
  const all = el("input", { type: "checkbox", id: "all" });
  const sure = el("input", { type: "text", id: "sure", autocomplete: "off", spellcheck: "false", disabled: true });
  const go = el("button", { class: "button danger", value: "go" }, "Purge");
  const check = () => {
    sure.disabled = !all.checked;
    age.disabled = all.checked;
    go.disabled = all.checked && sure.value !== about.title;
  };
  all.addEventListener("change", check);
  sure.addEventListener("input", check);
  dialog.replaceChildren(el("form", { method: "dialog", onsubmit: async (event) => {
    if (event.submitter?.value !== "go") return;
    try {
      const answer = await post("purge", all.checked ? { everything: true } : { older_than_seconds: Number(age.value) });
      site.tell(`${answer.purged.toLocaleString("en")} purged.`);
      refresh();
    } catch (error) {
      site.tell(error);
    }
  } },
    el("h2", {}, "Forget invocations"),
    el("p", {}, el("label", { for: "age" }, "Those that have been final for "), age),
    el("p", {}, all, " ", el("label", { for: "all" }, "Everything, also what waits and runs")),
    el("p", { class: "below" }, el("label", { for: "sure", class: "quiet" }, "To be sure, type ", el("code", {}, about.title)), sure),
    el("p", { class: "actions" }, go, el("button", { class: "button", value: "no" }, "Leave it"))));
  dialog.showModal();
}

async function begin() {
  for (;;) {
    try {
      about = await get("info");
      break;
    } catch (error) {
      wrong.monitor = error.message;
      showTrouble();
      await new Promise((done) => { setTimeout(done, 1000); });
    }
  }
  wrong.monitor = "";
  say(document.getElementById("title"), about.title);
  const store = document.getElementById("store");
  say(store, about.store);
  store.title = visible(about.store);
  const mode = document.getElementById("mode");
  mode.hidden = site.mayWrite();
  say(mode, "read-only");
  mode.title = about.allow_write ? "Open the address that the program printed to make changes." : "Start the monitor with --allow-write to make changes.";
  addEventListener("hashchange", route);
  route();
  live({
    state(next) {
      state = next;
      wrong.store = wrong.monitor = "";
      view.update?.(state);
      showTrouble();
      refresh();
    },
    trouble(error) {
      wrong.monitor = "";
      wrong.store = error.message;
      showTrouble();
    },
    lost() {
      wrong.monitor = "The monitor does not answer. This page goes on by itself when it is there again.";
      showTrouble();
    },
  });
}

begin();
