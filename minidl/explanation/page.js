// The data are written by page.py. T: tensors, E: edges, A: arrays, all by number. `step` counts through the tour:
// the inputs, each result forward, the seed dL/dL = 1, and each result backward.
"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const T = D.tensors, E = D.edges, A = D.arrays;
const LOSS = T.findIndex((t) => t.name === D.name);
const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 760px)");
const FAULTS = {
  order: ["topological order", "Each tensor passes its gradient on as soon as a search from the loss reaches it. What arrives later is added, but never passed on."],
  accumulation: ["accumulation", "A gradient that arrives replaces the one before, instead of being added to it: only the last use counts."],
  zero_grad: ["zero_grad", "backward() had been called before, and nobody set the gradients to zero: the new ones are added to the old."],
};
const W = 164, H = 70, CONSTANT = 48;

// ---- small tools
function node(name, attributes, children, space) {
  const e = space ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) e[key] = value; else if (value !== null && value !== undefined) e.setAttribute(key, value);
  }
  e.append(...[children ?? []].flat(9).filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}
const h = (name, attributes, ...children) => node(name, attributes, children);
const s = (name, attributes, ...children) => node(name, attributes, children, true);
const minus = (text) => text.replace("-", "−");
const full = (v) => Object.is(v, -0) ? "-0" : String(v);
const short = (v) => typeof v === "number" ? minus(String(Number(v.toPrecision(4)))) : minus(String(v));
const clipped = (text, n) => text.length > n ? text.slice(0, n - 1) + "…" : text;
const count = (n, one, more) => `${n.toLocaleString("en")} ${n === 1 ? one : more ?? one + "s"}`;
const size = (a) => a.s.reduce((x, y) => x * y, 1);
const rms = (a) => !a ? 0 : a.n ? Math.sqrt(a.n.reduce((t, v) => t + (Number(v) || 0) ** 2, 0) / Math.max(a.n.length, 1)) : Math.hypot(a.m[0], a.m[1]) || 0;
// What a gradient is, in a few characters: a number, or the root mean square of many.
const gist = (a) => !a ? "" : isFew(a) ? a.n.map(short).join(", ") : `rms ${short(rms(a))}`;
const isFew = (a) => a.n && (a.n.length === 1 || a.n.length === 2);

// ---- the tour of a mode: "right" or a fault
let mode = "right", step = 0, chosen = LOSS < 0 ? T.length - 1 : LOSS, steps, knownAt, passAt, wholeAt, into, outOf, groups, wires, flows, buses;
const results = T.flatMap((t, i) => t.kind === "result" ? [i] : []);
const SEED = results.length + 1;

function plan() {
  const order = mode === "right" ? D.order : D.faults[mode].order;
  steps = [{ kind: "start" }, ...results.map((i) => ({ kind: "forward", i })), { kind: "seed", i: LOSS }, ...order.map((i) => ({ kind: "backward", i }))];
  knownAt = T.map(() => 0);
  passAt = T.map(() => Infinity);
  results.forEach((i, k) => { knownAt[i] = k + 1; });
  order.forEach((i, k) => { passAt[i] = SEED + 1 + k; });
  into = T.map(() => []);
  outOf = T.map(() => []);
  E.forEach((e, k) => { into[e.y].push(k); if (e.g !== undefined) outOf[e.x].push(k); });
  for (const list of outOf) list.sort((a, b) => passAt[E[a].y] - passAt[E[b].y] || E[a].k - E[b].k);
  wholeAt = T.map((t, i) => t.g === null ? Infinity : Math.max(SEED, ...outOf[i].map((k) => passAt[E[k].y])));
}
const flow = (k) => A[D.faults[mode]?.flows[k] ?? E[k].g];
const arrived = (i) => outOf[i].filter((k) => passAt[E[k].y] <= step);
const isWrong = (i) => mode !== "right" && D.faults[mode].g[i] !== undefined;
const final = (i) => A[D.faults[mode]?.g[i] ?? T[i].g];

// The gradient of a tensor at this step: {a: array, of as many parts as have come; whole: are these all?}
function gradient(i) {
  const t = T[i];
  if (t.g === null) return null;
  const left = mode === "zero_grad" && t.kind === "leaf";
  if (step >= wholeAt[i]) return { a: final(i), whole: true };
  const parts = arrived(i).map(flow);
  if (left) parts.unshift(A[t.g]);
  if (!parts.length) return null;
  if (mode === "accumulation") return { a: parts.at(-1), whole: false };
  if (parts.length === 1) return { a: parts[0], whole: false };
  if (!parts.every((p) => p.n && p.n.length === parts[0].n.length)) return { a: parts[0], whole: false };
  return { a: { s: parts[0].s, n: parts[0].n.map((_, j) => parts.reduce((sum, p) => sum + Number(p.n[j]), 0)) }, whole: false };
}

