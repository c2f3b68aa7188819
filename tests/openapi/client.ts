// A client made from the document by openapi-typescript and openapi-fetch, against a real server:
// every path, body and answer below is checked by the compiler, and then by what comes back.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[]; exit(code: number): never };

const [, , baseUrl, token] = process.argv;
if (!baseUrl || !token) {
  throw new Error("client.js URL TOKEN");
}
const client = createClient<paths>({
  baseUrl,
  headers: { Authorization: `Bearer ${token}` },
});

function is<T>(what: string, found: T, wanted: T): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`);
  }
}

const run = await client.POST("/v1/processes/run", {
  body: { command: "echo", args: ["from", "typescript"], timeoutMs: 10_000 },
});
// A run may also be streamed, and a log be text: the compiler wants to know that these are not.
const result = run.data;
if (typeof result !== "object" || !("stdout" in result)) {
  throw new Error(`a run: ${JSON.stringify(run)}`);
}
is("a run", result.stdout, "from typescript\n");

const refused = await client.POST("/v1/processes/run", { body: { command: "/no/such/program" } });
const problem: components["schemas"]["Problem"] | undefined = refused.error;
is("a problem", [refused.response.status, problem?.code], [502, "ENOENT"]);

const created = await client.POST("/v1/processes", {
  body: { command: "cat", name: "typed", labels: { from: "typescript" } },
});
const id = created.data?.id ?? "";
const path = { id: "typed" };
await client.POST("/v1/processes/{id}/input", {
  params: { path },
  body: { data: "line\n", encoding: "utf8", eof: true },
});
const ended = await client.GET("/v1/processes/{id}/wait", {
  params: { path, query: { timeoutMs: 10_000 } },
});
is("a wait", [ended.data?.outcome, ended.data?.process.exitCode], ["exited", 0]);
const logs = await client.GET("/v1/processes/{id}/logs", { params: { path } });
const log = logs.data;
if (typeof log !== "object") {
  throw new Error(`a log: ${JSON.stringify(logs)}`);
}
is("a log", log.entries.map((entry) => atob(entry.data)).join(""), "line\n");
const listed = await client.GET("/v1/processes", {
  params: { query: { label: ["from=typescript"], limit: 10 } },
});
is("a list", listed.data?.processes.map((process) => process.id), [id]);
const deleted = await client.DELETE("/v1/processes/{id}", { params: { path } });
is("a deletion", deleted.response.status, 204);
const server = await client.GET("/v1/server");
is("a server", server.data?.name, "procring");
