// Real programs in the console's terminal, in a browser, beside the same on a plain PTY: both must show
// the same, to the last attribute. On both I/O backends.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { spawn, spawnSync } from "node:child_process";
import { look } from "../terminal/look.mjs";
import { BASH, ENV, Plain } from "../terminal/terminals.mjs";
import { Server, eventually, open, run } from "./harness.mjs";

/** How long a flood lasts. */
const YES_SECONDS = Number(process.env.PROCRING_YES_SECONDS ?? 5);
const KEYS = { "\r": "Enter", "\x1b": "Escape", "\x1bOQ": "F2", "\x1b[21~": "F10" };
const CTRL = (letter) => String.fromCharCode(letter.charCodeAt(0) - 64);

/** A program in the page's terminal. */
class InPage {
  constructor(page) {
    this.page = page;
    this.name = "in the page";
  }

  /** What `look` finds, and the size. */
  look() {
    const term = "[...document.querySelectorAll('.screen')].find((one) => one.offsetParent)?.terminal";
    return this.page.evaluate(`((term) => term ? { ...(${look})(term), cols: term.cols, rows: term.rows } : { text: "", seen: "" })(${term})`);
  }

  /** Its lines that match, with those that have scrolled out. */
  async lines(pattern) {
    const all = await this.page.evaluate(() => {
      const { active } = document.querySelector(".screen").terminal.buffer;
      return Array.from({ length: active.length }, (_, y) => active.getLine(y).translateToString(true));
    });
    return all.filter((line) => pattern.test(line));
  }

  /** With the keys of a keyboard. */
  async type(text) {
    const { keyboard } = this.page;
    for (const part of text.match(/\x1b\S+~|\x1bO\S|[\x00-\x1f]|[^\x00-\x1f]+/g)) {
      if (KEYS[part]) await keyboard.press(KEYS[part]);
      else if (part < " ") await keyboard.press(`Control+${String.fromCharCode(part.charCodeAt(0) + 64)}`);
      else await keyboard.type(part);
    }
  }
}

/** The same program in the page and on a plain PTY of the same size. */
class Pair {
  static async start(after, backend, command, args, env = {}) {
    const server = await Server.start(["--io-backend", backend]);
    after(() => server.stop());
    const folder = mkdtempSync(join(tmpdir(), "procring-console-"));
    after(() => rmSync(folder, { recursive: true, force: true }));
    const home = (which) => {
      const path = join(folder, which);
      mkdirSync(path, { recursive: true });
      return path;
    };
    const pair = new Pair();
    Object.assign(pair, { server, home });
    pair.job = (which) => ({ command, args, cwd: home(which), env: { ...ENV, ...env, TMUX_TMPDIR: home(which) } });
    pair.begin = async () => {
      const page = await open();
      after(async () => {
        await page.context().close();
        assert.deepEqual(page.wrongs, []);
      });
      pair.page = page;
      pair.inPage = new InPage(page);
      // How large a terminal is in this page: the programs are to draw for that from their start on.
      await server.create({ command: "cat", tty: true, name: "measure" });
      await page.goto(`${server.console}#measure`);
      const { cols, rows } = await eventually("a terminal of the page's size", async () => {
        const [now, { processes }] = [await pair.inPage.look(), await server.call("GET", "processes")];
        const told = await server.call("GET", `processes/${processes[0].id}/terminal/screen`);
        return now.cols > 80 && told.cols === now.cols && told.rows === now.rows && now;
      });
      await server.call("POST", "processes/measure/kill");
      await page.getByRole("button", { name: "Close the tab of measure" }).click();
      const { id } = await server.create({ ...pair.job("page"), tty: true, cols, rows });
      await page.goto(`${server.console}#${id}`);
      await page.locator(".xterm:visible").waitFor();
      pair.plain = Plain.start({ ...pair.job("plain"), cols, rows });
      after(() => pair.plain.child.kill());
      return pair;
    };
    return pair;
  }

  async type(text) {
    this.plain.type(text);
    await this.inPage.type(text);
  }

  async resize(width, height) {
    const before = await this.inPage.look();
    await this.page.setViewportSize({ width, height });
    const now = await eventually("another size", async () => {
      const found = await this.inPage.look();
      return (found.cols !== before.cols || found.rows !== before.rows) && found;
    });
    this.plain.resize(now.cols, now.rows);
    return now;
  }

  /** Waits until both show what matches, and exactly the same. */
  async same(...expected) {
    let [a, b] = [{ text: "", seen: "" }, { text: "", seen: "" }];
    const shows = (one) => expected.every((part) => one.text.match(part));
    await eventually(
      `${expected.join(" and ")} on two equal screens`,
      async () => {
        b = look(this.plain.screen.term);
        a = await this.inPage.look();
        return shows(a) && shows(b) && a.seen === b.seen;
      },
      () => {
        const at = [...a.seen].findIndex((c, n) => c !== b.seen[n]);
        const near = (one) => one.seen.slice(Math.max(0, at - 200), at + 200);
        return `--- in the page\n${a.text}\n${near(a)}\n--- on a plain PTY\n${b.text}\n${near(b)}`;
      },
    );
  }