// ---- colours and pictures of arrays
const dark = () => document.documentElement.dataset.theme === "dark";
const MAPS = { light: [[140, 81, 10], [245, 243, 238], [1, 102, 94]], dark: [[222, 168, 88], [38, 42, 50], [72, 196, 180]] };
function colour(t) { // −1 … 1
  const [low, middle, high] = MAPS[dark() ? "dark" : "light"], end = t < 0 ? low : high, u = Math.abs(t) ** 0.8;
  return middle.map((m, k) => Math.round(m + (end[k] - m) * u));
}
// rows, columns, cells from −1 to 1 (NaN: not finite), and how to name a cell
function cells(a) {
  if (a.n) {
    const n = a.n.length, last = a.s.length ? a.s.at(-1) : 1;
    const columns = a.s.length < 2 ? (n > 48 ? Math.ceil(Math.sqrt(n)) : n) : last, finite = a.n.map(Number).filter(Number.isFinite);
    const scale = finite.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    return { rows: Math.ceil(n / columns), columns, scale, note: "", at: (k) => k < n ? (Number.isFinite(Number(a.n[k])) ? Number(a.n[k]) / (scale || 1) : NaN) : 0 };
  }
  const [rows, columns, scale, text, note] = a.h, bytes = atob(text);
  return { rows, columns, scale, note, at: (k) => { const b = bytes.charCodeAt(k), v = b > 127 ? b - 256 : b; return v === -128 ? NaN : v / 127; } };
}
function paint(canvas, a) {
  const c = cells(a), pixels = canvas.getContext("2d");
  canvas.width = c.columns; canvas.height = c.rows;
  const image = pixels.createImageData(c.columns, c.rows);
  for (let k = 0; k < c.rows * c.columns; k++) {
    const v = c.at(k), [red, green, blue] = Number.isNaN(v) ? [150, 60, 150] : colour(v);
    image.data.set([red, green, blue, 255], 4 * k);
  }
  pixels.putImageData(image, 0, 0);
  return c;
}
const pictures = new Map();
function picture(a) {
  const key = dark() ? 1 : 0, known = pictures.get(a) ?? pictures.set(a, []).get(a);
  if (!known[key]) { const canvas = h("canvas"); paint(canvas, a); known[key] = canvas.toDataURL(); }
  return known[key];
}

// ---- the drawing
let zoom = 1, extent = [0, 0], down = false; // layers go down instead of to the right, where more of the graph then fits
function centre(i) {
  const [layer, place] = D.at[i];
  return spot(layer, place);
}
function spot(layer, place) {
  return down ? [place * (W + 22), layer * (H + 54)] : [layer * (W + 76), place * (H + 24)];
}
const height = (i) => T[i].kind === "constant" ? CONSTANT : H;
// The way of an edge. A far edge branches off the lane of its input, which is drawn once (`lanes`).
function route(k) {
  const e = E[k], [x2, y2] = centre(e.y), n = into[e.y].length, from = (j) => E[j].b.length ? E[j].b.at(-1)[1] : D.at[E[j].x][1];
  const port = into[e.y].filter((j) => from(j) < from(k) || (from(j) === from(k) && E[j].k < e.k)).length; // so that they do not cross
  const spread = (port - (n - 1) / 2) * Math.min(down ? 30 : 15, (down ? 110 : 46) / n);
  return [...(e.far ? [] : [exit(e.x)]), ...e.b.slice(e.far).map(([l, p]) => spot(l, p)), down ? [x2 + spread, y2 - height(e.y) / 2] : [x2 - W / 2, y2 + spread]];
}
function exit(i) {
  const [x, y] = centre(i);
  return down ? [x, y + height(i) / 2] : [x + W / 2, y];
}
function curve(points) {
  let d = `M${points[0]}`;
  for (let j = 1; j < points.length; j++) {
    const [px, py] = points[j - 1], [qx, qy] = points[j], mx = (px + qx) / 2, my = (py + qy) / 2;
    d += down ? `C${px},${my} ${qx},${my} ${qx},${qy}` : `C${mx},${py} ${mx},${qy} ${qx},${qy}`;
  }
  return d;
}
const around = (points, pad) => [0, 1].flatMap((j) => [Math.min(...points.map((p) => p[j])) - pad, Math.max(...points.map((p) => p[j])) + pad]);

