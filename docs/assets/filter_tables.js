// A box above each long table: only rows that have all typed words stay.
const LONG = 25; // rows

function addBox(table) {
  const rows = [...table.querySelectorAll("tbody tr")];
  if (rows.length < LONG) return;
  const box = document.createElement("input");
  box.type = "search";
  box.className = "filter-table";
  box.placeholder = `Filter ${rows.length} rows, for example: resnet`;
  box.setAttribute("aria-label", "Filter the rows of the table below");
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  (table.closest(".md-typeset__scrollwrap") ?? table).before(box);
}

document.querySelectorAll("article table").forEach(addBox);
