// A block of a log as rows: where each begins and ends. A row is a line, or a part of one that is too
// long for the page.

import { PLAIN, sequenceEnd, styled } from "./ansi.js";

const LF = 10;
const CR = 13;
const TAB = 9;
const ESC = 27;

/** East Asian wide characters and emoji, roughly: enough to know where a row is full. */
const isWide = (code) =>
  code >= 0x1100 &&
  (code <= 0x115f ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd));

/** Grows as it is filled. */
class Numbers {
  constructor() {
    this.array = new Int32Array(256);
    this.length = 0;
  }

  push(n) {
    if (this.length === this.array.length) {
      const larger = new Int32Array(this.length * 2);
      larger.set(this.array);
      this.array = larger;
    }
    this.array[this.length] = n;
    this.length += 1;
  }
}

/**
 * Rows of `bytes` that begin at `from` or later and before `to`. The last line may end behind that; one
 * that does not is cut there, if these are all bytes that are looked at (`isFull`). `cols`: columns of
 * a row.
 */
export function layout(bytes, from, to, isFull, cols) {
  const starts = new Numbers();
  const ends = new Numbers();
  // Styles of rows that do not begin plain.
  const styles = new Map();
  const hasEscapes = bytes.indexOf(ESC) >= 0;
  let style = PLAIN;
  let at = from;
  const add = (start, end, look) => {
    if (look !== PLAIN) styles.set(starts.length, look);
    starts.push(start);
    ends.push(end);
  };
  while (at < to) {
    let end = bytes.indexOf(LF, at);
    if (end < 0) end = isFull ? to : bytes.length;
    let start = at;
    // What a carriage return goes back over was drawn to be drawn over.
    let back = end;
    while (back > start && bytes[back - 1] === CR) back -= 1;
    const over = bytes.lastIndexOf(CR, back - 1);
    if (over >= start && back > start) start = over + 1;
    if (hasEscapes && start > at) style = styleBehind(bytes, at, start, style);
    if (end - start <= cols && !hasEscapes && !isOdd(bytes, start, end)) add(start, end, style);
    else style = split(bytes, start, end, cols, style, add);
    at = end + 1;
  }
  return { starts: starts.array.slice(0, starts.length), ends: ends.array.slice(0, ends.length), styles, count: starts.length };
}

function styleBehind(bytes, from, to, style) {
  let at = from;
  while ((at = bytes.indexOf(ESC, at)) >= 0 && at < to) {
    const end = sequenceEnd(bytes, at, to);
    style = styled(style, bytes, at, end);
    at = end;
  }
  return style;
}

/** Whether there is anything whose width is not one column a byte. */
function isOdd(bytes, start, end) {
  for (let i = start; i < end; i += 1) if (bytes[i] >= 0x80 || bytes[i] < 0x20) return true;
  return false;
}

function split(bytes, start, end, cols, style, add) {
  let column = 0;
  let row = start;
  let look = style;
  let at = start;
  while (at < end) {
    const byte = bytes[at];
    if (byte === ESC) {
      const to = sequenceEnd(bytes, at, end);
      style = styled(style, bytes, at, to);
      at = to;
      continue;
    }
    let width = 1;
    let length = 1;
    if (byte === TAB) width = 8 - (column % 8);
    else if (byte >= 0xc0) {
      length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      let code = byte & (0xff >> (length + 1));
      for (let i = 1; i < length; i += 1) code = (code << 6) | (bytes[at + i] & 0x3f);
      // Marks that stand on the character before them.
      width = (code >= 0x300 && code <= 0x36f) || (code >= 0xfe00 && code <= 0xfe0f) || code === 0x200d ? 0 : isWide(code) ? 2 : 1;
    } else if (byte === CR) width = 0;
    if (column + width > cols && column > 0) {
      add(row, at, look);
      row = at;
      look = style;
      column = 0;
    }
    column += width;
    at = Math.min(at + length, end);
  }
  add(row, end, look);
  return style;
}