// What is drawn: parts with a box around them. Only those in sight are in the document, so that large graphs are fast.
let parts = [];
function part(layer, box, make, update) {
  const p = { layer, box, make, update, element: null, inside: false };
  parts.push(p);
  return p;
}
const bounds = () => around([...T.map((_, i) => centre(i)), ...E.flatMap((e) => e.b.map(([l, p]) => spot(l, p)))], 0);
function fitting(least) { // the zoom at which all is in sight, if it is not less than this
  const box = $("scroll"), [left, right, top, bottom] = bounds();
  extent = [right - left + W + 68, bottom - top + H + 84];
  return Math.max(least, Math.min(1.5, box.clientWidth / extent[0], box.clientHeight / extent[1]));
}
function draw() {
  down = true;
  const falling = fitting(0);
  down = narrow.matches;
  if (!down && fitting(0) < Math.min(1, falling / 1.1)) down = true;
  fitting(0);
  const svg = $("graph"), spots = T.map((_, i) => centre(i)), layers = ["lanes", "wires", "flows", "nodes", "tokens"].map((id) => s("g", { id })), [left, , top] = bounds();
  svg.setAttribute("viewBox", `${left - W / 2 - 34} ${top - H / 2 - 34} ${extent}`);
  svg.replaceChildren(...layers);
  parts = [];
  const biggest = E.reduce((m, e) => Math.max(m, e.g === undefined ? 0 : rms(A[e.g])), 0) || 1;
  wires = []; flows = []; buses = [];
  const path = (d, attributes) => () => s("path", { d, pathLength: 1, ...attributes });
  E.forEach((e, k) => {
    const points = route(k), d = curve(points), box = around(points, 10);
    wires[k] = part(layers[1], box, path(d, { class: "wire" }), () => edge(k));
    if (e.g === undefined) return; // the width: the gradient's size, over six powers of ten
    const width = 2 + 4.5 * Math.max(0, 1 + Math.log10(rms(A[e.g]) / biggest || 1e-9) / 6);
    flows[k] = part(layers[2], box, path(d, { class: "flow", "stroke-width": width.toFixed(1) }), () => edge(k));
  });
  T.forEach((t, i) => {
    const far = E.filter((e) => e.far && e.x === i), [end] = far.map((e) => e.b[1]).sort((a, b) => b[0] - a[0]);
    if (!end) return;
    const points = [exit(i), spot(...far[0].b[0]), spot(...end)];
    buses[i] = part(layers[0], around(points, 10), path(curve(points), { class: "wire" }), () => bus(i));
  });
  groups = T.map((t, i) => part(layers[3], around([spots[i]], W), () => nodeOf(i, spots[i]), () => card(i)));
}
function bus(i) {
  const on = outOf[i].some((k) => E[k].far && passAt[E[k].y] <= step);
  buses[i].element?.setAttribute("class", on ? "flow done" : "wire");
}
function nodeOf(i, at) {
  const t = T[i], tall = height(i), name = clipped(t.name, 17), room = 18 - name.length, own = t.kind === "result" && !t.name.startsWith(t.op);
  return s("g", { transform: `translate(${at})`, role: "button", "data-i": i },
    s("title", {}, t.kind === "result" ? `${t.name} = ${t.call}` : t.name), s("rect", { class: "card", x: -W / 2, y: -tall / 2, width: W, height: tall, rx: t.kind === "leaf" ? 22 : t.kind === "constant" ? 4 : 9 }),
    s("text", { class: "name", x: -W / 2 + 13, y: -tall / 2 + 21 }, name, own && room > 3 ? s("tspan", { class: "op", dx: 6 }, clipped(t.op, room)) : ""),
    t.shape === "scalar" ? "" : s("text", { class: "shape", x: W / 2 - 11, y: -tall / 2 + 40 }, t.shape),
    s("g"));
}
function look() { // take in what has come into sight, and out what has left it
  const box = $("scroll"), vb = $("graph").viewBox.baseVal, margin = T.length > 300 ? 300 : Infinity;
  const x = vb.x + box.scrollLeft / zoom, y = vb.y + box.scrollTop / zoom, x2 = x + box.clientWidth / zoom + margin, y2 = y + box.clientHeight / zoom + margin;
  for (const p of parts) {
    const inside = p.box[0] < x2 && p.box[1] > x - margin && p.box[2] < y2 && p.box[3] > y - margin;
    if (inside && !p.inside) { p.inside = true; p.layer.append(p.element = p.make()); p.update(); }
    else if (!inside && p.inside) { p.inside = false; p.element.remove(); p.element = null; }
  }
}
// One line of a card: a sign, and a number or a picture.
function line(sign, name, a, y, part, shape) {
  if (!a || !size(a)) return [];
  const few = isFew(a) && gist(a).length < 13, c = few ? null : cells(a);
  const w = few ? 0 : Math.min(W - 50 - (part ? 40 : shape ? 6.4 * shape.length : 0), Math.max(28, c.columns * 13));
  return [s("text", { class: "sign", x: -W / 2 + 13, y: y + 4 }, sign),
    few ? s("text", { class: name, x: -W / 2 + 32, y: y + 4 }, gist(a))
      : [s("image", { href: picture(a), x: -W / 2 + 32, y: y - 6, width: w, height: 12, preserveAspectRatio: "none" }), s("rect", { class: "frame", x: -W / 2 + 32, y: y - 6, width: w, height: 12 })],
    part ? s("text", { class: "part", x: W / 2 - 11, y: y + 4 }, part) : ""];
}
function card(i) {
  const group = groups[i].element;
  if (!group) return;
  const t = T[i], known = step >= knownAt[i], g = gradient(i), at = steps[step], active = at.i === i, total = outOf[i].length + t.outside.length;
  const wrong = g && (isWrong(i) && g.whole), parts = g && !g.whole && total > 1 ? `${arrived(i).length} of ${total}` : "";
  group.setAttribute("class", ["node", t.kind, known ? "known" : "dim", g?.whole ? "whole" : "", active ? "active" : "", active && at.kind !== "forward" ? "backward" : "", i === chosen ? "chosen" : "", wrong ? "wrong" : ""].join(" "));
  const middle = height(i) / 2;
  group.lastChild.replaceChildren(...[known ? line("=", "v", A[t.v], -middle + 36, "", t.shape === "scalar" ? "" : t.shape) : [], g ? line("∂", "g", g.a, -middle + 56, wrong ? "✗" : parts) : []].flat(3).filter((e) => e !== ""));
  group.setAttribute("tabindex", i === chosen ? 0 : -1);
  group.setAttribute("aria-label", [t.name, t.kind === "result" ? t.call : t.kind, t.shape, known ? `value ${gist(A[t.v])}` : "not computed yet", g ? `gradient ${gist(g.a)}${g.whole ? "" : " so far"}${wrong ? ", wrong" : ""}` : ""].filter(Boolean).join(", "));
}
function edge(k) {
  const e = E[k], at = steps[step], now = at.kind === "backward" && at.i === e.y;
  wires[k].element?.classList.toggle("active", at.kind === "forward" && at.i === e.y);
  const classes = flows[k]?.element?.classList;
  classes?.toggle("done", passAt[e.y] <= step);
  classes?.toggle("now", now);
  classes?.toggle("wrong", D.faults[mode]?.flows[k] !== undefined);
  if (e.far && buses[e.x]) bus(e.x);
}
// Numbers that travel back along the edges of the active result, and wait halfway.
let moving = 0;
function tokens(move) {
  const at = steps[step], layer = $("tokens");
  cancelAnimationFrame(moving);
  layer.replaceChildren();
  if (at.kind !== "backward") return;
  const list = into[at.i].filter((k) => flows[k]?.element).map((k) => {
    const a = flow(k), one = isFew(a), text = one ? gist(a) : "", wide = one ? text.length * 7 + 14 : Math.min(56, 8 + Math.max(18, cells(a).columns * 9));
    const g = s("g", { class: `token ${D.faults[mode]?.flows[k] !== undefined ? "wrong" : ""}` }, s("rect", { x: -wide / 2, y: -10, width: wide, height: 20, rx: one ? 10 : 5 }),
      one ? s("text", { y: 4 }, text) : size(a) ? s("image", { href: picture(a), x: 4 - wide / 2, y: -6, width: wide - 8, height: 12, preserveAspectRatio: "none" }) : "");
    layer.append(g);
    return [g, flows[k].element, flows[k].element.getTotalLength()];
  });
  const n = list.length, place = (u) => list.forEach(([g, path, length], j) => {
    const to = n > 1 ? 0.36 + 0.28 * (j % 2) : 0.5, p = path.getPointAtLength(length * (1 - u * (1 - to)));
    g.setAttribute("transform", `translate(${p.x.toFixed(1)} ${p.y.toFixed(1)})`);
  });
  if (!move) return place(1);
  const start = performance.now(), tick = (now) => {
    const u = Math.min(1, Math.max(0, (now - start) / 600));
    place(1 - (1 - u) ** 3);
    if (u < 1) moving = requestAnimationFrame(tick);
  };
  place(0);
  moving = requestAnimationFrame(tick);
}

