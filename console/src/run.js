// Commands that are run once, each with what it writes, as it writes it.

import { PLAIN, dress, pieces } from "./ansi.js";
import { decoded, objects, request } from "./api.js";
import { button, h, setText } from "./dom.js";
import { bytes as sayBytes, exactSpan, words } from "./say.js";

/** Of one run, and of all; what is older goes. */
const SHOWN_MAX = 512 << 10;
const RUNS_MAX = 50;
const DAY_MS = 86_400_000;

export function runView() {
  const field = h("input", {
    type: "text",
    id: "run",
    spellcheck: false,
    autocomplete: "off",
    autocapitalize: "off",
    placeholder: "Run a command",
    "aria-label": "Command to run",
  });
  const shell = h("input", { type: "checkbox", checked: true });
  const output = h("div", { class: "runs", tabIndex: 0, role: "region", "aria-label": "What was run" });
  const over = output.getElementsByClassName("over");
  const element = h(
    "section",
    { class: "run" },
    h("h1", { class: "sr" }, "Run"),
    output,
    h(
      "form",
      { class: "bar prompt", on: { submit: (event) => (event.preventDefault(), start()) } },
      h("span", { class: "sign", "aria-hidden": "true" }, "$"),
      field,
      h("label", { class: "choice", title: "sh -c, for pipes, redirections and $VARIABLES" }, shell, "Shell"),
      h("button", { type: "submit", class: "primary" }, "Run"),
    ),
  );
  const past = [];
  let at = 0;

  field.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    at = Math.max(0, Math.min(past.length, at + (event.key === "ArrowUp" ? -1 : 1)));
    field.value = past[at] ?? "";
    event.preventDefault();
  });

  function start() {
    const line = field.value;
    if (!line.trim()) return;
    if (past.at(-1) !== line) past.push(line);
    if (past.length > 200) past.shift();
    at = past.length;
    field.value = "";
    const [command, ...args] = shell.checked ? ["sh", "-c", line] : words(line);
    run(line, { command, args });
  }

  async function run(line, what) {
    const aborted = new AbortController();
    const end = button("Stop", () => aborted.abort(), { "aria-label": `Stop ${line.slice(0, 80)}` });
    const how = h("span", { class: "how", role: "status" }, "runs");
    const text = h("pre");
    const article = h("article", null, h("header", null, h("code", null, `$ ${line}`), how, end), text);
    output.append(article);
    // What still runs has to stay: only here it can be stopped.
    while (output.childElementCount > RUNS_MAX && over.length > 0) over[0].remove();
    const styles = { stdout: PLAIN, stderr: PLAIN };
    let held = 0;
    let waiting = [];
    let backlog = 0;
    let planned = false;
    const draw = () => {
      planned = false;
      backlog = 0;
      const isAtEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
      for (const { type, bytes } of waiting) {
        const { found, style } = pieces(bytes, 0, bytes.length, styles[type]);
        styles[type] = style;
        const part = h("span", { class: type });
        for (const [look, words] of found) {
          const span = h("span", null, words);
          dress(span, look);
          part.append(span);
        }
        part.dataset.bytes = bytes.length;
        text.append(part);
        held += bytes.length;
      }
      waiting = [];
      while (held > SHOWN_MAX && text.childElementCount > 1) {
        held -= Number(text.firstChild.dataset.bytes);
        text.firstChild.remove();
        text.classList.add("cut");
      }
      if (isAtEnd) output.scrollTop = output.scrollHeight;
    };
    try {
      const response = await request("POST", "processes/run", {
        body: { ...what, timeoutMs: DAY_MS },
        headers: { accept: "application/x-ndjson" },
        signal: aborted.signal,
      });
      for await (const said of objects(response)) {
        if (said.type === "stdout" || said.type === "stderr") {
          const bytes = decoded(said.data);
          waiting.push({ type: said.type, bytes });
          backlog += bytes.length;
          if (!planned) {
            planned = true;
            requestAnimationFrame(draw);
          }
          // The program waits for this page, which has no frames while nobody sees it.
          if (backlog > SHOWN_MAX / 2) {
            draw();
            await new Promise((done) => setTimeout(done, 30));
          }
        } else if (said.type === "exit") {
          const ok = said.exitCode === 0;
          const code = said.timedOut ? "timed out" : (said.signal ?? `exit ${said.exitCode}`);
          how.className = `how ${ok ? "quiet" : "bad"}`;
          const wrote = said.stdoutBytes + said.stderrBytes;
          setText(how, `${code}, ${exactSpan(said.durationMs)}, ${sayBytes(wrote)}${said.processId ? `, left ${said.processId}` : ""}`);
        }
      }
      if (how.textContent === "runs") setText(how, "ended without a word of how");
    } catch (error) {
      how.className = "how bad";
      setText(how, error.name === "AbortError" ? "stopped" : error.message);
    }
    end.remove();
    article.classList.add("over");
    requestAnimationFrame(draw);
  }

  return { element, show: () => field.focus(), hide() {} };
}
