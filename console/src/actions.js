// What can be done to a process, from wherever it is shown.

import { call, of } from "./api.js";
import { button, confirm, dialog, h, toast } from "./dom.js";
import { called, exit } from "./say.js";
import { forget, learn, processes } from "./store.js";
import { startDialog } from "./start.js";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGWINCH"];

const SCOPES = [
  ["group", "its process group"],
  ["leader", "the process alone"],
  ["tree", "the whole tree"],
  ["foreground", "the terminal's foreground group"],
];

async function told(work, say) {
  try {
    const record = await work;
    if (record?.id) learn(record);
    if (say) toast(say(record));
    return record;
  } catch (error) {
    if (error.status !== 401) toast(error.message, "bad");
    return null;
  }
}

export const stop = (process) =>
  told(call("POST", of(process.id, "/stop")), (record) =>
    record.status === "exited"
      ? `${called(record)} has stopped (${exit(record)}).`
      : `${called(record)} was asked to stop and is still running; Kill ends it.`,
  );

export const kill = (process) => told(call("POST", of(process.id, "/kill")), (record) => `${called(record)} was killed.`);

async function remove(process) {
  const living = process.descendants > 0;
  const text = living
    ? `Its record and its log go. ${process.descendants} of its descendants live on; end them first?`
    : "Its record and its log go.";
  if (!(await confirm(`Delete ${called(process)}?`, text, living ? "End them and delete" : "Delete"))) return;
  const query = living ? { tree: true } : {};
  const done = await told(call("DELETE", of(process.id), { query }).then(() => ({})));
  if (done) {
    forget(process.id);
    toast(`${called(process)} is deleted.`);
  }
}

export const deleteProcess = remove;

export async function signal(process) {
  const name = h("select", { id: "signal-name" }, SIGNALS.map((word) => h("option", null, word)));
  const scopes = SCOPES.filter(([word]) => process.tty || word !== "foreground");
  const scope = h("select", { id: "signal-scope" }, scopes.map(([value, text]) => h("option", { value }, text)));
  const wanted = await dialog(`Send a signal to ${called(process)}`, (close) =>
    h(
      "form",
      {
        class: "fields",
        on: { submit: (event) => (event.preventDefault(), close({ signal: name.value, scope: scope.value })) },
      },
      h("label", { htmlFor: "signal-name" }, "Signal"),
      name,
      h("label", { htmlFor: "signal-scope" }, "To"),
      scope,
      h(
        "div",
        { class: "buttons" },
        button("Cancel", () => close(null)),
        h("button", { type: "submit", class: "primary" }, "Send"),
      ),
    ),
  );
  if (wanted) await told(call("POST", of(process.id, "/signal"), { body: wanted }), () => `${wanted.signal} was sent.`);
}

/** What a menu offers for a process as it is now. */
export function choices(id) {
  const process = processes.get(id);
  if (!process) return [];
  const again = ["Start another like this…", () => startDialog(process)];
  if (process.status === "running") {
    return [
      ["Stop", () => stop(process)],
      ["Kill", () => kill(process), { class: "danger" }],
      ["Send a signal…", () => signal(process)],
      again,
    ];
  }
  const left = process.descendants > 0 ? [["End what is left of it", () => kill(process)]] : [];
  return [...left, ["Delete…", () => remove(process), { class: "danger" }], again];
}
