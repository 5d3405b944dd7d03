"use strict";
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", async () => {
  await navigator.clipboard.writeText(button.nextElementSibling.textContent);
  button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
