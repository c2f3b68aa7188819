// Values as people read them.

import { visible } from "./ansi.js";

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** Bytes: 0 B, 812 B, 1.2 KB, 34 MB. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** A time span: 3 s, 2 m 5 s, 1 h 20 m, 3 d 4 h. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** The same with milliseconds where it is short. */
export const exactSpan = (ms) => (ms < 10_000 ? `${(ms / 1000).toFixed(ms < 1000 ? 3 : 1)} s` : span(ms));

const two = (n) => String(n).padStart(2, "0");

/** A time of day with milliseconds. */
export function clock(ms) {
  const at = new Date(ms);
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return `${time}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export const number = (n) => n.toLocaleString("en");

/** A word of a command line as a shell would want it. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Characters of a command line that are shown, and looked through. */
const LINE_MAX = 4000;
const lines = new WeakMap();

/** A command with its arguments, in one line, as it would be typed. */
export const typed = ({ command, args }) => [command, ...(args ?? [])].map(quoted).join(" ");

/** The same to be looked at: no longer than that, and nothing in it that hides or turns around what is there. */
export function commandLine(process) {
  const { command, args } = process;
  if (!lines.has(args)) {
    const all = [];
    let length = 0;
    for (const word of [command, ...args]) {
      if (length > LINE_MAX) break;
      all.push(quoted(word.slice(0, LINE_MAX)));
      length += word.length + 1;
    }
    lines.set(args, visible(all.join(" ").slice(0, LINE_MAX).replaceAll("\n", "⏎").replaceAll("\t", " ")));
  }
  return lines.get(args);
}

/** A label as it is shown. */
export const label = (key, value) => visible(`${key}=${value}`);

/** What a process is called. */
export const called = (process) => process.name ?? process.id;

/** How it is: a word for the eye, and whether that is good. */
export function state(process) {
  if (process.status === "running") return { text: "running", kind: "good" };
  if (process.exitReason) return { text: process.exitReason, kind: "bad" };
  if (process.signal) return { text: "ended", kind: "warn" };
  return { text: "exited", kind: process.exitCode === 0 ? "quiet" : "bad" };
}

/** How it ended. */
export function exit(process) {
  if (process.status === "running") return "";
  return process.signal ?? (process.exitCode === undefined || process.exitCode === null ? "" : String(process.exitCode));
}

/** Splits a command line into words as a shell does, quotes and backslashes only. */
export function words(line) {
  const found = [];
  let word = null;
  let quote = null;
  for (let i = 0; i < line.length; i += 1) {
    const c = line[i];
    if (quote) {
      if (c === quote) quote = null;
      else if (c === "\\" && quote === '"' && '"\\$`'.includes(line[i + 1] ?? "")) word += line[(i += 1)];
      else word += c;
    } else if (c === "'" || c === '"') {
      quote = c;
      word ??= "";
    } else if (c === "\\" && i + 1 < line.length) word = (word ?? "") + line[(i += 1)];
    else if (/\s/.test(c)) {
      if (word !== null) found.push(word);
      word = null;
    } else word = (word ?? "") + c;
  }
  if (word !== null) found.push(word);
  return found;
}
