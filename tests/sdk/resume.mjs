// An EventSource client behind a proxy that cuts the connection again and again.
//
// In: base URL, process id, two files, the least number of cuts. Out: the bytes of stdout
// and stderr in the files; exit code 0 when no entry was lost or repeated, and the client
// was told by a 204 that there is no more.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { EventSource } from "eventsource";

const [baseUrl, id, outFile, errFile, cutsLeast] = process.argv.slice(2);
const upstream = new URL(baseUrl);

// After this many bytes of an answer the connection is cut, in the middle of whatever
// is under way; each answer gets further than the last, so that the end is reached.
let allowance = 700;
let cuts = 0;
let requests = 0;
const browsers = new Set();

const proxy = createServer((browser) => {
  requests += 1;
  browsers.add(browser);
  const server = connect(Number(upstream.port), upstream.hostname);
  let head = Buffer.alloc(0);
  let passed = 0;
  const limit = allowance;
  allowance = Math.ceil(allowance * 1.5);
  const end = () => {
    browser.destroy();
    server.destroy();
  };
  browser.on("data", (bytes) => server.write(bytes));
  browser.on("close", end).on("error", end);
  browser.on("close", () => browsers.delete(browser));
  server.on("close", () => browser.end()).on("error", end);
  server.on("data", (bytes) => {
    if (head !== null) {
      head = Buffer.concat([head, bytes]);
      const at = head.indexOf("\r\n\r\n");
      if (at < 0) return;
      browser.write(head.subarray(0, at + 4));
      // A chunk of the proxy's own: reconnect soon, not after seconds.
      if (head.includes("text/event-stream")) browser.write("b\r\nretry: 20\n\n\r\n");
      bytes = head.subarray(at + 4);
      head = null;
    }
    const rest = limit - passed;
    passed += bytes.length;
    if (passed > limit) {
      cuts += 1;
      browser.write(bytes.subarray(0, rest), end);
    } else {
      browser.write(bytes);
    }
  });
});
await new Promise((done) => proxy.listen(0, "127.0.0.1", done));

const streams = { stdout: [], stderr: [] };
const exits = [];
let sequence = 0;
const address = `http://127.0.0.1:${proxy.address().port}`;
const source = new EventSource(`${address}/v1/processes/${id}/logs?follow=true`);
await new Promise((done, fail) => {
  const overdue = setTimeout(() => fail(new Error(`not closed; entry ${sequence}, cut ${cuts}`)), 90_000);
  source.addEventListener("log", (event) => {
    const entry = JSON.parse(event.data);
    if (entry.sequence !== sequence + 1 || event.lastEventId !== String(entry.sequence)) {
      fail(new Error(`entry ${entry.sequence} (id ${event.lastEventId}) after ${sequence}`));
    }
    sequence = entry.sequence;
    streams[entry.stream].push(Buffer.from(entry.data, "base64"));
  });
  source.addEventListener("gap", (event) => fail(new Error(`gap ${event.data}`)));
  source.addEventListener("exit", (event) => exits.push(JSON.parse(event.data)));
  source.addEventListener("error", (event) => {
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(overdue);
    if (event.code === 204) done();
    else fail(new Error(`closed by ${event.code} ${event.message}`));
  });
});
proxy.close();
// The client keeps its connection for as long as the server says that it may.
for (const browser of browsers) browser.destroy();

assert.ok(cuts >= Number(cutsLeast), `only ${cuts} cuts in ${requests} requests`);
assert.ok(exits.length >= 1, "no exit event");
for (const exit of exits) assert.deepEqual(exit, { exitCode: 7, lastSequence: sequence });
writeFileSync(outFile, Buffer.concat(streams.stdout));
writeFileSync(errFile, Buffer.concat(streams.stderr));
console.log(`${sequence} entries over ${requests} connections, ${cuts} of them cut`);
