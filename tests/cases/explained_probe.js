// Runs inside a page under test (see tests/test_explanation_page.py): uses it as a person does, and reports what it says.
"use strict";
const $ = (id) => document.getElementById(id);
const key = (name, at = document.body) => at.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
const nodes = () => [...document.querySelectorAll("#nodes [data-i]")].sort((a, b) => a.dataset.i - b.dataset.i);
const click = (element) => element.dispatchEvent(new MouseEvent("click", { bubbles: true }));

// The numbers that a box shows, as they are printed.
function read(box) {
  if (!box) return null;
  const single = box.querySelector(".single");
  if (single) return [single.textContent];
  const cells = [...box.querySelectorAll("td.num")];
  if (cells.length) return cells.map((c) => c.textContent);
  const canvas = box.querySelector("canvas");
  if (!canvas) return [];
  const said = box.querySelector(".scale span"), found = [];
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    key("ArrowRight", canvas);
    if (said.textContent.startsWith("about")) return { summary: [...box.querySelectorAll("dd[title]")].map((d) => d.title) };
    if (said.textContent) found.push(said.textContent.replace(/^.*\] /, ""));
  }
  return found;
}
const section = (title) => [...document.querySelectorAll("#panel section")].find((s) => s.querySelector("h3").firstChild.textContent === title);
const lastNumbers = (box) => { const all = box.querySelectorAll(".single, table.numbers, .map"), last = all[all.length - 1]; return last ? read(last.parentElement.lastElementChild === last ? wrap(last) : wrap(last)) : null; };
function wrap(element) { return { querySelector: (s) => element.matches(s) ? element : element.querySelector(s), querySelectorAll: (s) => element.querySelectorAll(s) }; }

function look() { // at every tensor, one after the other
  const found = {};
  for (const node of nodes()) {
    click(node);
    const name = $("chosen").textContent;
    found[name] = {
      value: read(section("Value")), gradient: read($("gradient")), label: node.getAttribute("aria-label"), wrong: node.classList.contains("wrong"),
      code: document.querySelector("#panel .code code")?.textContent, mark: document.querySelector("#panel mark")?.textContent, file: document.querySelector("#panel .code small")?.textContent,
      equations: [...document.querySelectorAll("#panel .eq > .num:first-child")].map((e) => e.textContent),
      formula: document.querySelector("#panel .formula")?.textContent, check: [...document.querySelectorAll("#panel .check tbody tr")].map((r) => [...r.children].map((c) => c.textContent)),
      passes: [...document.querySelectorAll("#panel .pass")].map((p) => [p.querySelector(".link, .num").textContent, lastNumbers(p)]),
    };
  }
  return found;
}

function probe() {
  const out = { errors: window.errors, requests: performance.getEntriesByType("resource").map((r) => r.name), title: document.title };
  const captions = [$("caption").textContent], known = [nodes().filter((n) => n.classList.contains("dim")).length];
  while (!$("next").disabled) {
    click($("next"));
    captions.push($("caption").textContent);
    known.push(nodes().filter((n) => n.classList.contains("dim")).length);
  }
  Object.assign(out, { captions, dim: known, tokens: document.querySelectorAll("#tokens .token").length, tensors: look(), faults: {} });
  for (const input of document.querySelectorAll("#modes input")) {
    input.click();
    click($("last"));
    out.faults[input.value] = { said: $("fault").textContent, hidden: $("fault").hidden, tensors: look() };
  }
  document.querySelector("#modes input").click();
  const at = () => Number($("slider").value), keys = {};
  for (const name of ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowLeft"]) { key(name); keys[Object.keys(keys).length + " " + name] = at(); }
  const before = $("chosen").textContent;
  key("ArrowDown");
  keys.next = $("chosen").textContent !== before;
  key("ArrowUp");
  keys.back = $("chosen").textContent === before;
  const tab = nodes().filter((n) => n.getAttribute("tabindex") === "0");
  keys.stops = tab.length;
  tab[0].focus();
  key("Enter", tab[0]);
  keys.panel = document.activeElement.id;
  key("Escape", $("panel"));
  keys.returned = document.activeElement === tab[0];
  key(" ");
  keys.plays = $("play").getAttribute("aria-label");
  key(" ");
  keys.pauses = $("play").getAttribute("aria-label");
  out.keys = keys;
  out.unnamed = [...document.querySelectorAll("button, input, canvas, [role=button]")].filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.closest("label")?.textContent)).map((e) => e.outerHTML);
  const theme = document.documentElement.dataset.theme;
  click($("theme"));
  out.themes = [theme, document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor];
  out.live = $("caption").getAttribute("aria-live");
  out.width = [document.documentElement.scrollWidth, innerWidth];
  out.hacked = window.hacked ?? null;
  return out;
}
