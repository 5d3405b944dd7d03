"use strict";
// One film: inputs on the left, the answer on the right. Nothing is put into the page as markup, only as text.
const $ = (id) => document.getElementById(id);
const form = $("film"), plot = $("plot"), fileInput = $("poster"), heat = $("heat"), bars = [...document.querySelectorAll(".bar")];
const percent = (share) => `${Math.round(100 * share)}%`;
const EMPTY = "The answer will stand here.";
// Least a region or word must count for to be shown, as a fall of the probability.
const LEAST = 0.005;
// From what did not matter to what mattered most: dark violet, red, yellow; red, green, blue and opacity.
const RAMP = [[18, 8, 64, 0.6], [196, 38, 84, 0.5], [255, 214, 64, 0.55]];
let poster = null, answer = null, running = null, timer = 0, url = null, asked = false;

async function setPoster(file) {
  poster = file; clearHeat();
  if (url) URL.revokeObjectURL(url);
  const mine = url = file ? URL.createObjectURL(file) : null;
  if (asked) later(0);
  let shown = false;
  // All of it appears at once, in its size: nothing moves twice.
  if (mine) { $("preview").src = mine; shown = await $("preview").decode().then(() => true, () => false); }
  if (mine !== url) return;
  if (!mine) $("preview").removeAttribute("src");
  $("frame").hidden = $("legend").hidden = $("show-heat").hidden = !shown; $("remove").hidden = !file;
}
function later(wait) { clearTimeout(timer); timer = setTimeout(ask, wait); }
function fail(message) { $("error").textContent = message; $("error").hidden = !message; $("status").hidden = !!message; }
function reset(message) {
  answer = null; $("why").hidden = $("possible").hidden = true; clearHeat(); $("warnings").replaceChildren();
  $("status").textContent = message; $("status").className = "";
  for (const bar of bars) {
    bar.disabled = true; bar.removeAttribute("aria-pressed"); bar.removeAttribute("aria-label"); bar.classList.remove("chosen", "open");
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
  if (!plot.value.trim() && !poster) { reset(EMPTY); fail("Give a plot, a poster, or both."); return; }
  const mine = running = new AbortController();
  const data = new FormData();
  if (plot.value.trim()) data.set("plot", plot.value);
  if (poster) data.set("poster", poster, "poster");
  data.set("explain", "true");
  data.set("genres", bars.map((bar) => bar.dataset.genre).join(","));
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
  for (const bar of bars) {
    const genre = bar.dataset.genre, p = value.probabilities[genre], chosen = value.genres.includes(genre);
    bar.disabled = false; bar.classList.toggle("chosen", chosen); bar.classList.toggle("open", value.undecided.includes(genre));
    bar.querySelector(".fill").style.width = `${100 * p}%`;
    const mark = bar.querySelector(".threshold");
    mark.style.left = `${100 * value.thresholds[genre]}%`; mark.style.visibility = "visible";
    bar.querySelector(".value").textContent = percent(p);
    bar.setAttribute("aria-label", `${genre}: ${percent(p)}${chosen ? ", chosen" : ""}${value.undecided.includes(genre) ? ", undecided" : ""}. Show why.`);
  }
  const names = value.genres.join(", ");
  $("status").textContent = !value.sure
    ? `Not sure${names ? `: perhaps ${names}` : `: no genre is likely enough; nearest is ${value.top[0]}`}. Worth a human look.`
    : `${names} (confidence ${percent(value.confidence)}).`;
  if (value.sure && value.undecided.length) $("status").textContent += ` Undecided: ${value.undecided.join(", ")}.`;
  $("status").className = value.sure ? "sure" : "unsure";
  $("possible").hidden = value.sure || !value.possible.length;
  $("possible").textContent = `Its genres are very likely among ${value.possible.join(", ")}.`;
  $("warnings").replaceChildren(...value.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  why(value.genres[0] || value.top[0]);
}
function why(genre) {
  for (const bar of bars) bar.setAttribute("aria-pressed", String(bar.dataset.genre === genre));
  $("why").hidden = false; $("why-genre").textContent = genre;
  showShares(genre); showWords(genre); showHeat(genre);
}
function showShares(genre) {
  const from = Object.entries(answer.explanation.inputs[genre] || {}).map(([name, drop]) => [name, Math.abs(drop)]);
  const sum = from.reduce((total, [, weight]) => total + weight, 0);
  $("split").hidden = !sum;
  $("shares").textContent = sum
    ? `How much came from each: ${from.map(([name, weight]) => `${name} ${percent(weight / sum)}`).join(", ")}.`
    : `All from the ${answer.inputs.join(" and ")}.`;
  from.forEach(([, weight], at) => { $("split").children[at].style.width = `${100 * weight / (sum || 1)}%`; });
}
function showWords(genre) {
  const { spans, text } = answer.explanation, parts = [], told = { for: [], against: [] };
  const top = Math.max(2 * LEAST, ...spans.map((span) => Math.abs(span.drops[genre])));
  let at = 0, last = null;
  for (const span of spans) {
    const drop = span.drops[genre], words = text.slice(span.start, span.end), between = text.slice(at, span.start);
    at = span.end;
    if (Math.abs(drop) < top / 6) { parts.push(between, words); last = null; continue; }
    const kind = drop > 0 ? "for" : "against";
    told[kind].push([Math.abs(drop), words]);
    if (last && kind === "against" && last.className === kind) { last.textContent += between + words; continue; } // one line under all
    last = document.createElement("mark");
    last.className = kind; last.textContent = words;
    last.title = `${drop > 0 ? "−" : "+"}${Math.abs(100 * drop).toFixed(1)} points without it`;
    if (drop > 0) last.style.backgroundColor = `rgba(var(--mark), ${0.15 + 0.6 * drop / top})`;
    parts.push(between, last);
  }
  parts.push(text.slice(at));
  $("words").replaceChildren(...parts);
  $("words").hidden = $("how").hidden = !text;
  // Colours and lines say nothing to who listens.
  const list = (found) => found.sort((one, other) => other[0] - one[0]).slice(0, 5).map(([, words]) => words).join("; ");
  $("strongest").textContent = [["for", "Most for it"], ["against", "Most against it"]]
    .filter(([kind]) => told[kind].length).map(([kind, title]) => `${title}: ${list(told[kind])}.`).join(" ");
}
function clearHeat() {
  heat.getContext("2d").clearRect(0, 0, heat.width, heat.height);
  heat.setAttribute("aria-label", "No heat map yet");
  $("legend").textContent = ""; $("show-heat").disabled = true;
}
function showHeat(genre) {
  clearHeat();
  const rows = answer.explanation.regions[genre];
  if (!rows) return;
  heat.height = rows.length; heat.width = rows[0].length;
  const most = Math.max(...rows.flat()), none = `No region of the poster speaks for ${genre}.`;
  $("show-heat").disabled = most < LEAST;
  $("legend").textContent = most < LEAST ? none : `Bright regions speak for ${genre}.`;
  heat.setAttribute("aria-label", most < LEAST ? none : `Heat map: what speaks most for ${genre} lies ${place(rows, most)}.`);
  if (most < LEAST) return;
  const context = heat.getContext("2d");
  rows.forEach((row, y) => row.forEach((drop, x) => {
    const [red, green, blue, opacity] = colour(Math.max(0, drop) / most);
    context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${opacity})`; context.fillRect(x, y, 1, 1);
  }));
}
function colour(weight) {
  const step = Math.min(RAMP.length - 2, Math.floor(weight * (RAMP.length - 1))), part = weight * (RAMP.length - 1) - step;
  return RAMP[step].map((low, at) => low + part * (RAMP[step + 1][at] - low));
}
function place(rows, most) {
  const y = rows.findIndex((row) => row.includes(most)), x = rows[y].indexOf(most);
  const third = (at, count, names) => names[Math.min(2, Math.floor(3 * (at + 0.5) / count))];
  return `in the ${third(y, rows.length, ["upper", "middle", "lower"])} ${third(x, rows[0].length, ["left", "centre", "right"])}`;
}
// On a phone the answer lies below what was pressed: bring it up. Where it can be seen, nothing moves.
function bringUp() { if ($("answer").getBoundingClientRect().top > innerHeight / 2) $("answer").scrollIntoView({ block: "start" }); }

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); bringUp(); });
plot.addEventListener("input", () => { if (asked) later(500); });
plot.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { ask(); bringUp(); } });
fileInput.addEventListener("change", () => setPoster(fileInput.files[0] || null));
$("remove").addEventListener("click", () => { fileInput.value = ""; setPoster(null); fileInput.focus(); });
$("show-heat").addEventListener("click", () => {
  heat.hidden = !heat.hidden; $("show-heat").setAttribute("aria-pressed", String(!heat.hidden));
});
$("bars").addEventListener("click", (event) => { const bar = event.target.closest(".bar"); if (bar && answer) why(bar.dataset.genre); });
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
  if (file) { event.preventDefault(); setPoster(file); }
});
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
$("drop").addEventListener("dragover", () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => { $("drop").classList.remove("over"); if (event.dataTransfer.files.length) setPoster(event.dataTransfer.files[0]); });
if ($("sample")) $("sample").addEventListener("change", async () => {
  const index = $("sample").value;
  if (index === "") return;
  const film = await (await fetch(`/samples/${index}`)).json();
  const picture = film.poster ? await (await fetch(film.poster)).blob() : null;
  asked = false; plot.value = film.plot || ""; fileInput.value = "";
  const shown = setPoster(picture);
  ask(); await shown; bringUp();
});
