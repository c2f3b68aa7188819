// One process: what it is at the top, its log and its terminal below.

import { choices, stop } from "./actions.js";
import { button, h, menu, setText } from "./dom.js";
import { logsView } from "./logs.js";
import { called, commandLine, exit, span, state } from "./say.js";
import { processes, subscribe } from "./store.js";
import { terminalView } from "./screen.js";

const MAKERS = { logs: logsView, terminal: terminalView };

/** What stands above its parts; `draw` says what it is now. */
export function headOf(id) {
  const dot = h("span", { class: "dot" });
  const name = h("h1");
  const command = h("code", { class: "command" });
  const how = h("span", { class: "how", role: "status" });
  const links = {
    logs: h("a", { href: `#/${id}/logs` }, "Logs"),
    terminal: h("a", { href: `#/${id}/terminal` }, "Terminal"),
  };
  const stopIt = button("Stop", () => stop(processes.get(id)));
  const more = button("⋯", () => menu(more, choices(id)), { "aria-haspopup": "menu", "aria-label": "More" });
  const place = h("div", { class: "place" });
  const element = h(
    "section",
    { class: "process" },
    h(
      "div",
      { class: "bar head" },
      dot,
      name,
      command,
      how,
      h("span", { class: "space" }),
      h("nav", { class: "parts", "aria-label": "Views" }, links.logs, links.terminal),
      stopIt,
      more,
    ),
    place,
  );

  function draw(process) {
    if (!process) {
      setText(how, "deleted");
      stopIt.hidden = more.hidden = true;
      return;
    }
    const { text, kind } = state(process);
    dot.className = `dot ${process.status} ${kind}`;
    setText(name, called(process));
    const line = commandLine(process);
    setText(command, line.slice(0, 500));
    command.title = line.slice(0, 2000);
    const code = exit(process);
    const took = process.exitedAtMs ? ` after ${span(process.exitedAtMs - process.createdAtMs)}` : "";
    setText(how, process.status === "running" ? "" : `${text}${code ? ` (${code})` : ""}${took}${process.descendants ? `, ${process.descendants} left` : ""}`);
    how.className = `how ${kind}`;
    links.terminal.hidden = !process.tty;
    stopIt.hidden = process.status !== "running";
    more.hidden = false;
  }

  return {
    element,
    place,
    draw,
    turnTo(part) {
      for (const [word, link] of Object.entries(links)) {
        if (word === part) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
  };
}

export function processView(id) {
  const head = headOf(id);
  const { element, place } = head;
  const parts = {};
  let shown = null;
  let isVisible = false;
  let bornAt;

  function draw() {
    const process = processes.get(id);
    if (process && bornAt !== undefined && bornAt !== process.createdAtMs) {
      // Another process of this id, in another life of the server.
      for (const part of Object.values(parts)) part.retry?.();
    }
    bornAt = process?.createdAtMs ?? bornAt;
    head.draw(process);
  }

  const unsubscribe = subscribe(() => isVisible && draw());
  draw();
  return {
    element,
    turnTo(part) {
      head.turnTo(part);
      if (shown === part) return;
      if (shown && isVisible) parts[shown].hide();
      parts[part] ??= MAKERS[part](id);
      shown = part;
      place.replaceChildren(parts[part].element);
      if (isVisible) parts[part].show();
    },
    show() {
      isVisible = true;
      draw();
      parts[shown]?.show();
    },
    hide() {
      isVisible = false;
      parts[shown]?.hide();
    },
    dispose() {
      unsubscribe();
      for (const part of Object.values(parts)) part.dispose();
    },
    retry() {
      for (const part of Object.values(parts)) part.retry?.();
    },
  };
}
