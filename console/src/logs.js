// A log: any size of it, since only what is looked at is fetched and drawn.
//
// The log is rows of one height, in blocks of bytes. Blocks that were never looked at are taken to have
// as many rows as others of their size. What is drawn is fixed by an anchor, the row at the top; where
// that is among all rows decides where the scroll bar stands. A browser's element is at most some
// million pixels high: beyond that the bar is a scale, and small movements still go row by row.

import { PLAIN, pieces, dress } from "./ansi.js";
import { of, request, token } from "./api.js";
import { button, h, hidden, setText, toast } from "./dom.js";
import { layout } from "./layout.js";
import { bytes as sayBytes, called, clock, number } from "./say.js";
import { Search } from "./search.js";
import { BLOCK, Source } from "./source.js";
import { processes } from "./store.js";

const ROW = 18;
const HEIGHT_MAX = 8_000_000;
const BEHIND = 4 << 10;
const UNWRAPPED = 2000;

export function logsView(id) {
  const process = () => processes.get(id);
  const isTty = process()?.tty;
  let stream = "combined";
  let source;
  let search = null;
  let current = -1;
  let visible = false;
  let follow = true;
  let wrap = true;
  let times = false;
  let cols = 80;
  let anchor = { block: 0, row: 0, px: 0 };
  let lastTop = 0;
  /** The user moves the bar, or the browser on the way to where they want it: to set it would end that. */
  let isMoving = false;
  /** The same, and by more than what is drawn: the bar's place counts, not how far it went. */
  let isJumping = false;
  let planned = false;
  /** Rows of blocks that have been looked at, and the bytes of those that are whole. */
  let counts = new Map();
  let laid = new Map();
  let perBlock = 800;
  const drawn = new Map();

  // ---- elements

  const probe = h("span", { class: "probe", "aria-hidden": "true" }, "0".repeat(100));
  const layer = h("div", { class: "layer" });
  const spacer = h("div", { class: "spacer" });
  const scroller = h("div", { class: "log", tabIndex: 0, role: "region", "aria-label": `Log of ${called(process() ?? { id })}` }, spacer, layer, probe);
  const check = (text, isOn, set, title) => {
    const box = h("input", { type: "checkbox", checked: isOn, on: { change: () => set(box.checked) } });
    return h("label", { class: "choice", title }, box, text);
  };
  const streams = h(
    "select",
    { "aria-label": "Stream", on: { change: () => begin(streams.value) } },
    [["combined", "stdout and stderr"], ["stdout", "stdout only"], ["stderr", "stderr only"]].map(([value, text]) => h("option", { value }, text)),
  );
  const field = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the log", spellcheck: false });
  const found = h("span", { class: "count", role: "status" });
  const up = button("↑", () => step(-1), { "aria-label": "Previous match", title: "Previous match (Shift+Enter)" });
  const down = button("↓", () => step(1), { "aria-label": "Next match", title: "Next match (Enter)" });
  const size = h("span", { class: "count" });
  const oldest = button("Oldest", () => jump(0), { title: "To the oldest line that is kept; before it is a gap, if there is one" });
  const end = button("End", () => toEnd(), { title: "To the end, and along with it" });
  const said = h("p", { class: "problem", role: "status", hidden: true });
  const element = h(
    "div",
    { class: "logs" },
    h(
      "div",
      { class: "bar" },
      isTty ? null : streams,
      check("Times", times, (on) => {
        times = on;
        element.classList.toggle("times", on);
        relayout();
      }, "When each line came"),
      check("Wrap", wrap, (on) => {
        wrap = on;
        relayout();
      }, "Long lines on several rows"),
      h("span", { class: "group", role: "search" }, field, up, down, found),
      h("span", { class: "space" }),
      size,
      oldest,
      end,
      button("Download", download),
    ),
    said,
    scroller,
  );

  // ---- geometry

  const lead = () => (source.first > 0 ? 1 : 0);
  const firstBlock = () => Math.floor(source.first / BLOCK);
  const lastBlock = () => Math.floor(Math.max(0, source.end - 1) / BLOCK);

  const countOf = (block) => counts.get(block) ?? estimate(block);

  function estimate(block) {
    const size = Math.min((block + 1) * BLOCK, source.end) - Math.max(block * BLOCK, source.first);
    return Math.max(1, Math.round((perBlock * size) / BLOCK));
  }

  /** Rows before a block. */
  function rowsBefore(block) {
    let rows = lead();
    for (let n = firstBlock(); n < block; n += 1) rows += countOf(n);
    return rows;
  }

  const rowsInAll = () => (source.end > source.first ? rowsBefore(lastBlock() + 1) : lead());

  /** The layout of a block, made if there is a block and it is not the one that was laid out. */
  function rowsOf(block) {
    const is = source.get(block);
    if (!is) return laid.get(block)?.rows ?? null;
    const known = laid.get(block);
    const width = wrap ? cols : UNWRAPPED;
    if (known && known.version === is.version && known.width === width && known.is === is) return known.rows;
    const all = is.bytes.subarray(0, is.length);
    const own = block * BLOCK - is.from;
    let from = Math.max(0, own);
    // The end of a line that belongs to the block before.
    if (own > 0 && all[own - 1] !== 10) {
      const lf = all.indexOf(10, own);
      if (lf >= 0 && lf < own + BEHIND) from = lf + 1;
      else if (lf < 0 && all.length < own + BEHIND) from = all.length;
    }
    const to = Math.min((block + 1) * BLOCK - is.from, all.length);
    const rows = layout(all, from, to, is.isFull, width);
    laid.set(block, { version: is.version, width, is, rows });
    for (const n of laid.keys()) if (laid.size > 64 && !source.blocks.has(n)) laid.delete(n);
    if (counts.get(block) !== rows.count) {
      counts.set(block, rows.count);
      if (is.isFull || counts.size === 1) {
        perBlock += ((rows.count * BLOCK) / Math.max(1, to - from) - perBlock) / Math.min(counts.size, 8);
      }
    }
    return rows;
  }

  const yOf = ({ block, row, px }) => (block < 0 ? 0 : rowsBefore(block) + row) * ROW + px;

  function anchorAt(y) {
    let row = Math.floor(y / ROW);
    const px = y - row * ROW;
    row -= lead();
    if (row < 0) return { block: -1, row: 0, px };
    for (let block = firstBlock(); ; block += 1) {
      const count = countOf(block);
      if (row < count || block >= lastBlock()) return { block, row, px, byte: byteOf(block, row) };
      row -= count;
    }
  }

  const byteOf = (block, row) => {
    const known = laid.get(block);
    return known && row < known.rows.count ? known.is.from + known.rows.starts[row] : undefined;
  };

  function rowOfByte(block, byte) {
    const known = laid.get(block);
    if (!known) return null;
    const { starts, count } = known.rows;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] + known.is.from <= byte) low = middle;
      else high = middle - 1;
    }
    return count ? low : null;
  }

  const heightOf = () => scroller.clientHeight || 1;

  // ---- drawing

  function plan() {
    if (planned || !visible) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      if (visible) draw();
    });
  }

  function relayout() {
    counts = new Map();
    plan();
  }

  function measure() {
    const width = probe.getBoundingClientRect().width / 100;
    const gutter = times ? 14 * width + 8 : 0;
    const next = Math.max(20, Math.floor((layer.clientWidth - 22 - gutter) / (width || 8)));
    if (next !== cols) {
      cols = next;
      counts = new Map();
    }
  }

  function draw() {
    measure();
    const height = heightOf();
    if (anchor.block >= 0 && anchor.block < firstBlock()) anchor = { block: -1, row: 0, px: 0 };
    // Laying out what is seen may tell that it is of another size, so once more.
    for (let round = 0; round < 3; round += 1) {
      if (follow) {
        rowsOf(lastBlock());
        const y = Math.max(0, rowsInAll() * ROW - height);
        anchor = anchorAt(y);
      } else if (anchor.block >= 0) {
        rowsOf(anchor.block);
        if (anchor.byte !== undefined) anchor.row = rowOfByte(anchor.block, anchor.byte) ?? anchor.row;
        anchor.row = Math.min(anchor.row, Math.max(0, countOf(anchor.block) - 1));
      }
      const before = rowsInAll();
      fill(height);
      if (rowsInAll() === before) break;
    }
    if (anchor.block >= 0) anchor.byte = byteOf(anchor.block, anchor.row);
    settle(height);
    foot();
  }

  /** Draws from the anchor down. */
  function fill(height) {
    const wanted = new Map();
    let y = -Math.round(anchor.px);
    let { block, row } = anchor;
    if (block < 0) {
      wanted.set("gap", { y, kind: "gap" });
      y += ROW;
      block = firstBlock();
      row = 0;
    }
    const last = lastBlock();
    while (y < height && block <= last && source.end > source.first) {
      const rows = rowsOf(block);
      const count = rows ? rows.count : countOf(block);
      for (; row < count && y < height; row += 1, y += ROW) {
        if (rows) {
          const is = laid.get(block).is;
          wanted.set(is.from + rows.starts[row], { y, is, rows, row });
        } else wanted.set(`wait ${block} ${row}`, { y, kind: "wait" });
      }
      block += 1;
      row = 0;
    }
    for (const [key, one] of drawn) {
      const next = wanted.get(key);
      if (next && one.mark === markOf(next)) continue;
      one.element.remove();
      drawn.delete(key);
    }
    for (const [key, one] of wanted) {
      let there = drawn.get(key);
      if (!there) {
        there = { element: make(one, key), mark: markOf(one) };
        drawn.set(key, there);
        layer.append(there.element);
      }
      there.element.style.transform = `translateY(${one.y}px)`;
    }
  }

  /** What a drawn row was made of; another one is made when that is not the same. */
  const markOf = (one) =>
    one.kind ? `${one.kind} ${source.first}` : `${one.rows.ends[one.row]} ${times} ${search?.text ?? ""} ${current >= 0 ? search?.found[current] : ""}`;

  function make(one, key) {
    if (one.kind === "gap") return h("div", { class: "row gap" }, `${sayBytes(source.first)} before this line are no longer kept`);
    if (one.kind === "wait") return h("div", { class: "row wait" }, "…");
    const { is, rows, row } = one;
    const [start, stop] = [rows.starts[row], rows.ends[row]];
    const mark = is.markOf(is.from + start);
    const isError = mark?.stream === "stderr";
    const element = h("div", { class: isError ? "row err" : "row" });
    const isPart = row > 0 && rows.ends[row - 1] === start;
    if (times) {
      const text = mark && !isPart ? clock(mark.time) : "";
      element.append(h("time", { title: mark ? new Date(mark.time).toISOString() : "" }, text));
    }
    if (isError && !isPart) element.append(hidden("stderr: "));
    const { found: looks } = pieces(is.bytes, start, stop, rows.styles.get(row) ?? PLAIN);
    const text = h("span", { class: "text" });
    for (const [look, words] of looks) {
      const parts = marked(words);
      if (look === PLAIN) text.append(...parts);
      else {
        const span = h("span", null, parts);
        dress(span, look);
        text.append(span);
      }
    }
    element.append(text);
    const here = current >= 0 ? search.found[current] : -1;
    if (here >= key && here < is.from + Math.max(stop, start + 1)) element.classList.add("here");
    return element;
  }

  function marked(text) {
    if (!search) return [text];
    const parts = [];
    const hay = text.toLowerCase();
    const needle = search.text.toLowerCase();
    // Where lower case is of another length its places are not those of the text.
    if (hay.length !== text.length) return [text];
    let from = 0;
    for (let at = hay.indexOf(needle); at >= 0; at = hay.indexOf(needle, from)) {
      parts.push(text.slice(from, at), h("mark", null, text.slice(at, at + needle.length)));
      from = at + needle.length;
    }
    parts.push(text.slice(from));
    return parts;
  }

  /** Where the scroll bar is to stand. */
  function settle(height) {
    const total = Math.max(rowsInAll() * ROW, 1);
    const shown = Math.min(total, HEIGHT_MAX);
    if (spacer.style.height !== `${shown}px`) {
      const before = scroller.scrollTop;
      spacer.style.height = `${shown}px`;
      lastTop += scroller.scrollTop - before;
    }
    const y = yOf(anchor);
    const want = total > HEIGHT_MAX ? (y / Math.max(1, total - height)) * (shown - height) : y;
    const top = scroller.scrollTop;
    // It has been moved, though the event that says so is still to come.
    if (isMoving || Math.abs(top - lastTop) >= 1) return;
    if (Math.abs(top - want) >= 1) scroller.scrollTop = want;
    lastTop = scroller.scrollTop;
  }

  let resting;
  let moves = 0;
  let hasEnded = false;

  /** Comes to rest if nothing moves for a moment, nor in the frame behind that: frames may be late. */
  function wait() {
    clearTimeout(resting);
    // Some browsers do not tell of the end, and none where it was the layout that moved the bar.
    const isSoon = hasEnded || !("onscrollend" in scroller);
    resting = setTimeout(() => {
      const before = moves;
      requestAnimationFrame(() => before === moves && rest());
    }, isSoon ? 200 : 5000);
  }

  function rest() {
    isMoving = isJumping = hasEnded = false;
    plan();
  }

  scroller.addEventListener("scroll", () => {
    const top = scroller.scrollTop;
    const by = top - lastTop;
    if (Math.abs(by) < 1) return;
    lastTop = top;
    const height = heightOf();
    const total = rowsInAll() * ROW;
    const shown = Math.min(total, HEIGHT_MAX);
    const isAtEnd = top >= shown - height - 1;
    // The page has become higher, or the log shorter.
    if (follow && isAtEnd) return;
    isMoving = true;
    moves += 1;
    wait();
    isJumping ||= Math.abs(by) > 3 * height;
    let y = yOf(anchor) + by;
    if (isJumping) {
      if (total > HEIGHT_MAX) y = (top / Math.max(1, shown - height)) * (total - height);
      if (top <= 0) y = 0;
      if (isAtEnd) y = total - height;
    }
    y = Math.max(0, Math.min(y, total - height));
    // However little one goes back, it is away from the end.
    follow = y >= total - height - (by > 0 ? ROW : 0);
    anchor = anchorAt(y);
    plan();
  });
  scroller.addEventListener("scrollend", () => {
    // The last movement may still be told behind it.
    hasEnded = true;
    wait();
  });

  function foot() {
    setText(size, source.begun ? `${sayBytes(source.end)}${source.first > 0 ? `, ${sayBytes(source.end - source.first)} kept` : ""}` : "");
    end.setAttribute("aria-pressed", String(follow));
    end.classList.toggle("on", follow);
    const problem = source.problem ?? (source.begun && source.end === 0 ? (source.exited ? "It wrote nothing." : "It has written nothing yet.") : null);
    said.hidden = !problem;
    said.classList.toggle("quiet", !source.problem);
    if (problem) setText(said, problem);
    if (!search) setText(found, "");
    else if (search.problem) setText(found, search.problem);
    else {
      const n = search.found.length;
      const all = search.isFull ? `${number(n)} and more` : number(n);
      const rest = search.running && search.upTo < source.end ? ", searching…" : "";
      setText(found, n === 0 && !rest ? "no match" : `${current >= 0 ? `${number(current + 1)} of ` : ""}${all}${rest}`);
    }
  }

  // ---- moving

  function toEnd() {
    follow = true;
    plan();
  }

  /** Shows the row that this byte is in, and not at the very edge. */
  function jump(offset) {
    follow = false;
    if (offset <= source.first) anchor = lead() ? { block: -1, row: 0, px: 0 } : { block: firstBlock(), row: 0, px: 0, byte: source.first };
    else {
      const block = Math.min(Math.max(firstBlock(), Math.floor(offset / BLOCK)), lastBlock());
      anchor = { block, row: 0, px: 0, byte: offset };
      goal = offset;
    }
    aim();
    plan();
  }

  /** A place that is to be shown in the middle once it is there. */
  let goal = null;

  function aim() {
    if (goal === null) return;
    const block = Math.floor(goal / BLOCK);
    if (!rowsOf(block)) return;
    // A line belongs to the block in which it begins.
    let at = block;
    let row = rowOfByte(block, goal);
    if (row === null || laid.get(block).is.from + laid.get(block).rows.starts[row] > goal) {
      at = Math.max(firstBlock(), block - 1);
      if (!rowsOf(at)) return;
      row = Math.max(0, countOf(at) - 1);
    }
    const y = (rowsBefore(at) + row) * ROW - heightOf() / 3;
    goal = null;
    anchor = anchorAt(Math.max(0, Math.min(y, rowsInAll() * ROW - heightOf())));
  }

  function changed() {
    aim();
    search?.go();
    plan();
  }

  // ---- search

  field.addEventListener("input", () => {
    search?.stop();
    current = -1;
    search = field.value ? new Search(source, field.value, plan) : null;
    search?.go();
    plan();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape" && field.value) {
      field.value = "";
      field.dispatchEvent(new Event("input"));
    } else return;
    event.preventDefault();
  });

  function step(by) {
    const n = search?.found.length;
    if (!n) return;
    if (current >= 0) current = (current + by + n) % n;
    else {
      // From where one looks: backwards from the end, as one reads a log.
      const here = anchor.byte ?? source.first;
      const at = follow || by < 0 ? search.at(follow ? source.end : here) - 1 : search.at(here);
      current = (at + n) % n;
    }
    jump(search.found[current]);
  }

  // ---- the rest

  async function download() {
    const name = `${called(process() ?? { id })}${stream === "combined" ? "" : `.${stream}`}.log`;
    const path = of(id, "/logs/raw");
    if (!token.get()) {
      const url = new URL(`../v1/${path}?stream=${stream}`, location.href.split(/[?#]/)[0]);
      h("a", { href: url, download: name }).click();
      return;
    }
    try {
      const response = await request("GET", path, { query: { stream } });
      const url = URL.createObjectURL(await response.blob());
      h("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  function begin(which) {
    source?.stop();
    search?.stop();
    stream = which;
    search = null;
    current = -1;
    goal = null;
    follow = true;
    anchor = { block: 0, row: 0, px: 0 };
    counts = new Map();
    laid = new Map();
    for (const { element: row } of drawn.values()) row.remove();
    drawn.clear();
    source = new Source(id, which, changed);
    source.follow(() => visible && !document.hidden);
    if (field.value) search = new Search(source, field.value, plan);
  }

  begin("combined");
  const watch = new ResizeObserver(plan);
  return {
    element,
    show() {
      visible = true;
      lastTop = scroller.scrollTop;
      watch.observe(scroller);
      plan();
    },
    hide() {
      visible = false;
      isMoving = isJumping = hasEnded = false;
      clearTimeout(resting);
      watch.unobserve(scroller);
    },
    dispose() {
      visible = false;
      watch.disconnect();
      source.stop();
      search?.stop();
    },
    retry: () => begin(stream),
  };
}
