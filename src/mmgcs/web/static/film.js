// One film: its inputs, the prediction, and then the reasons. Text goes into the page as text, never as markup.
import { $, copyText, element, onDrop, percent, request, root } from "./common.js";
import { showReasons } from "./reasons.js";

const form = $("film"), title = $("title"), plot = $("plot"), fileInput = $("poster"), main = $("main");
const bars = [...document.querySelectorAll(".bar")];
const { genres, required, maxPoster } = JSON.parse(form.dataset.model);
const SHOWN_BARS = 6;

let poster = null, posterUrl = null; // the poster's file and the address of its preview
let answer = null, reasons = null, genre = null; // the prediction, its reasons, and the genre that they are shown for
let running = null, timer = 0; // the request in flight, and the one that waits until typing pauses
let sample = null; // the gallery's film, while nothing is changed
let wanted = null; // the gallery's film that was clicked last; it may still be loading
let setAside = null; // what the user entered before a gallery film replaced it

// --- Inputs ---

function posterProblem(file) {
  if (file.type && !file.type.startsWith("image/")) return `${file.name} is not an image. Choose a JPEG, PNG or WebP file.`;
  if (file.size > maxPoster) {
    const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
    return `${file.name || "The poster"} has ${mebibytes(file.size)}. The limit is ${mebibytes(maxPoster)}.`;
  }
  return "";
}
async function setPoster(file) {
  poster = file;
  if (posterUrl) URL.revokeObjectURL(posterUrl);
  const url = posterUrl = file ? URL.createObjectURL(file) : null;
  $("remove").hidden = !file;
  $("poster-name").textContent = file?.name || "";
  $("poster-name").hidden = !file?.name;
  $("preview").hidden = true;
  if (!file) { $("preview").removeAttribute("src"); return; }
  $("preview").src = url;
  const decoded = await $("preview").decode().then(() => true, () => false); // the server reads more formats
  if (url === posterUrl) $("preview").hidden = !decoded;
}
function choosePoster(file) {
  const problem = posterProblem(file);
  if (problem) { fail(problem); return; }
  sample = null;
  setPoster(file);
  predict();
}
function setFilm(film) {
  title.value = film.title || "";
  plot.value = film.plot || "";
  setPoster(film.poster || null);
}
/** Keep what the user entered, so that a gallery film or "Clear" does not destroy it. */
function keepInput() {
  if (sample === null && (title.value.trim() || plot.value.trim() || poster)) {
    setAside = { title: title.value, plot: plot.value, poster };
    $("set-aside").hidden = false;
  }
}
function filmData() {
  const data = new FormData();
  if (title.value.trim()) data.set("title", title.value.trim());
  if (plot.value.trim()) data.set("plot", plot.value);
  if (poster) data.set("poster", poster, "poster");
  return data;
}

// --- Requests ---

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}
async function predict() {
  clearTimeout(timer);
  running?.abort();
  fail("");
  if (!plot.value.trim() && !poster) { clear(); fail("Enter a plot or add a poster first."); return; }
  const mine = running = new AbortController();
  main.classList.add("answered");
  $("answer").setAttribute("aria-busy", "true");
  try {
    const value = await request("api/v1/predict", { method: "POST", body: filmData(), signal: mine.signal });
    if (running !== mine) return;
    reasons = null; // those of the last film
    show(value);
    explain(mine);
  } catch (error) {
    if (error.name !== "AbortError") { clear(); fail(error.message); }
  } finally {
    if (running === mine) $("answer").setAttribute("aria-busy", "false");
  }
}
/** Predict the changed film. Someone who has emptied the form to start again gets no error. */
function predictAgain() {
  if (plot.value.trim() || poster) predict(); else clear();
}
async function explain(mine) {
  const data = filmData();
  data.set("genres", genres.join(","));
  $("why-body").setAttribute("aria-busy", "true");
  $("why-status").textContent = "Finding the reasons …";
  $("why-again").hidden = true;
  try {
    const value = await request("api/v1/explain", { method: "POST", body: data, signal: mine.signal });
    if (running !== mine) return;
    reasons = value.explanation;
    $("why-status").textContent = "";
    $("why-body").hidden = false;
    choose(genre);
  } catch (error) {
    if (running !== mine || error.name === "AbortError") return;
    $("why-status").textContent = "The reasons are not available right now. The genres above are not affected.";
    $("why-again").hidden = false;
    $("why-body").hidden = true;
  } finally {
    if (running === mine) $("why-body").setAttribute("aria-busy", "false");
  }
}

// --- The answer ---

