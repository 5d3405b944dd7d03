// The API page: send a request, and open the schema that a link leads to.
import { $, request } from "./common.js";

$("request").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("response-status").textContent = "…";
  try {
    const headers = { "Content-Type": "application/json" };
    const value = await request("api/v1/predict", { method: "POST", body: $("body").value, headers });
    $("response").textContent = JSON.stringify(value, null, 2);
    $("response-status").textContent = "200";
  } catch (error) {
    $("response").textContent = error.message;
    $("response-status").textContent = error.status || "";
  }
});
function openSchema() {
  const found = location.hash && $(location.hash.slice(1));
  if (found) { found.open = true; found.scrollIntoView(); }
}
addEventListener("hashchange", openSchema);
openSchema();
