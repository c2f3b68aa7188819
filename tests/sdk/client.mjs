// Every process method of the official client against a running server.
//
// In: the base URL and a token the server asks for. Out: exit code 0 when every promise
// held. Terminals are not in here.

import assert from "node:assert/strict";
import { SandboxAgent, SandboxAgentError } from "sandbox-agent";

const [baseUrl, token] = process.argv.slice(2);
const client = await SandboxAgent.connect({ baseUrl, token });

const text = (entries, stream) =>
  entries
    .filter((entry) => stream === undefined || entry.stream === stream)
    .map((entry) => Buffer.from(entry.data, "base64").toString())
    .join("");

/** Polls until `look` gives something. */
async function eventually(what, look) {
  const end = Date.now() + 30_000;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`waited 30 s for: ${what}`);
}

/** Asserts that a call is refused with a problem object. */
async function refused(status, kind, call) {
  const error = await call.then(
    () => assert.fail(`not refused with ${status}`),
    (error) => error,
  );
  assert.ok(error instanceof SandboxAgentError, String(error));
  assert.equal(error.status, status);
  assert.equal(error.problem?.type, `urn:sandbox-agent:error:${kind}`);
  assert.equal(error.problem.status, status);
  assert.ok(error.problem.title.length > 0 && error.problem.detail.length > 0);
  return error.problem;
}

// getHealth
assert.deepEqual(await client.getHealth(), { status: "ok" });

// getProcessConfig, setProcessConfig
const config = await client.getProcessConfig();
assert.deepEqual(config, {
  maxConcurrentProcesses: 64,
  defaultRunTimeoutMs: 30_000,
  maxRunTimeoutMs: 300_000,
  maxOutputBytes: 1_048_576,
  maxLogBytesPerProcess: 10_485_760,
  maxInputBytesPerRequest: 65_536,
});
const smaller = { ...config, maxOutputBytes: 10 };
assert.deepEqual(await client.setProcessConfig(smaller), smaller);
assert.deepEqual(await client.getProcessConfig(), smaller);
const cut = await client.runProcess({ command: "echo", args: ["0123456789abc"] });
assert.deepEqual([cut.stdout, cut.stdoutTruncated], ["0123456789", true]);
await refused(400, "invalid_request", client.setProcessConfig({ ...config, maxOutputBytes: 0 }));
await client.setProcessConfig(config);

// runProcess
const run = await client.runProcess({
  command: "sh",
  args: ["-c", 'printf "$WORD"; pwd >&2; exit 3'],
  env: { WORD: "é" },
  cwd: "/",
  timeoutMs: 20_000,
  maxOutputBytes: 1000,
});
assert.equal(typeof run.durationMs, "number");
assert.deepEqual(run, {
  exitCode: 3,
  timedOut: false,
  stdout: "é",
  stderr: "/\n",
  stdoutTruncated: false,
  stderrTruncated: false,
  durationMs: run.durationMs,
});
const late = await client.runProcess({ command: "sleep", args: ["30"], timeoutMs: 200 });
assert.deepEqual([late.timedOut, late.exitCode], [true, null]);
const missing = await refused(502, "stream_error", client.runProcess({ command: "no-such-command" }));
assert.match(missing.detail, /No such file or directory \(os error 2\)/);
await refused(400, "invalid_request", client.runProcess({ command: " " }));
await refused(422, "invalid_request", client.runProcess({ command: "true", timeoutMs: -1 }));

// createProcess, getProcess, listProcesses
const cat = await client.createProcess({ command: "cat", interactive: true });
assert.equal(cat.status, "running");
assert.equal(typeof cat.pid, "number");
assert.deepEqual(await client.getProcess(cat.id), cat);
assert.deepEqual(await client.listProcesses(), { processes: [cat] });
assert.deepEqual(await client.listProcesses({ owner: "user" }), { processes: [cat] });
assert.deepEqual(await client.listProcesses({ owner: "desktop" }), { processes: [] });
const unknown = await refused(404, "not_found", client.getProcess("proc_99"));
assert.deepEqual(unknown.details, { id: "proc_99", resource: "process" });