function clear() {
  clearTimeout(timer);
  running?.abort();
  answer = reasons = null;
  $("status").textContent = "";
  $("result").hidden = true;
  $("empty").hidden = false;
}
function show(value) {
  answer = value;
  const predicted = value.genres, could = value.undecided.filter((name) => !predicted.includes(name));
  $("empty").hidden = true;
  $("result").hidden = false;
  $("predicted-title").textContent = predicted.length ? `Predicted genre${predicted.length === 1 ? "" : "s"}` : "No clear genre";
  showChips("predicted", predicted, value);
  showChips("could", could, value);
  $("could-part").hidden = !could.length;
  $("also").hidden = !predicted.length;
  showVerdict(value, could);
  showBars(value, could);
  choose(predicted[0] || value.top[0]);
  $("api-code").textContent = curl();
  $("copy-link").hidden = sample === null && !plot.value.trim();
  $("share-hint").textContent = poster && sample === null ? "A link cannot hold your poster." : "";
}
function showChips(id, names, value) {
  $(id).replaceChildren(...names.map((name) => {
    const chip = element("li", "", name);
    chip.append(" ", element("strong", "", percent(value.probabilities[name])));
    return chip;
  }));
}
function reviewReason(value) {
  const needed = required[value.inputs.join("+")], top = value.top[0];
  if (!value.genres.length) return `no genre is likely enough. The closest is ${top}, at ${percent(value.probabilities[top])}.`;
  if (value.confidence < needed) {
    const digits = percent(value.confidence) === percent(needed) ? 1 : 0;
    const [has, asked] = [value.confidence, needed].map((share) => `${(100 * share).toFixed(digits)}%`);
    return `the confidence of ${has} is below the ${asked} that this model asks for.`;
  }
  return `${value.warnings.at(-1) || "the model is not sure"}.`;
}
function showVerdict(value, could) {
  const verdict = value.sure ? `Confidence ${percent(value.confidence)}` : `Needs review: ${reviewReason(value)}`;
  $("verdict").textContent = verdict;
  $("verdict").className = value.sure ? "sure" : "unsure";
  // The set is only reliable for films like those the model learned from, so it is not shown with a warning.
  $("possible").hidden = value.genres.length || value.warnings.length || value.possible.length > genres.length / 2;
  $("possible").textContent = `Very likely one or more of ${new Intl.ListFormat("en", { type: "disjunction" }).format(value.possible)}.`;
  const others = value.warnings.filter((text) => !verdict.endsWith(`${text}.`));
  $("warnings").replaceChildren(...others.map((text) => element("li", "", `${text[0].toUpperCase()}${text.slice(1)}.`)));
  const said = (names) => names.map((name) => `${name} ${percent(value.probabilities[name])}`).join(", ");
  $("status").textContent = [
    value.genres.length ? `Predicted genres: ${said(value.genres)}.` : "No clear genre.",
    could.length ? `Could ${value.genres.length ? "also " : ""}be: ${said(could)}.` : "",
    `${verdict}${/[.]$/.test(verdict) ? "" : "."}`,
  ].filter(Boolean).join(" ");
}
function showBars(value, could) {
  const focused = document.activeElement;
  bars.sort((one, other) => value.probabilities[other.dataset.genre] - value.probabilities[one.dataset.genre]);
  bars.forEach((bar, at) => {
    const name = bar.dataset.genre, share = value.probabilities[name];
    const sign = value.genres.includes(name) ? "predicted" : could.includes(name) ? "could" : "unlikely";
    bar.className = `bar ${sign}`;
    bar.querySelector(".fill").style.width = `${100 * share}%`;
    bar.querySelector(".threshold").style.left = `${100 * value.thresholds[name]}%`;
    bar.querySelector(".value").textContent = percent(share);
    bar.querySelector(".sign").textContent = { predicted: ", predicted", could: ", could be", unlikely: ", unlikely" }[sign];
    bar.parentElement.classList.toggle("more", at >= SHOWN_BARS && sign === "unlikely");
    $("bars").append(bar.parentElement);
  });
  if (bars.includes(focused)) focused.focus();
  $("all-genres").hidden = !document.querySelector("#bars .more");
}
function choose(name) {
  genre = name;
  for (const bar of bars) bar.setAttribute("aria-pressed", String(bar.dataset.genre === name));
  $("why-genre").textContent = name;
  if (reasons) showReasons(reasons, name, answer.probabilities[name], posterUrl && !$("preview").hidden ? posterUrl : null);
}

// --- Sharing ---