// ---- the chosen tensor
const link = (i, name) => i < 0 ? h("span", { class: "num" }, name) : h("button", { class: "link", onclick: () => { choose(i); show(i, true); } }, T[i].name);
// A formula as in a book: fractions, and single letters in italics.
function math(text) {
  const found = [];
  for (const piece of text.split(/(d[\p{Ll}\p{Lu}ᵢⱼₙ]+\/d(?: ln )?[\p{Ll}\p{Lu}ᵢⱼₙ²]+)/u)) {
    const parts = /^d[^ ]*\/d/u.test(piece) && piece.split("/");
    if (parts) found.push(h("span", { class: "frac", "aria-label": piece }, parts.map((p) => h("span", {}, letters(p.replace(/^d/, "∂"))))));
    else found.push(...letters(piece));
  }
  return found;
}
const letters = (text) => text.split(/(?<![\p{Ll}\p{Lu}])([\p{Ll}\p{Lu}])(?![\p{Ll}\p{Lu}])/u).map((p, k) => k % 2 ? h("i", {}, p) : p);
const dL = (name) => h("span", { class: "frac", "aria-label": `dL/d ${name}` }, h("span", {}, "∂", h("i", {}, "L")), h("span", {}, "∂", h("i", {}, name)));

function numbers(a, role) { // all of them, or a picture and a summary
  if (!a) return h("p", { class: "kind" }, "none");
  if (a.n && a.n.length === 1) return h("p", { class: `single ${role}-ink` }, full(a.n[0]));
  if (!size(a)) return h("p", { class: "kind" }, "no element");
  if (!a.n && !a.h) return h("p", { class: "kind" }, "not numbers");
  const columns = a.s.length < 2 ? (a.s[0] > 4 ? 3 : a.s[0]) : a.s.at(-1);
  if (a.n && (a.n.length <= 12 || (a.n.length <= 48 && columns <= 4))) {
    const c = cells(a), rows = [], wide = Math.max(...a.n.map((v) => full(v).length)) * columns > 34;
    for (let k = 0; k < a.n.length; k += columns) {
      rows.push(h("tr", {}, a.n.slice(k, k + columns).map((v, j) => h("td", { class: "num", style: `background:rgb(${Number.isNaN(c.at(k + j)) ? colour(0) : colour(c.at(k + j) * 0.42)})` }, full(v)))));
    }
    return h("div", { class: "scroller", tabindex: wide ? 0 : null }, h("table", { class: `numbers ${wide ? "wide" : ""}` }, h("tbody", {}, rows)));
  }
  return map(a);
}
function map(a) {
  const canvas = h("canvas", { tabindex: 0, role: "img" }), c = paint(canvas, a), read = h("span", {}, "");
  const wide = Math.max(60, Math.min(340, c.columns * (c.columns > 16 ? 12 : 22))), tall = Math.max(12, Math.min(260, wide * c.rows / c.columns));
  canvas.style.width = `${wide}px`; canvas.style.height = `${tall}px`;
  const exact = (k) => a.n ? (k < a.n.length ? `[${index(a.s, k)}] ${full(a.n[k])}` : "") : `about ${short(c.at(k) * c.scale)}`;
  let at = -1;
  const tell = (k) => { at = k; read.textContent = exact(k); };
  canvas.onpointermove = (e) => { const r = canvas.getBoundingClientRect(); tell(Math.min(c.rows - 1, Math.max(0, Math.floor((e.clientY - r.top) / r.height * c.rows))) * c.columns + Math.min(c.columns - 1, Math.max(0, Math.floor((e.clientX - r.left) / r.width * c.columns)))); };
  canvas.onkeydown = (e) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -c.columns, ArrowDown: c.columns }[e.key];
    if (move) { tell(Math.min(c.rows * c.columns - 1, Math.max(0, at + move))); e.preventDefault(); e.stopPropagation(); }
  };
  const m = a.m ?? moments(a.n), names = ["mean", "spread", "least", "most"], shares = [["zero", m[4]], ["NaN", m[5]], ["infinite", m[6]]].filter(([, v]) => v);
  canvas.setAttribute("aria-label", `${a.s.join(" × ")} numbers: ${names.map((n, k) => `${n} ${short(m[k])}`).join(", ")}`);
  const ramp = [-1, -0.5, 0, 0.5, 1].map((t) => `rgb(${colour(t)})`).join();
  return h("div", { class: "map" }, canvas,
    h("div", { class: "scale" }, minus(short(-c.scale)), h("i", { style: `background:linear-gradient(90deg,${ramp})` }), short(c.scale), read),
    c.note ? h("p", { class: "kind" }, c.note) : "",
    h("dl", { class: "stats" }, names.map((n, k) => h("div", {}, h("dt", {}, n), h("dd", { title: full(m[k]) }, short(m[k])))), shares.map(([n, v]) => h("div", {}, h("dt", {}, n), h("dd", {}, `${short(100 * v)} %`)))));
}
function moments(list) {
  const x = list.map(Number), good = x.filter(Number.isFinite), mean = good.reduce((t, v) => t + v, 0) / good.length;
  const share = (test) => x.filter(test).length / x.length;
  return [mean, Math.sqrt(good.reduce((t, v) => t + (v - mean) ** 2, 0) / good.length), Math.min(...good), Math.max(...good), share((v) => v === 0), list.filter((v) => v === "NaN").length / x.length, share((v) => Math.abs(v) === Infinity)];
}
function index(shape, k) {
  const found = [];
  for (const n of shape.slice().reverse()) { found.unshift(k % n); k = Math.floor(k / n); }
  return found.join(", ");
}
const section = (title, small, ...rest) => h("section", {}, h("h3", {}, title, small ? h("small", {}, small) : ""), rest);

