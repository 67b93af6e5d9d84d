function (sections) {
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

  // Contrast of text and background (WCAG 2, level AA).
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (paints) => {
    canvas.fillStyle = "#fff";
    canvas.fillRect(0, 0, 1, 1);
    for (const p of paints) {
      canvas.fillStyle = p;
      canvas.fillRect(0, 0, 1, 1);
    }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (c) => {
    const [r, g, b] = [0, 1, 2].map((i) => {
      const v = c[i] / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const seen = new Set();
  const contrasts = () => {
    for (const e of document.body.querySelectorAll("*")) {
      const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
      if (!own || e.getClientRects().length === 0 || e.closest("svg title, script, style")) continue;
      const behind = [];
      for (let p = e; p; p = p.parentElement) behind.unshift(getComputedStyle(p).backgroundColor);
      const style = getComputedStyle(e);
      const ink = e.closest("svg") ? style.fill : style.color;
      const a = light(rgb([...behind, ink])), b = light(rgb(behind));
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const key = `${e.tagName}.${e.getAttribute("class")} ${ratio.toFixed(2)}`;
      if (ratio < 4.5 && !seen.has(key)) {
        seen.add(key);
        wrong.push(`contrast of "${e.textContent.trim().slice(0, 40)}" (${key})`);
      }
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