  async reload() {
    await this.page.reload();
    await this.page.locator(".xterm:visible").waitFor();
  }

  async ended() {
    assert.equal(await this.plain.ended(), 0);
    await this.page.getByText("Ended with exit code 0.").waitFor();
  }
}

const programs = {
  async vim(after, backend) {
    const pair = await Pair.start(after, backend, "vim", ["--clean", "-n", "-i", "NONE", "-c", "set mouse=", "a.txt"]);
    for (const which of ["page", "plain"]) writeFileSync(join(pair.home(which), "a.txt"), "first line\nsecond line\n");
    await pair.begin();
    await pair.same(/^first line/, /a\.txt/);
    await pair.type("ggOgrüße, 日本\x1b");
    await pair.same(/^grüße, 日本/);
    // In the middle of it.
    await pair.reload();
    await pair.same(/^grüße, 日本/, /\n~\n/);
    await pair.type("jyyp/second\r");
    await pair.same(/second line/);
    await pair.resize(900, 600);
    await pair.same(/^grüße/, /\n~\n/);
    await pair.type(":split\r");
    await pair.same(/a\.txt[^]*a\.txt/);
    await pair.reload();
    await pair.same(/a\.txt[^]*a\.txt/);
    await pair.type(":q\r");
    await pair.type("G:s/line/end/\r");
    await pair.same(/second end/);
    await pair.type(":wq\r");
    await pair.ended();
    const saved = ["page", "plain"].map((which) => readFileSync(join(pair.home(which), "a.txt"), "utf8"));
    assert.equal(saved[0], "grüße, 日本\nfirst line\nfirst line\nsecond end\n");
    assert.equal(saved[1], saved[0]);
  },

  async less(after, backend) {
    const pair = await Pair.start(after, backend, "less", ["b.txt"]);
    const text = Array.from({ length: 500 }, (_, n) => `line ${n + 1} ${"x".repeat(n % 90)}\n`).join("");
    for (const which of ["page", "plain"]) writeFileSync(join(pair.home(which), "b.txt"), text);
    await pair.begin();
    await pair.same(/^line 1\n/);
    await pair.type(" ");
    await pair.same(/\nline 60 /);
    await pair.type("/line 300\r");
    await pair.same(/^line 300 /);
    await pair.reload();
    await pair.same(/^line 300 /);
    await pair.resize(1000, 500);
    await pair.same(/^line 300 /, /\n:$/);
    await pair.type("G");
    await pair.same(/line 500 /, /END/);
    await pair.type("q");
    await pair.ended();
  },

  /** With nothing on it that changes by itself. */
  async htop(after, backend) {
    const sleeper = spawn("sleep", ["1000"]);
    after(() => sleeper.kill());
    const pair = await Pair.start(after, backend, "htop", ["-p", String(sleeper.pid), "-d", "100"], { HTOPRC: "htoprc" });
    const settings = [
      "htop_version=3.2.2",
      "config_reader_min_version=3",
      "header_layout=one_100",
      "column_meters_0=Blank",
      "column_meter_modes_0=2",
      "",
    ].join("\n");
    for (const which of ["page", "plain"]) writeFileSync(join(pair.home(which), "htoprc"), settings);
    await pair.begin();
    await pair.same(/PID +USER/, /sleep 1000/, /F10Quit/);
    await pair.reload();
    await pair.same(/PID +USER/, /sleep 1000/, /F10Quit/);
    await pair.type("\x1bOQ");
    await pair.same(/Setup|Categories/);
    await pair.resize(900, 560);
    await pair.same(/Setup|Categories/);
    await pair.type("\x1b[21~");
    await pair.same(/sleep 1000/, /F10Quit/);
    await pair.type("q");
    await pair.ended();
  },

  async tmux(after, backend) {
    const pair = await Pair.start(after, backend, "tmux", ["-L", "procring", "-f", "conf", "new-session"]);
    const conf = `set -g default-command "PS1='$ ' exec bash ${BASH.join(" ")}"\nset -g status-right ""\n`;
    for (const which of ["page", "plain"]) writeFileSync(join(pair.home(which), "conf"), conf);
    // Its server is a daemon; it must not outlive a failure.
    after(() => {
      for (const which of ["page", "plain"]) {
        const options = { env: { ...process.env, TMUX_TMPDIR: pair.home(which) }, stdio: "ignore" };
        spawnSync("tmux", ["-L", "procring", "kill-server"], options);
      }
    });
    await pair.begin();
    await pair.same(/^\$/, /\[0\] 0:bash/);
    await pair.type("echo le''ft\r");
    await pair.same(/^left\n\$/m);
    await pair.type(`${CTRL("B")}%`);
    await pair.same(/^\$ echo le''ft +│\$/);
    await pair.type("echo ri''ght\r");
    await pair.same(/│right/);
    await pair.reload();
    await pair.same(/│right/, /\[0\] 0:bash/);
    const { rows } = await pair.resize(1000, 620);
    await pair.same(new RegExp(`(.*│.*\n){${rows - 1}}`));
    await pair.type("echo wi''de\r");
    await pair.same(/│wide/);
    await pair.type("exit\r");
    await pair.same(/^left\n\$/m);
    await pair.type("exit\r");
    await pair.ended();
  },

  /** Two million lines: the end of them, and what has scrolled out. */
  async seq(after, backend) {
    const pair = await (await Pair.start(after, backend, "bash", BASH)).begin();
    await pair.same(/^\$/);
    await pair.type("seq 1 2000000\r");
    await pair.same(/1999999\n2000000\n\$$/m);
    const lines = (await pair.inPage.lines(/^\d+$/)).map(Number);
    assert(lines.length > 4000, `${lines.length}`);
    assert(lines.every((n, at) => n === 2_000_001 - lines.length + at), "a line is missing");
    await pair.type("clear\r");
    await pair.same(/^\$\s*$/);
    await pair.type("exit\r");
    await pair.ended();
  },

  /** 100 MB, ended in the middle; then all of it. */
  async cat(after, backend) {
    const pair = await Pair.start(after, backend, "bash", BASH);
    const line = `${"0123456789".repeat(9)}abcdefghi\n`;
    const block = Buffer.from(line.repeat(10_000));
    for (const which of ["page", "plain"]) {
      const path = join(pair.home(which), "big");
      writeFileSync(path, "");
      for (let n = 0; n < 100; n += 1) writeFileSync(path, block, { flag: "a" });
    }
    await pair.begin();
    await pair.same(/^\$/);
    await pair.type("cat big\r");
    await eventually("it to flow", async () => /(0123456789){9}abcdefghi\n/.test((await pair.inPage.look()).text));
    await pair.type(CTRL("C"));
    await eventually("the prompt in the page", async () => /\^C\s*\$ *$/.test((await pair.inPage.look()).text), async () => (await pair.inPage.look()).text);
    await eventually("the prompt beside it", () => /\^C\s*\$ *$/.test(look(pair.plain.screen.term).text));
    await pair.type("clear; echo st''ill\r");
    await pair.same(/^still\n\$\s*$/);
    await pair.type("exit\r");
    await pair.ended();
  },

  /** As long as it is wanted: all of it arrives, the page stays alive, and Ctrl-C ends it. */
  async yes(after, backend) {
    const server = await Server.start(["--io-backend", backend]);
    after(() => server.stop());
    const page = await open();
    after(async () => {
      await page.context().close();
      assert.deepEqual(page.wrongs, []);
    });
    // What comes behind the first word of where in the output the page is, and what it missed.
    await page.addInitScript(() => {
      globalThis.came = { bytes: 0, redraws: 0 };
      globalThis.WebSocket = class extends WebSocket {
        constructor(...args) {
          super(...args);
          this.addEventListener("message", ({ data }) => {
            const { came } = globalThis;
            if (typeof data !== "string") came.bytes += data.byteLength;
            else if (data.includes('"redraw"')) came.redraws += 1;
            else if (data.includes('"cursor"')) {
              came.offset = JSON.parse(data).offset;
              came.from ??= came.offset - came.bytes;
            }
          });
        }
      };
    });
    await server.create({ command: "bash", args: BASH, env: ENV, tty: true, name: "shell" });
    await page.goto(`${server.console}#shell`);
    const inPage = new InPage(page);
    const sees = (what) => eventually(`${what} in the page`, async () => what.test((await inPage.look()).text), async () => (await inPage.look()).text);
    await sees(/^\$\s*$/);
    await page.locator(".xterm:visible").click();
    await inPage.type("yes\r");
    await sees(/(y\n){5}/);
    for (const end = Date.now() + YES_SECONDS * 1000; Date.now() < end; ) {
      assert.equal(await page.evaluate(() => 6 * 7), 42);
      await new Promise((done) => setTimeout(done, 250));
    }
    await inPage.type(CTRL("C"));
    await sees(/\^Cy?\n\$\s*$/);
    const { endOffset } = await server.call("GET", "processes/shell/logs?offset=0&maxBytes=1");
    await eventually("the end of it", () => page.evaluate((end) => globalThis.came.offset === end, endOffset));
    const { bytes, from, redraws } = await page.evaluate(() => globalThis.came);
    assert.deepEqual([from + bytes, redraws], [endOffset, 0]);
    const others = (await inPage.lines(/./)).filter((line) => line !== "y");
    assert(others.length === 2 && /^y?\^Cy?$/.test(others[0]) && /^\$ ?$/.test(others[1]), others.join("\n"));
    await inPage.type("clear; echo al''ive\r");
    await sees(/^alive\n\$\s*$/);
  },

  /** A recording in the public player, at its end: from the beginning, and where that has been evicted. */
  async recording(after, backend) {
    const server = await Server.start(["--io-backend", backend]);
    after(() => server.stop());
    const player = dirname(createRequire(import.meta.url).resolve("asciinema-player/dist/bundle/asciinema-player.min.js"));
    const files = { "/": '<link rel="stylesheet" href="/asciinema-player.css"><body><script src="/asciinema-player.min.js"></script>' };
    const web = createServer(({ url }, answer) => {
      answer.setHeader("content-type", url === "/" ? "text/html" : url.endsWith(".css") ? "text/css" : "text/javascript");
      answer.end(files[url] ?? (/^\/[\w.-]+$/.test(url) && existsSync(join(player, url)) ? readFileSync(join(player, url)) : ""));
    });
    await new Promise((done) => web.listen(0, "127.0.0.1", done));
    after(() => web.close());
    const page = await open();
    after(async () => {
      await page.context().close();
      assert.deepEqual(page.wrongs, []);
    });
    const script = "stty raw -echo; for w in one two; do while read x; do [ $x = vi ] && break; seq -f 'line %g\r' 1 $x; done; [ $w = one ] && printf '\\033[?1049h\\033[2J\\033[7mgr\\303\\274n \\346\\227\\245\\033[m'; done";
    for (const limit of [undefined, 20_000]) {
      if (limit) await server.config({ maxLogBytesPerProcess: limit });
      const { id } = await server.create({ command: "bash", args: ["-c", script], env: ENV, tty: true, cols: 80, rows: 24 });
      const path = `processes/${id}`;
      const type = (data) => server.call("POST", `${path}/input`, { data, encoding: "utf8" });
      const shown = (what) => eventually(what, async () => (await server.call("GET", `${path}/terminal/screen`)).lines.includes(what));
      await type("20000\n");
      await shown("line 20000");
      await type("vi\n");
      await shown("grün 日");
      await server.call("POST", `${path}/terminal/resize`, { cols: 100, rows: 30 });
      await type("7\n");
      await shown("line 7");
      const { lines } = await server.call("GET", `${path}/terminal/screen`);
      files["/cast"] = await (await fetch(`${server.base}/v1/${path}/logs/recording`)).text();
      await page.goto(`http://127.0.0.1:${web.address().port}/`);
      await page.evaluate(() => {
        const player = globalThis.AsciinemaPlayer.create("/cast", document.body, { autoPlay: true, speed: 50, idleTimeLimit: 0.1 });
        player.addEventListener("ended", () => (globalThis.ended = true));
      });
      await page.waitForFunction(() => globalThis.ended);
      const played = () => page.evaluate(() => [...document.querySelectorAll(".ap-line")].map((line) => line.textContent.trimEnd()));
      await eventually("the last screen", async () => (await played()).join("\n") === lines.join("\n"), async () => [...lines, "---", ...(await played())].join("\n"));
    }
  },

  /** What flows while the size changes arrives whole, and what comes then is drawn for the new size. */
  async resizes(after, backend) {
    const pair = await (await Pair.start(after, backend, "bash", BASH)).begin();
    await pair.same(/^\$/);
    await pair.type("for i in $(seq 1 30000); do echo row $i; done\r");
    await eventually("it to flow", async () => /^row \d\d/m.test((await pair.inPage.look()).text));
    for (const [width, height] of [[900, 700], [1100, 500], [800, 600], [1200, 760]]) await pair.resize(width, height);
    const text = /row 29999\nrow 30000\n\$\s*$/;
    await eventually("the end in the page", async () => text.test((await pair.inPage.look()).text), async () => (await pair.inPage.look()).text);
    await eventually("the end beside it", () => text.test(look(pair.plain.screen.term).text));
    const rows = await pair.inPage.lines(/^row \d+$/);
    assert(rows.length > 3000 && rows.every((row, at) => row === `row ${30_001 - rows.length + at}`), "a row is missing");
    const { cols, rows: height } = await pair.inPage.look();
    await pair.type("clear; stty size\r");
    await pair.same(new RegExp(`^${height} ${cols}\n\\$\\s*$`));
    await pair.type("exit\r");
    await pair.ended();
  },
};

const tests = {};
for (const backend of ["auto", "epoll"]) {
  for (const [name, program] of Object.entries(programs)) {
    tests[`${name} as on a plain PTY (${backend})`] = (after) => program(after, backend);
  }
}
await run(tests);
