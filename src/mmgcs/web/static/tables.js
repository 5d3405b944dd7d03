"use strict";
// A table is sent, its job is asked for until it is done, and its result is offered.
const $ = (id) => document.getElementById(id);
const headers = () => ($("key") && $("key").value ? { "X-API-Key": $("key").value } : {});
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
let latest = 0, current = null;

function fail(message) {
  $("progress").hidden = $("stop").hidden = true; $("status").textContent = "";
  $("error").textContent = message; $("error").hidden = !message;
}
async function tag(file) {
  if (current) stop();
  const mine = ++latest, data = new FormData();
  data.set("file", file, file.name);
  fail(""); $("result").hidden = true; $("progress").hidden = false; $("progress").removeAttribute("value");
  $("status").textContent = `Sending ${file.name} …`;
  try {
    let response = await fetch("/api/v1/batch", { method: "POST", body: data, headers: headers() });
    let job = await response.json();
    while (response.ok && mine === latest) {
      current = job.id; $("stop").hidden = false;
      if (job.state === "failed") throw new Error(job.error);
      if (job.state === "done") { done(job, file); return; }
      $("status").textContent = job.state === "waiting" ? "Waiting for its turn …" : `${count(job.done, "film")} tagged, ${Math.floor(100 * job.share)}%`;
      if (job.share) $("progress").value = job.share;
      await wait(300);
      if (mine !== latest) return;
      response = await fetch(`/api/v1/batch/${job.id}`);
      job = await response.json();
    }
    if (!response.ok) throw new Error(job.error);
  } catch (error) {
    if (mine === latest) { current = null; fail(error instanceof TypeError ? "The server does not answer. Is it running?" : error.message); }
  }
}
function done(job, file) {
  current = null; $("stop").hidden = true; $("progress").value = 1;
  const notes = [`${count(job.unsure, "film")} worth a human look`];
  if (job.errors) notes.push(`${count(job.errors, "film")} without a plot to read`);
  $("status").textContent = `Done: ${count(job.done, "film")} of ${file.name}; ${notes.join(", ")}.`;
  $("result").href = job.result; $("result").hidden = false;
}
function stop() {
  latest++;
  fetch(`/api/v1/batch/${current}`, { method: "DELETE", headers: headers() }).catch(() => {}); // it is forgotten later anyway
  current = null; fail(""); $("status").textContent = "Stopped; nothing is kept.";
}
$("stop").addEventListener("click", () => { stop(); $("file").focus(); });
$("file").addEventListener("change", () => { if ($("file").files[0]) tag($("file").files[0]); $("file").value = ""; });
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
$("drop").addEventListener("dragover", () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => { $("drop").classList.remove("over"); if (event.dataTransfer.files.length) tag(event.dataTransfer.files[0]); });
$("table").addEventListener("submit", (event) => event.preventDefault());
if ($("try")) $("try").addEventListener("click", async () => { tag(new File([await (await fetch("/samples.csv")).blob()], "samples.csv")); });
