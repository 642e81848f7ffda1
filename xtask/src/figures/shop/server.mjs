// A service with a known error rate, for measuring: settings.json says how often it fails and from which seed.
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const settings = JSON.parse(readFileSync(new URL("settings.json", import.meta.url)));
const log = process.env.FIGURES_LOG;
let state = settings.seed >>> 0;

// mulberry32: the same answers for the same seed.
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
}

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  response.statusCode = random() < settings.errors ? 500 : 200;
  if (log) {
    const at = Math.round((performance.timeOrigin + performance.now()) * 1000);
    appendFileSync(log, `${settings.name} ${at} ${response.statusCode}\n`);
  }
  response.end("answer\n");
});

process.on("SIGTERM", () => server.close(() => process.exit(0)));
server.listen(Number(process.env.PORT), "127.0.0.1");
