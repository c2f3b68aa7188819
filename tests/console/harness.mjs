// A server of its own for each test, a browser for all of them, and what tests say to both.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const program = process.env.PROCRING_BIN;
/** Where screenshots go, if they are wanted. */
export const pictures = process.env.PROCRING_PICTURES;
const browserProgram = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Every wait has an end, which only what is broken reaches: machines are busy. */
const WAIT_MS = 120_000;

/** Polls until `look` gives something. */
export async function eventually(what, look, show = () => "") {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${WAIT_MS / 1000} s for: ${what}\n${await show()}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}

// Whatever ends the tests ends the servers, and they end what they have started.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGTERM")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));
process.stdout.on("error", () => process.exit(1));

/** A server on a port that the kernel chose. */
export class Server {
  static async start(flags = [], { env = {}, port = 0 } = {}) {
    const server = new Server();
    const args = ["server", "--port", String(port), "--no-token", "--cgroup", "off", ...flags];
    server.child = spawn(program, args.filter((flag, at) => flag !== "--no-token" || !flags.includes("--token")), {
      stdio: ["ignore", "ignore", "pipe"],
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      env: { ...process.env, ...env },
    });
    running.add(server.child);
    server.child.on("exit", () => running.delete(server.child));
    server.said = [];
    server.over = new Promise((done) => server.child.on("exit", done));
    const lines = createInterface({ input: server.child.stderr });
    lines.on("line", (line) => server.said.push(line));
    await eventually(
      "the server to listen",
      () => {
        server.base = server.said.map((line) => line.match(/listening on (http:\S+)/)?.[1]).find(Boolean);
        server.console = server.said.map((line) => line.match(/console at (http:\S+)/)?.[1]).find(Boolean);
        if (server.child.exitCode !== null) throw new Error(server.said.join("\n"));
        return server.base && (server.console || flags.includes("--no-console"));
      },
      () => server.said.join("\n"),
    );
    return server;
  }

  async call(method, path, body, headers = {}) {
    const response = await fetch(`${this.base}/v1/${path}`, {
      method,
      headers: { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    assert(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  create(job, headers) {
    return this.call("POST", "processes", job, headers);
  }

  async config(more) {
    const settings = await this.call("GET", "processes/config");
    return this.call("POST", "processes/config", { ...settings, ...more });
  }

  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    await this.over;
  }
}

let browser = null;

export async function openBrowser() {
  browser = await chromium.launch({
    executablePath: browserProgram,
    // Chromium refuses its sandbox to root.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  return browser;
}

/** A page in a context of its own, and everything that went wrong in it. */
export async function open(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.wrongs = [];
  page.asked = [];
  page.on("console", (message) => {
    const isExpected = /status of [45]\d\d|net::ERR|WebSocket connection/.test(message.text());
    if (message.type() === "error" && !isExpected) page.wrongs.push(message.text());
  });
  page.on("pageerror", (error) => page.wrongs.push(error.stack ?? String(error)));
  page.on("request", (request) => page.asked.push(request.url()));
  page.on("websocket", (ws) => page.asked.push(ws.url()));
  if (address) await page.goto(address);
  return page;
}

/** The visible lines of the terminal that is shown. */
export const screenOf = (page) =>
  page.evaluate(() => {
    const host = [...document.querySelectorAll(".screen")].find((one) => one.offsetParent);
    const term = host?.terminal;
    if (!term) return "";
    const { active } = term.buffer;
    return Array.from({ length: term.rows }, (_, y) => active.getLine(active.baseY + y)?.translateToString(true).trimEnd() ?? "").join("\n");
  });

export const seesOnScreen = (page, what) =>
  eventually(`${what} on the terminal`, async () => (await screenOf(page)).match(what), () => screenOf(page));

/** Runs tests one after the other: {name: async () => {}}. */
export async function run(tests) {
  const wanted = process.argv.slice(2);
  let [passed, failed] = [0, 0];
  await openBrowser();
  for (const [name, test] of Object.entries(tests)) {
    if (wanted.length > 0 && !wanted.some((word) => name.includes(word))) continue;
    const began = Date.now();
    const cleanups = [];
    const after = (work) => cleanups.push(work);
    let error = null;
    try {
      await test(after);
    } catch (wrong) {
      error = wrong;
    }
    for (const work of cleanups.reverse()) {
      await Promise.resolve(work()).catch((wrong) => (error ??= wrong));
    }
    const took = `${((Date.now() - began) / 1000).toFixed(1)} s`;
    if (error) {
      failed += 1;
      console.log(`FAILED ${name} (${took})\n${error.stack ?? error}`);
    } else {
      passed += 1;
      console.log(`ok ${name} (${took})`);
    }
  }
  await browser.close();
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}
