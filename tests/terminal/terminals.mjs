// Two ways to run a program on a terminal that xterm draws: over the server, and on a plain PTY.
//
// In: a program. Out: something to type into, to resize and to look at. Both drawn by the same
// emulator, which also answers what programs ask their terminal.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import xterm from "@xterm/headless";
import WebSocket from "ws";
import { look } from "./look.mjs";

/** What programs are given, so that they look the same everywhere. */
export const ENV = {
  TERM: "xterm-256color",
  LC_ALL: "C.UTF-8",
  PS1: "$ ",
  HISTFILE: "",
  LESS: "",
  LESSHISTFILE: "-",
  INPUTRC: "/dev/null",
};
export const BASH = ["--norc", "--noprofile", "-i"];

const pause = () => new Promise((done) => setTimeout(done, 10));

/** Polls until `look` gives something; every wait has an end. */
export async function eventually(what, look, show = () => "") {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited 30 s for: ${what}\n${show()}`);
    await pause();
  }
}

/** An emulated terminal; `answer` gets what it sends by itself. */
class Screen {
  constructor(cols, rows, answer) {
    this.term = new xterm.Terminal({ cols, rows, scrollback: 5000, allowProposedApi: true });
    this.term.onData(answer);
    this.term.onBinary((data) => answer(data));
  }

  draw(data) {
    this.term.write(data);
  }

  /** The visible lines without attributes. */
  lines() {
    return this.text().split("\n");
  }

  text() {
    return look(this.term).text;
  }

  /** Everything that can be seen: characters, colours, attributes, the cursor. */
  seen() {
    return look(this.term).seen;
  }
}

/** A program on one of the server's terminals, through the official client. */
export class Remote {
  static async start(client, job) {
    const { id } = await client.createProcess({ ...job, tty: true });
    return new Remote(client, id, job.cols, job.rows);
  }

  constructor(client, id, cols, rows) {
    Object.assign(this, { client, id, name: "over the server", errors: [] });
    this.screen = new Screen(cols, rows, (data) => this.type(data));
    this.session = client.connectProcessTerminal(id, { WebSocket });
    this.session.onData((data) => this.screen.draw(data));
    this.session.onError((error) => this.errors.push(error));
    this.session.onExit((status) => (this.exit = status));
    this.session.socket.addEventListener("close", (event) => (this.closeCode = event.code));
    this.ready = new Promise((done) => this.session.onReady(done));
  }

  type(data) {
    this.session.sendInput(data);
  }

  resize(cols, rows) {
    this.screen.term.resize(cols, rows);
    this.session.resize({ cols, rows });
  }

  /** Ends the connection without a word, as a lost network does. */
  cut() {
    this.session.socket.terminate();
  }

  /** The exit code, after a clean end. */
  async ended() {
    await eventually(`${this.id} to end`, () => this.closeCode !== undefined, () => this.screen.text());
    assert.deepEqual([this.errors, this.closeCode], [[], 1000]);
    assert.equal((await this.client.getProcess(this.id)).status, "exited");
    return this.exit.exitCode;
  }
}

/** Somebody who comes late and only looks: is drawn the screen, and then sees what comes. */
export class Late {
  constructor(baseUrl, remote) {
    const { cols, rows } = remote.screen.term;
    this.screen = new Screen(cols, rows, () => {});
    const path = `/v1/processes/${remote.id}/terminal/ws?mode=ro&replay=screen&scrollback=50`;
    this.socket = new WebSocket(baseUrl.replace("http", "ws") + path);
    this.socket.on("message", (data, isBinary) => isBinary && this.screen.draw(data));
    this.socket.on("error", (error) => (this.error = error));
  }

  /** Waits until it sees exactly what `other` does, and leaves. */
  async sees(other) {
    await eventually(
      "a late viewer to see the same",
      () => this.error || this.screen.seen() === other.screen.seen(),
      () => [other, this].map((one) => `${one.screen.text()}\n${one.screen.seen()}`).join("\n---\n"),
    );
    assert.equal(this.error, undefined);
    this.socket.terminate();
  }
}

/** The same on a plain PTY. */
export class Plain {
  static start(job) {
    return new Plain(job);
  }

  constructor(job) {
    this.name = "on a plain PTY";
    this.screen = new Screen(job.cols, job.rows, (data) => this.type(data));
    const helper = fileURLToPath(new URL("plain_pty.py", import.meta.url));
    const stdio = ["pipe", "pipe", "inherit"];
    this.child = spawn("python3", [helper, JSON.stringify(job)], { stdio });
    this.child.stdin.on("error", () => {});
    this.child.stdout.on("data", (data) => this.screen.draw(data));
    this.closed = new Promise((done) => this.child.on("close", done));
  }

  order(...words) {
    this.child.stdin.write(`${JSON.stringify(words)}\n`);
  }

  type(data) {
    this.order("input", Buffer.from(data).toString("base64"));
  }

  resize(cols, rows) {
    this.screen.term.resize(cols, rows);
    this.order("resize", cols, rows);
  }

  ended() {
    return this.closed;
  }
}

/** Both at once, doing the same. */
export class Pair {
  static async start(client, job, apart) {
    const both = [await Remote.start(client, apart(job, "remote")), Plain.start(apart(job, "plain"))];
    return new Pair(both);
  }

  constructor(both) {
    this.both = both;
  }

  type(data) {
    for (const one of this.both) one.type(data);
  }

  resize(cols, rows) {
    for (const one of this.both) one.resize(cols, rows);
  }

  /**
   * Waits until both show what matches, and exactly the same, attributes and cursor included; and so
   * does who comes only now.
   */
  async same(...expected) {
    const [a, b] = this.both.map((one) => one.screen);
    const shows = (screen) => expected.every((part) => screen.text().match(part));
    await eventually(
      `${expected.join(" and ")} on two equal screens`,
      () => shows(a) && shows(b) && a.seen() === b.seen(),
      () => this.both.map((one) => `--- ${one.name}\n${one.screen.text()}\n${one.screen.seen()}`).join("\n"),
    );
    await new Late(process.argv[2], this.both[0]).sees(this.both[0]);
  }

  /** Both exit codes, which must be equal. */
  async ended() {
    const [a, b] = await Promise.all(this.both.map((one) => one.ended()));
    assert.equal(a, b);
    return a;
  }
}
