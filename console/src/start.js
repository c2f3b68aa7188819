// The dialog that starts a process.

import { call } from "./api.js";
import { button, dialog, h } from "./dom.js";
import { typed, words } from "./say.js";
import { learn } from "./store.js";

const lines = (text) => text.split("\n").filter((line) => line !== "");

/** Shows it, filled in like `like` if there is one; goes to what was started. */
export async function startDialog(like) {
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
  const cwd = text("start-cwd", { value: like?.cwd ?? "" });
  const env = h("textarea", { id: "start-env", rows: 2, spellcheck: false, placeholder: "NAME=VALUE" });
  const name = text("start-name", { pattern: "[A-Za-z0-9._\\-]{1,64}" });
  const labels = h("textarea", { id: "start-labels", rows: 2, spellcheck: false, placeholder: "team=web" });
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
    const more = lines(args.value);
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
            const pairs = (element) => Object.fromEntries(lines(element.value).map((line) => {
              const at = line.indexOf("=");
              return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
            }));
            const body = { ...asked(), tty: new FormData(form).get("start-kind") === "terminal" };
            if (cwd.value) body.cwd = cwd.value;
            if (name.value) body.name = name.value;
            if (env.value.trim()) body.env = pairs(env);
            if (labels.value.trim()) body.labels = pairs(labels);
            try {
              close(await call("POST", "processes", { body }));
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
