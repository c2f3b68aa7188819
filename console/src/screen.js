// Loads the terminal when the first one is looked at.

import { socket, call, of } from "./api.js";
import { button, h, setText, toast, visit } from "./dom.js";

let loaded = null;

const tools = { socket, call, of, button, h, setText, toast, visit };

const load = () =>
  (loaded ??= import("./terminal.js").catch((error) => {
    // To be tried again.
    loaded = null;
    throw error;
  }));

/** The size of a terminal in `place`, which is where it will be; nothing if that is not to be had. */
export async function sizeIn(place) {
  try {
    const { terminal } = await load();
    const one = terminal("", tools);
    place.replaceChildren(one.element);
    const size = one.size();
    one.dispose();
    return size;
  } catch {
    return {};
  }
}

export function terminalView(id) {
  const element = h("div", { class: "terminal" }, h("p", { class: "quiet" }, "Loading the terminal…"));
  let inner = null;
  let isVisible = false;
  let isGone = false;

  function begin() {
    load().then(
      ({ terminal, build }) => {
        if (isGone || inner) return;
        if (build !== BUILD) {
          const again = button("Load the page again", () => location.reload(), { class: "primary" });
          element.replaceChildren(h("p", { class: "problem", role: "alert" }, "The server is of another version than this page."), h("p", null, again));
          return;
        }
        inner = terminal(id, tools);
        element.replaceChildren(inner.element);
        if (isVisible) inner.show();
      },
      () => {
        element.replaceChildren(h("p", { class: "problem", role: "alert" }, "The terminal could not be loaded."), button("Try again", begin));
      },
    );
  }

  begin();
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
