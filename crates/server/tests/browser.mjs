// Drives the dashboard in a real, headless Chromium: while the demo's good release is rolling out it is taken back from the
// page, by keyboard alone; then every page is held to WCAG 2.2 AA in both themes and three widths, and read without script.
//
//   TRIMTAB_BIN, CHROMIUM_BIN, PLAYWRIGHT_PATH, AXE_PATH   as `cargo xtask test` sets them
//   TRIMTAB_URL   a dashboard that runs already, with its token, instead of a demo of our own
//
// Ends with the number of checks that passed and failed, and with 1 if any failed.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH ?? process.cwd(), "browser.mjs"));
const { chromium } = require(process.env.PLAYWRIGHT_PATH ?? "playwright-core");
const axe = readFileSync(process.env.AXE_PATH ?? require.resolve("axe-core/axe.min.js"), "utf8");

const THEMES = ["light", "dark"];
const WIDTHS = [320, 768, 1440];
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const REASON = 'the totals look <wrong> & "odd"';
const folder = mkdtempSync(join(tmpdir(), "trimtab-browser-"));
const shop = join(folder, "shop");
const children = [];
const complaints = [];
let passed = 0;
let failed = 0;

async function check(name, body) {
  try {
    const figure = await body();
    passed += 1;
    console.log(`ok      ${name}${figure === undefined ? "" : ` (${figure})`}`);
    return true;
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
    return false;
  }
}

function assert(holds, message) {
  if (!holds) throw new Error(message);
}

async function until(what, within, probe) {
  const end = Date.now() + within;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert(Date.now() < end, `${what}: not within ${within} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Starts a command in a process group of its own.
function start(args, cwd) {
  const child = spawn(process.env.TRIMTAB_BIN, args, { cwd, detached: true, stdio: ["ignore", "ignore", "pipe"] });
  const process_ = { child, said: "", ended: false };
  child.stderr.on("data", (bytes) => (process_.said += bytes));
  child.on("exit", () => (process_.ended = true));
  child.on("error", (error) => {
    process_.said += error.message;
    process_.ended = true;
  });
  children.push(process_);
  return process_;
}

async function dashboard(process_, within) {
  return until("the dashboard's address", within, () => {
    const url = /The dashboard: (http:\S+)/.exec(process_.said)?.[1];
    assert(url || !process_.ended, `it ended:\n${process_.said}`);
    return url;
  });
}

async function end(process_) {
  if (process_.ended) return;
  process_.child.kill("SIGINT");
  const end_ = Date.now() + 15_000;
  while (!process_.ended && Date.now() < end_) await new Promise((resolve) => setTimeout(resolve, 50));
  if (!process_.ended) killGroup(process_);
}

function killGroup({ child }) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It is gone.
  }
}

function listen(page) {
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error.message}`));
}

async function signIn(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  listen(page);
  await page.goto(url);
  return { context, page };
}

