// Real programs on the server's terminals, compared with the same on a plain PTY.
//
// In: the base URL, a program's name, a directory for files. Out: exit code 0 when every
// screen was the same. Nothing waits for time to pass, only for what is on the screens.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SandboxAgent } from "sandbox-agent";
import { BASH, ENV as env, Late, Pair, Remote, eventually } from "./terminals.mjs";

const [baseUrl, program, directory] = process.argv.slice(2);
const client = await SandboxAgent.connect({ baseUrl });
// So little that what a program draws first is soon evicted, and who comes late is drawn the screen.
const settings = `${baseUrl}/v1/processes/config`;
const body = { ...(await (await fetch(settings)).json()), maxLogBytesPerProcess: 6000 };
const headers = { "content-type": "application/json" };
assert.equal((await fetch(settings, { method: "POST", headers, body: JSON.stringify(body) })).status, 200);
const CTRL = Object.fromEntries([..."ABCDEKRUWZ"].map((c) => [c, String.fromCharCode(c.charCodeAt(0) - 64)]));
const [UP, LEFT] = ["\x1b[A", "\x1b[D"];

/** The directory of one of the two, since they write files of the same name. */
function home(which) {
  const path = join(directory, which);
  mkdirSync(path, { recursive: true });
  return path;
}

const start = (command, args, more = {}) =>
  Pair.start(client, { command, args, env: { ...env, ...more }, cols: 80, rows: 24 }, (job, which) => ({
    ...job,
    cwd: home(which),
    env: { ...job.env, TMUX_TMPDIR: home(which) },
  }));

