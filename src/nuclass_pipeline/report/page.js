"use strict";
// Sort a table by a column: numbers by data-value, highest first; text by the alphabet.
const keyOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
const compare = (a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(b) : a - b);
function sortBy(head) {
  const table = head.closest("table");
  const isText = "text" in head.dataset;
  const rising = head.getAttribute("aria-sort") === "none" ? isText : head.getAttribute("aria-sort") === "descending";
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const column = Number(head.dataset.column);
  const isEmpty = (row) => keyOf(row, column) === "";
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => isEmpty(a) - isEmpty(b) || (rising ? 1 : -1) * compare(keyOf(a, column), keyOf(b, column)));
  table.tBodies[0].append(...rows);
}
for (const head of document.querySelectorAll(".sortable th[data-column]")) {
  head.setAttribute("aria-sort", "none");
  head.tabIndex = 0;
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(head));
}
for (const picture of document.querySelectorAll(".picture")) picture.addEventListener("click", () => picture.classList.toggle("full"));
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => (document.getElementById("contents").checked = false));
addEventListener("beforeprint", () => document.querySelectorAll(".warnings details").forEach((part) => (part.open = true)));
