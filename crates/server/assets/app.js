// Keeps a page fresh: hears of new records, fetches the page's main part again, and changes only what differs, so that
// focus, open details and the reader's place stay. Without it, pages are as they were loaded, and forms work all the same.

const REFRESH_MS = 500; // at most two refreshes a second
const BUSY_MS = 5_000; // while something rolls out, look again even when nothing is recorded: its controller may be dead
const IDLE_MS = 30_000; // ages grow older
const ANNOUNCE_MS = 5_000;

const main = document.getElementById("main");
const live = document.getElementById("live");
const liveText = document.getElementById("live-text");
const announcer = document.getElementById("announcer");
const page = () => main.querySelector(".page");
const refreshes = () => page() !== null && !page().classList.contains("still");

let refreshed = performance.now();
let pending = 0;
let fetching = false;

function state(name, text) {
  if (live.dataset.state === name) return;
  live.dataset.state = name;
  liveText.textContent = text;
}

function schedule(after) {
  const due = Math.max(performance.now() + after, refreshed + REFRESH_MS);
  if (pending !== 0) clearTimeout(pending);
  pending = setTimeout(refresh, Math.max(0, due - performance.now()));
}

async function refresh() {
  pending = 0;
  if (document.hidden || !refreshes() || fetching) return schedule(BUSY_MS);
  fetching = true;
  refreshed = performance.now();
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { "x-fragment": "main" } });
    if (answer.ok && answer.redirected === false) {
      const html = await answer.text();
      const parsed = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html");
      morph(main, parsed.querySelector("main"));
      arm();
      announce();
    }
  } catch {
    state("lost", "Connection lost");
  } finally {
    fetching = false;
    if (pending === 0) schedule(page()?.dataset.busy ? BUSY_MS : IDLE_MS);
  }
}

// Makes `from` like `to`, keeping elements that have the same id, or the same place and name.
function morph(from, to) {
  const kept = new Map();
  for (const child of from.children) if (child.id) kept.set(child.id, child);
  let here = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = wanted.id ? kept.get(wanted.id) : undefined;
    if (known && known !== here) {
      from.insertBefore(known, here);
      here = known;
    }
    if (here && alike(here, wanted)) {
      const next = here.nextSibling;
      if (here.nodeType === Node.ELEMENT_NODE) {
        attributes(here, wanted);
        morph(here, wanted);
      } else if (here.data !== wanted.data) {
        here.data = wanted.data;
      }
      here = next;
    } else {
      from.insertBefore(document.importNode(wanted, true), here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id ?? "") === (b.id ?? "");
}

function attributes(from, to) {
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) {
    // Whether details are open is the reader's.
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
}

// Tells what changed, seldom enough to be listened to.
let announced = page()?.dataset.announce ?? "";
let toldAt = -ANNOUNCE_MS;
let telling = 0;
function announce() {
  const words = page()?.dataset.announce ?? "";
  if (words === announced || telling !== 0) return;
  telling = setTimeout(() => {
    telling = 0;
    toldAt = performance.now();
    announced = page()?.dataset.announce ?? "";
    announcer.textContent = announced;
  }, Math.max(0, toldAt + ANNOUNCE_MS - performance.now()));
}

// The dead man's switch, counted down between two refreshes.
let countdown = null;
function arm() {
  const shown = main.querySelector("[data-countdown]");
  countdown = shown && { shown, ends: performance.now() + Number(shown.dataset.countdown) };
}
setInterval(() => {
  if (countdown === null || document.hidden) return;
  const left = Math.max(0, countdown.ends - performance.now());
  countdown.shown.textContent = `${(left / 1000).toFixed(1)} s`;
}, 100);

function listen() {
  const after = page()?.dataset.sequence;
  const events = new EventSource(after ? `/events?after=${after}` : "/events");
  events.onopen = () => state("live", "Live");
  events.onmessage = () => schedule(0);
  events.addEventListener("gap", () => schedule(0));
  events.onerror = () => {
    state("lost", "Reconnecting…");
    // A browser gives up when it was refused; try again ourselves.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5_000);
  };
  addEventListener("pagehide", () => events.close(), { once: true });
}

addEventListener("pageshow", (event) => event.persisted && location.reload());
document.addEventListener("visibilitychange", () => document.hidden || schedule(0));
if (refreshes()) {
  arm();
  listen();
  schedule(page().dataset.busy ? BUSY_MS : IDLE_MS);
}
