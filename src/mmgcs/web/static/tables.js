// A table of films is uploaded, tagged by a job on the server, previewed and downloaded. The job's id is in the page's
// address, so that a reload finds it again.
import { $, count, element, onDrop, percent, request, root } from "./common.js";

const accepted = $("file").accept.split(",");
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let current = null; // the job's id
let latest = 0; // number of the table shown; older ones are no longer followed
let announced = 0, first = null; // the tenths that were read aloud, and when the progress began

function fail(message) {
  $("progress").hidden = $("stop").hidden = true;
  $("progress-text").textContent = "";
  $("error").textContent = message;
  $("error").hidden = !message;
}
function announce(text) { $("status").textContent = text; }
function remember(id) {
  current = id;
  history.replaceState(null, "", id ? `?job=${encodeURIComponent(id)}` : location.pathname);
}
async function send(file, columns = $("columns").value) {
  if (!accepted.some((ending) => file.name.toLowerCase().endsWith(ending))) {
    fail(`${file.name} is not a table this page can read. Choose one of ${accepted.join(", ")}.`);
    return;
  }
  const size = Number($("table").dataset.maxTable);
  if (file.size > size) {
    fail(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB. The limit is ${Math.floor(size / 2 ** 20)} MB; use mmgcs tag on your machine.`);
    return;
  }
  if (current) stop();
  const mine = ++latest, data = new FormData();
  data.set("file", file, file.name);
  data.set("columns", columns);
  fail("");
  $("outcome").hidden = $("result").hidden = true;
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  $("progress-text").textContent = `Sending ${file.name} …`;
  announce($("progress-text").textContent);
  try {
    const job = await request("api/v1/batch", { method: "POST", body: data });
    if (mine === latest) await follow(job.id, mine);
    else remove(job.id);
  } catch (error) {
    if (mine === latest) fail(error.message);
  }
}
/** Show a job until it is done, has failed, or is gone. A server that does not answer for a while is asked again. */
async function follow(id, mine) {
  remember(id);
  announced = 0;
  first = null;
  while (mine === latest) {
    const job = await request(`api/v1/batch/${encodeURIComponent(id)}`).catch((error) => ({ state: "unknown", status: error.status }));
    if (mine !== latest) return;
    if (job.state === "done") { done(job); return; }
    if (job.state === "failed" || job.status === 404) {
      remember(null);
      fail(job.error ? `${job.error[0].toUpperCase()}${job.error.slice(1)}.` : "That table is no longer on the server. Choose it again.");
      return;
    }
    $("stop").hidden = $("progress").hidden = false;
    showProgress(job);
    await wait(job.state === "unknown" ? 2000 : 400);
  }
}
function showProgress(job) {
  if (job.state === "unknown") { $("progress-text").textContent = "The server does not answer right now. Trying again …"; return; }
  if (job.rows === null) { $("progress-text").textContent = "Reading the table …"; return; }
  const text = `${job.done.toLocaleString("en")} of ${count(job.rows, "film")}`;
  $("progress-text").textContent = `${text} tagged (${Math.floor(100 * job.share)}%)${timeLeft(job.share)}`;
  if (job.share) $("progress").value = job.share;
  const tenth = Math.floor(10 * job.share);
  if (tenth > announced) { announced = tenth; announce(`${10 * tenth}% of the table is tagged`); }
}
function timeLeft(share) {
  const now = performance.now();
  first ??= { now, share };
  const seconds = (now - first.now) / 1000;
  if (seconds < 2 || share <= first.share) return ""; // too early to tell
  const left = seconds * (1 - share) / (share - first.share);
  return left < 90 ? `, about ${5 * Math.ceil(left / 5)} seconds left` : `, about ${Math.round(left / 60)} minutes left`;
}
function done(job) {
  current = null; // the next table does not delete this one: its address stays valid
  $("stop").hidden = true;
  $("progress").hidden = false;
  $("progress").value = 1;
  const notes = [`${count(job.unsure, "film")} ${job.unsure === 1 ? "needs" : "need"} review`];
  if (job.errors) notes.push(`${count(job.errors, "film")} could not be tagged`);
  $("progress-text").textContent = `Done: ${count(job.done, "film")} of ${job.filename}. ${notes.join(", ")}.`;
  announce($("progress-text").textContent);
  $("result").href = `${root}api/v1/batch/${job.id}/result`;
  $("outcome").hidden = $("result").hidden = false;
  showCounts(job.genres);
  showPreview(job.preview);
}
const rowHead = (text) => Object.assign(element("th", "", text), { scope: "row" });
function showCounts(genres) {
  const entries = Object.entries(genres); // most frequent first
  const most = Math.max(1, ...entries.map(([, films]) => films));
  $("counts-part").hidden = !entries.length;
  $("counts").replaceChildren(...entries.map(([genre, films]) => {
    const row = element("tr", ""), wide = element("td", "wide"), track = element("div", "track"), fill = element("div", "fill");
    fill.style.width = `${100 * films / most}%`;
    track.append(fill);
    wide.append(track);
    row.append(rowHead(genre), wide, element("td", "number", films.toLocaleString("en")));
    return row;
  }));
}
function showPreview(rows) {
  $("preview-part").hidden = !rows.length;
  $("review-only").checked = false;
  $("preview").replaceChildren(...rows.map((film) => {
    const row = element("tr", film.sure ? "" : "needs-review"), genres = film.genres.join(", ");
    row.append(
      rowHead(film.title || film.id || "–"),
      element("td", "", film.error ? "–" : genres || "none is likely enough"),
      element("td", "", film.confidence == null ? "–" : percent(film.confidence)),
      element("td", "", film.error || (film.sure ? "" : "needs review")),
    );
    return row;
  }));
  filterPreview();
}
function filterPreview() {
  const only = $("review-only").checked, rows = [...$("preview").rows];
  for (const row of rows) row.hidden = only && !row.classList.contains("needs-review");
  $("preview-count").textContent = `${rows.filter((row) => !row.hidden).length} of the first ${count(rows.length, "film")}`;
}
function remove(id) {
  request(`api/v1/batch/${id}`, { method: "DELETE" }).catch(() => {}); // it is deleted later anyway
}
function stop() {
  latest++;
  remove(current);
  remember(null);
  fail("");
  $("progress-text").textContent = "Stopped. The table was deleted from the server.";
  announce($("progress-text").textContent);
}

$("stop").addEventListener("click", () => { stop(); $("file").focus(); });
$("file").addEventListener("change", () => { if ($("file").files[0]) send($("file").files[0]); $("file").value = ""; });
onDrop($("drop"), (file) => send(file));
$("table").addEventListener("submit", (event) => event.preventDefault());
$("review-only").addEventListener("change", filterPreview);
$("try")?.addEventListener("click", async () => {
  const table = await fetch(`${root}samples.csv`).then((response) => response.blob(), () => null);
  if (table) send(new File([table], "samples.csv"), "");
  else fail("The server does not answer. Check your connection, then try again.");
});

const job = new URLSearchParams(location.search).get("job");
if (job) follow(job, ++latest);