const shellQuote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function curl() {
  const address = `${location.origin}${root}api/v1/predict`, key = $("key") ? ' -H "X-API-Key: $KEY"' : "";
  if (!poster) {
    const film = { ...(title.value.trim() && { title: title.value.trim() }), plot: plot.value };
    return `curl ${address}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${shellQuote(JSON.stringify(film))}`;
  }
  const fields = [["title", title.value.trim()], ["plot", plot.value]].filter(([, text]) => text.trim())
    .map(([name, text]) => ` \\\n  --form-string ${shellQuote(`${name}=${text}`)}`);
  const file = (poster.name || "poster.jpg").replace(/["\\]/g, "\\$&"); // in double quotes, because , and ; separate files for curl
  return `curl ${address}${key}${fields.join("")} \\\n  -F ${shellQuote(`poster=@"${file}"`)}`;
}
function shareLink() {
  const query = new URLSearchParams(sample !== null ? { film: sample } : { title: title.value.trim(), plot: plot.value });
  if (!query.get("title")) query.delete("title");
  return `${location.origin}${root}${`${query}`.length > 2000 ? "#" : "?"}${query}`; // servers reject long addresses
}
function copiedJson() {
  return JSON.stringify({ title: title.value.trim() || undefined, plot: plot.value || undefined, prediction: answer, explanation: reasons || undefined }, null, 2);
}

// --- The gallery ---

async function useSample(number) {
  wanted = number;
  const film = await request(`samples/${number}`);
  const picture = film.poster ? await (await fetch(film.poster)).blob() : null;
  if (wanted !== number) return;
  keepInput();
  setFilm({ ...film, poster: picture && new File([picture], "", { type: picture.type }) });
  sample = number;
  predict();
}
/** Scroll the answer into view if it is not visible, as on a phone. */
function bringUp() {
  const { top, bottom } = $("answer").getBoundingClientRect();
  if (top > innerHeight / 2 || bottom < 0 || top < 0) $("answer").scrollIntoView({ block: "start" });
}

// --- Events ---

form.addEventListener("submit", (event) => { event.preventDefault(); predict(); bringUp(); });
for (const field of [title, plot]) {
  field.addEventListener("input", () => {
    sample = null;
    if (answer) { clearTimeout(timer); timer = setTimeout(predictAgain, 500); }
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); predict(); bringUp(); }
  });
}
fileInput.addEventListener("change", () => {
  const [file] = fileInput.files;
  if (file) choosePoster(file);
  fileInput.value = ""; // so that the same file can be chosen again
});
onDrop($("drop"), choosePoster);
document.addEventListener("paste", (event) => {
  // Text from Word or Excel comes with a picture of itself.
  if (event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain")) return;
  const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
  if (file) { event.preventDefault(); choosePoster(file); }
});
$("remove").addEventListener("click", () => {
  sample = null;
  setPoster(null);
  fileInput.focus();
  predictAgain();
});
$("clear").addEventListener("click", () => {
  keepInput();
  sample = null;
  setFilm({});
  clear();
  fail("");
  main.classList.remove("answered");
  title.focus();
});
$("bring-back").addEventListener("click", () => {
  const film = setAside;
  setAside = null;
  $("set-aside").hidden = true;
  keepInput();
  setFilm(film);
  sample = null;
  plot.focus();
  predict();
});
$("bars").addEventListener("click", (event) => {
  const bar = event.target.closest(".bar");
  if (bar) choose(bar.dataset.genre);
});
$("all-genres").addEventListener("click", () => {
  const all = $("bars").classList.toggle("all");
  $("all-genres").setAttribute("aria-expanded", String(all));
  $("all-genres").textContent = all ? "Show fewer genres" : `Show all ${genres.length} genres`;
});
$("why-again").addEventListener("click", () => { if (answer) explain(running); });
$("copy-link").addEventListener("click", () => copyText(shareLink(), $("copy-link")));
$("copy-json").addEventListener("click", () => copyText(copiedJson(), $("copy-json")));
$("gallery")?.addEventListener("click", (event) => {
  const card = event.target.closest(".film-card");
  if (card) useSample(card.dataset.number).then(bringUp, (error) => fail(error.message));
});
$("more-films")?.addEventListener("click", () => {
  const added = [...document.querySelectorAll("#gallery li[hidden]")];
  for (const item of added) item.hidden = false;
  $("more-films").hidden = true;
  added[0].firstElementChild.focus();
});

// Links to a film: /?plot=… and /?film=3. Long plots come after # instead. Pressing the button before this script is
// loaded opens such a link, too.
function openLink(query) {
  const linked = new URLSearchParams(query);
  if (/^\d+$/.test(linked.get("film") || "")) useSample(linked.get("film")).catch((error) => fail(error.message));
  else if (linked.get("plot") || linked.get("title")) {
    setFilm({ title: linked.get("title"), plot: linked.get("plot") });
    sample = null;
    if (linked.get("plot")) predict();
  }
}
addEventListener("hashchange", () => { // another link was pasted into the address bar
  if (location.hash.includes("=")) keepInput();
  openLink(location.hash.slice(1));
});
openLink(location.search.slice(1) || location.hash.slice(1));
