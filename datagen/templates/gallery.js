"use strict";
// Filters, order and keys of the gallery. Everything shown is in the HTML already; nothing here makes HTML from text.
(() => {
  const by = (id) => document.getElementById(id);
  const form = by("g-filters");
  const cards = [...document.querySelectorAll(".g-card")];
  const rows = [...document.querySelectorAll(".g-entry")].map((element) => ({
    element,
    card: element.closest(".g-card"),
    id: element.dataset.id,
    parent: element.dataset.parent,
    facets: new Map(JSON.parse(element.dataset.facets)),
    scores: new Map(JSON.parse(element.dataset.scores)),
    order: JSON.parse(element.dataset.order),
    text: null,
  }));
  const rowsOf = new Map(cards.map((card) => [card, []]));
  for (const row of rows) rowsOf.get(row.card).push(row);
  const boxes = [...form.querySelectorAll("fieldset[data-facet] input")].map((input) => ({
    input,
    facet: input.closest("fieldset").dataset.facet,
    count: input.closest("label").querySelector("output"),
  }));
  const ends = [...form.querySelectorAll("fieldset[data-score] input")].map((input) => ({
    input,
    name: `${input.dataset.end}:${input.closest("fieldset").dataset.score}`,
  }));
  let filter = read();

  // The filter is the part of the address after "#", so that a view can be kept and sent.
  function read() {
    const found = { facets: new Map(), ends: new Map(), q: "", sort: "", family: false };
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (name === "q" || name === "sort") found[name] = value;
      else if (name === "family") found.family = value === "1";
      else if (/^(min|max):/.test(name)) {
        if (value.trim() !== "" && Number.isFinite(Number(value))) found.ends.set(name, value);
      } else if (value !== "" && form.querySelector(`[data-facet="${CSS.escape(name)}"]`)) {
        if (!found.facets.has(name)) found.facets.set(name, new Set());
        found.facets.get(name).add(value);
      }
    }
    return found;
  }

  function write() {
    const pairs = new URLSearchParams();
    for (const [facet, values] of filter.facets) for (const value of values) pairs.append(facet, value);
    for (const [name, value] of filter.ends) pairs.append(name, value);
    if (filter.q) pairs.append("q", filter.q);
    if (filter.sort) pairs.append("sort", filter.sort);
    if (filter.family) pairs.append("family", "1");
    history.replaceState(null, "", `#${pairs}`);
  }

  const covers = (facet, wanted, value) =>
    value === wanted || (facet === "reason" && value.startsWith(`${wanted}:`));

  function inFacet(row, facet, wanted) {
    const values = row.facets.get(facet) || [];
    return [...wanted].some((one) => values.some((value) => covers(facet, one, value)));
  }

  function textOf(row) {
    if (row.text === null) {
      const captions = [...row.card.querySelectorAll("figcaption")].map((c) => c.textContent);
      row.text = [row.element.textContent, row.id, ...captions].join(" ").toLowerCase();
    }
    return row.text;
  }

  function matches(row, except) {
    for (const [facet, wanted] of filter.facets) {
      if (facet !== except && !inFacet(row, facet, wanted)) return false;
    }
    for (const [name, value] of filter.ends) {
      const score = row.scores.get(name.slice(4));
      if (score === undefined) return false;
      if (name.startsWith("min:") ? score < Number(value) : score > Number(value)) return false;
    }
    const words = filter.q.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => textOf(row).includes(word));
  }

  // What a row was made from and what was made from it, on its card.
  function lineage(row) {
    const family = rowsOf.get(row.card);
    const found = new Set([row]);
    for (let at = row; (at = family.find((other) => other.id === at.parent)) && !found.has(at); ) found.add(at);
    const below = [row];
    while (below.length) {
      const up = below.pop();
      for (const other of family) {
        if (other.parent === up.id && !found.has(other)) {
          found.add(other);
          below.push(other);
        }
      }
    }
    return found;
  }

  function apply() {
    const found = new Set(rows.filter((row) => matches(row)));
    const context = new Set();
    if (filter.family) for (const row of found) for (const kin of lineage(row)) if (!found.has(kin)) context.add(kin);
    for (const row of rows) {
      row.element.hidden = !found.has(row) && !context.has(row);
      row.element.classList.toggle("g-context", context.has(row));
    }
    let shown = 0;
    for (const card of cards) {
      card.hidden = !rowsOf.get(card).some((row) => found.has(row));
      shown += !card.hidden;
    }
    count(found);
    order(found);
    tell(found.size, shown);
  }

  // Beside each value: how many rows it would show with the other filters as they are.
  function count() {
    const left = new Map();
    for (const { input, facet, count: output } of boxes) {
      if (!left.has(facet)) left.set(facet, rows.filter((row) => matches(row, facet)));
      const number = left.get(facet).filter((row) => inFacet(row, facet, [input.value])).length;
      output.textContent = number;
      input.closest("label").classList.toggle("g-zero", number === 0);
    }
  }

  function order(found) {
    const down = filter.sort.startsWith("-");
    const what = filter.sort.slice(down ? 1 : 0);
    const value = (row) =>
      what.startsWith("score:") ? row.scores.get(what.slice(6)) : row.order[what];
    const key = (card) => {
      const values = rowsOf.get(card).filter((row) => found.has(row)).map(value).filter((v) => v !== undefined);
      if (!values.length) return Infinity;
      return down ? -Math.max(...values) : Math.min(...values);
    };
    for (const box of document.querySelectorAll(".g-cards")) {
      const mine = cards.filter((card) => card.parentElement === box);
      const keys = new Map(mine.map((card) => [card, what ? key(card) : 0]));
      const sorted = what ? [...mine].sort((a, b) => keys.get(a) - keys.get(b) || 0) : mine;
      if (sorted.some((card, i) => box.children[i] !== card)) box.append(...sorted);
    }
  }

  function tell(found, shown) {
    by("g-status").textContent =
      `${found} of ${rows.length} ${document.body.dataset.noun}` +
      (rows.length > cards.length ? ` on ${shown} of ${cards.length} cards` : "");
    by("g-nothing").hidden = found > 0 || rows.length === 0;
    const chips = by("g-chips");
    chips.replaceChildren();
    const chip = (text, drop) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${text} ×`;
      button.setAttribute("aria-label", `remove filter ${text}`);
      button.addEventListener("click", () => change(drop));
      chips.append(button);
    };
    for (const [facet, values] of filter.facets) {
      for (const value of values) chip(`${facet}: ${value}`, () => toggle(facet, value, false));
    }
    for (const [name, value] of filter.ends) {
      chip(`${name.slice(4)} ${name.startsWith("min") ? "≥" : "≤"} ${value}`, () => filter.ends.delete(name));
    }
    if (filter.q) chip(`“${filter.q}”`, () => (filter.q = ""));
    if (chips.childElementCount > 1) chip("all filters", clear);
  }

  function toggle(facet, value, on) {
    const values = filter.facets.get(facet) || new Set();
    if (on) values.add(value);
    else values.delete(value);
    if (values.size) filter.facets.set(facet, values);
    else filter.facets.delete(facet);
  }

  function clear() {
    filter = { ...filter, facets: new Map(), ends: new Map(), q: "" };
  }

  function change(how) {
    how();
    write();
    sync();
    apply();
  }

  // Controls follow the filter, wherever it came from.
  function sync() {
    for (const { input, facet } of boxes) {
      const wanted = filter.facets.get(facet);
      input.checked = Boolean(wanted && wanted.has(input.value));
    }
    for (const { input, name } of ends) if (document.activeElement !== input) input.value = filter.ends.get(name) ?? "";
    if (document.activeElement !== by("g-q")) by("g-q").value = filter.q;
    by("g-sort").value = filter.sort;
    by("g-family").checked = filter.family;
  }

  function follow() {
    filter = read();
    sync();
    apply();
  }

  for (const { input, facet } of boxes) {
    input.addEventListener("change", () => change(() => toggle(facet, input.value, input.checked)));
  }
  for (const { input, name } of ends) {
    input.addEventListener("input", () =>
      change(() => (Number.isFinite(input.valueAsNumber) ? filter.ends.set(name, input.value) : filter.ends.delete(name))),
    );
  }
  // While somebody types, a moment later; when they leave the field, at once.
  let typing = 0;
  const search = () => {
    clearTimeout(typing);
    change(() => (filter.q = by("g-q").value));
  };
  by("g-q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(search, 120);
  });
  by("g-q").addEventListener("change", search);
  by("g-sort").addEventListener("change", () => change(() => (filter.sort = by("g-sort").value)));
  by("g-family").addEventListener("change", () => change(() => (filter.family = by("g-family").checked)));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    // "#g-main" is a place on the page and no filter.
    if (!by(location.hash.slice(1))) follow();
  });

  // Pictures: enlarged in a dialog; a box and its name light up together.
  function enlarge(button) {
    const frame = button.querySelector(".g-frame").cloneNode(true);
    const image = frame.querySelector("img");
    // The frame has the picture's shape, so that boxes stay where they belong.
    frame.style.setProperty("--g-ratio", image.getAttribute("width") / image.getAttribute("height"));
    by("g-large").replaceChildren(frame);
    by("g-large-name").textContent = button.closest("figure").querySelector("figcaption").textContent;
    by("g-dialog").showModal();
  }
  for (const button of document.querySelectorAll(".g-zoom")) button.addEventListener("click", () => enlarge(button));
  by("g-dialog").addEventListener("click", (event) => {
    if (event.target === by("g-dialog")) by("g-dialog").close();
  });
  function light(event) {
    const one = event.target.closest?.("[data-mark]");
    if (!one) return;
    const on = event.type === "mouseover" || event.type === "focusin";
    const card = one.closest(".g-card");
    if (!card) return;
    for (const mark of card.querySelectorAll(`[data-mark="${CSS.escape(one.dataset.mark)}"]`)) {
      mark.classList.toggle("g-lit", on);
    }
    card.classList.toggle("g-lighting", on);
  }
  for (const kind of ["mouseover", "mouseout", "focusin", "focusout"]) document.addEventListener(kind, light);

  function step(by_) {
    const there = [...document.querySelectorAll(".g-card:not([hidden])")];
    const now = there.findIndex((card) => card.contains(document.activeElement));
    const next = there[now < 0 ? 0 : Math.min(Math.max(now + by_, 0), there.length - 1)];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  }
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || by("g-dialog").open) return;
    if (event.key === "Escape" && writing) return event.target.blur();
    if (writing) return;
    if (event.key === "/") by("g-q").focus();
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "x") change(clear);
    else if (event.key === "z") {
      const picture = document.activeElement.closest?.(".g-card")?.querySelector(".g-zoom");
      if (picture) enlarge(picture);
    } else return;
    event.preventDefault();
  });

  const panel = form.querySelector(".g-panel");
  const narrow = matchMedia("(max-width: 900px)");
  const fold = () => (panel.open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();
  form.hidden = by("g-statusbar").hidden = false;
  if (!location.hash && document.body.dataset.start) {
    history.replaceState(null, "", `#${document.body.dataset.start}`);
  }
  follow();
})();
