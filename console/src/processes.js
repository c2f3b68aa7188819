// All processes: a table that is always true, filters, and what can be done to each.

import { choices, stop } from "./actions.js";
import { button, h, menu, setText } from "./dom.js";
import { startDialog } from "./start.js";
import { bytes, called, commandLine, exit, label as labelText, span, state } from "./say.js";
import { connection, processes, subscribe } from "./store.js";

/** Rows that are there at once; more when they are asked for. */
const ROWS = 200;

export function processesView() {
  const text = h("input", { type: "search", id: "filter", placeholder: "Filter", "aria-label": "Filter by id, name, command or label", spellcheck: false });
  const label = h("select", { "aria-label": "Label" }, h("option", { value: "" }, "Any label"));
  const statuses = h(
    "select",
    { "aria-label": "Status" },
    [["", "Any status"], ["running", "Running"], ["exited", "Exited"], ["failed", "Failed"]].map(([value, words]) => h("option", { value }, words)),
  );
  const count = h("span", { class: "count", role: "status" });
  const body = h("tbody");
  const column = (name, kind) => h("th", { scope: "col", class: kind }, name);
  const table = h(
    "table",
    { class: "processes" },
    h("caption", { class: "sr" }, "Processes"),
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        column("Status"),
        column("Process"),
        column("Command", "command"),
        column("Age", "n"),
        column("Exit", "n exit"),
        column("Output", "n output"),
        column("Followers", "n followers"),
        h("th", { scope: "col", class: "acts" }, h("span", { class: "sr" }, "Actions")),
      ),
    ),
    body,
  );
  const empty = h("p", { class: "empty" });
  const more = button("Show more", () => {
    limit += ROWS;
    draw();
  }, { class: "more" });
  let limit = ROWS;

  const rows = new Map();

  function make(id) {
    const cells = {
      dot: h("span", { class: "dot" }),
      state: h("span"),
      link: h("a", { class: "name" }),
      id: h("span", { class: "id" }),
      labels: h("span", { class: "labels" }),
      command: h("code"),
      age: h("td", { class: "n" }),
      exit: h("td", { class: "n exit" }),
      output: h("td", { class: "n output" }),
      followers: h("td", { class: "n followers" }),
      logs: h("a", { href: `#/${id}/logs` }, "Logs"),
      terminal: h("a", { href: `#/${id}/terminal` }, "Terminal"),
      stop: button("Stop", () => stop(processes.get(id))),
      more: button("⋯", () => menu(cells.more, choices(id)), { "aria-haspopup": "menu" }),
    };
    const element = h(
      "tr",
      null,
      h("td", { class: "status" }, cells.dot, cells.state),
      h("th", { scope: "row" }, cells.link, cells.id, cells.labels),
      h("td", { class: "command" }, cells.command),
      cells.age,
      cells.exit,
      cells.output,
      cells.followers,
      h("td", { class: "acts" }, h("div", null, cells.logs, cells.terminal, cells.stop, cells.more)),
    );
    return { element, cells, drawn: null };
  }

  function fill(row, process) {
    const { cells } = row;
    setText(cells.followers, process.followers ? String(process.followers) : "");
    setText(cells.output, process.outputBytes === undefined ? "" : bytes(process.outputBytes));
    if (row.drawn === process.status + process.descendants) return;
    row.drawn = process.status + process.descendants;
    const { text: word, kind } = state(process);
    const name = called(process);
    cells.dot.className = `dot ${process.status} ${kind}`;
    setText(cells.state, process.descendants ? `${word}, ${process.descendants} left` : word);
    cells.link.href = `#/${process.id}/${process.tty ? "terminal" : "logs"}`;
    setText(cells.link, name);
    setText(cells.id, process.name ? process.id : "");
    cells.labels.replaceChildren(...Object.entries(process.labels ?? {}).map(([key, value]) =>
      button(labelText(key, value), () => {
        label.value = `${key}=${value}`;
        draw();
      }, { class: "label", "aria-label": `Only with label ${labelText(key, value)}` })));
    const line = commandLine(process);
    setText(cells.command, line.length > 300 ? `${line.slice(0, 300)}…` : line);
    cells.command.title = line.slice(0, 2000);
    setText(cells.exit, exit(process));
    cells.exit.className = `n exit ${kind}`;
    cells.terminal.hidden = !process.tty;
    cells.stop.hidden = process.status !== "running";
    for (const part of ["logs", "terminal", "stop"]) cells[part].setAttribute("aria-label", `${cells[part].textContent} of ${name}`);
    cells.stop.setAttribute("aria-label", `Stop ${name}`);
    cells.more.setAttribute("aria-label", `More for ${name}`);
  }

  const ages = () => {
    const now = Date.now();
    for (const [id, { cells }] of rows) {
      const process = processes.get(id);
      if (process) setText(cells.age, span((process.exitedAtMs ?? now) - process.createdAtMs));
    }
  };

  function fits(process, needle) {
    if (statuses.value === "failed") {
      if (process.status === "running" || process.exitCode === 0) return false;
    } else if (statuses.value && process.status !== statuses.value) return false;
    const pairs = Object.entries(process.labels ?? {}).map((pair) => pair.join("="));
    if (label.value && !pairs.includes(label.value)) return false;
    if (!needle) return true;
    const all = [process.id, process.name ?? "", commandLine(process), ...pairs].join("\n").toLowerCase();
    return needle.every((word) => all.includes(word));
  }

  function drawLabels() {
    const there = new Set();
    for (const process of processes.values()) {
      for (const pair of Object.entries(process.labels ?? {})) if (there.size < 200) there.add(pair.join("="));
    }
    if (label.value) there.add(label.value);
    const wanted = ["", ...[...there].sort()];
    if (wanted.join("\n") === [...label.options].map((option) => option.value).join("\n")) return;
    const { value } = label;
    label.replaceChildren(...wanted.map((pair) => h("option", { value: pair }, pair ? labelText(...pair.split(/=(.*)/s)) : "Any label")));
    label.value = value;
    label.hidden = wanted.length === 1;
  }

  const newest = (process) => Number(process.id.replace("proc_", ""));

  function draw() {
    drawLabels();
    const needle = text.value.trim() ? text.value.trim().toLowerCase().split(/\s+/) : null;
    const wanted = [...processes.values()].filter((process) => fits(process, needle));
    wanted.sort((a, b) => (b.status === "running") - (a.status === "running") || newest(b) - newest(a));
    const there = new Set();
    let place = body.firstElementChild;
    for (const process of wanted.slice(0, limit)) {
      there.add(process.id);
      if (!rows.has(process.id)) rows.set(process.id, make(process.id));
      const row = rows.get(process.id);
      fill(row, process);
      if (row.element === place) place = place.nextElementSibling;
      else body.insertBefore(row.element, place);
    }
    for (const [id, row] of rows) {
      if (there.has(id)) continue;
      row.element.remove();
      rows.delete(id);
    }
    ages();
    const running = wanted.filter((process) => process.status === "running").length;
    setText(count, `${wanted.length === processes.size ? "" : `${wanted.length} of `}${processes.size} processes, ${running} running`);
    more.hidden = wanted.length <= limit;
    table.hidden = wanted.length === 0;
    empty.hidden = wanted.length > 0;
    setText(empty, processes.size ? "No process fits the filter." : connection === "live" ? "Nothing has been started yet." : "");
  }

  let ticking;
  for (const element of [text, label, statuses]) element.addEventListener("input", draw);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    text.value = "";
    draw();
  });
  const element = h(
    "section",
    { class: "list" },
    h("h1", { class: "sr" }, "Processes"),
    h(
      "div",
      { class: "bar" },
      button("Start…", () => startDialog(), { class: "primary" }),
      text,
      statuses,
      label,
      count,
    ),
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Processes" }, table, empty, more),
  );
  let unsubscribe = () => {};
  return {
    element,
    show() {
      unsubscribe = subscribe(draw);
      ticking = setInterval(ages, 1000);
      draw();
    },
    hide() {
      unsubscribe();
      clearInterval(ticking);
    },
  };
}
