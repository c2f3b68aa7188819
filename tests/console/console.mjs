// The console in a browser, on the built program: each thing that it promises.

import assert from "node:assert/strict";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Server, eventually, open, pictures, run, screenOf, seesOnScreen } from "./harness.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ENV = { PS1: "$ ", TERM: "xterm-256color", HISTFILE: "", LC_ALL: "C.UTF-8" };
const BASH = { command: "bash", args: ["--norc", "--noprofile", "-i"], env: ENV, tty: true };
const sh = (script, more) => ({ command: "sh", args: ["-c", script], ...more });

/** As builds look. */
const BUILD = `for i in $(seq 1 2000); do printf '   \\033[1;32mCompiling\\033[0m part-%d v1.%d.0\\n' $i $i; [ $((i % 6)) = 0 ] && printf '\\033[1;33mwarning\\033[0m: unused variable \\033[1mcount\\033[0m in part-%d\\n' $i >&2; sleep 0.05; done`;

const rowOf = (page, text) => page.getByRole("row").filter({ hasText: text });
const tokenOf = (server) => ({ authorization: `Bearer ${server.token}` });

async function begin(after, flags = [], options = {}) {
  const server = await Server.start(flags);
  after(() => server.stop());
  const page = await open(server.console, options);
  after(async () => {
    await page.context().close();
    assert.deepEqual(page.wrongs, []);
  });
  return { server, page };
}

async function picture(page, name) {
  if (!pictures) return;
  await page.mouse.move(0, 0);
  await page.screenshot({ path: `${pictures}/${name}.png` });
}

/** Passes connections on to a port, cuts them, and may put something in front of paths. */
class Proxy {
  static async start(to, rewrite = (data) => data) {
    const proxy = new Proxy();
    proxy.open = new Set();
    proxy.refuses = false;
    proxy.holds = false;
    proxy.held = new Set();
    proxy.server = createServer((client) => {
      if (proxy.refuses) return client.destroy();
      const server = connect(to, "127.0.0.1");
      if (proxy.holds) proxy.held.add(client.pause());
      proxy.open.add(client);
      client.on("data", (data) => server.write(rewrite(data)));
      server.on("data", (data) => client.write(data));
      for (const [one, other] of [[client, server], [server, client]]) {
        one.on("close", () => (other.destroy(), proxy.open.delete(client)));
        one.on("error", () => other.destroy());
      }
    });
    await new Promise((done) => proxy.server.listen(0, "127.0.0.1", done));
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  cut() {
    for (const client of this.open) client.destroy();
  }

  /** Nothing of connections that come now is passed on until they are released. */
  hold() {
    this.holds = true;
  }

  release() {
    this.holds = false;
    for (const client of this.held) client.resume();
    this.held.clear();
  }

  async stop() {
    this.cut();
    await new Promise((done) => this.server.close(done));
  }
}

const portOf = (server) => Number(new URL(server.base).port);

/** The numbers of lines that are shown. */
const numbers = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".log .row .text")]
      .map((row) => [new DOMMatrix(getComputedStyle(row.parentElement).transform).f, Number(row.textContent)])
      .sort(([a], [b]) => a - b)
      .map(([, n]) => n),
  );

const isRun = (all) => all.length > 10 && all.every((n, at) => at === 0 || n === all[at - 1] + 1);

