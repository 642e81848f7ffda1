// node report.mjs PORT ID TYPE TIME [TOKEN]: reports an incident of the shop, as monitoring does.
import { readFileSync } from "node:fs";

const [port, id, type, timestamp, token] = process.argv.slice(2);
const source = "/monitoring/prod1";
const content = { environment: { id: "production" }, service: { id: "shop" }, description: "slow" };
const data = {
  context: { specversion: "0.4.1", id, source, type, timestamp },
  subject: { id: "incident-123", content },
};
const secret = token ?? readFileSync(".trimtab/keys/report-token", "utf8").trim();
const answer = await fetch(`http://127.0.0.1:${port}/api/v1/events`, {
  method: "POST",
  headers: { authorization: `Bearer ${secret}`, "content-type": "application/cloudevents+json" },
  body: JSON.stringify({ specversion: "1.0", id, source, type, data }),
});
console.log(answer.status, await answer.text());