// followProcessLogs while it runs, sendProcessInput, getProcessLogs
const live = [];
const following = await client.followProcessLogs(cat.id, (entry) => live.push(entry));
const inputs = [
  { data: "eins\n", encoding: "utf8" },
  { data: Buffer.from("zwei\n").toString("base64"), encoding: "base64" },
  { data: Buffer.from("drei\n").toString("base64") },
];
let expected = "";
for (const [at, input] of inputs.entries()) {
  assert.deepEqual(await client.sendProcessInput(cat.id, input), { bytesWritten: 5 });
  expected += ["eins\n", "zwei\n", "drei\n"][at];
  await eventually(`input ${at} to come back`, () => text(live) === expected);
}
const logs = await client.getProcessLogs(cat.id);
assert.deepEqual(logs, { processId: cat.id, stream: "combined", entries: live });
const filtered = await client.getProcessLogs(cat.id, { stream: "stdout", since: 1, tail: 1 });
assert.deepEqual([filtered.stream, filtered.entries], ["stdout", live.slice(2)]);
await refused(400, "invalid_request", client.sendProcessInput(cat.id, { data: "x", encoding: "hex" }));
const large = { data: "x".repeat(65_537), encoding: "utf8" };
await refused(413, "invalid_request", client.sendProcessInput(cat.id, large));
await refused(409, "conflict", client.resizeProcessTerminal(cat.id, { cols: 80, rows: 24 }));
await refused(409, "conflict", client.deleteProcess(cat.id));

// stopProcess; the follow ends by itself, without an error
const stopped = await client.stopProcess(cat.id, { waitMs: 20_000 });
assert.deepEqual([stopped.status, stopped.exitCode], ["exited", undefined]);
await following.closed;
assert.equal(text(live), expected);
await refused(409, "conflict", client.sendProcessInput(cat.id, inputs[0]));

// A follow of an exited process replays and ends.
const replayed = [];
const replay = await client.followProcessLogs(cat.id, (entry) => replayed.push(entry));
await replay.closed;
assert.deepEqual(replayed, live);
const partial = [];
const tail = await client.followProcessLogs(cat.id, (e) => partial.push(e), { since: 1, tail: 1 });
await tail.closed;
assert.deepEqual(partial, live.slice(2));

// killProcess; a follow may be closed by the client
const stubborn = await client.createProcess({
  command: "sh",
  args: ["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"],
});
const seen = [];
const watch = await client.followProcessLogs(stubborn.id, (entry) => seen.push(entry));
await eventually("the first line", () => text(seen) === "ready\n");
watch.close();
await watch.closed;
const deaf = await client.stopProcess(stubborn.id, { waitMs: 300 });
assert.equal(deaf.status, "running");
const killed = await client.killProcess(stubborn.id, { waitMs: 20_000 });
assert.deepEqual([killed.status, killed.exitCode], ["exited", undefined]);

// deleteProcess
await client.deleteProcess(cat.id);
await refused(404, "not_found", client.getProcessLogs(cat.id));
await refused(404, "not_found", client.deleteProcess(cat.id));
await client.deleteProcess(stubborn.id);
assert.deepEqual(await client.listProcesses(), { processes: [] });

// buildProcessTerminalWebSocketUrl carries the token where browsers can put it.
const url = new URL(client.buildProcessTerminalWebSocketUrl("proc_1"));
assert.equal(url.pathname, "/v1/processes/proc_1/terminal/ws");
assert.equal(url.searchParams.get("access_token"), token);

// A wrong token is a problem object, too.
const stranger = await SandboxAgent.connect({ baseUrl, token: "wrong", skipHealthCheck: true });
await refused(401, "token_invalid", stranger.listProcesses());

await client.dispose?.();
await stranger.dispose?.();
console.log("every method of the official client: ok");
