// `watch` counts in a terminal page and a build runs, while the server is killed by hand five times and
// upgraded twice: the page goes on by itself, the build ends with its true exit code, and its log is
// byte for byte what the same build writes to a file. On both I/O backends.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { Server, eventually, open, program, run, screenOf, seesOnScreen } from "./harness.mjs";

const FILES = 60;

/** A folder with something to build: it warns, it takes a while, and its last file is broken. */
function project(after) {
  const folder = mkdtempSync(join(tmpdir(), "procring-survive-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  for (let n = 0; n < FILES; n++) {
    const last = n === FILES - 1;
    writeFileSync(join(folder, `f${String(n).padStart(2, "0")}.c`), `int f${n}(void) { int unused_${n}; return ${last ? "nothing" : n}; }\n`);
  }
  const rule = "%.o: %.c\n\t@sleep 0.1; seq 1 2000\n\tcc -Wall -c -o $@ $<\n";
  writeFileSync(join(folder, "Makefile"), `all: $(patsubst %.c,%.o,$(sort $(wildcard *.c)))\n${rule}clean:\n\trm -f *.o\n`);
  return folder;
}

const build = "make --no-print-directory clean all 2>&1";

/** The server of the keeper, which is its child of this name. */
function worker(keeper) {
  const children = readFileSync(`/proc/${keeper}/task/${keeper}/children`, "utf8").trim().split(" ").filter(Boolean);
  return children.map(Number).find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "procring-server";
    } catch {
      return false;
    }
  });
}

async function survives(after, backend) {
  const folder = project(after);
  const env = { ...process.env, LC_ALL: "C", MAKEFLAGS: "" };
  const plain = spawnSync("sh", ["-c", build], { cwd: folder, env, maxBuffer: 1 << 30 });
  assert.equal(plain.status, 2, String(plain.stdout).slice(-500));
  const server = await Server.start(["--keep", "--io-backend", backend], { env: { LC_ALL: "C", MAKEFLAGS: "" } });
  after(() => server.stop());
  const count = join(folder, "count");
  writeFileSync(count, "0\n");
  const counting = `n=$(cat ${count}); echo $((n+1)) >${count}; echo count $((n+1)) of it`;
  await server.create({ command: "watch", args: ["-t", "-n", "0.2", counting], tty: true, name: "watch" });
  const page = await open(`${server.console}#watch`);
  after(() => page.context().close());
  await seesOnScreen(page, /count \d+ of it/);
  const { id } = await server.create({ command: "sh", args: ["-c", build], cwd: folder, name: "build" });
  const started = (await server.call("GET", "server")).startedAtMs;
  const counted = async () => Number((await screenOf(page)).match(/count (\d+) of it/)?.[1] ?? 0);
  for (const act of ["kill", "kill", "upgrade", "kill", "kill", "upgrade", "kill"]) {
    const [before, seen] = [worker(server.child.pid), await counted()];
    if (act === "kill") {
      process.kill(before, "SIGKILL");
    } else {
      const { status, stdout, stderr } = spawnSync(program, ["--url", server.base, "upgrade"], { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      assert.match(stdout, /serves/);
    }
    await eventually("another server", () => {
      const now = worker(server.child.pid);
      return now && now !== before;
    });
    // Nobody touches the page.
    await eventually("the page to count on", async () => (await counted()) > seen + 3, () => screenOf(page));
    await new Promise((done) => setTimeout(done, 500));
  }
  const { processes } = await server.call("GET", "processes");
  const states = Object.fromEntries(processes.map(({ name, status }) => [name, status]));
  assert.equal(states.watch, "running");
  const { process: ended } = await server.call("GET", `processes/${id}/wait?timeoutMs=60000`);
  assert.equal(ended.exitCode, 2);
  const raw = Buffer.from(await (await fetch(`${server.base}/v1/processes/${id}/logs/raw`)).arrayBuffer());
  assert(raw.length > 100_000 && raw.equals(plain.stdout), `${raw.length} of ${plain.stdout.length} bytes`);
  assert.equal((await server.call("GET", "server")).startedAtMs, started);
  assert.deepEqual(page.wrongs, []);
}

await run({
  "a page and a build over five kills and two upgrades, io_uring": (after) => survives(after, "uring"),
  "a page and a build over five kills and two upgrades, epoll": (after) => survives(after, "epoll"),
});
