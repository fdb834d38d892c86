"use strict";
// Filter by reason, and a line that says what the token is that somebody points at. Only text is ever written.
(() => {
  const boxes = [...document.querySelectorAll("#filter input")];
  const rows = [...document.querySelectorAll(".row")].map((element) => ({
    element,
    tokens: [...element.querySelectorAll(".t")],
  }));
  const says = document.getElementById("says");
  let lit = null;

  function apply() {
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const { element, tokens } of rows) {
      let found = 0;
      for (const token of tokens) {
        const fits = wanted.size === 0 || wanted.has(token.dataset.key);
        token.classList.toggle("faded", !fits);
        found += fits;
      }
      element.hidden = wanted.size > 0 && found === 0;
      shown += !element.hidden;
    }
    document.getElementById("status").textContent = wanted.size ? `${shown} of ${rows.length} conversations have these` : "";
  }
  for (const box of boxes) box.addEventListener("change", apply);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());

  function tell(event) {
    const token = event.target.closest?.(".t");
    if (token === lit) return;
    lit?.classList.remove("lit");
    lit = token;
    lit?.classList.add("lit");
    says.textContent = token ? token.title : "";
  }
  document.addEventListener("pointerover", tell);
  document.addEventListener("pointerdown", tell);
  apply();
})();
