// Warns before typed text is lost, says when a text is too long, and keeps what is in progress up to date.
"use strict";

for (const form of document.querySelectorAll("form[data-guard]")) {
  const initial = new URLSearchParams(new FormData(form)).toString();
  const isChanged = () => new URLSearchParams(new FormData(form)).toString() !== initial;
  // a form that came back with errors or a conflict holds text that is saved nowhere
  const isUnsaved = document.querySelector("[role=alert]") !== null;
  let isSent = false;
  form.addEventListener("submit", () => { isSent = true; });
  window.addEventListener("pageshow", () => { isSent = false; });
  window.addEventListener("beforeunload", (event) => {
    if (!isSent && (isUnsaved || isChanged())) event.preventDefault();
  });
}

const encoder = new TextEncoder();
for (const area of document.querySelectorAll("textarea[data-max]")) {
  const max = Number(area.dataset.max);
  area.addEventListener("input", () => {
    const bytes = area.value.length * 3 < max ? 0 : encoder.encode(area.value).length;
    const excess = bytes - max;
    area.setCustomValidity(excess > 0 ? `The text is ${excess} bytes too long; the limit is ${max}.` : "");
    if (excess > 0) area.reportValidity();
  });
}

const LIVE_MS = 3000;
for (const live of document.querySelectorAll("[data-live]")) {
  setInterval(async () => {
    if (document.hidden || live.contains(document.activeElement)) return; // somebody is reading it
    const answer = await fetch(location.href).catch(() => null);
    if (answer?.redirected) { location.reload(); return; } // the session has ended
    if (!answer?.ok) return;
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = parsed.querySelector("[data-live]");
    if (fresh) live.replaceChildren(...fresh.childNodes);
    else location.reload(); // it is over
  }, LIVE_MS);
}
