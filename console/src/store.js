// All processes, kept true by one stream of events: a list when it begins, then what happens.

import { call, events, request } from "./api.js";

/** How often the server is to tell of bytes and followers, where they change. */
const ACTIVITY_MS = 1000;
/** The server says something every 15 s. */
const SILENCE_MS = 40_000;
/** A browser has six connections to a server; a page that nobody sees gives its own back. */
const HIDDEN_MS = 20_000;

export const processes = new Map();
/** "connecting", "live", "lost". */
export let connection = "connecting";

const listeners = new Set();
let told = false;

/** Calls `run` once a frame after changes; returns how to stop that. */
export function subscribe(run) {
  listeners.add(run);
  return () => listeners.delete(run);
}

export function changed() {
  if (told) return;
  told = true;
  const tell = () => {
    told = false;
    for (const run of [...listeners]) run();
  };
  if (document.hidden) setTimeout(tell, 200);
  else requestAnimationFrame(tell);
}

function enter(state) {
  connection = state;
  changed();
}

/** Takes a record that the server has told of. What has exited does not run again. */
export function learn(record) {
  const known = processes.get(record.id);
  if (known?.status === "exited" && record.status === "running") return;
  processes.set(record.id, { outputBytes: known?.outputBytes, followers: known?.followers ?? 0, ...record });
  changed();
}

export function forget(id) {
  processes.delete(id);
  changed();
}

async function list(signal) {
  const answer = await call("GET", "processes", { signal });
  const before = new Map(processes);
  processes.clear();
  for (const record of answer.processes) {
    const known = before.get(record.id);
    // Ids may be those of another life of the server.
    if (known?.createdAtMs === record.createdAtMs) processes.set(record.id, known);
    learn(record);
  }
  changed();
}

function happen({ name, data }) {
  if (name === "deleted") forget(data.process.id);
  else if (name === "activity") {
    for (const { id, outputBytes, followers } of data.processes) {
      const known = processes.get(id);
      if (known) Object.assign(known, { outputBytes, followers });
    }
    changed();
  } else if (data?.process) learn(data.process);
}

let seen;
let stop = () => {};
let wakeUp = () => {};

async function once() {
  const aborted = new AbortController();
  stop = () => aborted.abort();
  const { signal } = aborted;
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(stop, SILENCE_MS);
  };
  try {
    heard();
    const query = { activityMs: ACTIVITY_MS, since: seen };
    const response = await request("GET", "events", { query, signal });
    // What happens while the list is on its way comes after it.
    let waiting = seen === undefined ? [] : null;
    if (waiting) {
      list(signal).then(() => {
        waiting.forEach(happen);
        waiting = null;
        enter("live");
      }, stop);
    } else enter("live");
    for await (const event of events(response)) {
      heard();
      if (event.id !== undefined) seen = event.id;
      if (event.name === "gap") {
        seen = undefined;
        return true;
      }
      if (waiting) waiting.push(event);
      else happen(event);
    }
    return true;
  } finally {
    clearTimeout(silence);
    stop();
  }
}

/** Follows the server for ever. */
export async function follow() {
  let pause = 250;
  for (;;) {
    if (document.hidden) await new Promise((done) => (wakeUp = done));
    try {
      await once();
      pause = 250;
    } catch (error) {
      // Events of another life of the server.
      if (error.status === 410 || error.status === 404) seen = undefined;
      if (error.status === 401) {
        seen = undefined;
        await new Promise((done) => (wakeUp = done));
      }
    }
    if (!document.hidden) enter("lost");
    await new Promise((done) => {
      wakeUp = done;
      setTimeout(done, pause);
    });
    pause = Math.min(pause * 2, 5000);
  }
}

/** Tries again now. */
export const retry = () => wakeUp();

/** Forgets everything, as another user would find it. */
export function reset() {
  seen = undefined;
  processes.clear();
  stop();
  changed();
}

let hiding;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => stop(), HIDDEN_MS);
  else wakeUp();
});
addEventListener("online", () => wakeUp());
