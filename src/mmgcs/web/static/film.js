"use strict";
// One film: inputs on the left, the answer on the right. Nothing is put into the page as markup, only as text.
const $ = (id) => document.getElementById(id);
const form = $("film"), plot = $("plot"), fileInput = $("poster"), heat = $("heat");
let poster = null, answer = null, running = null, timer = 0, url = null, asked = false;

function setPoster(file) {
  poster = file;
  if (url) URL.revokeObjectURL(url);
  url = file ? URL.createObjectURL(file) : null;
  if (url) $("preview").src = url; else $("preview").removeAttribute("src");
  $("frame").hidden = $("remove").hidden = !file;
  clearHeat();
  if (asked) later(0);
}
function clearHeat() { heat.getContext("2d").clearRect(0, 0, heat.width, heat.height); }
function later(wait) { clearTimeout(timer); timer = setTimeout(ask, wait); }
function fail(message) { $("error").textContent = message; $("error").hidden = !message; }
function reset(message) {
  answer = null; $("why").hidden = true; clearHeat(); $("warnings").replaceChildren();
  $("status").textContent = message; $("status").className = "";
  for (const bar of document.querySelectorAll(".bar")) {
    bar.disabled = true; bar.removeAttribute("aria-pressed"); bar.classList.remove("chosen");
    bar.querySelector(".fill").style.width = "0"; bar.querySelector(".value").textContent = "–";
    bar.querySelector(".threshold").style.visibility = "hidden";
  }
}
// The button stays as it is: one that is disabled would lose the focus of whoever pressed it with a key.
function busy(now) { $("answer").setAttribute("aria-busy", String(now)); }
async function ask() {
  clearTimeout(timer);
  if (running) running.abort();
  asked = true; fail("");
  if (!plot.value.trim() && !poster) { reset("The answer will stand here."); fail("Give a plot, a poster, or both."); return; }
  const mine = running = new AbortController();
  const data = new FormData();
  if (plot.value.trim()) data.set("plot", plot.value);
  if (poster) data.set("poster", poster, "poster");
  data.set("explain", "true");
  data.set("genres", [...document.querySelectorAll(".bar")].map((bar) => bar.dataset.genre).join(","));
  const headers = $("key") && $("key").value ? { "X-API-Key": $("key").value } : {};
  busy(true); $("status").textContent = "Reading …"; $("status").className = "";
  try {
    const response = await fetch("/api/v1/predict", { method: "POST", body: data, headers, signal: mine.signal });
    const value = await response.json();
    if (!response.ok) { reset(""); fail(value.error); } else show(value);
  } catch (error) {
    if (error.name !== "AbortError") { reset(""); fail("The server does not answer. Is it running?"); }
  } finally { if (running === mine) { running = null; busy(false); } }
}
function show(value) {
  answer = value;
  for (const bar of document.querySelectorAll(".bar")) {
    const genre = bar.dataset.genre, p = value.probabilities[genre], chosen = value.genres.includes(genre);
    bar.disabled = false; bar.classList.toggle("chosen", chosen);
    bar.querySelector(".fill").style.width = `${100 * p}%`;
    const mark = bar.querySelector(".threshold");
    mark.style.left = `${100 * value.thresholds[genre]}%`; mark.style.visibility = "visible";
    bar.querySelector(".value").textContent = `${Math.round(100 * p)}%`;
    bar.setAttribute("aria-label", `${genre}: ${Math.round(100 * p)}%${chosen ? ", chosen" : ""}. Show why.`);
  }
  const names = value.genres.join(", ");
  $("status").textContent = !value.sure
    ? `Not sure${names ? `: perhaps ${names}` : `: no genre is likely enough; nearest is ${value.top[0]}`}. Worth a human look.`
    : `${names} (confidence ${Math.round(100 * value.confidence)}%).`;
  $("status").className = value.sure ? "" : "unsure";
  $("warnings").replaceChildren(...value.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  why(value.genres[0] || value.top[0]);
}
function why(genre) {
  const told = answer.explanation;
  for (const bar of document.querySelectorAll(".bar")) bar.setAttribute("aria-pressed", String(bar.dataset.genre === genre));
  $("why").hidden = false; $("why-genre").textContent = genre;
  const from = told.inputs[genre], weights = from ? Object.entries(from).map(([name, drop]) => [name, Math.abs(drop)]) : [];
  const sum = weights.reduce((total, [, weight]) => total + weight, 0);
  $("shares").textContent = sum
    ? `How much came from each: ${weights.map(([name, weight]) => `${name} ${Math.round(100 * weight / sum)}%`).join(", ")}.`
    : `All from the ${answer.inputs.join(" and ")}.`;
  const top = Math.max(0.01, ...told.spans.map((span) => Math.abs(span.drops[genre])));
  const parts = []; let at = 0;
  for (const span of told.spans) {
    parts.push(told.text.slice(at, span.start)); at = span.end;
    const drop = span.drops[genre], text = told.text.slice(span.start, span.end);
    if (Math.abs(drop) < top / 8) { parts.push(text); continue; }
    const mark = document.createElement("mark");
    mark.textContent = text; mark.title = `${drop > 0 ? "−" : "+"}${Math.abs(100 * drop).toFixed(1)} points without it`;
    if (drop > 0) mark.style.backgroundColor = `rgba(var(--mark), ${0.12 + 0.6 * drop / top})`; else mark.className = "against";
    parts.push(mark);
  }
  parts.push(told.text.slice(at));
  $("words").replaceChildren(...parts);
  clearHeat();
  const rows = told.regions[genre];
  if (rows) {
    heat.height = rows.length; heat.width = rows[0].length;
    const context = heat.getContext("2d"), most = Math.max(0.005, ...rows.flat());
    rows.forEach((row, y) => row.forEach((drop, x) => {
      if (drop <= 0) return;
      context.fillStyle = `rgba(255, 60, 0, ${0.65 * drop / most})`; context.fillRect(x, y, 1, 1);
    }));
  }
}
form.addEventListener("submit", (event) => { event.preventDefault(); ask(); $("status").scrollIntoView({ block: "nearest" }); });
plot.addEventListener("input", () => { if (asked) later(500); });
plot.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask(); });
fileInput.addEventListener("change", () => setPoster(fileInput.files[0] || null));
$("remove").addEventListener("click", () => { fileInput.value = ""; setPoster(null); });
$("bars").addEventListener("click", (event) => { const bar = event.target.closest(".bar"); if (bar && answer) why(bar.dataset.genre); });
document.addEventListener("paste", (event) => { const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/")); if (file) { event.preventDefault(); setPoster(file); } });
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
$("drop").addEventListener("dragover", () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => { $("drop").classList.remove("over"); if (event.dataTransfer.files.length) setPoster(event.dataTransfer.files[0]); });
if ($("sample")) $("sample").addEventListener("change", async () => {
  const index = $("sample").value;
  if (index === "") return;
  const film = await (await fetch(`/samples/${index}`)).json();
  asked = false; plot.value = film.plot || ""; fileInput.value = "";
  setPoster(film.poster ? await (await fetch(film.poster)).blob() : null);
  ask();
});
