// The types that the official client publishes, beside those of our document: what it sends is what
// we take, and what we answer is what it expects. Nothing here runs; the compiler is the test.

import type {
  HealthResponse,
  ProblemDetails,
  ProcessConfig,
  ProcessCreateRequest,
  ProcessInfo,
  ProcessInputRequest,
  ProcessInputResponse,
  ProcessListResponse,
  ProcessLogEntry,
  ProcessLogsResponse,
  ProcessRunRequest,
  ProcessRunResponse,
  ProcessTerminalResizeRequest,
  ProcessTerminalResizeResponse,
} from "sandbox-agent";
import type { components } from "./schema.js";

type Ours = components["schemas"];
// An answer or a request is good where a value of the first type may stand for the second.
type Fits<From extends To, To> = [From, To];

export type Answers = [
  Fits<Ours["Problem"], ProblemDetails>,
  Fits<Ours["Settings"], ProcessConfig>,
  Fits<Ours["Process"], ProcessInfo>,
  Fits<Ours["ProcessList"], ProcessListResponse>,
  Fits<Ours["InputResult"], ProcessInputResponse>,
  Fits<Ours["LogEntry"], ProcessLogEntry>,
  Fits<Ours["Log"], ProcessLogsResponse>,
  Fits<Ours["RunResult"], ProcessRunResponse>,
  Fits<Ours["WindowSize"], ProcessTerminalResizeResponse>,
  Fits<Pick<Ours["Health"], "status">, HealthResponse>,
];

export type Requests = [
  Fits<ProcessConfig, Ours["Settings"]>,
  Fits<ProcessCreateRequest, Ours["CreateRequest"]>,
  Fits<ProcessRunRequest, Ours["RunRequest"]>,
  Fits<ProcessTerminalResizeRequest, Ours["WindowSize"]>,
  // It lets any text be an encoding; the words that there are we name.
  Fits<Omit<ProcessInputRequest, "encoding">, Omit<Ours["InputRequest"], "encoding">>,
  Fits<Ours["InputRequest"]["encoding"], ProcessInputRequest["encoding"]>,
];
