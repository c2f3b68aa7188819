// The page: what is at the top of it, which view an address means, what stays open.
//
// Addresses: #/processes, #/run, #/server, #/ID/logs, #/ID/terminal; #ID is either of the last two.

import { call, of, onSignIn, token } from "./api.js";
import { button, h, setText, toast } from "./dom.js";
import { called } from "./say.js";
import { processView } from "./process.js";
import { processesView } from "./processes.js";
import { runView } from "./run.js";
import { serverView } from "./server.js";
import { signIn } from "./signin.js";
import * as store from "./store.js";
import { tabOf } from "./tab.js";

const TABS = "procring.tabs";
const THEME = "procring.theme";

const main = h("main", { id: "main", tabIndex: -1 });
const tabs = h("nav", { class: "tabs", "aria-label": "Open processes" });
const link = (href, text) => h("a", { href, class: "page" }, text);
const pages = [link("#/processes", "Processes"), link("#/run", "Run"), link("#/server", "Server")];
const state = h("button", { type: "button", class: "connection", on: { click: store.retry } });
const signOut = button("Sign out", () => {
  token.forget();
  sessionStorage.removeItem(TABS);
  location.hash = "#/processes";
  location.reload();
}, { class: "plain" });
const theme = button("", turnTheme, { class: "plain theme", "aria-label": "Light or dark" });

document.body.prepend(
  h("a", { href: "#main", class: "skip", on: { click: (event) => (event.preventDefault(), main.focus()) } }, "To the content"),
  h(
    "header",
    { class: "top" },
    h("span", { class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 20, height: 20 }), "procring"),
    h("nav", { class: "pages", "aria-label": "Pages" }, pages),
    h("span", { class: "space" }),
    h("span", { class: "live", role: "status" }, state),
    theme,
    signOut,
  ),
  tabs,
  main,
);

// ---- light and dark

const system = matchMedia("(prefers-color-scheme: dark)");

function turnTheme() {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  setTheme();
}

/** The one that was chosen, else the system's. */
function setTheme() {
  const name = localStorage.getItem(THEME) ?? (system.matches ? "dark" : "light");
  document.documentElement.dataset.theme = name;
  setText(theme, name === "dark" ? "☾" : "☀");
  dispatchEvent(new Event("theme"));
}
setTheme();
system.addEventListener("change", setTheme);

// ---- views

/** Views that are open, by what they show; those of processes stay until their tab is closed. */
const views = new Map();
let shown = null;
let open = readTabs();

function readTabs() {
  try {
    const ids = JSON.parse(sessionStorage.getItem(TABS));
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string").slice(0, 32) : [];
  } catch {
    return [];
  }
}

function keepTabs() {
  sessionStorage.setItem(TABS, JSON.stringify(open));
}

const fixed = { processes: processesView, run: runView, server: serverView };

/** What an address means: {name} or {id, part}. */
function read(hash) {
  const path = hash.replace(/^#\/?/, "").split("?")[0];
  const [first = "", part] = path.split("/").map((word) => {
    try {
      return decodeURIComponent(word);
    } catch {
      return word;
    }
  });
  if (first === "") return { name: "processes" };
  if (Object.hasOwn(fixed, first) && part === undefined) return { name: first };
  return { id: first, part: part === "logs" || part === "terminal" ? part : null };
}

async function go() {
  const asked = read(location.hash);
  const hash = location.hash;
  if (asked.id !== undefined) {
    let process = store.processes.get(asked.id);
    // A name, or a list that is still to come.
    if (!process) {
      try {
        process = await call("GET", of(asked.id));
      } catch (error) {
        if (location.hash !== hash || error.status === 401) return;
        if (error.status === 404) drop(asked.id);
        show(h("section", { class: "empty" }, h("h1", null, "Not there"), h("p", null, error.message), link("#/processes", "All processes")));
        return;
      }
      if (location.hash !== hash) return;
      store.learn(process);
    }
    const part = asked.part === "terminal" && !process.tty ? "logs" : (asked.part ?? (process.tty ? "terminal" : "logs"));
    const proper = `#/${process.id}/${part}`;
    if (location.hash !== proper) {
      history.replaceState(null, "", proper);
    }
    if (!open.includes(process.id)) {
      open.push(process.id);
      keepTabs();
    }
    const key = `process ${process.id}`;
    if (!views.has(key)) views.set(key, processView(process.id, () => close(process.id)));
    const view = views.get(key);
    view.turnTo(part);
    show(view.element, view);
  } else {
    if (!views.has(asked.name)) views.set(asked.name, fixed[asked.name]());
    const view = views.get(asked.name);
    show(view.element, view);
  }
  drawTabs();
}

function show(element, view = null) {
  if (shown?.element !== element) {
    shown?.view?.hide?.();
    main.replaceChildren(element);
    shown = { element, view };
    view?.show?.();
    if (!main.contains(document.activeElement)) main.scrollTop = 0;
  }
  drawTabs();
}

/** Takes a tab away; where it was, -1 if it was not. */
function drop(id) {
  const key = `process ${id}`;
  const at = open.indexOf(id);
  views.get(key)?.dispose();
  views.delete(key);
  if (at >= 0) open.splice(at, 1);
  keepTabs();
  return at;
}

function close(id) {
  const at = drop(id);
  if (read(location.hash).id === id) {
    const next = open[Math.min(at, open.length - 1)];
    location.hash = next ? `#${next}` : "#/processes";
  }
  drawTabs();
}

const tabElements = new Map();

function drawTabs() {
  const here = read(location.hash);
  for (const page of pages) {
    const isHere = here.name !== undefined && page.getAttribute("href") === `#/${here.name}`;
    page.toggleAttribute("aria-current", false);
    if (isHere) page.setAttribute("aria-current", "page");
  }
  for (const [id, tab] of tabElements) {
    if (!open.includes(id)) {
      tab.element.remove();
      tabElements.delete(id);
    }
  }
  for (const id of open) {
    if (!tabElements.has(id)) {
      const tab = tabOf(id, () => close(id));
      tabs.append(tab.element);
      tabElements.set(id, tab);
    }
    const { element, to, dot, text } = tabElements.get(id);
    const process = store.processes.get(id);
    const name = process ? called(process) : id;
    setText(text, name);
    dot.className = `dot ${process?.status ?? ""}`;
    element.lastChild.setAttribute("aria-label", `Close the tab of ${name}`);
    if (here.id === id) to.setAttribute("aria-current", "page");
    else to.removeAttribute("aria-current");
    element.classList.toggle("here", here.id === id);
  }
  tabs.hidden = open.length === 0;
  const title = here.id !== undefined ? called(store.processes.get(here.id) ?? { id: here.id }) : here.name;
  document.title = `${title} · procring`;
}

store.subscribe(() => {
  const words = { connecting: "connecting…", live: "live", lost: "no connection; try again" };
  setText(state, words[store.connection]);
  state.className = `connection ${store.connection}`;
  state.disabled = store.connection !== "lost";
  drawTabs();
});

// ---- signing in

let asking = null;

onSignIn((hadOne) => {
  asking ??= signIn(hadOne).then((value) => {
    asking = null;
    token.set(value);
    signOut.hidden = false;
    store.reset();
    store.retry();
    for (const view of views.values()) view.retry?.();
    go();
  });
});

signOut.hidden = !token.get();
addEventListener("hashchange", go);
addEventListener("unhandledrejection", (event) => {
  const { reason } = event;
  if (reason?.name === "AbortError" || reason?.status === 401) return;
  if (reason?.status !== undefined) {
    event.preventDefault();
    toast(reason.message, "bad");
  }
});
store.changed();
store.follow();
go();
