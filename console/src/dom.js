// Elements from plain values. Whatever comes from a process or a server becomes text, never markup.

/**
 * An element. `props`: `class`, `on` (listeners by event), `data` (data attributes), properties of
 * the element where it has them, else attributes; null and undefined are left out. Children are
 * elements or text; lists are flattened.
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name === "on") for (const [type, run] of Object.entries(value)) element.addEventListener(type, run);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && !name.startsWith("aria") && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text that only screen readers have. */
export const hidden = (text) => h("span", { class: "sr" }, text);

/** A button with a text. */
export const button = (text, run, props) => h("button", { type: "button", on: { click: run }, ...props }, text);

/** Sets the text of a node if it is another one. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const status = h("div", { class: "toasts", role: "status" });

/** Says something for a moment. */
export function toast(text, kind = "info") {
  if (!status.isConnected) document.body.append(status);
  const line = h("div", { class: `toast ${kind}` }, text);
  status.append(line);
  while (status.childElementCount > 4) status.firstChild.remove();
  setTimeout(() => line.remove(), kind === "bad" ? 9000 : 4000);
}

/** Opens a dialog with a heading; resolves with what `close` was called with. */
export function dialog(title, fill) {
  return new Promise((done) => {
    const id = `dialog-${Math.random().toString(36).slice(2)}`;
    let result;
    const box = h("dialog", { class: "dialog", "aria-labelledby": id });
    const close = (value) => {
      result = value;
      box.close();
    };
    box.append(h("h2", { id }, title), fill(close));
    box.addEventListener("close", () => {
      box.remove();
      done(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Asks whether to do something; true or false. */
export const confirm = (title, text, verb) =>
  dialog(title, (close) =>
    h(
      "form",
      { method: "dialog", on: { submit: (event) => (event.preventDefault(), close(true)) } },
      h("p", null, text),
      h(
        "div",
        { class: "buttons" },
        button("Cancel", () => close(false)),
        h("button", { type: "submit", class: "danger", autofocus: true }, verb),
      ),
    ),
  ).then(Boolean);

/** Asks before an address is opened that a text only stands for. */
export const visit = (address) => confirm("Open this address?", address, "Open");

/** Opens a menu of [text, run, props] under a button. */
export function menu(at, items) {
  let isOpen = true;
  const close = () => {
    // Removing what has the focus takes it away, which comes here again.
    if (!isOpen) return;
    isOpen = false;
    list.remove();
  };
  const list = h(
    "div",
    { class: "menu", role: "menu" },
    items.map(([text, run, props]) =>
      button(
        text,
        () => {
          close();
          at.focus();
          run();
        },
        { role: "menuitem", ...props },
      ),
    ),
  );
  const move = (by) => {
    const all = [...list.children];
    const next = all.indexOf(document.activeElement) + by;
    all[(next + all.length) % all.length].focus();
  };
  list.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      at.focus();
    } else if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(-1);
    else return;
    event.preventDefault();
  });
  list.addEventListener("focusout", (event) => {
    if (!list.contains(event.relatedTarget)) close();
  });
  document.body.append(list);
  const { left, bottom, right, top } = at.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = list;
  list.style.left = `${Math.max(4, Math.min(left, innerWidth - width - 4, right - Math.min(width, right)))}px`;
  list.style.top = `${bottom + height > innerHeight && top > height ? top - height : bottom}px`;
  list.firstChild.focus();
}
