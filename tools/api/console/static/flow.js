// Shows records as they are appended. Every value is set as text, never as markup.
"use strict";

const MAX_ROWS = 300;
const table = document.getElementById("records");
const root = table.dataset.root;
const rows = table.tBodies[0];
const byId = (id) => document.getElementById(id);
let isPaused = false;
let seen = 0;
let waiting = [];

function cell(row, text, href) {
  const target = row.insertCell();
  if (!href) { target.textContent = text; return; }
  const link = document.createElement("a");
  link.href = href;
  link.textContent = text;
  target.append(link);
}

function isShown(event) {
  const kind = document.querySelector(`input[name=kind][value="${CSS.escape(event.kind)}"]`);
  const wanted = byId("contains").value.toLowerCase();
  const text = `${event.batch_id} ${event.scope} ${event.detail} ${event.at}`.toLowerCase();
  return (kind === null || kind.checked) && text.includes(wanted);
}

function scopeLink(event) {
  if (!event.scope) return "";
  const [kind, ...rest] = event.scope.includes(":") ? event.scope.split(":") : ["assignment", event.scope];
  return `${root}/${kind}s/${encodeURIComponent(rest.join(":"))}`;
}

function add(event) {
  const row = rows.insertRow(0);
  row.event = event;
  row.hidden = !isShown(event);
  row.className = "fresh";
  setTimeout(() => { row.className = ""; }, 1500);
  cell(row, new Date(event.appended_at_ms).toISOString().slice(11, 23));
  cell(row, event.kind);
  cell(row, event.batch_id, event.batch_id && `${root}/batches?q=${encodeURIComponent(event.batch_id)}`);
  cell(row, event.scope, scopeLink(event));
  cell(row, event.detail);
  cell(row, event.at);
  while (rows.rows.length > MAX_ROWS) rows.deleteRow(-1);
}

function show(events) {
  for (const event of events) add(event);
  byId("empty").hidden = rows.rows.length > 0;
}

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").className = `tag ${kind}`;
}

function filter() {
  for (const row of rows.rows) row.hidden = !isShown(row.event);
}

byId("filters").addEventListener("input", filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", () => { rows.replaceChildren(); });
byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  byId("pause").textContent = isPaused ? "Go on" : "Pause";
  if (!isPaused) { show(waiting); waiting = []; }
});

const source = new EventSource(`${root}/flow/events`);
source.addEventListener("open", () => state("live", "good"));
source.addEventListener("error", async () => {
  if (source.readyState !== EventSource.CLOSED) { state("connecting again", "bad"); return; }
  const headers = { Accept: "text/event-stream" };
  const answer = await fetch(`${root}/flow/events`, { headers }).catch(() => null);
  answer?.body?.cancel();
  if (answer?.status === 401) state("session ended: reload the page to sign in", "bad");
  else if (answer?.status === 429) state("too many streams are open: close one, then reload", "bad");
  else state("disconnected: reload the page", "bad");
});
source.addEventListener("ended", () => {
  source.close();
  state("session ended: reload the page to sign in", "bad");
});
source.addEventListener("records", (message) => {
  const { events, more } = JSON.parse(message.data);
  seen += events.length + more;
  byId("seen").textContent = seen.toLocaleString("en");
  if (isPaused) waiting = [...waiting, ...events].slice(-MAX_ROWS);
  else show(events);
});
source.addEventListener("lag", (message) => {
  const { requests, uploads } = JSON.parse(message.data);
  byId("lag-requests").textContent = requests?.lag ?? "?";
  byId("lag-uploads").textContent = uploads?.lag ?? "?";
  byId("members").textContent = requests?.members ?? "?";
});