function panel() {
  const t = T[chosen], i = chosen, g = gradient(i), known = step >= knownAt[i], kinds = { leaf: "parameter or input", constant: "constant: no gradient is asked for", result: "result" };
  const parts = [h("h2", { id: "chosen" }, t.name), h("p", { class: "kind" }, `${kinds[t.kind]} · ${t.shape} · ${t.dtype}`)];
  if (t.kind === "result") {
    const [file, at, where, text, start, end] = t.place ?? [];
    if (t.place) parts.push(h("div", { class: "code", tabindex: 0 }, h("small", {}, `${file}, line ${at}${where === "<module>" ? "" : `, in ${where}`}`), text ? h("code", {}, text.slice(0, start), h("mark", {}, text.slice(start, end)), text.slice(end)) : ""));
    const [forward, gradients, note] = t.f;
    parts.push(section("Formula", t.call, forward ? h("div", { class: "formula" }, h("div", {}, math(forward)), gradients.map((b) => h("div", { class: "gradient-ink" }, math(b))),
      t.roles.length ? h("div", { class: "where" }, "where ", t.roles.map(([role, who], k) => [k ? ", " : "", h("i", {}, role), ` = ${who}`]), ", ", h("i", {}, "y"), ` = ${t.name}`) : "", note ? h("div", { class: "note" }, note) : "") : h("p", { class: "kind" }, "The op's docstring has none.")));
  }
  parts.push(section("Value", "", known ? numbers(A[t.v], "value") : h("p", { class: "kind" }, "not computed yet")));
  if (t.g !== null) parts.push(incoming(i, g));
  const passes = into[i].filter((k) => E[k].g !== undefined);
  if (passes.length) parts.push(section("Passes on", "", passes.map((k) => outgoing(k, passAt[i] <= step))));
  if (t.hidden) parts.push(h("p", { class: "kind" }, `${count(t.hidden, "input is", "inputs are")} not shown.`));
  if (t.check) parts.push(checked(t));
  $("panel").replaceChildren(...parts);
}
function incoming(i, g) {
  const t = T[i], came = arrived(i), all = outOf[i], wrong = isWrong(i) && g?.whole, started = step >= SEED;
  const rows = [...(started ? t.outside : []).map(([name, a]) => ["from ", -1, name, A[a], ""]), ...all.filter((k) => came.includes(k)).map((k) => ["from ", E[k].y, "", flow(k), mode === "order" && passAt[E[k].y] > passAt[i] ? "late" : ""])];
  if (mode === "zero_grad" && t.kind === "leaf") rows.unshift(["from the backward before", -1, "", A[t.g], ""]);
  const total = all.length + t.outside.length, several = rows.length > 1, shown = (g, wrong) => h("div", { id: g.whole ? "gradient" : null }, numbers(g.a, wrong ? "wrong" : "gradient"));
  const single = g && !several && size(g.a) === 1, parts = [h("div", { class: "head gradient-ink" }, dL(t.name), g ? "=" : "", single ? shown(g, wrong) : "")];
  if (i === LOSS && started) parts.push(h("p", { class: "kind" }, "where the backward pass begins: the loss changes with itself one to one"));
  if (several) {
    const shownRows = rows.length > 14 ? [...rows.slice(0, 12), null, rows.at(-1)] : rows;
    parts.push(h("ul", { class: "sum" }, shownRows.map((row, k) => { if (!row) return h("li", {}, `… and ${rows.length - 13} more …`); const [what, y, name, a, late] = row; return h("li", { class: late || (mode === "accumulation" && row !== rows.at(-1)) ? "late" : "" }, h("span", { class: "what" }, k && mode !== "accumulation" ? "+ " : "", what, y < 0 ? name : link(y), late ? " (too late to be passed on)" : ""), h("div", {}, numbers(a, "gradient"))); }),
      h("li", { class: "total" }, h("span", { class: "what" }, mode === "accumulation" ? "only the last is kept" : g.whole ? `${rows.length} meet and add` : "so far"), shown(g, wrong))));
  } else if (g) {
    parts.push(single ? "" : shown(g, wrong), rows.length ? h("p", { class: "kind" }, rows[0][0], rows[0][1] < 0 ? rows[0][2] : link(rows[0][1])) : "");
  } else parts.push(h("p", { class: "kind" }, started ? `nothing has arrived yet, of ${total}` : "comes in the backward pass"));
  if (g && !g.whole && several) parts.push(h("p", { class: "kind" }, `${rows.length} of ${total} so far`));
  if (mode === "order" && D.faults.order.used[i] !== undefined && step >= passAt[i]) parts.push(h("p", { class: "kind wrong-ink" }, `It passed on when it had only ${gist(A[D.faults.order.used[i]])}.`));
  if (wrong) parts.push(h("div", { class: "instead" }, h("p", { class: "kind" }, "✗ wrong. Right is:"), numbers(A[t.g], "gradient")));
  return section("Gradient", "", parts);
}
function outgoing(k, done) {
  const e = E[k], t = T[e.y], d = e.d === null || e.d === undefined ? null : A[e.d], one = d?.n?.length === 1 && size(A[e.g]) === 1, a = flow(k);
  const used = A[D.faults[mode]?.used[e.y] ?? t.g];
  return h("div", { class: "pass" }, "to ", link(e.x),
    !done ? h("p", { class: "kind" }, "not yet") : one ? h("div", { class: "eq" }, h("span", { class: "num" }, `${full(used.n[0])} · ${full(d.n[0])} =`), numbers(a, "gradient"))
      : [d ? h("details", { open: size(d) <= 16 ? "" : null }, h("summary", { class: "kind" }, "local derivative ", h("i", {}, `∂${t.name}/∂${T[e.x].name}`)), numbers(d, "value")) : "", h("p", { class: "kind" }, d ? "times what arrived:" : ""), numbers(a, "gradient")],
    done && e.s ? h("p", { class: "kind" }, `summed from ${e.s} to ${T[e.x].shape}: broadcasting had repeated it`) : "");
}
function checked(t) {
  const c = t.check, badge = h("span", { class: `badge ${c.ok ? "" : "bad"}` }, c.reason ? "not checked" : c.ok ? "✓ agrees" : "✗ differs");
  const rows = c.rows.map(([at, gradient, expected, kink, wrong]) => h("tr", { class: wrong ? "no" : "" }, h("td", {}, A[t.g].s.length ? `[${index(A[t.g].s, at)}]` : ""), h("td", {}, full(gradient)), h("td", {}, typeof expected === "number" ? full(Number(expected.toPrecision(9))) : expected), h("td", {}, wrong ? "✗" : kink ? "kink" : "✓")));
  return section("Finite differences", "", badge, h("p", { class: "kind" }, c.reason || c.text),
    rows.length ? h("div", { class: "scroller tall", tabindex: 0 }, h("table", { class: "check" }, h("thead", {}, h("tr", {}, ["element", "gradient", "difference", ""].map((x) => h("th", {}, x)))), h("tbody", {}, rows))) : "");
}

