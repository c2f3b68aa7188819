// The tab of a process that is open.

import { button, h } from "./dom.js";

export function tabOf(id, close) {
  const dot = h("span", { class: "dot" });
  const text = h("span", { class: "text" });
  const to = h("a", { href: `#${id}` }, dot, text);
  const element = h("span", { class: "tab" }, to, button("×", close, { class: "close" }));
  return { element, to, dot, text };
}
