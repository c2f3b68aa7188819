// The official client as a follower of one process until the stream ends by itself.
//
// In: base URL, process id, two files. Out: the bytes of stdout and stderr in the files.

import { writeFileSync } from "node:fs";
import { SandboxAgent } from "sandbox-agent";

const [baseUrl, id, outFile, errFile] = process.argv.slice(2);
const client = await SandboxAgent.connect({ baseUrl });
const streams = { stdout: [], stderr: [] };
let sequence = 0;
const following = await client.followProcessLogs(id, (entry) => {
  if (entry.sequence !== sequence + 1) {
    throw new Error(`entry ${entry.sequence} after ${sequence}`);
  }
  sequence = entry.sequence;
  streams[entry.stream].push(Buffer.from(entry.data, "base64"));
});
await following.closed;
writeFileSync(outFile, Buffer.concat(streams.stdout));
writeFileSync(errFile, Buffer.concat(streams.stderr));
await client.dispose?.();