// Without reloading: themes and widths are what the same page must be able to take.
async function accessible(page, name) {
  for (const colorScheme of THEMES) {
    for (const width of WIDTHS) {
      await check(`${name}: accessible, ${colorScheme}, ${width} px wide`, async () => {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.setViewportSize({ width, height: 900 });
        const scrolled = await page.evaluate(() => document.documentElement.scrollWidth);
        assert(scrolled <= width, `it is ${scrolled} px wide`);
        const words = await broken(page);
        assert(words.length === 0, `broken within: ${words.slice(0, 5).join(", ")}`);
        await page.evaluate(axe);
        const violations = await page.evaluate(async (tags) => {
          const found = await globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
          return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(" ")}`);
        }, TAGS);
        assert(violations.length === 0, violations.join("\n        "));
      });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1440, height: 900 });
}

// Presses Tab until the element has the focus.
async function tabTo(page, selector) {
  for (let presses = 1; presses <= 60; presses += 1) {
    await page.keyboard.press("Tab");
    const reached = await page.evaluate((wanted) => {
      const focused = document.activeElement;
      if (!focused?.matches(wanted)) return false;
      const box = focused.getBoundingClientRect();
      const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
      return focused === top || focused.contains(top) ? "reached" : "hidden";
    }, selector);
    assert(reached !== "hidden", `${selector} has the focus but is covered`);
    if (reached) return presses;
  }
  throw new Error(`${selector} is not reached by keyboard`);
}

// Not every resolver knows the names below localhost as browsers do; programs use the address.
function machine(url) {
  return `http://127.0.0.1:${new URL(url).port}`;
}

async function state(origin) {
  return (await fetch(`${origin}/api/v1/state`)).json();
}

// The rollout that takes a share of production's traffic from another release.
async function canary(origin) {
  for (const rollout of (await state(origin)).rolling.items) {
    if (rollout.environment !== "production" || rollout.phase !== "exposed" || rollout.weight_percent >= 100) continue;
    const detail = await (await fetch(`${origin}/api/v1/rollouts/${rollout.id}`)).json();
    if (detail.stable_version !== null && detail.looks.total > 1) return rollout;
  }
  return null;
}

async function refused(origin, id) {
  for (const path of [`/api/v1/rollouts/${id}/rollback`, `/rollouts/${id}/rollback`]) {
    for (const headers of [{}, { authorization: "Bearer ttb_wrong" }, { origin: "http://evil.example" }]) {
      const answer = await fetch(origin + path, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify({ reason: "uninvited" }),
      });
      assert(answer.status === 401, `POST ${path} with ${JSON.stringify(headers)}: ${answer.status}`);
    }
  }
}

// Cookies know no ports: what another server of this machine gets from the browser that is signed in.
async function apart(context, url) {
  const got = [];
  const other = createServer((request, response) => {
    got.push(request.headers.cookie ?? "");
    response.end("<!doctype html><title>another</title>");
  });
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  try {
    const page = await context.newPage();
    for (const name of ["127.0.0.1", "localhost", "trimtab.localhost"]) {
      await page.goto(`http://${name}:${other.address().port}/`);
    }
    assert(got.length >= 3 && got.every((cookie) => !cookie.includes("trimtab-")), `it got ${got}`);
    await page.goto(machine(url));
    assert((await page.textContent(".identity")).includes("Reading only"), "a session under the bare address");
    await page.close();
  } finally {
    other.close();
  }
}

// The words in tables that are broken within.
async function broken(page) {
  return page.evaluate(() => {
    const found = [];
    for (const cell of document.querySelectorAll("main table th, main table td")) {
      const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        for (const { 0: word, index } of node.data.matchAll(/[\p{L}\p{N}.]{2,16}/gu)) {
          const range = document.createRange();
          range.setStart(node, index);
          range.setEnd(node, index + word.length);
          if (new Set([...range.getClientRects()].map((box) => Math.round(box.y))).size > 1) found.push(word);
        }
      }
    }
    return found;
  });
}

async function live(browser, url) {
  const origin = new URL(url).origin;
  const api = machine(url);
  const { context, page } = await signIn(browser, url);
  await check("signing in takes the token out of the address", async () => {
    assert(page.url() === `${origin}/`, page.url());
    assert((await page.textContent(".identity")).includes("@"), "the page does not say who acts");
  });
  await check("the session goes to no other port, under none of the machine's names", () => apart(context, url));
  let rollout;
  await check("a canary sets out", async () => {
    rollout = await until("a canary in production", 240_000, () => canary(api));
    return `${rollout.version}, ${rollout.id}`;
  });
  if (!rollout) return null;
  await check("Now shows it rolling out, without a reload", async () => {
    const card = page.locator(`#${rollout.id}.card`);
    await card.waitFor({ timeout: 5_000 });
    const text = await card.innerText();
    assert(/step \d of \d/.test(text) && / %/.test(text) && text.includes("production"), text);
  });
  await page.goto(`${origin}/rollouts/${rollout.id}`);
  await check("the rollout's page is live", async () => {
    await page.waitForSelector("#live[data-state=live]");
    const looks = () => page.locator(".page").getAttribute("data-sequence").then(Number);
    const before = await looks();
    await until("a newer record on the page", 5_000, async () => (await looks()) > before);
  });
  await check("the rollout's page shows both arms, the evidence, the band and the dead man's state", async () => {
    for (const selector of ["table.arms", "#figure-weight svg", "#figure-evidence .line.harm", "#figure-ratio .band"]) {
      assert((await page.locator(selector).count()) > 0, `${selector} is missing`);
    }
    const deadman = await page.locator("#deadman-state").innerText();
    assert(deadman === "Armed", `it says ${deadman}`);
    const verdict = await page.locator("#verdict").innerText();
    assert(verdict.endsWith("Nobody has to do anything."), verdict);
  });
  await check("open details and focus outlast a refresh", async () => {
    await page.locator("#looks-table > summary").click();
    const before = await page.locator(".page").getAttribute("data-sequence");
    await until("a refresh", 5_000, async () => (await page.locator(".page").getAttribute("data-sequence")) !== before);
    assert(await page.evaluate(() => document.getElementById("looks-table").open), "the details were closed");
    assert(await page.evaluate(() => document.activeElement?.localName === "summary"), "the focus was lost");
    await page.locator("#looks-table > summary").click();
  });
  await accessible(page, "Rollout, live");
  await check("a request without the token is refused", () => refused(api, rollout.id));
  await check("Roll back is reached and done by keyboard alone", async () => {
    await page.evaluate(() => document.activeElement?.blur());
    await page.goto(`${origin}/rollouts/${rollout.id}`);
    const presses = await tabTo(page, "#roll-back");
    await Promise.all([page.waitForURL("**/rollback"), page.keyboard.press("Enter")]);
    await tabTo(page, "#reason");
    await page.keyboard.type(REASON);
    await tabTo(page, "#confirm");
    await Promise.all([page.waitForURL(`**/rollouts/${rollout.id}`), page.keyboard.press("Enter")]);
    return `${presses} presses of Tab`;
  });
  await check("the weight falls to 0 on the page within 5 s", async () => {
    const began = Date.now();
    await until("0 %", 5_000, async () => (await page.locator("#weight").innerText()) === "0 %");
    return `${Date.now() - began} ms`;
  });
  await check("the page says who asked and why", async () => {
    const who = (await page.textContent(".identity span:last-child")).trim();
    const text = await page.locator("#cause").innerText();
    assert(text.includes(`${who} asked for it: ${REASON}`), text);
  });
  await check("the rollout ends as taken back, on the page", async () => {
    await page.locator(".head .chip.back", { hasText: "taken back" }).waitFor({ timeout: 30_000 });
  });
  await context.close();
  return rollout.id;
}

async function still(browser, url, id) {
  const origin = new URL(url).origin;
  const { context, page } = await signIn(browser, url);
  const places = [["Now", "/"], ["Rollouts", "/rollouts"], ["Rollout, ended", `/rollouts/${id}`]];
  for (const [name, path] of places) {
    await page.goto(origin + path);
    await accessible(page, name);
  }
  const { items } = await (await fetch(`${machine(url)}/api/v1/rollouts`)).json().then((answer) => answer.rollouts);
  const release = items[0].release;
  await page.goto(`${origin}/releases/${release}/approve/production`);
  await accessible(page, "Approve");
  const quiet = complaints.length;
  await page.goto(`${origin}/nowhere`);
  await accessible(page, "404");
  // Chromium tells of the missing page itself.
  complaints.splice(quiet, complaints.length, ...complaints.slice(quiet).filter((line) => !line.includes("404")));
  await context.close();
}

async function withoutScript(browser, url, id) {
  const origin = new URL(url).origin;
  const { context, page } = await signIn(browser, url, { javaScriptEnabled: false });
  await check("Now is readable without script", async () => {
    const text = await page.innerText("main");
    for (const words of ["Needs a person", "Rolling out", "What runs where", "production", "taken back"]) {
      assert(text.includes(words), `${words} is missing`);
    }
  });
  await check("a rollout is readable without script", async () => {
    await page.goto(`${origin}/rollouts/${id}`);
    const text = await page.innerText("main");
    for (const words of ["Both arms", "Decision log", "asked for it", REASON, "SHA-256"]) {
      assert(text.includes(words), `${words} is missing`);
    }
    assert(await page.locator("#figure-evidence svg:visible").count(), "the chart is not drawn");
  });
  await context.close();
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--no-first-run"],
  });
  try {
    let url = process.env.TRIMTAB_URL;
    const demo = url ? null : start(["demo", "--keep", "--folder", shop], folder);
    url ??= await dashboard(demo, 60_000);
    const id = await live(browser, url);
    if (id === null) return;
    if (demo) {
      // The demo goes on with its bad release, and ends because its good one was taken back.
      await until("the demo's end", 240_000, () => demo.ended || demo.said.includes("It goes on until Ctrl-C"));
      await end(demo);
      url = await dashboard(start(["server", "--listen", "127.0.0.1:0"], shop), 30_000);
    }
    await still(browser, url, id);
    await withoutScript(browser, url, id);
    await check("nothing was complained about in the console", async () => {
      assert(complaints.length === 0, complaints.slice(0, 10).join("\n        "));
    });
  } finally {
    await browser.close();
  }
}

try {
  await main();
} catch (error) {
  failed += 1;
  console.log(`FAILED  ${error.stack}`);
} finally {
  for (const process_ of children) await end(process_);
  for (const process_ of children) killGroup(process_);
  // An edge outlives whoever started it: that is what it is for.
  if (existsSync(join(shop, "trimtab.toml"))) {
    await check("'trimtab down' ends the edges", async () => {
      const { status, stderr } = spawnSync(process.env.TRIMTAB_BIN, ["down"], { cwd: shop, encoding: "utf8" });
      assert(status === 0, `it ended with ${status}: ${stderr}`);
    });
  }
  if (failed > 0) for (const { said } of children) console.log(said.slice(-2_000));
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
