// A click on a heading sorts its table: first best to worst for numbers, then the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const column = head.cellIndex, numeric = head.classList.contains("number");
    const falling = head.ariaSort === "none" ? numeric : head.ariaSort === "ascending";
    const key = (row) => row.cells[column].dataset.order;
    const order = (a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b));
    const rows = [...body.rows];
    const known = rows.filter((row) => key(row) !== undefined).sort(order);
    if (falling) known.reverse();
    for (const other of head.parentElement.cells) other.ariaSort = "none";
    head.ariaSort = falling ? "descending" : "ascending";
    for (const row of rows) row.classList.remove("group");
    body.append(...known, ...rows.filter((row) => key(row) === undefined));
  });
}
