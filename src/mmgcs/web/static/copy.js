"use strict";
// The clipboard is only there on https and on this machine; elsewhere the text is selected, and copied the old way.
async function copy(text, from) {
  if (navigator.clipboard) { await navigator.clipboard.writeText(text); return true; }
  getSelection().selectAllChildren(from);
  return document.execCommand("copy");
}
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", async () => {
  const from = button.closest(".code").querySelector("pre");
  const done = await copy(from.textContent, from).catch(() => false);
  button.textContent = done ? "Copied" : "Press Ctrl-C"; setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
// A link to a shape opens it.
function open() { const found = location.hash && document.getElementById(location.hash.slice(1)); if (found) { found.open = true; found.scrollIntoView(); } }
addEventListener("hashchange", open); open();