// ---- what happens at this step, in a sentence
function caption() {
  const at = steps[step], t = T[at.i], b = (text) => h("b", {}, text), n = (a) => h("span", { class: "num" }, gist(a)), total = results.length;
  if (at.kind === "start") return ["The inputs and parameters are given. ", b("Forward"), " computes the results, ", b("backward"), " how the loss changes with each."];
  if (at.kind === "forward") return [b(`Forward ${step} of ${total}.  `), t.name, " = ", h("span", { class: "num" }, clipped(t.call, 60)), A[t.v].n?.length === 1 ? [" = ", n(A[t.v])] : ""];
  if (at.kind === "seed") return [b("Now backward. "), "It begins at the loss: ", h("i", {}, "∂L/∂L = 1"), "."];
  const passes = into[at.i].filter((k) => E[k].g !== undefined), used = A[D.faults[mode]?.used[at.i] ?? t.g], parts = arrived(at.i).length;
  const whole = passAt[at.i] >= wholeAt[at.i];
  return [b(`Backward ${step - SEED} of ${steps.length - SEED - 1}.  `), t.name, !whole ? " does not wait for the rest. It has a gradient of " : parts > 1 && mode !== "accumulation" ? `, where ${parts} gradients met and added, has one of ` : " has a gradient of ", n(used), ", and passes ",
    passes.slice(0, 3).map((k, j) => [j ? (j === passes.length - 1 ? " and " : ", ") : "", n(flow(k)), " to ", T[E[k].x].name]), passes.length > 3 ? ` and ${passes.length - 3} more` : "", step === steps.length - 1 ? ". Done." : "."];
}
function banner() {
  const box = $("fault");
  box.hidden = mode === "right";
  if (box.hidden) return;
  const f = D.faults[mode], first = f.wrong.filter((i) => T[i].kind === "leaf").concat(f.wrong.filter((i) => T[i].kind !== "leaf")).slice(0, 5);
  box.replaceChildren(h("strong", {}, `Without ${FAULTS[mode][0]}. `), FAULTS[mode][1] + " ", h("strong", {}, f.count ? `${f.count} of ${count(f.of, "gradient")} ${f.count === 1 ? "is" : "are"} wrong: ` : "In this graph it does no harm: every tensor is used once, or in an order that happens to suit."),
    ...first.map((i) => h("button", { onclick: () => { go(steps.length - 1); choose(i); show(i, true); } }, `${T[i].name} `, h("s", {}, gist(A[f.g[i]])), ` ${gist(A[T[i].g])}`)));
}

