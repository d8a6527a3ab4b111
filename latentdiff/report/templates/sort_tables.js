// A click on a heading sorts its table upwards, the next downwards, the third restores the order; unknown values stay
// last.
document.querySelectorAll("table").forEach(table => {
  const body = table.tBodies[0], original = [...body.rows], heads = table.querySelectorAll("thead th");
  heads.forEach((head, column) => head.querySelector("button").onclick = () => {
    const next = { null: "ascending", ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
    heads.forEach(other => other.removeAttribute("aria-sort"));
    if (next) head.setAttribute("aria-sort", next);
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    const sorted = original.slice().sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return x === "" || y === "" ? (x === "") - (y === "") : next === "descending" ? compare(y, x) : compare(x, y);
    });
    body.append(...(next ? sorted : original));
  });
});
