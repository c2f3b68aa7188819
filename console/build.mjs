// Makes `built/` of `src/`: what procring is compiled with. `node build.mjs --check` makes nothing,
// and fails where that differs from what is there.
//
// Compressed files are compared as what is in them: another zlib writes other bytes of the same.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const built = join(root, "built");
/** Everything but the renderer that is loaded only when it is asked for. */
const BYTES_MAX = 150 << 10;

/** Of which sources `built/` is; `tests/console.rs` computes the same. */
function sources() {
  const names = ["build.mjs", "package-lock.json"];
  for (const name of readdirSync(join(root, "src"))) names.push(`src/${name}`);
  const hash = createHash("sha1");
  for (const name of names.sort()) {
    const content = readFileSync(join(root, name));
    hash.update(`${name} ${content.length}\n`).update(content);
  }
  return Buffer.from(`${hash.digest("hex")}\n`);
}

async function bundle(entry, options) {
  const result = await build({
    entryPoints: [join(root, "src", entry)],
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome111", "firefox114", "safari16.4"],
    charset: "utf8",
    legalComments: "none",
    write: false,
    outdir: built,
    // What the parts of one page have in common.
    define: { BUILD: JSON.stringify(sources().toString().trim()) },
    absWorkingDir: root,
    ...options,
  });
  return Buffer.from(result.outputFiles[0].contents);
}

const files = {
  "index.html": readFileSync(join(root, "src/index.html")),
  "icon.svg": readFileSync(join(root, "src/icon.svg")),
  // Loaded when they are wanted.
  "app.js": await bundle("app.js", { external: ["./terminal.js", "./webgl.js"] }),
  "terminal.js": await bundle("terminal.js", { external: ["./webgl.js"] }),
  "webgl.js": await bundle("webgl.js"),
  "app.css": await bundle("app.css", { loader: { ".css": "css" } }),
  "sources.sha1": sources(),
};

const isPlain = (name) => name === "index.html" || name === "sources.sha1";
let total = 0;
let stale = [];
mkdirSync(built, { recursive: true });
for (const [name, content] of Object.entries(files)) {
  const path = join(built, isPlain(name) ? name : `${name}.gz`);
  const packed = isPlain(name) ? content : gzipSync(content, { level: 9 });
  // The operating system that compressed it, which is not ours to tell.
  if (!isPlain(name)) packed[9] = 255;
  if (name !== "webgl.js" && name !== "sources.sha1") total += packed.length;
  if (!process.argv.includes("--check")) {
    writeFileSync(path, packed);
    console.log(`${name}: ${packed.length} bytes`);
    continue;
  }
  let there = Buffer.alloc(0);
  try {
    there = readFileSync(path);
    if (!isPlain(name)) there = gunzipSync(there);
  } catch {}
  if (!there.equals(content)) stale.push(path);
}
if (total > BYTES_MAX) throw new Error(`the console has ${total} bytes; ${BYTES_MAX} are allowed`);
if (stale.length > 0) throw new Error(`not what the sources make (npm run build): ${stale.join(", ")}`);
console.log(`${total} bytes in all without webgl.js`);
