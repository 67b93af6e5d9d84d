// Returns the texts with too little contrast to their background (WCAG 2, level AA).
function () {
  const wrong = new Set();
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
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!own || e.getClientRects().length === 0 || e.closest("svg title, script, style")) continue;
    const behind = [];
    for (let p = e; p; p = p.parentElement) behind.unshift(getComputedStyle(p).backgroundColor);
    const style = getComputedStyle(e);
    const ink = e.closest("svg") ? style.fill : style.color;
    const a = light(rgb([...behind, ink])), b = light(rgb(behind));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) wrong.add(`contrast of "${e.textContent.trim().slice(0, 40)}" (${e.tagName}.${e.getAttribute("class")} ${ratio.toFixed(2)})`);
  }
  return [...wrong];
}
