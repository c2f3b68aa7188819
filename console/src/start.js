// The dialog that starts a process.

import { call, of } from "./api.js";
import { button, dialog, h } from "./dom.js";
import { typed, words } from "./say.js";
import { terminalSize } from "./size.js";
import { learn } from "./store.js";

const lines = (text) => text.split("\n").filter((line) => line !== "");

const UNITS = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A number with a unit, as in 64M; anything else as it is, for the server to say what is wrong with it. */
function amount(text) {
  const [, digits, unit] = text.trim().match(/^(\d+)([KMG]?)$/i) ?? [];
  return digits ? Number(digits) * (UNITS[unit.toUpperCase()] ?? 1) : text;
}

/** Shows it, filled in like `like` if there is one; goes to what was started. */
export async function startDialog(like) {
  // A list cuts what is very long.
  if (like?.argsTruncated) like = await call("GET", of(like.id));
  const field = (id, label, element, help) => [
    h("label", { htmlFor: id }, label),
    element,
    help && h("p", { class: "help", id: `${id}-help` }, help),
  ];
  const text = (id, props) => h("input", { id, type: "text", spellcheck: false, autocomplete: "off", ...props });
  const command = text("start-command", {
    required: true,
    value: like ? typed({ command: like.command }) : "",
    placeholder: "make -j2",
    "aria-describedby": "start-words",
  });
  const args = h("textarea", { id: "start-args", rows: 3, spellcheck: false, value: like ? like.args.join("\n") : "" });
  const filled = args.value;
  const cwd = text("start-cwd", { value: like?.cwd ?? "" });
  const env = h("textarea", { id: "start-env", rows: 2, spellcheck: false, placeholder: "NAME=VALUE" });
  const name = text("start-name", { pattern: "[A-Za-z0-9._\\-]{1,64}" });
  const labels = h("textarea", { id: "start-labels", rows: 2, spellcheck: false, placeholder: "team=web" });
  const user = text("start-user");
  const limits = h("textarea", {
    id: "start-limits",
    rows: 2,
    spellcheck: false,
    placeholder: "memoryBytes=64M",
    "aria-describedby": "start-limits-help",
  });
  const shell = h("input", { type: "checkbox", id: "start-shell" });
  const kind = (value, label, checked) =>
    h("label", { class: "choice" }, h("input", { type: "radio", name: "start-kind", value, checked }), label);
  const kinds = h(
    "fieldset",
    null,
    h("legend", null, "Connected to"),
    kind("terminal", "a terminal", like ? like.tty : true),
    kind("pipes", "pipes", like ? !like.tty : false),
  );
  const preview = h("p", { class: "help words", id: "start-words", "aria-live": "polite" });
  const said = h("p", { class: "problem", role: "alert" });

  const asked = () => {
    // As they were, unless somebody changes them: one may be empty, or have several lines.
    const more = like && args.value === filled ? like.args : lines(args.value);
    if (shell.checked) return { command: "sh", args: ["-c", command.value, ...(more.length ? ["sh", ...more] : [])] };
    const [first = "", ...rest] = words(command.value);
    return { command: first, args: [...rest, ...more] };
  };
  const show = () => {
    const { command: program, args: list } = asked();
    preview.replaceChildren(...(program ? [program, ...list].map((word) => h("kbd", null, word)) : ["A program and its arguments."]));
  };

  const started = await dialog("Start a process", (close) => {
    const form = h(
      "form",
      {
        class: "fields",
        on: {
          input: show,
          async submit(event) {
            event.preventDefault();
            said.textContent = "";
            const pairs = (element, read = (value) => value) => Object.fromEntries(lines(element.value).map((line) => {
              const at = line.indexOf("=");
              return at < 0 ? [line, read("")] : [line.slice(0, at), read(line.slice(at + 1))];
            }));
            const body = { ...asked(), tty: new FormData(form).get("start-kind") === "terminal" };
            if (cwd.value) body.cwd = cwd.value;
            if (name.value) body.name = name.value;
            if (env.value.trim()) body.env = pairs(env);
            if (labels.value.trim()) body.labels = pairs(labels);
            if (user.value) body.user = user.value;
            if (limits.value.trim()) body.limits = pairs(limits, amount);
            if (body.tty) Object.assign(body, await terminalSize(body));
            try {
              // A misspelt limit would else be none.
              close(await call("POST", "processes", { body, headers: { prefer: "handling=strict" } }));
            } catch (error) {
              said.textContent = error.message;
            }
          },
        },
      },
      field("start-command", "Command", command),
      preview,
      h("label", { class: "choice" }, shell, "Through a shell (sh -c)"),
      kinds,
      field("start-name", "Name", name, "Optional; it may stand for the id everywhere."),
      h(
        "details",
        { open: Boolean(like && (like.args.length || like.cwd)) },
        h("summary", null, "More"),
        field("start-args", "Arguments, one a line", args, "Behind those of the command, as they are."),
        field("start-cwd", "Working directory", cwd),
        field("start-env", "Environment, one variable a line", env),
        field("start-labels", "Labels, one a line", labels),
        field("start-user", "User", user),
        field("start-limits", "Limits, one a line", limits, "nofile, fileBytes, coreBytes, addressSpaceBytes, cpuSeconds, outputBytesPerSecond; of the whole tree memoryBytes, swapBytes, cpuMillis, pids."),
      ),
      said,
      h(
        "div",
        { class: "buttons" },
        button("Cancel", () => close(null)),
        h("button", { type: "submit", class: "primary" }, "Start"),
      ),
    );
    show();
    return form;
  });
  if (!started) return;
  learn(started);
  location.hash = `#/${started.id}/${started.tty ? "terminal" : "logs"}`;
}