const scenarios = {
  /** Editing of lines, history, a resize, job control. */
  async bash() {
    // Attached after the prompt was printed: it is seen all the same.
    const early = await client.createProcess({ command: "bash", args: BASH, env, tty: true });
    const logged = async () => (await client.getProcessLogs(early.id)).entries.length > 0;
    await eventually("the prompt to be printed", logged);
    const late = new Remote(client, early.id, 80, 24);
    await eventually("the prompt to be seen", () => late.screen.text().startsWith("$"));
    late.type("exit 3\r");
    assert.equal(await late.ended(), 3);

    const bash = await start("bash", BASH);
    await bash.same(/^\$/);
    bash.type("echo one tow");
    await bash.same(/one tow$/m);
    bash.type(`\x7f\x7fwo${CTRL.A}`);
    await bash.same(/one two$/m);
    bash.type(`${CTRL.E} three\r`);
    await bash.same(/^one two three\n\$/m);
    bash.type("printf '\\e[1;31m%s\\e[0m\\n' grün\r");
    await bash.same(/^grün\n\$/m);
    bash.type(`${UP}${UP}`);
    await bash.same(/\$ echo one two three$/m);
    bash.type(`${CTRL.W}${LEFT}${LEFT}${CTRL.K}!\r`);
    await bash.same(/^one tw!\n\$/m);
    bash.type(`${CTRL.R}prin`);
    await bash.same(/reverse-i-search\)`prin': printf/);
    bash.type(CTRL.C);
    await bash.same(/\^C|\$ $/);
    bash.type(`${CTRL.U}echo ${"wide ".repeat(20)}`);
    await bash.same(/wide wide/);
    bash.resize(60, 30);
    bash.type(`${CTRL.U}stty size\r`);
    await bash.same(/^30 60\n\$/m);
    // Not before bash has left the terminal to what it runs: until then it is bash that reads.
    bash.type("echo re''ady; cat\r");
    await bash.same(/^ready\n/m);
    bash.type("exit 4\r");
    await bash.same(/^exit 4\nexit 4\n/m);
    bash.type(CTRL.D);
    await bash.same(/^exit 4\n\$ *$/m);
    bash.type("exit 4\r");
    assert.equal(await bash.ended(), 4);
  },

  /** Opens a file, is resized, edits and saves. */
  async vim() {
    for (const which of ["remote", "plain"]) {
      writeFileSync(join(home(which), "a.txt"), "first line\nsecond line\n");
    }
    const vim = await start("vim", ["--clean", "-n", "-i", "NONE", "a.txt"]);
    await vim.same(/^first line/, /a\.txt/);
    vim.type("ggOgrüße, \u65e5\u672c\x1b");
    await vim.same(/^grüße, \u65e5\u672c/);
    vim.resize(100, 40);
    await vim.same(/^grüße/, /(\n~){30}/);
    vim.type(":set number\r");
    await vim.same(/^ +1 grüße/);
    vim.type("jyyp/second\r");
    await vim.same(/4 second line/);
    vim.type(":split\r");
    await vim.same(/a\.txt[^]*a\.txt/);
    vim.resize(50, 20);
    await vim.same(/a\.txt[^]*a\.txt/);
    vim.type(":q\r");
    vim.type("G:s/line/end/\r");
    await vim.same(/4 second end/);
    vim.type(":wq\r");
    assert.equal(await vim.ended(), 0);
    const saved = ["remote", "plain"].map((which) => readFileSync(join(home(which), "a.txt"), "utf8"));
    assert.equal(saved[0], "grüße, \u65e5\u672c\nfirst line\nfirst line\nsecond end\n");
    assert.equal(saved[1], saved[0]);
  },

  async less() {
    const text = Array.from({ length: 500 }, (_, n) => `line ${n + 1} ${"x".repeat(n % 90)}\n`).join("");
    for (const which of ["remote", "plain"]) writeFileSync(join(home(which), "b.txt"), text);
    const less = await start("less", ["b.txt"]);
    await less.same(/^line 1 $|^line 1\n/);
    less.type(" ");
    await less.same(/\nline 30 /);
    less.type("/line 300\r");
    await less.same(/^line 300 /);
    less.resize(120, 35);
    await less.same(/^line 300 /, /\nline 330 /);
    less.type("G");
    await less.same(/line 500 /, /END/);
    less.type("-S");
    await less.same(/press RETURN/);
    less.type("\rg");
    await less.same(/^line 1\n/, /\nline 34 x+\n:$/);
    // Nothing is typed until it has drawn the new size: less drops keys that a resize meets.
    less.resize(70, 20);
    await less.same(/^line 1\n/, /\nline 19 x+\n:$/);
    less.type("q");
    assert.equal(await less.ended(), 0);
  },

  async tmux() {
    // Not through a login shell, whose startup files are anybody's.
    const shell = `set -g default-command "PS1='$ ' exec bash ${BASH.join(" ")}"\n`;
    for (const which of ["remote", "plain"]) writeFileSync(join(home(which), "conf"), shell);
    const tmux = await start("tmux", ["-L", "procring", "-f", "conf", "new-session"]);
    // Its server is a daemon; it must not outlive a failure.
    process.on("exit", () => {
      for (const which of ["remote", "plain"]) {
        const options = { env: { ...process.env, TMUX_TMPDIR: home(which) }, stdio: "ignore" };
        spawnSync("tmux", ["-L", "procring", "kill-server"], options);
      }
    });
    await tmux.same(/^\$/, /\[0\] 0:bash/);
    tmux.type("echo le''ft\r");
    await tmux.same(/^left\n\$/m);
    tmux.type(`${CTRL.B}%`);
    await tmux.same(/^\$ echo le''ft +│\$/);
    tmux.type("echo ri''ght\r");
    await tmux.same(/│right/);
    tmux.resize(110, 32);
    await tmux.same(/(.*│.*\n){31}/);
    // Not `stty size`: tmux tells its panes of a new size when it has time.
    tmux.type("echo wi''de\r");
    await tmux.same(/│wide/);
    tmux.type(`${CTRL.B}${LEFT}`);
    tmux.type("exit\r");
    await tmux.same(/^\$ echo ri''ght/, /^wide/m);
    tmux.type("exit\r");
    assert.equal(await tmux.ended(), 0);
  },

  /** The connection is cut in the middle; a new one shows the screen again. */
  async top() {
    const job = { command: "top", args: ["-d", "0.5"], env, tty: true, cols: 90, rows: 20 };
    const { id } = await client.createProcess(job);
    const stays = new Remote(client, id, 90, 20);
    const leaves = new Remote(client, id, 90, 20);
    const runs = (one) => /^top - /.test(one.screen.text()) && /PID USER/.test(one.screen.text());
    const clock = (one) => one.screen.lines()[0];
    await eventually("top to be drawn", () => runs(stays) && runs(leaves));
    for (let round = 0; round < 3; round += 1) {
      const drawn = clock(stays);
      await eventually("top to draw again", () => clock(stays) !== drawn || round === 0);
    }
    leaves.cut();
    const back = new Remote(client, id, 90, 20);
    await back.ready;
    const show = () => [stays, back].map((one) => one.screen.seen()).join("\n");
    const equal = () => runs(back) && back.screen.seen() === stays.screen.seen();
    await eventually("the new viewer to see what the old one sees", equal, show);
    back.resize(70, 15);
    stays.screen.term.resize(70, 15);
    await eventually("both to see the smaller top", equal, show);
    await new Late(baseUrl, back).sees(stays);
    back.type("q");
    assert.equal(await back.ended(), 0);
    assert.equal(await stays.ended(), 0);
  },

  /** Draws for a while, until what it drew first is long gone; who comes then sees it whole. */
  async htop() {
    const job = { command: "htop", args: ["-d", "3"], env: { ...env, HTOPRC: "/dev/null" } };
    const htop = await Remote.start(client, { ...job, cols: 100, rows: 24 });
    await eventually("htop to be drawn", () => /PID.*USER/.test(htop.screen.text()));
    const first = async () => (await client.getProcessLogs(htop.id)).entries[0].sequence;
    await eventually("what was drawn first to be evicted", async () => (await first()) > 5);
    await new Late(baseUrl, htop).sees(htop);
    htop.type("\x1bOQ");
    await eventually("the setup to be shown", () => /Setup|Categories/.test(htop.screen.text()));
    await new Late(baseUrl, htop).sees(htop);
    htop.type("\x1b[21~");
    await eventually("the processes to be shown again", () => /PID.*USER/.test(htop.screen.text()));
    htop.type("q");
    assert.equal(await htop.ended(), 0);
    await new Late(baseUrl, htop).sees(htop);
  },
};

await scenarios[program]();
process.exit(0);