await run({
  async "the table tells what happens, from one stream and without asking again"(after) {
    const { server, page } = await begin(after);
    await page.getByText("Nothing has been started yet.").waitFor();
    const build = await server.create(sh("echo one; echo two >&2; read line; exit 3", { name: "build", labels: { team: "web" } }));
    const row = rowOf(page, "build");
    await row.getByText("running").waitFor();
    await row.getByText("proc_1").waitFor();
    await row.getByText("8 B").waitFor();
    assert.match(await row.innerText(), /echo one; echo two/);
    assert.equal(await row.getByRole("link", { name: /logs/i }).count(), 1);
    assert.equal(await row.getByRole("link", { name: /terminal/i }).count(), 0);
    const follower = request(`${server.base}/v1/processes/${build.id}/logs?follow=true`).on("error", () => {}).end();
    await eventually("the follower to be counted", async () => (await row.locator(".followers").innerText()) === "1");
    follower.socket.resetAndDestroy();
    await eventually("it to be gone", async () => (await row.locator(".followers").innerText()) === "");
    await server.call("POST", "processes/build/input", { data: "x\n", encoding: "utf8" });
    await row.getByText("exited").waitFor();
    assert.equal(await row.locator("td.exit").innerText(), "3");
    await server.create({ ...BASH, name: "shell" });
    await rowOf(page, "shell").getByRole("link", { name: /terminal/i }).waitFor();
    await server.create({ command: "true", name: "fine", labels: { team: "db" } });
    await rowOf(page, "fine").getByText("exited").waitFor();
    await picture(page, "processes");

    const names = async () => (await page.locator("tbody .name").allInnerTexts()).join(" ");
    const filter = page.getByRole("searchbox", { name: /filter/i });
    assert.equal(await names(), "shell fine build");
    await filter.fill("WEB");
    assert.equal(await names(), "build");
    await filter.fill("");
    await page.getByLabel("Status").selectOption("failed");
    assert.equal(await names(), "build");
    await page.getByLabel("Status").selectOption("running");
    assert.equal(await names(), "shell");
    await page.getByLabel("Status").selectOption("");
    await page.getByLabel("Label", { exact: true }).selectOption("team=db");
    assert.equal(await names(), "fine");
    await server.call("DELETE", "processes/fine");
    await page.getByText("No process fits the filter.").waitFor();
    const lists = page.asked.filter((address) => new URL(address).pathname === "/v1/processes");
    const streams = page.asked.filter((address) => new URL(address).pathname === "/v1/events");
    assert.deepEqual([lists.length, streams.length], [1, 1]);
  },

  async "a process is started, stopped, killed, signalled and deleted"(after) {
    const { server, page } = await begin(after);
    const start = async (fill) => {
      await page.getByRole("link", { name: "Processes" }).click();
      await page.getByRole("button", { name: "Start…" }).click();
      const dialog = page.getByRole("dialog");
      await fill(dialog);
      await dialog.getByRole("button", { name: "Start" }).click();
      await dialog.waitFor({ state: "detached" });
    };
    await start(async (dialog) => {
      await dialog.getByLabel("Command").fill(`sh -c 'trap "echo got it" USR1; echo "$0 $1 $WORD" && pwd; while :; do sleep 0.05; done'`);
      await dialog.getByText("More").click();
      await dialog.getByLabel("Arguments, one a line").fill("first word\n<b>second</b>");
      await dialog.getByLabel("Working directory").fill("/usr");
      await dialog.getByLabel("Environment").fill("WORD=a=b");
      await dialog.getByLabel("Name").fill("mine");
      await dialog.getByLabel("Labels").fill("kind=test");
      await dialog.getByLabel("pipes", { exact: true }).check();
      });
    await eventually("its log", async () => /\/proc_1\/logs$/.test(page.url()));
    const log = page.getByRole("region", { name: "Log of mine" });
    await log.getByText("first word <b>second</b> a=b").waitFor();
    await log.getByText("/usr", { exact: true }).waitFor();
    assert.deepEqual((await server.call("GET", "processes/mine")).labels, { kind: "test" });

    await page.getByRole("button", { name: "More", exact: true }).click();
    await page.getByRole("menuitem", { name: "Send a signal…" }).click();
    await page.getByRole("dialog").getByLabel("Signal").selectOption("SIGUSR1");
    await page.getByRole("dialog").getByRole("button", { name: "Send" }).click();
    await log.getByText("got it").waitFor();
    await page.getByRole("link", { name: "Processes" }).click();
    const row = rowOf(page, "mine");
    await row.getByRole("button", { name: "Stop mine" }).click();
    await row.getByText("SIGTERM").waitFor();
    await row.getByRole("button", { name: "More for mine" }).click();
    await page.getByRole("menuitem", { name: "Delete…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await row.waitFor({ state: "detached" });

    await start(async (dialog) => {
      await dialog.getByLabel("Command").fill("cat");
      assert.equal(await dialog.getByLabel("a terminal").isChecked(), true);
    });
    await eventually("its terminal", async () => /\/proc_2\/terminal$/.test(page.url()));
    await page.getByRole("button", { name: "More", exact: true }).click();
    await page.getByRole("menuitem", { name: "Kill" }).click();
    await eventually("it to be killed", async () => (await server.call("GET", "processes/proc_2")).signal === "SIGKILL");
    await page.getByText("Ended by a signal.").waitFor();

    await page.getByRole("link", { name: "Processes" }).click();
    await page.getByRole("button", { name: "Start…" }).click();
    await page.getByRole("dialog").getByLabel("Command").fill("/no/such/program");
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
    await page.getByRole("dialog").getByText("No such file or directory").waitFor();
    await page.keyboard.press("Escape");

    await start(async (dialog) => {
      await dialog.getByLabel("Command").fill("sh -c 'ulimit -n; ulimit -f'");
      await dialog.getByLabel("pipes", { exact: true }).check();
      await dialog.getByText("More").click();
      await dialog.getByLabel("User").fill("nobody");
      await dialog.getByRole("button", { name: "Start" }).click();
      await dialog.getByText("--allow-user").waitFor();
      await dialog.getByLabel("User").fill("");
      await dialog.getByLabel("Limits").fill("nofiles=77");
      await dialog.getByRole("button", { name: "Start" }).click();
      await dialog.getByText("nofiles").last().waitFor();
      await dialog.getByLabel("Limits").fill("nofile=77\nfileBytes=1M");
    });
    await eventually("both limits", async () => (await page.locator(".log .row .text").allInnerTexts()).join() === "77,2048");
  },

  async "a command is run and its output is seen as it comes"(after) {
    const { server, page } = await begin(after);
    await page.getByRole("link", { name: "Run", exact: true }).click();
    const field = page.getByLabel("Command to run");
    const file = `/tmp/procring-console-${process.pid}`;
    await field.fill(`mkfifo ${file}; echo begun; cat ${file}; printf '\\033[31mred\\033[0m <i>' >&2; rm ${file}; exit 3`);
    await field.press("Enter");
    const run = page.getByRole("article").last();
    await run.locator("pre").getByText("begun").waitFor();
    // It waits for this.
    await server.call("POST", "processes/run", sh(`echo more > ${file}`));
    await run.getByText(/exit 3, /).waitFor();
    assert.match(await run.locator("pre").innerText(), /begun\s+more\s+red <i>/);
    assert.equal(await run.locator(".stderr .fg-1").innerText(), "red");
    await field.fill("sleep 1000");
    await field.press("Enter");
    await page.getByRole("button", { name: "Stop sleep 1000" }).click();
    await page.getByRole("article").last().getByText("stopped").waitFor();
    await eventually("it to be gone", async () => (await server.call("GET", "server")).counts.runs === 0);
    await field.press("ArrowUp");
    assert.equal(await field.inputValue(), "sleep 1000");
    // What still runs can be stopped, however many come after it.
    const say = async (line) => {
      await field.fill(line);
      await field.press("Enter");
    };
    await say("sleep 1001");
    for (let n = 0; n < 60; n += 1) await say(`echo ${n}`);
    await page.getByRole("article").last().getByText(/exit 0, /).waitFor();
    assert.equal(await page.getByRole("article").count(), 50);
    await page.getByRole("button", { name: "Stop sleep 1001" }).click();
    await eventually("it to be gone, too", async () => (await server.call("GET", "server")).counts.runs === 0);
  },

  async "a page that nobody sees keeps no more of what a run writes than one that is looked at"(after) {
    const { page, server } = await begin(after);
    await page.goto(`${server.console}#/run`);
    const field = page.getByLabel("Command to run");
    await field.waitFor();
    // As a browser does where there is nothing to be seen.
    await page.evaluate(() => (window.requestAnimationFrame = () => 0));
    await field.fill("yes | head -c 3000000; sleep 1000");
    await field.press("Enter");
    await page.locator("pre.cut").waitFor();
    const kept = () => page.locator("pre").evaluate((one) => one.textContent.length);
    await eventually("some of it", async () => (await kept()) > 200_000);
    assert((await kept()) <= (512 + 64) << 10, `${await kept()} bytes`);
    await page.getByRole("button", { name: "Stop yes" }).click();
    await page.getByText("stopped").waitFor();
  },

  async "another like it has the same arguments, whatever is in them"(after) {
    const { server, page } = await begin(after);
    const args = ["-c", "echo one\necho two $#", "", "a b\n", ""];
    await server.create({ command: "sh", args, name: "first", cwd: "/usr" });
    const again = async (change) => {
      await page.getByRole("link", { name: "Processes" }).click();
      await rowOf(page, "first").getByRole("button", { name: "More for first" }).click();
      await page.getByRole("menuitem", { name: "Start another like this…" }).click();
      const dialog = page.getByRole("dialog");
      await change(dialog);
      await dialog.getByRole("button", { name: "Start" }).click();
      await dialog.waitFor({ state: "detached" });
    };
    await again(async () => {});
    const { command, args: same, cwd, tty } = await server.call("GET", "processes/proc_2");
    assert.deepEqual({ command, same, cwd, tty }, { command: "sh", same: args, cwd: "/usr", tty: false });
    await again((dialog) => dialog.getByLabel("Arguments, one a line").fill("-c\necho three"));
    assert.deepEqual((await server.call("GET", "processes/proc_3")).args, ["-c", "echo three"]);
  },

  async "an address of what is not there says so, and stays"(after) {
    const { server, page } = await begin(after);
    await server.create(sh("sleep 1000", { name: "other" }));
    for (const address of ["#/nothing/logs", "#proc_77"]) {
      await page.goto("about:blank");
      await page.goto(`${server.console}${address}`);
      await page.getByRole("heading", { name: "Not there" }).waitFor();
      assert.equal(new URL(page.url()).hash, address);
      await page.getByRole("link", { name: "All processes" }).click();
      await rowOf(page, "other").waitFor();
    }
  },

  async "light and dark are the system's until one is chosen"(after) {
    const { page } = await begin(after);
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const [light, dark] = ["rgb(253, 253, 252)", "rgb(18, 22, 27)"];
    const is = (wanted) => eventually(wanted, async () => (await ground()) === wanted, ground);
    await is(light);
    await page.emulateMedia({ colorScheme: "dark" });
    await is(dark);
    await page.getByRole("button", { name: "Light or dark" }).click();
    await is(light);
    await page.reload();
    await is(light);
    await page.getByRole("button", { name: "Light or dark" }).click();
    await page.emulateMedia({ colorScheme: "light" });
    await is(dark);
  },

  async "where a link of a program leads is shown before it is opened"(after) {
    const { server, page } = await begin(after);
    await server.create({ ...BASH, name: "shell" });
    await page.goto(`${server.console}#/shell/terminal`);
    await seesOnScreen(page, /^\$/);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("clear; printf '\\033]8;;https://b\\303\\274cher.example/\\342\\200\\256gnp\\033\\\\he''re\\033]8;;\\033\\\\\\n'\n");
    await seesOnScreen(page, /^here$/m);
    const { x, y } = await page.locator(".xterm-rows span", { hasText: "here" }).last().boundingBox();
    await page.mouse.move(x + 5, y + 5);
    await page.mouse.move(x + 8, y + 8);
    await page.mouse.click(x + 8, y + 8);
    const dialog = page.getByRole("dialog");
    await dialog.getByText("https://xn--bcher-kva.example/%E2%80%AEgnp", { exact: true }).waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal(page.context().pages().length, 1);
  },

  async "a log is followed, with its streams, colours and times, and nothing in it acts"(after) {
    const { server, page } = await begin(after);
    const tricks = [
      "<img src=x onerror=alert(1)>",
      "\\033]0;title\\007plain",
      "\\033]8;;javascript:alert(1)\\033\\\\link\\033]8;;\\033\\\\",
      "\\033[8mhidden\\033[0m",
      "\\033[30;40mblack\\033[0m",
      "\\033[38;2;1;2;999mx\\033[38;5;196;4mcolour\\033[0m",
      "safe \\342\\200\\256gnp.exe",
      "progress 1%%\\rprogress 99%%",
      "\\033[2Jcleared",
      "tab\\tbell\\007nul\\000end",
    ];
    const script = `printf '${tricks.join("\\n")}\\n'; echo oops >&2; while read line; do echo "said $line"; done`;
    await server.create(sh(script, { name: "odd<b>".replace("<b>", "") }));
    await rowOf(page, "odd").getByRole("link", { name: /logs/i }).click();
    const log = page.getByRole("region", { name: "Log of odd" });
    await log.getByText("oops").waitFor();
    const lines = await log.locator(".row .text").allInnerTexts();
    assert.deepEqual(
      lines.map((line) => line.replaceAll("\t", "")),
      [
        "<img src=x onerror=alert(1)>",
        "plain",
        "link",
        "hidden",
        "black",
        "xcolour",
        "safe ⟨U+202E⟩gnp.exe",
        "progress 99%",
        "cleared",
        "tabbell␇nul␀end",
        "oops",
      ],
    );
    assert.equal(await page.locator("main img, main a[href^=javascript]").count(), 0);
    assert.equal(await page.title(), "odd · procring");
    assert.equal(await log.locator(".row.err").count(), 1);
    assert.match(await log.locator(".row.err").innerText(), /stderr:/);
    const colour = await log.getByText("colour").evaluate((one) => [getComputedStyle(one).color, getComputedStyle(one).textDecorationLine]);
    assert.deepEqual(colour, ["rgb(255, 0, 0)", "underline"]);
    const [ink, ground] = await log.getByText("black").evaluate((one) => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]);
    assert.notEqual(ink, ground);

    await server.call("POST", "processes/odd/input", { data: "hello\n", encoding: "utf8" });
    await log.getByText("said hello").waitFor();
    await page.getByLabel("Times").check();
    assert.match(await log.locator(".row time").first().innerText(), /^\d\d:\d\d:\d\d\.\d\d\d$/);
    await page.getByLabel("Stream").selectOption("stderr");
    await eventually("only stderr", async () => (await log.locator(".row .text").allInnerTexts()).join() === "oops");
    await page.getByLabel("Stream").selectOption("combined");
    await log.getByText("said hello").waitFor();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
    assert.equal(download.suggestedFilename(), "odd.log");
    // Nor in a command or a label.
    await server.create({ command: "echo", args: ["\u202egnp.exe", "<u>x</u>\n\x1b[31m"], name: "tricky", labels: { "a\u202e": "<b>" } });
    await page.getByRole("link", { name: "Processes" }).click();
    const text = await rowOf(page, "tricky").innerText();
    assert(text.includes("echo '⟨U+202E⟩gnp.exe' '<u>x</u>⏎␛[31m'") && text.includes("a⟨U+202E⟩=<b>"), text);
    const raw = await (await fetch(`${server.base}/v1/processes/odd/logs/raw`)).arrayBuffer();
    assert.deepEqual(readFileSync(await download.path()), Buffer.from(raw));
  },

  async "ten million lines are looked at, searched and gone through, a few at a time"(after) {
    const { server, page } = await begin(after);
    await server.config({ maxLogBytesPerProcess: 200 << 20 });
    await server.create({ command: "seq", args: ["1", "10000000"], name: "many" });
    await eventually("it to end", async () => (await server.call("GET", "processes/many")).status === "exited");
    await page.goto(`${server.console}#/many/logs`);
    const shows = (what, fits) => eventually(what, async () => {
      const all = await numbers(page);
      return isRun(all) && fits(all) && all;
    }, async () => (await numbers(page)).join(" "));
    await shows("the end", (all) => all.at(-1) === 10_000_000);
    const log = page.getByRole("region", { name: "Log of many" });
    const moves = async (by, pixels) => {
      const [before] = await shows("where it is", () => true);
      await by();
      const lines = pixels / 18;
      await shows(`${lines} lines further than ${before}`, ([first]) => Math.abs(first - before - lines) <= 1);
    };
    // With the keys that a browser has for it, and as far as it goes.
    await log.focus();
    const height = await log.evaluate((one) => one.clientHeight);
    await moves(() => page.keyboard.press("PageUp"), -0.875 * height);
    await moves(() => page.keyboard.press("ArrowUp"), -40);
    await page.keyboard.press("Home");
    await shows("the beginning", (all) => all[0] === 1);
    await page.keyboard.press("End");
    await shows("the end", (all) => all.at(-1) === 10_000_000);
    // The middle, as one who drags the bar.
    await log.evaluate((one) => (one.scrollTop = one.scrollHeight / 2));
    const middle = await shows("the middle", (all) => all[0] > 4_000_000 && all[0] < 6_000_000);
    await log.hover();
    const wheel = (pixels) => moves(() => page.mouse.wheel(0, pixels), pixels);
    for (let turn = 1; turn <= 10; turn += 1) await wheel(180);
    await page.getByRole("button", { name: "End" }).click();
    await shows("the end", (all) => all.at(-1) === 10_000_000);
    await log.hover();
    for (let turn = 1; turn <= 5; turn += 1) await wheel(-180);
    assert(middle.length < 100);
    await page.getByRole("button", { name: "Oldest" }).click();
    await shows("the beginning", (all) => all[0] === 1);
    const field = page.getByLabel("Search the log");
    await field.fill("77777");
    const matches = Array.from({ length: 10_000_000 }, (_, n) => n + 1).filter((n) => String(n).includes("77777"));
    await page.getByText(`${matches.length}`, { exact: true }).waitFor();
    await field.press("Enter");
    await shows("the first match", (all) => all.includes(matches[0]));
    await page.getByText(`1 of ${matches.length}`).waitFor();
    await field.press("Shift+Enter");
    await shows("the last match", (all) => all.includes(matches.at(-1)));
    assert.equal(await log.locator(".row.here mark").innerText(), "77777");
    await field.fill("no such");
    await page.getByText("no match").waitFor();
    await page.getByRole("button", { name: "End" }).click();
    await shows("the end again", (all) => all.at(-1) === 10_000_000);
    // Nothing piles up.
    assert(await page.evaluate(() => document.querySelectorAll("*").length) < 600);
  },

  async "who has gone back in a log, however little, is left there while it grows"(after) {
    const { server, page } = await begin(after);
    await server.create(sh("seq 1 1000; read go; seq 1001 1100; read go", { name: "grows" }));
    await page.goto(`${server.console}#/grows/logs`);
    await eventually("the end", async () => (await numbers(page)).at(-1) === 1000);
    const log = page.getByRole("region", { name: "Log of grows" });
    const followed = () => page.getByRole("button", { name: "End" }).getAttribute("aria-pressed");
    await log.evaluate((one) => one.scrollBy(0, -5));
    await eventually("it to be left", async () => (await followed()) === "false");
    await server.call("POST", "processes/grows/input", { data: "\n", encoding: "utf8" });
    await page.getByText("4.3 KB").waitFor();
    assert((await numbers(page)).at(-1) <= 1000);
    await log.evaluate((one) => one.scrollBy(0, one.scrollHeight));
    await eventually("the end again", async () => (await numbers(page)).at(-1) === 1100);
    assert.equal(await followed(), "true");
  },

  async "what a log has lost is said where it was, and what comes is followed"(after) {
    const { server, page } = await begin(after);
    await server.config({ maxLogBytesPerProcess: 100_000 });
    await server.create(sh("seq 1 100000; read go; seq 100001 200000; read go", { name: "gone" }));
    await page.goto(`${server.console}#/gone/logs`);
    await eventually("the end", async () => (await numbers(page)).at(-1) === 100_000);
    await page.getByRole("button", { name: "Oldest" }).click();
    await page.getByText(/before this line are no longer kept/).waitFor();
    const kept = await (await fetch(`${server.base}/v1/processes/gone/logs/raw`)).text();
    await eventually("the oldest line", async () => {
      const shown = (await page.locator(".log .row .text").allInnerTexts()).map(Number);
      return shown.includes(Number(kept.split("\n")[1]));
    });
    await page.getByRole("button", { name: "End" }).click();
    await server.call("POST", "processes/gone/input", { data: "\n", encoding: "utf8" });
    await eventually("what comes later", async () => (await numbers(page)).at(-1) === 200_000);
  },

  async "long lines, wide characters and no lines at all are rows that fit"(after) {
    const { server, page } = await begin(after);
    const script = `printf '%0300000d\\n' 7; i=0; while [ $i -lt 400 ]; do printf '\\346\\227\\245'; i=$((i+1)); done; echo; printf '\\033[32m%0500d\\033[0m' 1`;
    await server.create(sh(script, { name: "long" }));
    await page.goto(`${server.console}#/long/logs`);
    const log = page.getByRole("region", { name: "Log of long" });
    await log.getByText("日日日").first().waitFor();
    const wider = () => log.evaluate((one) => [...one.querySelectorAll(".row")].filter((row) => row.querySelector(".text")?.getBoundingClientRect().right > one.getBoundingClientRect().right).length);
    assert.equal(await wider(), 0);
    const texts = await log.locator(".row .text").allInnerTexts();
    assert.equal(texts.filter((text) => text.includes("日")).join("").length, 400);
    assert.equal(texts.filter((text) => /^0*1?$/.test(text)).join("").slice(-500), `${"0".repeat(499)}1`);
    await page.getByRole("button", { name: "Oldest" }).click();
    await page.getByLabel("Wrap").uncheck();
    await eventually("rows that are wider than the page", async () => (await wider()) > 0);
  },

  async "a terminal is typed into, kept in its tab, found again by its address, and resumed"(after) {
    const { server, page: unused } = await begin(after);
    const proxy = await Proxy.start(portOf(server));
    after(() => proxy.stop());
    const page = unused;
    const home = `http://127.0.0.1:${proxy.port}/console/`;
    await server.create({ ...BASH, name: "one" });
    await server.create({ ...BASH, name: "two" });
    await page.goto(home);
    await rowOf(page, "one").getByRole("link", { name: /terminal/i }).click();
    await seesOnScreen(page, /^\$/);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("echo on''e\n");
    await seesOnScreen(page, /^one$/m);
    await page.goto(`${home}#proc_2`);
    await eventually("the terminal's own address", () => page.url().endsWith("#/proc_2/terminal"));
    await seesOnScreen(page, /^\$ *$/m);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("echo tw''o\n");
    await seesOnScreen(page, /^two$/m);
    const tabs = page.getByRole("navigation", { name: "Open processes" });
    await tabs.getByRole("link", { name: "one" }).click();
    await seesOnScreen(page, /^one$/m);
    await page.keyboard.type("tput cols\n");
    const cols = (await seesOnScreen(page, /^(\d+)$/m))[1];
    assert.equal(Number(cols), await page.evaluate(() => [...document.querySelectorAll(".screen")].find((one) => one.offsetParent).terminal.cols));
    await page.reload();
    await seesOnScreen(page, /^one$/m);
    assert.equal(await tabs.getByRole("link").count(), 2);

    // A cut, with output meanwhile; nothing is lost and nothing comes twice.
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("clear; n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo line $n; sleep 0.05; done; echo do''ne\n");
    await seesOnScreen(page, /line 5$/m);
    proxy.refuses = true;
    proxy.cut();
    await page.getByText("The connection is cut; connecting again…").waitFor();
    proxy.refuses = false;
    await seesOnScreen(page, /^done$/m);
    await eventually("the line about it to go", async () => (await page.getByText("The connection is cut").count()) === 0);
    const lines = await page.evaluate(() => {
      const { terminal } = [...document.querySelectorAll(".screen")].find((one) => one.offsetParent);
      const { active } = terminal.buffer;
      return Array.from({ length: active.length }, (_, y) => active.getLine(y).translateToString(true)).filter((line) => /^line \d+$/.test(line));
    });
    assert.deepEqual(lines, Array.from({ length: 60 }, (_, n) => `line ${n + 1}`));
    await tabs.getByRole("button", { name: "Close the tab of one" }).click();
    await eventually("the other tab", () => page.url().endsWith("#/proc_2/terminal"));
    await seesOnScreen(page, /^two$/m);
  },

  async "a terminal that is started here has this page's size from its start on"(after) {
    const { server, page } = await begin(after);
    // The first tab takes room that there was before; a narrow page has bars of several lines.
    for (const [width, height] of [[1280, 800], [900, 600], [360, 740]]) {
      await page.setViewportSize({ width, height });
      await page.goto(`${server.console}#/processes`);
      await page.getByRole("button", { name: "Start…" }).click();
      const dialog = page.getByRole("dialog");
      await dialog.getByLabel("Command").fill(`trap 'echo another size' WINCH; stty size; read line; stty size; read line`);
      await dialog.getByLabel(/Through a shell/).check();
      await dialog.getByLabel("Name").fill(`at-${width}`);
      await dialog.getByRole("button", { name: "Start" }).click();
      await dialog.waitFor({ state: "detached" });
      await page.locator(".xterm:visible").waitFor();
      const size = await eventually("the size", () => page.evaluate(() => {
        const term = [...document.querySelectorAll(".screen")].find((one) => one.offsetParent)?.terminal;
        return term && `${term.rows} ${term.cols}`;
      }));
      await seesOnScreen(page, new RegExp(`^${size}$`, "m"));
      await page.locator(".xterm:visible").click();
      await page.keyboard.press("Enter");
      await seesOnScreen(page, new RegExp(`^${size}\n\n${size}$`, "m"));
      const all = await (await fetch(`${server.base}/v1/processes/at-${width}/logs/raw`)).text();
      assert.doesNotMatch(all, /another size/);
    }
  },

  async "a page that changes its size while it connects tells so once it can"(after) {
    const { server, page } = await begin(after);
    const proxy = await Proxy.start(portOf(server));
    after(() => proxy.stop());
    await server.create({ ...BASH, name: "shell" });
    const home = `http://127.0.0.1:${proxy.port}/console/`;
    await page.goto(home);
    await rowOf(page, "shell").waitFor();
    const sizeOf = () => page.evaluate(() => (({ cols, rows }) => `${rows} ${cols}`)(document.querySelector(".screen").terminal));
    proxy.hold();
    await rowOf(page, "shell").getByRole("link", { name: /terminal/i }).click();
    await eventually("the page to connect", () => page.asked.some((address) => address.startsWith("ws:")));
    await page.setViewportSize({ width: 800, height: 500 });
    await page.evaluate(() => new Promise((done) => setTimeout(done, 200)));
    proxy.release();
    await seesOnScreen(page, /^\$/);
    await eventually("the size of this page", async () => {
      const { cols, rows } = await server.call("GET", "processes/shell/terminal/screen");
      return cols < 110 && rows < 30 && `${rows} ${cols}` === (await sizeOf());
    }, sizeOf);
    assert.equal(await page.getByRole("button", { name: "Fit to this page" }).count(), 0);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("clear; stty size\n");
    await seesOnScreen(page, new RegExp(`^${await sizeOf()}$`, "m"));
  },

  async "two pages see one terminal, and the last one that sizes it does so for both"(after) {
    const { server, page } = await begin(after);
    await server.create({ ...BASH, name: "shell" });
    await page.goto(`${server.console}#/shell/terminal`);
    await seesOnScreen(page, /^\$/);
    const sizeOf = (one) => one.evaluate(() => (({ cols, rows }) => `${rows} ${cols}`)(document.querySelector(".screen").terminal));
    const mine = await sizeOf(page);
    const other = await open(`${server.console}#/shell/terminal`, { viewport: { width: 390, height: 700 } });
    after(() => other.context().close());
    await seesOnScreen(other, /^\$/);
    const theirs = await sizeOf(other);
    assert.notEqual(theirs, mine);
    await eventually("their size in this page", async () => (await sizeOf(page)) === theirs);
    await other.locator(".xterm:visible").click();
    await other.keyboard.type("clear; stty size; echo fro''m there\n");
    for (const one of [page, other]) await seesOnScreen(one, new RegExp(`^${theirs}\nfrom there$`, "m"));
    await page.getByRole("button", { name: "Fit to this page" }).click();
    await eventually("my size in theirs", async () => (await sizeOf(other)) === mine);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("clear; stty size\n");
    for (const one of [page, other]) await seesOnScreen(one, new RegExp(`^${mine}$`, "m"));
    assert.equal(await page.getByRole("button", { name: "Fit to this page" }).count(), 0);
  },

  async "a terminal is looked at only, pasted into, searched, copied from and made larger"(after) {
    const { server, page } = await begin(after);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await server.create({ ...BASH, name: "shell" });
    await page.goto(`${server.console}#/shell/terminal`);
    await seesOnScreen(page, /^\$/);
    await page.locator(".xterm:visible").click();
    await page.getByLabel("Read only").check();
    await page.keyboard.type("echo no''thing\n");
    await page.getByLabel("Read only").uncheck();
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("echo some''thing\n");
    await seesOnScreen(page, /^something$/m);
    assert.doesNotMatch(await screenOf(page), /nothing/);
    // What is pasted is not run before it is looked at.
    await page.evaluate(() => navigator.clipboard.writeText("echo a''a\necho b''b\n"));
    await page.getByRole("button", { name: "Paste" }).click();
    await seesOnScreen(page, /echo b''b/);
    assert.doesNotMatch(await screenOf(page), /^aa$/m);
    await page.keyboard.press("Enter");
    await seesOnScreen(page, /^aa\nbb$/m);
    await page.keyboard.type("clear; echo see https://example.com/x and $((6*7))\n");
    await seesOnScreen(page, /^see https:\/\/example.com\/x and 42$/m);
    await page.getByLabel("Search the terminal").fill("and 42");
    await page.getByText("1 of 1").waitFor();
    await page.getByRole("button", { name: "Copy" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "and 42");
    const rows = () => page.evaluate(() => document.querySelector(".screen").terminal.rows);
    const before = await rows();
    for (let n = 0; n < 4; n += 1) await page.getByRole("button", { name: /larger text/ }).click();
    await eventually("fewer rows", async () => (await rows()) < before);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("clear; stty size\n");
    await seesOnScreen(page, new RegExp(`^${await rows()} \\d+$`, "m"));
    // Out of the terminal without a mouse.
    await page.keyboard.press("Control+Shift+X");
    assert.equal(await page.evaluate(() => document.activeElement.type), "checkbox");
    await page.getByLabel("WebGL").check();
    await eventually("the renderer, or a word that there is none", async () =>
      (await page.locator(".screen canvas").count()) > 0 || (await page.getByText("WebGL is not to be had here").count()) > 0);
    await page.getByLabel("WebGL").uncheck();
    await page.keyboard.press("Tab");
  },

  async "a flood leaves the page alive, and Ctrl-C ends it"(after) {
    const { server, page } = await begin(after);
    await server.create({ ...BASH, name: "shell" });
    await page.goto(`${server.console}#/shell/terminal`);
    await seesOnScreen(page, /^\$/);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("yes flood\n");
    await seesOnScreen(page, /(flood\n){5}/);
    const bytes = () => server.call("GET", "processes/shell/logs?offset=0&maxBytes=1").then((answer) => answer.endOffset);
    const sofar = await bytes();
    await eventually("10 MB more", async () => (await bytes()) > sofar + 10_000_000);
    // The page answers, and its other parts work.
    await page.getByRole("link", { name: "Logs", exact: true }).click();
    await page.getByRole("region", { name: "Log of shell" }).getByText("flood").first().waitFor();
    await page.getByRole("link", { name: "Processes" }).click();
    await rowOf(page, "shell").getByText("running").waitFor();
    await page.getByRole("navigation", { name: "Open processes" }).getByRole("link", { name: "shell" }).click();
    await page.locator(".xterm:visible").click();
    await page.keyboard.press("Control+C");
    // What stood in the line that it interrupts is overwritten in part.
    await seesOnScreen(page, /\^C[flod]*\n\$ *$/m);
    await page.keyboard.type("echo al''ive\n");
    await seesOnScreen(page, /^alive$/m);

    // The same through pipes, where nothing holds it: the page shows the end, and goes on showing it.
    await server.create(sh("yes through pipes", { name: "pipes" }));
    await page.goto(`${server.console}#/pipes/logs`);
    const log = page.getByRole("region", { name: "Log of pipes" });
    await log.getByText("through pipes").first().waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText(/ended \(SIGTERM\)/).waitFor();
    assert(await page.evaluate(() => document.querySelectorAll("*").length) < 800);
  },

  async "the token is asked for, goes in no address and lies in the tab only"(after) {
    const secret = "s3cret-Token~?>";
    const { server, page } = await begin(after, ["--token", secret]);
    server.token = secret;
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    const field = page.getByLabel("Token");
    await field.waitFor();
    await field.fill("wrong");
    await field.press("Enter");
    await page.getByText("The server does not take this token.").waitFor();
    await field.fill(secret);
    await field.press("Enter");
    await page.getByText("Nothing has been started yet.").waitFor();
    // There is one button more at the top; it has room on a phone, too.
    await page.setViewportSize({ width: 360, height: 740 });
    assert.equal(await page.evaluate(() => Math.max(0, document.scrollingElement.scrollWidth - innerWidth)), 0);
    await page.setViewportSize({ width: 1280, height: 800 });
    await server.create({ ...BASH, name: "shell" }, tokenOf(server));
    await rowOf(page, "shell").getByRole("link", { name: /terminal/i }).click();
    await seesOnScreen(page, /^\$/);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("echo he''re\n");
    await seesOnScreen(page, /^here$/m);
    await page.goto(`${server.console}#/shell/logs`);
    await page.getByRole("region", { name: "Log of shell" }).getByText("here", { exact: true }).waitFor();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
    assert.match(readFileSync(await download.path(), "utf8"), /here/);
    await page.goto(`${server.console}#/server`);
    await page.getByText("io_uring").or(page.getByText("epoll")).first().waitFor();
    await page.reload();
    await page.getByText("This server").waitFor();
    const encoded = Buffer.from(secret).toString("base64url");
    const isIn = (text) => [secret, encodeURIComponent(secret), encoded].some((form) => text.includes(form));
    const kept = await page.evaluate(() => [document.cookie, JSON.stringify({ ...localStorage }), document.documentElement.outerHTML]);
    for (const text of [...page.asked, ...said, ...kept, ...server.said, page.url()]) assert(!isIn(text), text.slice(0, 200));
    assert(page.asked.some((address) => address.startsWith("ws:")));
    assert(isIn(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))));
    // Another tab has to be signed in by itself; this one is signed out.
    const other = await page.context().newPage();
    await other.goto(server.console);
    await other.getByLabel("Token").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token").waitFor();
    assert(!isIn(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))));
  },

  async "it works behind a prefix, asks nobody else, and runs no script but its own"(after) {
    const { server, page } = await begin(after, ["--base-path", "/kept"]);
    const strip = (data) => {
      const text = data.toString("latin1");
      return Buffer.from(text.replace(/^([A-Z]+) \/box\/7\//gm, "$1 /").replace("\r\n", "\r\nX-Forwarded-Prefix: /box/7\r\n"), "latin1");
    };
    const proxy = await Proxy.start(portOf(server), (data) => (/^[A-Z]+ \/box/.test(data.toString("latin1", 0, 20)) ? strip(data) : data));
    after(() => proxy.stop());
    await server.create({ ...BASH, name: "shell" });
    for (const home of [`http://127.0.0.1:${proxy.port}/box/7/console`, `${server.base}/kept/console`]) {
      // One of its own: what another one asks for may be told late.
      const fresh = await open();
      await fresh.goto(home);
      assert(fresh.url().startsWith(`${home}/`), fresh.url());
      await rowOf(fresh, "shell").getByRole("link", { name: /terminal/i }).click();
      await seesOnScreen(fresh, /^\$/);
      const prefix = home.replace(/console$/, "").replace(/^http/, "");
      for (const address of fresh.asked) assert(address.replace(/^(http|ws)/, "").startsWith(prefix), address);
      await fresh.context().close();
      assert.deepEqual(fresh.wrongs, []);
    }
    await page.goto(server.console);
    const violated = await page.evaluate(async () => {
      const told = new Promise((done) => addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective)));
      const script = document.createElement("script");
      try {
        script.text = "window.ran = true";
        document.body.append(script);
      } catch {
        return "trusted types";
      }
      return told;
    });
    assert.notEqual(violated, undefined);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    page.wrongs.length = 0;
  },

  async "a server that goes and comes back is noticed"(after) {
    const { server, page } = await begin(after);
    await server.create(sh("sleep 1000", { name: "before" }));
    await rowOf(page, "before").waitFor();
    const port = portOf(server);
    await server.stop();
    await page.getByText("no connection; try again").waitFor();
    const next = await Server.start([], { port });
    after(() => next.stop());
    await next.create(sh("sleep 1000", { name: "behind" }));
    await rowOf(page, "behind").waitFor();
    assert.equal(await rowOf(page, "before").count(), 0);
    await page.getByText("live", { exact: true }).waitFor();
    page.wrongs.length = 0;
  },

  async "the server's page says what it is, what works and how much is used"(after) {
    const { server, page } = await begin(after, ["--io-backend", "epoll"]);
    await server.create(sh("sleep 1000"));
    await page.goto(`${server.console}#/server`);
    await page.getByText("epoll").first().waitFor();
    await page.getByText("1 of 64").waitFor();
    await server.create(sh("sleep 1000"));
    await page.getByText("2 of 64").waitFor();
    await page.getByText("no cgroup for each process").waitFor();
    const info = await server.call("GET", "server");
    await page.getByText(`procring ${info.version}`).waitFor();
    for (const word of info.capabilities) assert.equal(await page.getByText(word, { exact: true }).count(), 1, word);
  },

  async "everybody can use it: with keys alone, with a screen reader, in the dark, on a phone"(after) {
    const { server, page } = await begin(after);
    await server.create(sh("for i in 1 2 3; do echo out $i; printf '\\033[3'$i'mcolour\\033[0m \\033[4'$i'mground\\033[0m\\n'; echo err >&2; done; false", { name: "job", labels: { a: "b" } }));
    await server.create({ ...BASH, name: "shell" });
    await rowOf(page, "job").getByText("exited").waitFor();
    const look = async (what) => {
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
      const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      assert.deepEqual(serious.map(({ id, nodes }) => `${what}: ${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`), []);
      // Nothing is wider than the page.
      const over = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
      assert(over <= 0, `${what} is ${over} too wide`);
    };
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const [width, height] of [[1280, 800], [360, 740]]) {
        await page.setViewportSize({ width, height });
        const where = `${colorScheme} ${width}`;
        await page.goto(`${server.console}#/processes`);
        await rowOf(page, "job").waitFor();
        await look(`${where} processes`);
        if (width === 360 && colorScheme === "dark") await picture(page, "phone");
        await page.getByRole("button", { name: "Start…" }).click();
        await look(`${where} start`);
        await page.keyboard.press("Escape");
        await page.getByRole("button", { name: "More for job" }).click();
        await look(`${where} menu`);
        await page.keyboard.press("Escape");
        await page.goto(`${server.console}#/job/logs`);
        await page.getByText("out 3").waitFor();
        await look(`${where} logs`);
        await page.goto(`${server.console}#/shell/terminal`);
        await seesOnScreen(page, /^\$/);
        await look(`${where} terminal`);
        await page.goto(`${server.console}#/server`);
        await page.getByText("This server").waitFor();
        await look(`${where} server`);
        await page.goto(`${server.console}#/run`);
        await page.getByLabel("Command to run").waitFor();
        await look(`${where} run`);
      }
    }
    await page.setViewportSize({ width: 1280, height: 800 });
    // From nothing to a terminal, without a mouse.
    await page.goto("about:blank");
    await page.goto(`${server.console}#/processes`);
    await rowOf(page, "job").waitFor();
    const press = async (key, until) => {
      for (let n = 0; n < 60; n += 1) {
        if (await page.evaluate(until)) return;
        await page.keyboard.press(key);
      }
      assert.fail(`${key} does not lead there: ${until}`);
    };
    await press("Tab", () => document.activeElement.textContent === "Start…");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await press("Tab", () => document.activeElement.id === "start-command");
    await page.keyboard.type("cat");
    await page.keyboard.press("Enter");
    await eventually("its terminal", () => page.url().endsWith("#/proc_3/terminal"));
    await eventually("the keys to go there", () => page.evaluate(() => document.activeElement.classList.contains("xterm-helper-textarea")));
    await page.keyboard.type("hello\n");
    await seesOnScreen(page, /^hello\nhello$/m);
    await page.keyboard.press("Control+Shift+X");
    await press("Shift+Tab", () => document.activeElement.getAttribute("aria-label") === "More");
    await page.keyboard.press("Enter");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await eventually("it to be killed", async () => (await server.call("GET", "processes/proc_3")).signal === "SIGKILL");
  },

  async "a build is started and followed, vim is used in a tab, and a reload finds all as it was"(after) {
    const { server, page } = await begin(after);
    await page.getByRole("button", { name: "Start…" }).click();
    await page.getByRole("dialog").getByLabel("Command").fill(BUILD);
    await page.getByRole("dialog").getByLabel(/Through a shell/).check();
    await page.getByRole("dialog").getByLabel("pipes", { exact: true }).check();
    await page.getByRole("dialog").getByLabel("Name").fill("build");
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
    const log = page.getByRole("region", { name: "Log of build" });
    await log.getByText("part-20 ").waitFor();
    await log.getByText("warning").first().waitFor();
    await picture(page, "logs");
    await page.getByRole("link", { name: "Processes" }).click();
    await page.getByRole("button", { name: "Start…" }).click();
    await page.getByRole("dialog").getByLabel("Command").fill("vim --clean -n -i NONE README.md");
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
    await seesOnScreen(page, /^# procring/);
    await page.locator(".xterm:visible").click();
    await page.keyboard.type("ggOhello from the console\x1b");
    await seesOnScreen(page, /^hello from the console\n# procring/);
    const before = (await seesOnScreen(page, /^hello[^]*\n {20,}1,\d+ +Top$/)).input;
    await picture(page, "terminal");
    await page.reload();
    await seesOnScreen(page, /^hello[^]*\n {20,}1,\d+ +Top$/);
    assert.equal(await screenOf(page), before);
    // A click would be one to vim, which may take it for the beginning of a selection.
    await page.locator(".xterm:visible .xterm-helper-textarea").focus();
    await page.keyboard.type("u");
    await seesOnScreen(page, /^# procring/);
    const tabs = page.getByRole("navigation", { name: "Open processes" });
    await tabs.getByRole("link", { name: "build" }).click();
    await log.getByText(/part-\d+/).first().waitFor();
    const last = async () => Math.max(...(await log.innerText()).match(/part-\d+/g).map((part) => Number(part.slice(5))));
    const seen = await last();
    await eventually("more of it", async () => (await last()) > seen);
  },
});
