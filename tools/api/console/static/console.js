// Warns before typed text is lost, and says when a text is too long.
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
