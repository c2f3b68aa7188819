// How large the terminal of a process will be in this page, before there is the process: it is to draw for
// that size from its start on. Many a program does not come to terms with a size that changes meanwhile.

import { h } from "./dom.js";
import { headOf } from "./process.js";
import { called } from "./say.js";
import { sizeIn } from "./screen.js";
import { tabOf } from "./tab.js";

/** What an id that is not known yet will look like. */
const SOME_ID = "proc_00";

/** {cols, rows} of a process that is to be started like this; {} if that cannot be found out. */
export async function terminalSize({ command, args, name }) {
  const process = { id: SOME_ID, name, command, args, tty: true, status: "running" };
  const head = headOf(process.id);
  head.draw(process);
  head.turnTo("terminal");
  const tabs = document.querySelector(".tabs").cloneNode(true);
  tabs.hidden = false;
  const tab = tabOf(process.id, () => {});
  tab.text.textContent = called(process);
  tabs.append(tab.element);
  // All of the page as it will be, where nobody sees it.
  const top = document.querySelector(".top").cloneNode(true);
  const page = h("div", { class: "ghost", inert: true, "aria-hidden": "true" }, top, tabs, h("main", null, head.element));
  document.body.append(page);
  try {
    return await sizeIn(head.place);
  } finally {
    page.remove();
  }
}
