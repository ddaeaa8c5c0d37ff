"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const kept = () => { try { return localStorage.getItem("modellens-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "system") root.removeAttribute("data-theme"); else root.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
  };
  let theme = themes.includes(kept()) ? kept() : "system";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    try { localStorage.setItem("modellens-theme", theme); } catch { /* a file of its own may keep nothing */ }
  });

  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const compare = (kind, sign) => (a, b) => {
    if (a === b) return 0;
    if (a === null) return 1;
    if (b === null) return -1;
    return sign * (kind === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const kind = head.dataset.sort;
    if (!kind) return;
    const sorter = document.createElement("button");
    sorter.type = "button";
    sorter.append(...head.childNodes);
    head.append(sorter);
    sorter.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const by = compare(kind, way === "ascending" ? 1 : -1);
      const keyed = rows.map((row) => [value(row, column, kind), row]);
      keyed.sort((a, b) => by(a[0], b[0]));
      body.append(...keyed.map(([, row]) => row));
    });
  });

  const filter = document.getElementById("filter");
  const flawed = document.getElementById("flawed");
  const shown = document.getElementById("shown");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && !(flawed.checked && row.classList.contains("good"));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  document.querySelector(".controls").hidden = false;
  filter.addEventListener("input", apply);
  flawed.addEventListener("change", apply);
  apply();
})();
