// Searches a log: all of it, a piece at a time, and what comes later.

import { of, request } from "./api.js";

const PIECE = 1 << 20;
/** More are not counted. */
const FOUND_MAX = 500_000;

const latin = new TextDecoder("latin1");
const asLatin = (text) => latin.decode(new TextEncoder().encode(text));

export class Search {
  /** `changed` is called when there is more to say. */
  constructor(source, text, changed) {
    Object.assign(this, { source, text, changed });
    this.needle = asLatin(text.toLowerCase()).toLowerCase();
    this.other = asLatin(text.toUpperCase()).toLowerCase();
    this.found = [];
    this.upTo = source.first;
    this.stopped = false;
    this.running = false;
    this.problem = null;
  }

  stop() {
    this.stopped = true;
  }

  get isFull() {
    return this.found.length >= FOUND_MAX;
  }

  /** Looks at what it has not looked at. */
  async go() {
    if (this.running || this.stopped || this.isFull) return;
    this.running = true;
    const { source, needle } = this;
    const path = of(source.id, "/logs/raw");
    try {
      while (!this.stopped && !this.isFull && this.upTo < source.end) {
        const from = Math.max(this.upTo, source.first);
        const to = Math.min(source.end, from + PIECE);
        let response;
        try {
          response = await request("GET", path, {
            query: { stream: source.stream },
            headers: { range: `bytes=${from}-${to - 1}` },
          });
        } catch (error) {
          const first = error.details?.firstOffset;
          if (error.status !== 416 || first === undefined || first <= from) throw error;
          this.upTo = source.first = first;
          continue;
        }
        const hay = latin.decode(await response.arrayBuffer()).toLowerCase();
        this.#scan(hay, from, needle);
        if (this.other !== needle) {
          this.#scan(hay, from, this.other);
          this.found.sort((a, b) => a - b);
        }
        // A match may begin in this piece and end in the next one.
        this.upTo = to >= source.end ? to : to - needle.length + 1;
        this.changed();
      }
      this.problem = null;
    } catch (error) {
      this.problem = error.message;
    }
    this.running = false;
    this.changed();
  }

  #scan(hay, from, needle) {
    for (let at = hay.indexOf(needle); at >= 0 && !this.isFull; at = hay.indexOf(needle, at + needle.length)) {
      if (from + at > (this.found.at(-1) ?? -1) || needle !== this.needle) this.found.push(from + at);
    }
  }

  /** The place in `found` of the first match at `offset` or later. */
  at(offset) {
    let [low, high] = [0, this.found.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.found[middle] < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
