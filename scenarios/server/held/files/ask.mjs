// node ask.mjs PORT METHOD PATH [JSON or FORM]: asks the server of this project with its token, `{id}` being the newest
// rollout's.
import { readFileSync } from "node:fs";

const [port, method, path, body] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const token = readFileSync(".trimtab/keys/api-token", "utf8").trim();
const kind = body?.startsWith("{") ? "application/json" : "application/x-www-form-urlencoded";
const headers = { authorization: `Bearer ${token}`, "content-type": kind };
const newest = async () => (await (await fetch(`${origin}/api/v1/rollouts`)).json()).rollouts.items[0].id;
const address = path.includes("{id}") ? path.replace("{id}", await newest()) : path;
const answer = await fetch(origin + address, { method, headers, body });
console.log(answer.status, await answer.text());
