// EventSource clients of processes that have ended.
//
// In: base URL, and targets that follow finished processes. Exit code 0 when each client
// heard of the exit once, came back once, and was told by a 204 not to come again.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";

const [baseUrl, ...targets] = process.argv.slice(2);

async function watch(target) {
  const statuses = [];
  const exits = [];
  const source = new EventSource(baseUrl + target, {
    fetch: async (url, init) => {
      const answer = await fetch(url, init);
      statuses.push(answer.status);
      return answer;
    },
  });
  source.addEventListener("exit", (event) => exits.push(event.lastEventId));
  const code = await new Promise((done, fail) => {
    const overdue = setTimeout(() => fail(new Error(`${target} goes on: ${statuses}`)), 60_000);
    source.addEventListener("error", (event) => {
      if (statuses.length > 2) source.close();
      if (source.readyState !== EventSource.CLOSED) return;
      clearTimeout(overdue);
      done(event.code);
    });
  });
  assert.deepEqual(statuses, [200, 204], target);
  assert.equal(code, 204, target);
  assert.equal(exits.length, 1, target);
}

await Promise.all(targets.map(watch));
