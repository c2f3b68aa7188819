// The server's API as this page uses it: one base address, one token, problems as errors, streams as
// async iterators.

/** Below which all routes are, whatever stands in front of this page's address. */
const base = new URL("../", location.href.split(/[?#]/)[0]);

/** The token is the tab's: it goes with it, and two servers behind one name do not share it. */
const KEY = `procring.token ${base.pathname}`;

/** What the server refused, in its own words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || (status ? `The server answered ${status}.` : "The server does not answer."));
    this.status = status;
    this.code = body?.code;
    this.details = body?.details;
  }
}

let signInWanted = () => {};
export const onSignIn = (run) => (signInWanted = run);

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

function address(path, query) {
  const url = new URL(`v1/${path}`, base);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null) url.searchParams.append(name, value);
  }
  return url;
}

/** One request; its response, or a Problem. */
export async function request(method, path, { query, body, headers, signal, text } = {}) {
  const init = { method, signal, headers: { ...headers }, cache: "no-store", credentials: "same-origin" };
  const secret = token.get();
  if (secret) init.headers.authorization = `Bearer ${secret}`;
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  } else if (text !== undefined) init.body = text;
  let response;
  try {
    response = await fetch(address(path, query), init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0);
  }
  if (response.ok || response.status === 304) return response;
  const said = await response.json().catch(() => null);
  if (response.status === 401) signInWanted(Boolean(secret));
  throw new Problem(response.status, said);
}

/** One request; the JSON of its answer, null if it has none. */
export async function call(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** A process in a path. */
export const of = (id, rest = "") => `processes/${encodeURIComponent(id)}${rest}`;

/** The lines of a response, as they come. */
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const whole = (rest + value).split("\n");
      rest = whole.pop();
      yield* whole;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Server-sent events, as {name, id, data} with data parsed. */
export async function* events(response) {
  let name = "message";
  let id;
  let data = "";
  for await (const line of lines(response)) {
    if (line === "") {
      if (data) yield { name, id, data: JSON.parse(data) };
      name = "message";
      data = "";
    } else if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("id: ")) id = Number(line.slice(4));
    else if (line.startsWith("data: ")) data += line.slice(6);
    else yield { name: "alive" };
  }
}

/** Objects, one a line. */
export async function* objects(response) {
  for await (const line of lines(response)) if (line) yield JSON.parse(line);
}

/** A WebSocket. The token goes as a subprotocol, which is in no address. */
export function socket(path, query) {
  const url = address(path, query);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const secret = token.get();
  const protocols = [];
  if (secret) {
    const bytes = String.fromCharCode(...new TextEncoder().encode(secret));
    const encoded = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    protocols.push("procring.v1", `procring.bearer.v1.${encoded}`);
  }
  const ws = new WebSocket(url, protocols);
  ws.binaryType = "arraybuffer";
  return ws;
}

/** Bytes of base64. */
export function decoded(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
