// A live filter over the rows of a page. Without it the page is whole: it only hides rows that are there.
"use strict";

for (const table of document.querySelectorAll("table[data-filter]")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 8) continue;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const told = document.createElement("span");
  label.className = "live";
  label.append("Filter these rows ", input);
  input.type = "search";
  input.autocomplete = "off";
  told.setAttribute("role", "status");
  label.append(told);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    told.textContent = input.value ? ` ${shown} of ${rows.length}` : "";
  });
  table.closest(".scroll").before(label);
}
