"use strict";
// A table is sent, its job is asked for until it is done, and its result is offered.
const $ = (id) => document.getElementById(id);
const headers = () => ($("key") && $("key").value ? { "X-API-Key": $("key").value } : {});
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let latest = 0;

async function tag(file) {
  const mine = ++latest, data = new FormData();
  data.set("file", file, file.name);
  $("error").hidden = $("result").hidden = true; $("progress").hidden = false; $("progress").removeAttribute("value");
  $("status").textContent = `Sending ${file.name} …`;
  try {
    let response = await fetch("/api/v1/batch", { method: "POST", body: data, headers: headers() });
    let job = await response.json();
    while (response.ok && mine === latest) {
      $("status").textContent = job.state === "waiting" ? "Waiting for its turn …" : `${job.done.toLocaleString()} films tagged`;
      if (job.state === "failed") throw new Error(job.error);
      if (job.state === "done") {
        $("status").textContent = `Done: ${job.done.toLocaleString()} films, ${job.unsure.toLocaleString()} worth a human look, ${job.errors.toLocaleString()} without a plot to read.`;
        $("progress").value = 1; $("result").href = job.result; $("result").hidden = false;
        return;
      }
      await wait(300);
      response = await fetch(`/api/v1/batch/${job.id}`);
      job = await response.json();
    }
    if (!response.ok) throw new Error(job.error);
  } catch (error) {
    $("progress").hidden = true; $("status").textContent = ""; $("error").textContent = error.message; $("error").hidden = false;
  }
}
$("file").addEventListener("change", () => { if ($("file").files[0]) tag($("file").files[0]); });
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
$("drop").addEventListener("drop", (event) => { if (event.dataTransfer.files.length) tag(event.dataTransfer.files[0]); });
$("table").addEventListener("submit", (event) => event.preventDefault());