// ---- moving about
function go(to, move) {
  const from = step;
  step = Math.max(0, Math.min(steps.length - 1, to));
  const at = steps[step], near = Math.abs(step - from) === 1, before = chosen;
  if (at.i >= 0) chosen = at.i;
  if (near) {
    const touched = new Set([before, chosen]);
    for (const i of [steps[from].i, at.i]) if (i >= 0) { touched.add(i); into[i].forEach((k) => { touched.add(E[k].x); edge(k); }); }
    touched.forEach(card);
  } else all();
  const moves = Boolean(move) && near && step > from && !still.matches;
  if (at.i >= 0) show(at.i);
  look();
  $("graph").classList.toggle("moving", moves);
  tokens(moves);
  side();
}
function all() { for (const p of parts) if (p.inside) p.update(); }
function side() {
  $("caption").replaceChildren(...[caption()].flat(9).filter((c) => c !== ""));
  const slider = $("slider");
  slider.value = step;
  slider.setAttribute("aria-valuetext", `${steps[step].kind} ${T[steps[step].i]?.name ?? ""}`);
  $("first").disabled = $("back").disabled = step === 0;
  $("last").disabled = $("next").disabled = step === steps.length - 1;
  const part = 100 * SEED / (steps.length - 1), done = 100 * step / (steps.length - 1), paint = (ink, soft, a, b) => done >= b ? `${ink} ${a}% ${b}%` : done <= a ? `${soft} ${a}% ${b}%` : `${ink} ${a}% ${done}%,${soft} ${done}% ${b}%`;
  slider.style.setProperty("--track", `linear-gradient(90deg,${paint("var(--value)", "var(--value-soft)", 0, part)},${paint("var(--gradient)", "var(--gradient-soft)", part, 100)})`);
  panel();
}
function choose(i) {
  const before = chosen;
  chosen = i;
  card(before);
  card(i);
  panel();
}
function show(i, focus) { // bring it into view
  const box = $("scroll"), vb = $("graph").viewBox.baseVal, [x, y] = centre(i), px = (x - vb.x) * zoom, py = (y - vb.y) * zoom;
  const far = (p, start, length) => p < start + length * 0.2 || p > start + length * 0.8;
  if (far(px, box.scrollLeft, box.clientWidth) || far(py, box.scrollTop, box.clientHeight)) box.scrollTo({ left: px - box.clientWidth / 2, top: py - box.clientHeight / 2, behavior: still.matches || timer || Math.abs(px - box.scrollLeft) > 3 * box.clientWidth || Math.abs(py - box.scrollTop) > 3 * box.clientHeight ? "instant" : "smooth" });
  if (focus) { look(); groups[i].element?.focus({ preventScroll: true }); if (narrow.matches) $("panel").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" }); }
}
function scale(z) {
  zoom = Math.max(0.05, Math.min(2, z));
  $("graph").setAttribute("width", extent[0] * zoom);
  $("graph").setAttribute("height", extent[1] * zoom);
  look();
}
function fit(least) {
  scale(fitting(least));
  show(steps[step].i >= 0 ? steps[step].i : 0);
}
let timer = 0;
function play(on) {
  clearInterval(timer);
  timer = 0;
  if (on) {
    if (step === steps.length - 1) go(0);
    const pace = Math.max(60, Math.min(1300, 60000 / steps.length));
    timer = setInterval(() => { go(step + 1, pace > 700); if (step === steps.length - 1) play(false); }, pace);
  }
  $("play").classList.toggle("playing", on);
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
}
function setMode(m) {
  mode = m;
  plan();
  $("slider").max = steps.length - 1;
  banner();
  go(Math.min(step, steps.length - 1));
  all();
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  if (groups) { all(); panel(); }
}
$("scroll").onscroll = () => requestAnimationFrame(look);
let width = innerWidth, sized = 0;
addEventListener("resize", () => { // not for the height, which a phone's address bar changes all the time
  requestAnimationFrame(look);
  clearTimeout(sized);
  if (innerWidth !== width) sized = setTimeout(() => { width = innerWidth; draw(); fit(0.8); tokens(false); }, 120);
});
const hand = (f) => () => { play(false); f(); };
$("first").onclick = hand(() => go(0));
$("back").onclick = hand(() => go(step - 1));
$("next").onclick = hand(() => go(step + 1, true));
$("last").onclick = hand(() => go(steps.length - 1));
$("play").onclick = () => play(!timer);
$("slider").oninput = (e) => { play(false); go(Number(e.target.value)); };
$("theme").onclick = () => setTheme(dark() ? "light" : "dark");
$("fit").onclick = () => fit(0);
$("in").onclick = () => { scale(zoom * 1.25); show(chosen); };
$("out").onclick = () => { scale(zoom / 1.25); show(chosen); };
$("graph").onclick = (e) => { const g = e.target.closest(".node"); if (g) { play(false); choose(Number(g.dataset.i)); show(chosen, true); } };
$("scroll").addEventListener("wheel", (e) => { // pinching, or Ctrl and the wheel
    if (!e.ctrlKey) return;
    e.preventDefault();
    const box = $("scroll"), r = box.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top, before = zoom;
    scale(zoom * Math.exp(-e.deltaY / 300));
    box.scrollTo({ left: (box.scrollLeft + x) * zoom / before - x, top: (box.scrollTop + y) * zoom / before - y, behavior: "instant" });
  }, { passive: false });
let held = null; // dragging the background with a mouse
$("scroll").onpointerdown = (e) => { if (e.pointerType === "mouse" && !e.target.closest(".node")) held = [e.clientX + $("scroll").scrollLeft, e.clientY + $("scroll").scrollTop]; };
addEventListener("pointermove", (e) => { if (held) $("scroll").scrollTo({ left: held[0] - e.clientX, top: held[1] - e.clientY, behavior: "instant" }); });
addEventListener("pointerup", () => { held = null; });
addEventListener("keydown", (e) => {
  const on = e.target, control = on.matches?.("input, button, summary");
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const click = (id) => { $(id).click(); e.preventDefault(); };
  if (on.matches?.("#modes input, .scroller, .code") && e.key.startsWith("Arrow")) return;
  if (e.key === "ArrowRight") click("next");
  else if (e.key === "ArrowLeft") click("back");
  else if (e.key === "Home") click("first");
  else if (e.key === "End") click("last");
  else if (e.key === " " && !control && !on.closest?.(".node")) click("play");
  else if ((e.key === "ArrowDown" || e.key === "ArrowUp") && on.id !== "slider") {
    choose((chosen + (e.key === "ArrowDown" ? 1 : T.length - 1)) % T.length);
    show(chosen, on.closest?.(".node") && !narrow.matches);
    e.preventDefault();
  } else if ((e.key === "Enter" || e.key === " ") && on.closest?.(".node")) {
    choose(Number(on.dataset.i));
    $("panel").focus();
    e.preventDefault();
  } else if (e.key === "Escape" && on.closest?.("#panel")) groups[chosen].element?.focus();
});

// ---- begin
const wanted = new URLSearchParams(location.hash.slice(1)); // #step=3&node=tanh&mode=order&theme=dark
const leaves = T.filter((t) => t.kind === "leaf").length;
$("name").textContent = D.name;
$("about").append(`${count(results.length, "result")} of ${count(leaves, "parameter or input", "parameters and inputs")}`, D.hidden ? `, ${count(D.hidden, "more tensor")} not shown` : "", D.ok === null ? "" : h("span", { class: `badge ${D.ok ? "" : "bad"}`, title: D.sentence }, D.ok ? `✓ ${count(T.filter((t) => t.check?.ok).length, "gradient")} checked` : `✗ ${D.sentence}`));
for (const m of ["right", "order", "accumulation", "zero_grad"]) {
  $("modes").append(h("label", {}, h("input", { type: "radio", name: "mode", value: m, checked: m === "right" ? "" : null, onchange: () => { play(false); setMode(m); } }), h("span", {}, m === "right" ? "nothing wrong" : `no ${FAULTS[m][0]}`)));
}
setTheme(wanted.get("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
plan();
draw();
$("slider").max = steps.length - 1;
fit(0.8);
if (wanted.get("mode") in FAULTS) { document.querySelector(`[value=${wanted.get("mode")}]`).checked = true; setMode(wanted.get("mode")); }
go(wanted.has("step") ? Number(wanted.get("step")) : 0);
if (wanted.has("step")) all();
const named = T.findIndex((t) => t.name === wanted.get("node"));
if (named >= 0) { choose(named); show(named); }
})();
