// The bytes of a log, a block at a time: fetched where they are wanted, kept as long as there is
// room, followed at the end.
//
// Offsets are the server's: they count from the first byte that the stream ever had. A block also
// has the byte before it, to know whether it begins a line, and some behind it, to end its last line.

import { call, decoded, of } from "./api.js";

export const BLOCK = 64 << 10;
/** Bytes behind a block that are read with it. A longer line is cut. */
const BEHIND = 4 << 10;
const BLOCKS_MAX = 48;
/** Further behind the end than this, what lies between is fetched when it is looked at. */
const SKIP = 512 << 10;
/** Entries at the end, of a log that is gone sooner than it could be asked for by place. */
const LAST = 2;
const WAIT_MS = 25_000;
/** Between two looks at a log that grows all the time. */
const PAUSE_MS = 60;

class Block {
  constructor(number, from, to) {
    Object.assign(this, { number, from, to, length: 0, marks: [], version: 0, used: 0 });
    this.bytes = new Uint8Array(4096);
  }

  /** Takes what is its own of bytes that go on where it ends. */
  take(offset, data, mark) {
    const next = this.from + this.length;
    const start = Math.max(next, offset);
    const end = Math.min(this.to, offset + data.length);
    if (start !== next || end <= start) return;
    const size = this.length + end - start;
    if (size > this.bytes.length) {
      const larger = new Uint8Array(Math.min(this.to - this.from, Math.max(size, this.bytes.length * 2)));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
    }
    this.bytes.set(data.subarray(start - offset, end - offset), this.length);
    this.length = size;
    const last = this.marks.at(-1);
    if (last?.stream !== mark.stream || last.time !== mark.time) this.marks.push({ at: start, ...mark });
    this.version += 1;
  }

  get isFull() {
    return this.from + this.length >= this.to;
  }

  /** When and where from the byte at this offset came. */
  markOf(offset) {
    let [low, high] = [0, this.marks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.marks[middle].at <= offset) low = middle;
      else high = middle - 1;
    }
    return this.marks[low];
  }
}

export class Source {
  /** `changed` is called when there is something else to show. */
  constructor(id, stream, changed) {
    Object.assign(this, { id, stream, changed, first: 0, end: 0, exited: false, problem: null });
    this.blocks = new Map();
    this.loading = new Set();
    this.clock = 0;
    this.aborted = new AbortController();
    this.begun = false;
    this.isFlood = false;
  }

  stop() {
    this.aborted.abort();
  }

  async #ask(query) {
    const { signal } = this.aborted;
    const answer = await call("GET", of(this.id, "/logs"), { query: { stream: this.stream, maxBytes: BLOCK, ...query }, signal });
    this.first = answer.firstOffset;
    this.begun = true;
    let offset = answer.offset;
    const entries = answer.entries.map((entry) => {
      const bytes = decoded(entry.data);
      const one = { offset, bytes, stream: entry.stream, time: entry.timestampMs };
      offset += bytes.length;
      return one;
    });
    return { entries, next: offset, start: answer.offset, end: answer.endOffset, exited: answer.exited };
  }

  /** A block if it is there, which is asked for otherwise. */
  get(number) {
    const block = this.blocks.get(number);
    if (block) {
      block.used = this.clock += 1;
      const lacks = block.from > Math.max(this.first, number * BLOCK - 1, 0);
      const ends = !block.isFull && block.from + block.length < this.end;
      if ((lacks || ends) && !this.isFlood) this.#load(number);
      return block;
    }
    if (!this.isFlood) this.#load(number);
    return null;
  }

  #make(number, from) {
    const block = new Block(number, from, (number + 1) * BLOCK + BEHIND);
    block.used = this.clock += 1;
    this.blocks.set(number, block);
    if (this.blocks.size > BLOCKS_MAX) {
      const oldest = [...this.blocks.values()].reduce((a, b) => (a.used < b.used ? a : b));
      this.blocks.delete(oldest.number);
    }
    return block;
  }

  async #load(number) {
    if (this.loading.has(number) || this.aborted.signal.aborted) return;
    this.loading.add(number);
    try {
      let block = this.blocks.get(number);
      // Of one that was begun in the middle all is fetched.
      if (block && block.from > Math.max(this.first, number * BLOCK - 1, 0)) block = undefined;
      for (;;) {
        const offset = block ? block.from + block.length : Math.max(this.first, number * BLOCK - 1, 0);
        if (offset >= Math.min(this.end, (number + 1) * BLOCK + BEHIND)) break;
        const { entries, start } = await this.#ask({ offset });
        const now = this.blocks.get(number);
        if (block && now !== block) break;
        if (start > offset || entries.length === 0) {
          // Eviction was faster.
          if (block || start >= (number + 1) * BLOCK) break;
          block = this.#make(number, Math.max(start, number * BLOCK - 1, 0));
        }
        block ??= this.#make(number, offset);
        const before = block.length;
        for (const entry of entries) block.take(entry.offset, entry.bytes, { stream: entry.stream, time: entry.time });
        if (block.isFull || block.length === before) break;
      }
      this.problem = null;
    } catch (error) {
      if (error.name !== "AbortError") this.problem = error.message;
    }
    this.loading.delete(number);
    this.changed();
  }

  /** What has come to the end of the log; `jumps`: not behind what came before. */
  #append({ entries }, jumps) {
    for (const [at, { offset, bytes, stream, time }] of entries.entries()) {
      if (jumps && at === 0) {
        const number = Math.floor(offset / BLOCK);
        if (offset > Math.max(0, number * BLOCK - 1)) this.#make(number, offset);
      }
      const firstBlock = Math.max(0, Math.floor((offset - BEHIND) / BLOCK));
      const lastBlock = Math.floor((offset + bytes.length) / BLOCK);
      for (let number = firstBlock; number <= lastBlock; number += 1) {
        const from = Math.max(0, number * BLOCK - 1);
        let block = this.blocks.get(number);
        // One whose beginning this is.
        if (!block && offset <= from && from < offset + bytes.length) block = this.#make(number, from);
        block?.take(offset, bytes, { stream, time });
      }
    }
  }

  /** Follows the end until there is no more; `isWanted` says whether somebody looks. */
  async follow(isWanted) {
    const { signal } = this.aborted;
    const rest = (ms) => new Promise((done) => setTimeout(done, ms));
    let next = null;
    while (!signal.aborted && !this.exited) {
      if (!isWanted()) {
        await rest(250);
        continue;
      }
      try {
        if (next === null) {
          // Where it begins and ends.
          const { end } = await this.#ask({ offset: 0, maxBytes: 1 });
          next = Math.max(this.first, Math.floor(Math.max(0, end - 1) / BLOCK) * BLOCK - 1, 0);
        }
        let answer = await this.#ask({ offset: next, waitMs: WAIT_MS });
        let jumps = answer.start > next;
        this.isFlood = jumps || answer.end - answer.next > SKIP;
        if (this.isFlood) {
          answer = await this.#ask({ offset: 0, tail: LAST, maxBytes: LAST * BLOCK });
          jumps = true;
        }
        this.#append(answer, jumps);
        next = answer.next;
        this.end = Math.max(this.end, answer.end);
        this.exited = answer.exited;
        if (this.exited) this.isFlood = false;
        this.problem = null;
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 404) {
          this.exited = true;
          this.problem = "The process was deleted; what is here is all there is.";
        } else this.problem = `${error.message} Trying again.`;
        this.changed();
        await rest(1000);
        continue;
      }
      this.changed();
      await rest(PAUSE_MS);
    }
  }
}
