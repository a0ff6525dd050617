/* The ledger's filters, copy buttons, and blocks that scroll reached by keyboard. Nothing is loaded. */
"use strict";

function scrollables() {
  const wide = element => element.scrollWidth > element.clientWidth + 1;
  for (const block of document.querySelectorAll(".highlight pre, .cell_output pre, .cell_output, .bibtex pre, div.math")) {
    if (wide(block) && !block.hasAttribute("tabindex")) {
      block.tabIndex = 0;
      block.setAttribute("role", "group");
      block.setAttribute("aria-label", block.closest(".cell_output") ? "output" : "code");
    }
  }
  for (const table of document.querySelectorAll(".cell_output table:not(.ledger)")) if (wide(table)) table.tabIndex = 0;
}

/* What the theme and Sphinx leave for readers of a screen: levels of headings, names of asides, lists that are none. */
function names() {
  const set = (selector, attribute, value) => {
    for (const element of document.querySelectorAll(selector)) element.setAttribute(attribute, value);
  };
  set("p.caption[role=heading]", "aria-level", "2");
  set("aside.sidebar-drawer", "aria-label", "the site");
  set("aside.toc-drawer", "aria-label", "on this page");
  set("dt.sig dl, dt.sig dl > dd", "role", "none");
  for (const summary of document.querySelectorAll("summary[aria-label]")) summary.removeAttribute("aria-label");
}

function copyButtons() {
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
      } catch {  // not allowed on file:// in some browsers
        const area = Object.assign(document.createElement("textarea"), { value: text });
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
        button.focus();
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 2000);
    });
  }
}

function ledger(form) {
  const table = document.querySelector("table.ledger");
  const papers = [...table.tBodies].map(body => ({
    body,
    button: body.querySelector("button"),
    claims: [...body.rows].filter(row => row.dataset.verdict).map(row => ({ row, text: row.textContent.toLowerCase() })),
    title: body.rows[0].textContent.toLowerCase(),
  }));
  const names = ["theme", "paper", "verdict", "kind", "text"];
  const count = papers.reduce((sum, paper) => sum + paper.claims.length, 0);

  function fold(paper, open) {
    paper.button.setAttribute("aria-expanded", open);
    paper.body.classList.toggle("folded", !open);
  }
  function apply() {
    const said = Object.fromEntries(names.map(name => [name, form.elements[name].value.trim()]));
    const words = said.text.toLowerCase().split(/\s+/).filter(Boolean);
    const filtered = names.some(name => said[name]);
    let shown = 0;
    for (const paper of papers) {
      const fits = (!said.theme || paper.body.dataset.theme === said.theme) && (!said.paper || paper.body.dataset.paper === said.paper);
      let here = 0;
      for (const { row, text } of paper.claims) {
        row.hidden = !(fits && (!said.verdict || row.dataset.verdict === said.verdict) && (!said.kind || row.dataset.kind === said.kind)
          && words.every(word => text.includes(word) || paper.title.includes(word)));
        here += !row.hidden;
      }
      paper.body.hidden = !here;
      if (filtered) fold(paper, true);
      shown += here;
    }
    table.classList.toggle("columns", form.elements.columns.checked);
    form.querySelector("output").textContent = `${shown} of ${count} claims`;
    const query = new URLSearchParams(names.filter(name => said[name]).map(name => [name, said[name]])).toString();
    try { history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`); } catch { /* file:// of some browsers */ }
  }
  function reveal() {
    const row = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const paper = row && papers.find(one => one.body.contains(row));
    if (paper) { fold(paper, true); row.scrollIntoView({ block: "center" }); }
  }

  const given = new URLSearchParams(location.search);
  for (const name of names) if (given.has(name)) form.elements[name].value = given.get(name);
  for (const paper of papers) paper.button.addEventListener("click", () => fold(paper, paper.body.classList.contains("folded")));
  if (matchMedia("(max-width: 63em)").matches) for (const paper of papers) fold(paper, false);
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  addEventListener("hashchange", reveal);
  apply();
  reveal();
}

document.addEventListener("DOMContentLoaded", () => {
  names();
  copyButtons();
  const form = document.querySelector("form.filters");
  if (form) ledger(form);
  scrollables();
  addEventListener("resize", scrollables);
});
