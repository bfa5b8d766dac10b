"use strict";
const said = document.getElementById("said");

function number(cell) {
  const value = cell.dataset.sort;
  return value === undefined || value === "" ? null : Number(value);
}

function compare(one, other, column, numeric, sign) {
  const [a, b] = [one.cells[column], other.cells[column]];
  if (!numeric) {
    const [x, y] = [a.dataset.sort ?? a.textContent, b.dataset.sort ?? b.textContent];
    return sign * x.localeCompare(y, "en", { numeric: true });
  }
  const [x, y] = [number(a), number(b)];
  if (x === null || y === null) return (x === null) - (y === null);
  return sign * (x - y);
}

function sort(button) {
  const header = button.closest("th");
  const body = header.closest("table").tBodies[0];
  const numeric = header.classList.contains("number");
  const before = header.getAttribute("aria-sort");
  const first = header.dataset.first;
  const second = first === "ascending" ? "descending" : "ascending";
  const order = before === first ? second : first;
  for (const other of header.parentElement.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  body.append(...[...body.rows].sort((a, b) => compare(a, b, header.cellIndex, numeric, sign)));
  said.textContent = `Sorted by ${button.textContent.trim()}, ${order}`;
}

// A number is found whole: k=1 is neither k=10 nor part of p=0.1.
function wanted(word) {
  const begins = /^\d/.test(word) ? "(?<![\\d.])" : "";
  const ends = /\d$/.test(word) ? "(?!\\d|\\.\\d)" : "";
  return new RegExp(begins + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + ends);
}

function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean).map(wanted);
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => word.test(text));
    shown += !row.hidden;
  }
  input.parentElement.querySelector("output").textContent = `${shown} of ${rows.length} cases`;
}

function copyByHand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(button) {
  const text = button.dataset.copy;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyByHand(text);
    button.focus();
  }
  button.dataset.state = done ? "copied" : "not copied";
  said.textContent = done ? "Copied" : "Could not be copied";
  setTimeout(() => delete button.dataset.state, 1600);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("sort")) sort(button);
  if (button?.classList.contains("copy")) copy(button);
});
document.addEventListener("input", (event) => {
  if (event.target.dataset.table) filter(event.target);
});

// Two pages unless the tables are asked for.
const everything = document.getElementById("print-tables");
let closed = [];
addEventListener("beforeprint", () => {
  document.documentElement.classList.toggle("with-tables", everything.checked);
  if (!everything.checked) return;
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
  closed = [];
});
