"use strict";
// Runs before the page is painted, so that a chosen theme does not flash. "" follows the system.
const saved = () => { try { return localStorage.getItem("theme") || ""; } catch { return ""; } };
document.documentElement.dataset.theme = saved();
addEventListener("DOMContentLoaded", () => {
  const select = document.getElementById("theme");
  select.value = saved();
  select.addEventListener("change", () => {
    document.documentElement.dataset.theme = select.value;
    try { localStorage.setItem("theme", select.value); } catch { /* Storage is blocked: this page only. */ }
  });
});
