// Output of programs as text with colours. Of escape sequences only SGR means something here; all
// others are left out, and nothing of them can act: a log is looked at, not obeyed.

const ESC = 0x1b;
const BEL = 7;

/** The plain style, shared by most text. */
export const PLAIN = Object.freeze({ fg: null, bg: null, bold: false, dim: false, italic: false, under: false, strike: false, inverse: false });

/** Where the escape sequence that begins at `at` ends; `end` if it is not whole. */
export function sequenceEnd(bytes, at, end) {
  const kind = bytes[at + 1];
  if (kind === undefined || at + 1 >= end) return end;
  // CSI: parameters, intermediates, a final byte.
  if (kind === 0x5b) {
    for (let i = at + 2; i < end; i += 1) {
      const byte = bytes[i];
      if (byte >= 0x40 && byte <= 0x7e) return i + 1;
      // No part of a sequence: a program that was cut off.
      if (byte < 0x20 || byte > 0x7e) return i;
    }
    return end;
  }
  // OSC, DCS, SOS, PM, APC: a string, ended by BEL or ST.
  if (kind === 0x5d || kind === 0x50 || kind === 0x58 || kind === 0x5e || kind === 0x5f) {
    for (let i = at + 2; i < end; i += 1) {
      if (bytes[i] === BEL) return i + 1;
      if (bytes[i] === ESC) return bytes[i + 1] === 0x5c ? Math.min(i + 2, end) : i;
      if (bytes[i] === 0x0a) return i;
    }
    return end;
  }
  let i = at + 1;
  while (i < end && bytes[i] >= 0x20 && bytes[i] <= 0x2f) i += 1;
  return Math.min(i + 1, end);
}

/** The style behind a sequence, if it is an SGR one. */
export function styled(style, bytes, at, end) {
  if (bytes[at + 1] !== 0x5b || bytes[end - 1] !== 0x6d) return style;
  let text = "";
  for (let i = at + 2; i < end - 1 && text.length < 256; i += 1) text += String.fromCharCode(bytes[i]);
  if (!/^[\d;:]*$/.test(text)) return style;
  const next = { ...style };
  const numbers = text.split(";").map((part) => part.split(":"));
  for (let i = 0; i < numbers.length; i += 1) {
    const [first, ...subs] = numbers[i];
    const n = Number(first || 0);
    if (n === 0) Object.assign(next, PLAIN);
    else if (n === 1) next.bold = true;
    else if (n === 2) next.dim = true;
    else if (n === 3) next.italic = true;
    else if (n === 4) next.under = subs[0] !== "0";
    else if (n === 7) next.inverse = true;
    else if (n === 9) next.strike = true;
    else if (n === 21 || n === 22) next.bold = next.dim = false;
    else if (n === 23) next.italic = false;
    else if (n === 24) next.under = false;
    else if (n === 27) next.inverse = false;
    else if (n === 29) next.strike = false;
    else if (n >= 30 && n <= 37) next.fg = n - 30;
    else if (n >= 90 && n <= 97) next.fg = n - 82;
    else if (n === 39) next.fg = null;
    else if (n >= 40 && n <= 47) next.bg = n - 40;
    else if (n >= 100 && n <= 107) next.bg = n - 92;
    else if (n === 49) next.bg = null;
    else if (n === 38 || n === 48) {
      const rest = subs.length ? subs : numbers.slice(i + 1, i + 5).map(([part]) => part);
      const [colour, used] = extended(rest, subs.length > 0);
      if (!subs.length) i += used;
      if (colour !== undefined) next[n === 38 ? "fg" : "bg"] = colour;
    }
  }
  return next;
}

/** 5;N or 2;R;G;B, as a number or "#rrggbb", and how many parameters that is. */
function extended(parts, colons) {
  const byte = (part) => (part !== undefined && /^\d{1,3}$/.test(part) && Number(part) < 256 ? Number(part) : undefined);
  if (parts[0] === "5") {
    const n = byte(parts[1]);
    return [n === undefined || n < 16 ? n : palette(n), 2];
  }
  if (parts[0] === "2") {
    // With colons there may be a colour space first.
    const rgb = (colons && parts.length > 4 ? parts.slice(2, 5) : parts.slice(1, 4)).map(byte);
    return [rgb.length === 3 && !rgb.includes(undefined) ? hex(rgb) : undefined, 4];
  }
  return [undefined, 1];
}

const hex = (rgb) => `#${rgb.map((n) => n.toString(16).padStart(2, "0")).join("")}`;

function palette(n) {
  if (n >= 232) return hex([8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10]);
  const step = (x) => (x === 0 ? 0 : 55 + x * 40);
  return hex([step(Math.floor((n - 16) / 36)), step(Math.floor((n - 16) / 6) % 6), step((n - 16) % 6)]);
}

/** Gives an element the look of a style. Text that would be hidden by its own ground is not. */
export function dress(element, style) {
  let { fg, bg } = style;
  if (style.inverse) [fg, bg] = [bg ?? "ground", fg ?? "ink"];
  if (fg === bg) bg = null;
  const classes = [];
  const set = (property, colour, prefix) => {
    if (typeof colour === "number" || colour === "ink" || colour === "ground") classes.push(prefix + colour);
    else if (colour !== null) element.style[property] = colour;
  };
  set("color", fg, "fg-");
  set("backgroundColor", bg, "bg-");
  for (const word of ["bold", "dim", "italic", "under", "strike"]) if (style[word]) classes.push(word);
  element.className = classes.join(" ");
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Characters that would change how what is around them is shown: controls as pictures, directions and
 * invisible ones by their numbers.
 */
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

export function visible(text) {
  return text.replace(ODD, (c) => {
    const code = c.codePointAt(0);
    if (code === 13) return "";
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}

/** The text of some bytes in pieces of one style each: [[style, text]]; and the style behind them. */
export function pieces(bytes, start, end, style = PLAIN) {
  const found = [];
  let from = start;
  let at = start;
  const flush = (to) => {
    if (to > from) {
      const text = visible(utf8.decode(bytes.subarray(from, to)));
      if (text) found.push([style, text]);
    }
  };
  while ((at = bytes.indexOf(ESC, at)) >= 0 && at < end) {
    flush(at);
    const to = sequenceEnd(bytes, at, end);
    style = styled(style, bytes, at, to);
    from = at = to;
  }
  flush(end);
  return { found, style };
}

/** The same as elements. */
export function spans(bytes, start, end, style) {
  return pieces(bytes, start, end, style).found.map(([look, text]) => {
    if (look === PLAIN) return document.createTextNode(text);
    const span = document.createElement("span");
    dress(span, look);
    span.textContent = text;
    return span;
  });
}
