// A build-like program: small and large writes to both streams, with pauses.
//
// In: a seed, the number of writes, two files. Out: pseudo-random bytes on stdout and
// stderr, the same bytes in the files, and exit code 7.

import { openSync, writeSync } from "node:fs";

const [seed, writes, outFile, errFile] = process.argv.slice(2);
const records = { 1: openSync(outFile, "w"), 2: openSync(errFile, "w") };

let state = Number(seed) >>> 0;
const random = () => {
  // xorshift32
  state ^= state << 13;
  state >>>= 0;
  state ^= state >>> 17;
  state ^= state << 5;
  state >>>= 0;
  return state;
};

const writeAll = (fd, bytes) => {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
};
const sleep = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

for (let n = 0; n < Number(writes); n += 1) {
  const fd = random() % 3 === 0 ? 2 : 1;
  const length = random() % 20 === 0 ? random() % 150_000 : 1 + (random() % 200);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = random() >>> 13;
  writeAll(records[fd], bytes);
  writeAll(fd, bytes);
  if (random() % 8 === 0) sleep(random() % 25);
}
process.exitCode = 7;
