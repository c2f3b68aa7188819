// A terminal: xterm.js over a WebSocket that is resumed where it was cut.
//
// The server sends no more than this page has parsed (`flow=ack`), shows the screen to who comes new
// (`replay=screen`), and says where in the output it is (`control=extended`), so that what follows a cut
// begins at the very byte.

import { Terminal } from "@xterm/xterm";
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";

const SCROLLBACK = 5000;
/** Lines that have scrolled out, for who comes new. */
const SHOWN_AGAIN = 1000;
/** Bytes that are parsed until the server is told; what is less is told a moment later. */
const ACK_BYTES = 32 << 10;
const ACK_MS = 30;
/** A message to the server; what is pasted is cut. */
const INPUT_BYTES = 32 << 10;
/** Typed ahead; more is dropped, as a cut may last. */
const EARLY_BYTES = 4096;
const FONT = { least: 8, most: 32, usual: 14 };
const SETTINGS = "procring.terminal";

const THEMES = {
  dark: {
    background: "#12161b", foreground: "#d7dde3", cursor: "#f0b429", cursorAccent: "#12161b", selectionBackground: "#35506b",
    black: "#2b333b", red: "#f47067", green: "#6bc46d", yellow: "#d9a53f", blue: "#6cb6ff", magenta: "#dcbdfb", cyan: "#56d4dd", white: "#c5ced6",
    brightBlack: "#768390", brightRed: "#ff938a", brightGreen: "#8ddb8c", brightYellow: "#eac55f", brightBlue: "#96d0ff", brightMagenta: "#eedcff", brightCyan: "#8be9ef", brightWhite: "#f5f8fa",
  },
  light: {
    background: "#fdfdfc", foreground: "#1e2429", cursor: "#b45309", cursorAccent: "#fdfdfc", selectionBackground: "#bfdbf7",
    black: "#24292f", red: "#b42318", green: "#116329", yellow: "#7d4e00", blue: "#0550ae", magenta: "#7b3fc4", cyan: "#0b6b74", white: "#57606a",
    brightBlack: "#57606a", brightRed: "#cf222e", brightGreen: "#1a7f37", brightYellow: "#8f5d00", brightBlue: "#0969da", brightMagenta: "#8250df", brightCyan: "#0d7a84", brightWhite: "#32383f",
  },
};

function settings() {
  try {
    return { size: FONT.usual, webgl: false, reader: false, ...JSON.parse(localStorage.getItem(SETTINGS)) };
  } catch {
    return { size: FONT.usual, webgl: false, reader: false };
  }
}

const keep = (more) => localStorage.setItem(SETTINGS, JSON.stringify({ ...settings(), ...more }));

const isDark = () => document.documentElement.dataset.theme === "dark";

/** Where an address leads, if a browser goes there without a program of its own. */
function place(address) {
  try {
    const { protocol, href } = new URL(address);
    if (protocol === "http:" || protocol === "https:") return href;
  } catch {}
  return null;
}

function follow(event, address) {
  const href = place(address);
  if (href) open(href, "_blank", "noopener,noreferrer");
}

/** Of which sources this is. */
export const build = BUILD;

