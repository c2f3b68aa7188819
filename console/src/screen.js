// Loads the terminal when the first one is looked at.

import { socket, call, of } from "./api.js";
import { button, h, setText, toast, visit } from "./dom.js";

let loaded = null;

export function terminalView(id) {
  const element = h("div", { class: "terminal" }, h("p", { class: "quiet" }, "Loading the terminal…"));
  let inner = null;
  let isVisible = false;
  let isGone = false;

  function load() {
    loaded ??= import("./terminal.js");
    loaded.then(
      ({ terminal, build }) => {
        if (isGone || inner) return;
        if (build !== BUILD) {
          const again = button("Load the page again", () => location.reload(), { class: "primary" });
          element.replaceChildren(h("p", { class: "problem", role: "alert" }, "The server is of another version than this page."), h("p", null, again));
          return;
        }
        inner = terminal(id, { socket, call, of, button, h, setText, toast, visit });
        element.replaceChildren(inner.element);
        if (isVisible) inner.show();
      },
      () => {
        loaded = null;
        element.replaceChildren(h("p", { class: "problem", role: "alert" }, "The terminal could not be loaded."), button("Try again", load));
      },
    );
  }

  load();
  return {
    element,
    show() {
      isVisible = true;
      inner?.show();
    },
    hide() {
      isVisible = false;
      inner?.hide();
    },
    dispose() {
      isGone = true;
      inner?.dispose();
    },
    retry: () => inner?.retry(),
  };
}
