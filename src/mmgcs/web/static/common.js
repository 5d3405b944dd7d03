// What the pages share: elements, requests with errors in plain words, files dropped onto a zone, and the clipboard.
export const $ = (id) => document.getElementById(id);
export const root = document.documentElement.dataset.root; // ends in "/"; longer than that under a sub-path
export const percent = (share) => `${Math.round(100 * share)}%`;
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
export const element = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

const MESSAGES = {
  413: "The file is larger than this server accepts.",
  429: "Too many requests. Wait a moment, then try again.",
  502: "The server is not running right now. Try again in a moment.",
  503: "The server is busy. Try again in a moment.",
  504: "The server took too long to answer. Try again in a moment.",
};

/** Fetch JSON. Throw an Error whose message a person understands, with the response's `status`. */
export async function request(path, options = {}) {
  const key = $("key")?.value.trim();
  let response;
  try {
    response = await fetch(root + path, { ...options, headers: { ...options.headers, ...(key && { "X-API-Key": key }) } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Check your connection, then try again.");
  }
  const isJson = (response.headers.get("Content-Type") || "").includes("json"); // a proxy's error page is not
  const value = isJson ? await response.json() : null;
  if (response.ok) return value;
  let message = value?.error || MESSAGES[response.status] || `The server reported an error (status ${response.status}).`;
  if (response.status === 401) message = key ? "The server does not accept this API key." : "Enter this server's API key.";
  message = message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
  throw Object.assign(new Error(message), { status: response.status });
}

/** Call `take` with each file that is dropped onto `zone`. Files dropped elsewhere do not leave the page. */
export function onDrop(zone, take) {
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  for (const kind of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(kind, () => zone.classList.toggle("over", kind === "dragover"));
  }
  zone.addEventListener("drop", (event) => { if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]); });
}

/** Copy text and say so on the button. Without HTTPS there is no clipboard API, only the old command. */
export async function copyText(text, button) {
  let done = true;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text).catch(() => { done = false; });
  } else {
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? "Copied" : "Could not copy";
  setTimeout(() => { button.textContent = label; }, 1500);
}

// The key is kept for this tab only.
if ($("key")) {
  try {
    $("key").value = sessionStorage.getItem("key") || "";
    $("key").addEventListener("change", () => sessionStorage.setItem("key", $("key").value.trim()));
  } catch { /* Storage is blocked: the key lasts as long as the page. */ }
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => copyText(button.closest(".code").querySelector("pre").textContent, button));
}