export function terminal(id, { socket, call, of, button, h, setText, toast, visit }) {
  const own = settings();
  const term = new Terminal({
    allowProposedApi: true,
    cursorBlink: true,
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: own.size,
    // Its text is not its address, and a stranger's: what is shown is where the browser would go.
    linkHandler: {
      async activate(event, address) {
        const href = place(address);
        if (href && (await visit(href))) follow(event, href);
      },
      allowNonHttpProtocols: false,
    },
    macOptionClickForcesSelection: true,
    minimumContrastRatio: 4.5,
    screenReaderMode: own.reader,
    scrollback: SCROLLBACK,
    theme: THEMES[isDark() ? "dark" : "light"],
  });
  const fitting = new FitAddon();
  const searching = new SearchAddon();
  term.loadAddon(fitting);
  term.loadAddon(searching);
  term.loadAddon(new Unicode11Addon());
  term.loadAddon(new WebLinksAddon(follow));
  term.unicode.activeVersion = "11";

  // ---- elements

  const host = h("div", { class: "screen" });
  const said = h("span", { class: "said", role: "status" });
  const again = button("Connect now", () => connect(), { hidden: true });
  const line = h("div", { class: "line", hidden: true }, said, again);
  const ownSize = button("Fit to this page", () => fit(), { hidden: true, title: "Somebody else has given it another size" });
  const readOnly = h("input", { type: "checkbox", on: { change: () => reconnect() } });
  const field = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the terminal", spellcheck: false });
  const matches = h("span", { class: "count", role: "status" });
  const box = (text, isOn, set, title) => {
    const check = h("input", { type: "checkbox", checked: isOn, on: { change: () => set(check.checked) } });
    return h("label", { class: "choice", title }, check, text);
  };
  const keys = h(
    "div",
    { class: "keys", role: "toolbar", "aria-label": "Keys" },
    [["Esc", "\x1b"], ["Tab", "\t"], ["Ctrl", null], ["↑", "A"], ["↓", "B"], ["←", "D"], ["→", "C"], ["^C", "\x03"]].map(([text, sends]) => {
      const one = button(text, () => {
        if (sends === null) {
          ctrl = !ctrl;
          one.setAttribute("aria-pressed", String(ctrl));
        } else if (/[A-D]/.test(sends)) send(`\x1b${term.modes.applicationCursorKeysMode ? "O" : "["}${sends}`);
        else send(sends);
        term.focus();
      });
      return one;
    }),
  );
  let ctrl = false;
  const element = h(
    "div",
    { class: "terminal" },
    h(
      "div",
      { class: "bar" },
      h("label", { class: "choice", title: "Look, do not type" }, readOnly, "Read only"),
      h("span", { class: "group", role: "search" }, field,
        button("↑", () => find(-1), { "aria-label": "Previous match" }),
        button("↓", () => find(1), { "aria-label": "Next match" }),
        matches),
      h("span", { class: "space" }),
      ownSize,
      button("Copy", copy, { title: "What is selected (Ctrl+Shift+C)" }),
      button("Paste", paste, { title: "Ctrl+Shift+V" }),
      h("span", { class: "group" },
        button("A−", () => resizeText(-1), { "aria-label": "A−, smaller text" }),
        button("A+", () => resizeText(1), { "aria-label": "A+, larger text" })),
      box("WebGL", own.webgl, (on) => {
        keep({ webgl: on });
        draws(on);
      }, "Draw with the graphics processor"),
      box("Screen reader", own.reader, (on) => {
        keep({ reader: on });
        term.options.screenReaderMode = on;
      }, "Have a screen reader read what is printed"),
    ),
    h("div", { class: "stage" }, host, line),
    keys,
  );
  // What tests and extensions look at; it is the page's own.
  host.terminal = term;

  // ---- the connection

  let ws = null;
  let isVisible = false;
  let isOver = false;
  let isOpen = false;
  let retries = 0;
  let waiting = null;
  let offset = null;
  let received = 0;
  let acked = 0;
  let parsed = 0;
  let ackTimer = null;
  let wasAt = null;
  /** Whether the screen that a connection begins with has been drawn: until then it keeps the size it was asked for. */
  let isDrawn = false;
  let fitsThen = false;

  const say = (text, isBad = false, canRetry = false) => {
    line.hidden = !text;
    setText(said, text);
    line.classList.toggle("bad", isBad);
    again.hidden = !canRetry;
  };

  function connect() {
    clearTimeout(waiting);
    waiting = null;
    if (ws || isOver) return;
    fit();
    const isFirst = offset === null;
    const query = { flow: "ack", control: "extended", input: "binary" };
    if (readOnly.checked) query.mode = "ro";
    else Object.assign(query, { cols: clamp(term.cols), rows: clamp(term.rows) });
    if (isFirst) Object.assign(query, { replay: "screen", scrollback: SHOWN_AGAIN });
    else query.offset = offset;
    const mine = socket(of(id, "/terminal/ws"), query);
    ws = mine;
    received = parsed = acked = 0;
    isDrawn = fitsThen = false;
    let isReady = false;
    mine.onmessage = ({ data }) => {
      if (ws !== mine) return;
      if (typeof data !== "string") {
        const bytes = new Uint8Array(data);
        received += bytes.length;
        if (offset !== null) offset += bytes.length;
        term.write(bytes, () => {
          if (ws !== mine) return;
          parsed += bytes.length;
          if (parsed - acked >= ACK_BYTES) ack(mine);
          else ackTimer ??= setTimeout(() => ack(mine), ACK_MS);
        });
        return;
      }
      const frame = JSON.parse(data);
      if (frame.type === "ready") {
        isReady = isOpen = true;
        if (retries > 0) {
          say("Connected again.");
          setTimeout(() => isOpen && said.textContent === "Connected again." && say(""), 3000);
        } else say("");
        retries = 0;
        const typed = early;
        early = [];
        typed.forEach(send);
      } else if (frame.type === "cursor") {
        ({ offset } = frame);
        if (!isDrawn) term.write("", () => ws === mine && drawn());
      } else if (frame.type === "redraw") {
        // Until the next cursor it is not known where in the output this is.
        offset = null;
      } else if (frame.type === "resized") {
        if (frame.cols !== term.cols || frame.rows !== term.rows) {
          // The last one who sizes a terminal does so for all.
          wasAt = `${frame.cols}x${frame.rows}`;
          ownSize.hidden = readOnly.checked;
          term.resize(frame.cols, frame.rows);
        }
      } else if (frame.type === "title") title(frame.title);
      else if (frame.type === "error") say(frame.message, true);
      else if (frame.type === "exit") {
        isOver = true;
        line.classList.add("last");
        const code = frame.exitCode;
        say(code === null || code === undefined ? "Ended by a signal." : `Ended with exit code ${code}.`);
        term.options.cursorBlink = false;
      }
    };
    mine.onclose = () => {
      if (ws !== mine) return;
      ws = null;
      isOpen = false;
      if (isOver) return;
      retries += 1;
      lost(isReady);
    };
  }

  async function lost(wasReady) {
    say("The connection is cut; connecting again…", true, true);
    // Before it is tried again: is there anything to connect to?
    if (!wasReady) {
      try {
        await call("GET", of(id));
      } catch (error) {
        if (error.status === 404) {
          isOver = true;
          line.classList.add("last");
          return say("The process was deleted.", true);
        }
        if (error.status === 401) return say("Signed out.", true);
        if (error.status) say(error.message, true, true);
      }
    }
    if (ws || isOver) return;
    clearTimeout(waiting);
    waiting = setTimeout(connect, Math.min(5000, 200 * 2 ** Math.min(retries - 1, 5)));
  }

  function reconnect() {
    const old = ws;
    ws = null;
    isOpen = false;
    old?.close(1000);
    // What came and was not parsed yet is parsed before what comes next.
    connect();
    term.focus();
  }

  function ack(mine) {
    clearTimeout(ackTimer);
    ackTimer = null;
    if (ws !== mine || mine.readyState !== WebSocket.OPEN || parsed === acked) return;
    acked = parsed;
    mine.send(`{"type":"ack","bytes":${parsed}}`);
  }

  const encoder = new TextEncoder();
  const takes = () => isOpen && !isOver && !readOnly.checked && ws?.readyState === WebSocket.OPEN;

  /** What was typed before there was a connection. */
  let early = [];

  function send(data) {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    if (!takes()) {
      const held = early.reduce((sum, { length }) => sum + length, 0);
      if (!isOpen && !isOver && !readOnly.checked && held + bytes.length <= EARLY_BYTES) early.push(bytes);
      return;
    }
    for (let at = 0; at < bytes.length; at += INPUT_BYTES) ws.send(bytes.subarray(at, at + INPUT_BYTES));
  }

  term.onData((data) => {
    if (ctrl && data.length === 1) {
      ctrl = false;
      keys.children[2].setAttribute("aria-pressed", "false");
      const code = data.toUpperCase().charCodeAt(0);
      if (code >= 0x40 && code < 0x60) return send(String.fromCharCode(code - 0x40));
    }
    send(data);
  });
  term.onBinary((data) => send(Uint8Array.from(data, (c) => c.charCodeAt(0))));
  term.onResize(({ cols, rows }) => {
    if (`${cols}x${rows}` === wasAt) return;
    wasAt = null;
    ownSize.hidden = true;
    if (takes()) ws.send(JSON.stringify({ type: "resize", cols: clamp(cols), rows: clamp(rows) }));
  });
  term.onTitleChange(title);

  function title(text) {
    host.title = text.slice(0, 200);
  }

  // ---- what people do

  term.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
    if (event.code === "KeyC") copy();
    else if (event.code === "KeyF") field.select();
    // Tab belongs to the program, so something else has to lead out.
    else if (event.code === "KeyX") element.querySelector("input").focus();
    // The browser pastes.
    else return event.code !== "KeyV";
    event.preventDefault();
    return false;
  });

  async function copy() {
    const text = term.getSelection();
    if (!text) return toast("Nothing is selected.");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Not on a page from http: of another host.
      const area = h("textarea", { class: "sr", value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    toast("Copied.");
    term.focus();
  }

  async function paste() {
    try {
      term.paste(await navigator.clipboard.readText());
    } catch {
      toast("The browser does not let this page read the clipboard; use Ctrl+Shift+V.");
    }
    term.focus();
  }

  function find(by) {
    const decorations = { matchOverviewRuler: "#f0b429", activeMatchColorOverviewRuler: "#d9480f", matchBackground: "#7a5c00", activeMatchBackground: "#b45309" };
    if (!field.value) {
      searching.clearDecorations();
      return setText(matches, "");
    }
    if (by < 0) searching.findPrevious(field.value, { decorations });
    else searching.findNext(field.value, { decorations, incremental: by === 0 });
  }

  searching.onDidChangeResults(({ resultIndex, resultCount }) =>
    setText(matches, !field.value ? "" : resultCount === 0 ? "no match" : `${resultIndex < 0 ? "" : `${resultIndex + 1} of `}${resultCount}`));
  field.addEventListener("input", () => find(0));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") find(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") {
      field.value = "";
      find(0);
      term.focus();
    } else return;
    event.preventDefault();
  });

  function resizeText(by) {
    const size = Math.max(FONT.least, Math.min(FONT.most, term.options.fontSize + by));
    term.options.fontSize = size;
    keep({ size });
    fit();
  }

  let webgl = null;

  async function draws(fast) {
    webgl?.dispose();
    webgl = null;
    if (!fast) return;
    try {
      const { WebglAddon } = await import("./webgl.js");
      webgl = new WebglAddon();
      webgl.onContextLoss(() => draws(false));
      term.loadAddon(webgl);
    } catch (error) {
      webgl = null;
      toast("WebGL is not to be had here; drawing goes on without it.");
    }
  }

  const clamp = (n) => Math.max(1, Math.min(1000, n));

  function fit() {
    if (!isVisible || !host.clientWidth || !term.element) return;
    // Who only looks sees it as it is.
    if (readOnly.checked) return;
    // The server would not hear of it, and what it is about to draw is of the size that it was told.
    if (ws && !isDrawn) fitsThen = true;
    else fitting.fit();
  }

  function drawn() {
    isDrawn = true;
    if (fitsThen) fit();
  }

  let fitSoon;
  const soon = () => {
    clearTimeout(fitSoon);
    fitSoon = setTimeout(fit, 60);
  };
  // Who is given another's size is told of it in a place of the page, which is no wish for one's own.
  const watch = new ResizeObserver(() => ownSize.hidden && soon());
  const themed = () => (term.options.theme = THEMES[isDark() ? "dark" : "light"]);
  const wake = () => waiting && connect();
  addEventListener("theme", themed);
  addEventListener("online", wake);
  addEventListener("resize", soon);

  return {
    element,
    show() {
      isVisible = true;
      if (!term.element) {
        term.open(host);
        term.textarea.setAttribute("aria-description", "Ctrl+Shift+X leaves the terminal, Ctrl+Shift+F searches it.");
        if (own.webgl) draws(true);
      }
      watch.observe(host);
      fit();
      connect();
      // It may have taken a while to come; what somebody has opened or types into meanwhile keeps the keys.
      if (!document.activeElement?.closest(".menu, dialog, input")) term.focus();
    },
    hide() {
      isVisible = false;
      watch.unobserve(host);
    },
    dispose() {
      isOver = true;
      removeEventListener("theme", themed);
      removeEventListener("online", wake);
      removeEventListener("resize", soon);
      clearTimeout(fitSoon);
      clearTimeout(waiting);
      clearTimeout(ackTimer);
      watch.disconnect();
      const old = ws;
      ws = null;
      old?.close(1000);
      term.dispose();
    },
    /** What fits into it where it is, which need not be seen. */
    size() {
      term.open(host);
      const { cols, rows } = fitting.proposeDimensions() ?? {};
      return cols && rows ? { cols: clamp(cols), rows: clamp(rows) } : {};
    },
    /** From the beginning, as if it were another terminal. */
    retry() {
      const old = ws;
      ws = null;
      old?.close(1000);
      offset = null;
      retries = 0;
      isOpen = isOver = false;
      line.classList.remove("last");
      if (isVisible) connect();
    },
  };
}
