function (sections, contrast) {
  const wrong = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    wrong.push(`is ${root.scrollWidth} pixels wide in a window of ${root.clientWidth}`);
  }
  for (const s of sections) {
    const heading = document.querySelector(`section#${s.id} > h2`);
    if (!heading || heading.textContent !== s.title || heading.getClientRects().length === 0) {
      wrong.push(`the heading of ${s.id} is missing: ${heading && heading.textContent}`);
    }
  }

  // A narrow cell does not stretch a row to four lines of text.
  for (const row of document.querySelectorAll(".scroll tbody tr")) {
    const height = row.getBoundingClientRect().height;
    if (height > 84) wrong.push(`the row "${row.cells[0].textContent}" is ${height.toFixed(0)} pixels tall`);
  }

  // Text in plots has a minimum size and is inside the plot.
  for (const svg of document.querySelectorAll("svg.plot")) {
    const box = svg.getBoundingClientRect();
    if (box.width === 0) continue;
    for (const text of svg.querySelectorAll("text")) {
      const r = text.getBoundingClientRect();
      if (r.height < 10) wrong.push(`"${text.textContent}" is ${r.height.toFixed(1)} pixels tall`);
      if (r.left < box.left - 1 || r.right > box.right + 1) wrong.push(`"${text.textContent}" lies beyond its drawing`);
    }
    if (!svg.querySelector("title")) wrong.push("a drawing has no title");
  }

  const seen = new Set();
  const contrasts = () => {
    for (const c of contrast()) {
      if (!seen.has(c)) wrong.push(c);
      seen.add(c);
    }
  };

  // Every quantity of the heat map, with all details open: each cell shows one value.
  for (const d of document.querySelectorAll("details")) d.open = true;
  const picks = document.querySelectorAll(".heat .pick");
  if (picks.length === 0) contrasts();
  for (const pick of picks) {
    pick.click();
    for (const td of document.querySelectorAll(".heat td")) {
      const shown = [...td.children].filter((e) => e.getClientRects().length > 0);
      if (shown.length !== 1) {
        wrong.push(`a cell of the heat map shows ${shown.length} values with ${pick.id}`);
        break;
      }
    }
    contrasts();
  }
  if (root.scrollWidth > root.clientWidth) {
    wrong.push(`is ${root.scrollWidth} pixels wide with all details open`);
  }
  for (const d of document.querySelectorAll("details")) d.open = false;
  if (picks.length > 0) picks[0].click();
  return wrong;
}
