"use strict";
// Reads a chart where somebody points at it, or steps through it with the arrow keys. Only text is ever written.
for (const svg of document.querySelectorAll("svg[data-plot]")) {
  const data = JSON.parse(svg.dataset.plot);
  const cross = svg.querySelector(".cross");
  const readout = svg.parentElement.querySelector(".readout");
  const stops = [...new Set(data.curves.flatMap((curve) => curve.points.map((point) => point[0])))].sort((a, b) => a - b);
  let at = stops.length - 1;

  const near = (points, x) => {
    let low = 0;
    let high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle;
      else high = middle;
    }
    return x - points[low][0] < points[high][0] - x ? points[low] : points[high];
  };
  const number = (y) => (data.percent ? `${Number((100 * y).toPrecision(3))} %` : String(Number(y.toPrecision(4))));

  function show(x) {
    const share = (x - data.from) / (data.to - data.from);
    const place = (data.left + share * (data.right - data.left)) * svg.viewBox.baseVal.width;
    cross.setAttribute("x1", place);
    cross.setAttribute("x2", place);
    cross.classList.add("on");
    const said = [`${data.x} ${x.toLocaleString("en").replaceAll(",", "\u202f")}`];
    for (const curve of data.curves) {
      if (!curve.points.length) continue;
      const point = near(curve.points, x);
      const elsewhere = point[0] === x ? "" : ` (at ${point[0]})`;
      said.push(`${curve.name} ${number(point[1])}${elsewhere}`);
    }
    readout.replaceChildren(
      ...said.map((text) => {
        const span = document.createElement("span");
        span.textContent = text;
        return span;
      }),
    );
  }
  function hide() {
    cross.classList.remove("on");
    readout.replaceChildren();
  }
  function point(event) {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - data.left) / (data.right - data.left);
    const x = data.from + Math.min(1, Math.max(0, share)) * (data.to - data.from);
    const found = near(stops.map((stop, i) => [stop, i]), x);
    at = found[1];
    show(found[0]);
  }
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") return hide();
    if (by === undefined) return;
    event.preventDefault();
    at = Math.min(stops.length - 1, Math.max(0, at + by));
    show(stops[at]);
  });
}
