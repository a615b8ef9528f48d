"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  document.documentElement.classList.add("live");

  // Tabs: one section is shown at a time; the address remembers which.
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const panels = [...document.querySelectorAll("section[role=tabpanel]")];
  const show = (name) => {
    for (const tab of tabs) {
      const chosen = tab.dataset.panel === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const panel of panels) panel.hidden = panel.id !== name;
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      show(tab.dataset.panel);
      history.replaceState(null, "", "#" + tab.dataset.panel);
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  }
  const asked = location.hash.slice(1);
  show(panels.some((panel) => panel.id === asked) ? asked : panels[0].id);
  addEventListener("load", () => scrollTo(0, 0)); // not to the section that the address names

  // Pictures: boxes are drawn over them as the slider and the filters say.
  const slider = document.getElementById("score");
  if (!slider) return;
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const shownScore = document.getElementById("shown-score");
  const classes = document.getElementById("class");
  const kinds = document.getElementById("kind");
  const truth = document.getElementById("truth");
  const total = document.getElementById("total");
  const overlays = [...document.querySelectorAll(".frame svg")];

  const box = (parent, item, kind, size) => {
    const [x1, y1, x2, y2] = item.box;
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of [["x", x1], ["y", y1], ["width", x2 - x1], ["height", y2 - y1]])
      rect.setAttribute(name, value);
    rect.setAttribute("class", kind);
    parent.append(rect);
    if (kind === "truth") return;
    const text = document.createElementNS(SVG, "text");
    text.setAttribute("x", Math.max(x1, 0) + size * 0.2);
    text.setAttribute("y", Math.max(y1, size) - size * 0.25);
    text.setAttribute("font-size", size);
    const why = item.kind === "right" ? "" : " " + item.kind;
    text.textContent = data.classes[item.label] + " " + item.score.toFixed(2) + why;
    parent.append(text);
  };

  const draw = () => {
    const least = Number(slider.value);
    const label = classes.value === "" ? null : Number(classes.value);
    shownScore.textContent = least.toFixed(2);
    let count = 0;
    data.pictures.forEach((picture, index) => {
      const overlay = overlays[index];
      overlay.replaceChildren();
      const size = Math.max(picture.width, picture.height) / 30;
      const wanted = (item) => label === null || item.label === label;
      if (truth.checked)
        for (const item of picture.truth) if (wanted(item)) box(overlay, item, "truth", size);
      let found = 0;
      // The most confident come last, so that they lie on top.
      for (const item of [...picture.found].reverse()) {
        const group = ["right", "ignored"].includes(item.kind) ? item.kind : "wrong";
        if (item.score < least || !wanted(item)) continue;
        if (kinds.value !== "" && kinds.value !== group) continue;
        box(overlay, item, group, size);
        found += 1;
      }
      overlay.closest("figure").querySelector(".count").textContent = String(found);
      count += found;
    });
    total.textContent = String(count);
  };
  for (const control of [slider, classes, kinds, truth]) control.addEventListener("input", draw);
  draw();
})();
