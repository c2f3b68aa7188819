// What the server is, what works, and how much of its limits is used.

import { call } from "./api.js";
import { button, h } from "./dom.js";
import { bytes, number, span } from "./say.js";
import { subscribe } from "./store.js";

/** Counts that have a limit: [what, count, limit, how it is said]. */
const USES = [
  ["Running processes", "runningProcesses", "maxConcurrentProcesses"],
  ["Exited processes kept", "exitedProcesses", "maxExited"],
  ["Trees left behind", "leftovers", "maxLeftovers"],
  ["Runs", "runs", "maxConcurrentRuns"],
  ["Connections", "connections", "maxConnections"],
];

/** "maxLogBytesPerProcess" as words. */
const words = (key) => {
  const said = key.replace(/(Ms|Bytes)$/, "").replaceAll(/([A-Z])/g, " $1").toLowerCase().trim();
  return said[0].toUpperCase() + said.slice(1);
};

const value = (key, n) => {
  if (typeof n !== "number") return typeof n === "object" ? JSON.stringify(n) : String(n);
  if (/Ms$/.test(key)) return n < 1000 ? `${n} ms` : span(n);
  if (/Bytes/.test(key)) return bytes(n);
  return number(n);
};

function meter(name, used, limit, say = number) {
  const share = Math.min(1, used / limit);
  return h(
    "div",
    { class: "use" },
    h("span", null, name),
    h("span", { class: "n" }, `${say(used)} of ${say(limit)}`),
    h("meter", { value: share, min: 0, max: 1, high: 0.9, low: 0.7, optimum: 0, "aria-label": name }),
  );
}

const rows = (pairs) => h("dl", null, pairs.flatMap(([name, what]) => [h("dt", null, name), h("dd", null, what)]));

export function serverView() {
  const content = h("div", { class: "cards" });
  const element = h("section", { class: "server" }, h("div", { class: "bar" }, h("h1", null, "Server"), button("Refresh", load)), content);
  let waiting = null;

  async function load() {
    clearTimeout(waiting);
    waiting = null;
    let server;
    try {
      server = await call("GET", "server");
    } catch (error) {
      if (error.status !== 401) content.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
      return;
    }
    draw(server);
  }

  function draw({ name, version, backend, startedAtMs, pid, capabilities, limits, counts, missing, memory, ...others }) {
    const uses = USES.filter(([, count, limit]) => counts?.[count] !== undefined && limits?.[limit]).map(([what, count, limit]) =>
      meter(what, counts[count], limits[limit]));
    if (memory?.totalBytes !== undefined && limits?.memoryMaxBytes) {
      uses.push(meter("Memory for clients", memory.totalBytes, limits.memoryMaxBytes, bytes));
    }
    const shown = new Set(USES.map(([, , limit]) => limit).concat("memoryMaxBytes"));
    const card = (title, ...children) => h("section", { class: "card" }, h("h2", null, title), children);
    const simple = Object.entries(others).filter(([, what]) => ["string", "number", "boolean"].includes(typeof what));
    content.replaceChildren(
      card(
        "This server",
        rows([
          ["Version", `${name} ${version}`],
          ["I/O", backend],
          ["Up for", span(Date.now() - startedAtMs)],
          ["Since", new Date(startedAtMs).toLocaleString()],
          ["Process", String(pid)],
          ...simple.map(([key, what]) => [words(key), value(key, what)]),
        ]),
      ),
      card("In use", uses),
      card(
        "What works",
        h("ul", { class: "words" }, (capabilities ?? []).map((word) => h("li", null, word))),
        missing?.length ? [h("h3", null, "What does not, and why"), h("ul", null, missing.map((sentence) => h("li", null, sentence)))] : null,
      ),
      card("Limits", rows(Object.entries(limits ?? {}).filter(([key]) => !shown.has(key)).map(([key, n]) => [words(key), value(key, n)]))),
      memory ? card("Memory", rows(Object.entries(memory).map(([key, n]) => [words(key), value(key, n)]))) : "",
    );
  }

  let unsubscribe = () => {};
  return {
    element,
    show() {
      // Counts change when processes do.
      unsubscribe = subscribe(() => (waiting ??= setTimeout(load, 1000)));
      load();
    },
    hide() {
      unsubscribe();
      clearTimeout(waiting);
      waiting = null;
    },
    retry: load,
  };
}
