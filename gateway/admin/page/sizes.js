// The map of sizes: which GPU serves which requests, as planned, and what really comes.

import { card, h, table } from "./dom.js";
import { badge, marks } from "./fleet.js";
import { brief, count, percent, range, time } from "./format.js";

const SHOWN = 0.005; // a smaller share is not drawn
const chosen = { class: 0, cell: null, numbers: "rate" };

export const sizes = {
  title: "Map of sizes",
  needs: (now) => ({ sizes: `${now.plan.mark} ${Math.floor(now.at_s / 5)}`, plan: now.plan.mark }),
  view(feed, again) {
    const map = feed.views.sizes;
    if (!map) return h("p", { class: "empty" }, "Reading the map …");
    if (chosen.class >= map.classes.length) chosen.class = 0;
    const own = read(map);
    return [chooser(map, again), picture(map, own, again), shares(feed.now), detail(map, own, feed), figures(map, own)];
  },
};

/** The buckets of the chosen class, by their number in the grid. */
function read(map) {
  const width = map.output_edges.length - 1, cells = width * (map.input_edges.length - 1);
  const found = new Map();
  for (const [bucket, planned, real, slices, went, sample] of map.cells) {
    if (Math.floor(bucket / cells) !== chosen.class) continue;
    const at = bucket % cells;
    found.set(at, { bucket, planned, real, slices: slices.toSorted((a, b) => b[1] - a[1]), went: new Map(went), sample, input: Math.floor(at / width), output: at % width, why: map.unserved[bucket] });
  }
  return found;
}

function chooser(map, again) {
  const pick = (key) => (event) => {
    chosen[key] = key === "class" ? Number(event.target.value) : event.target.value;
    chosen.cell = null;
    again();
  };
  return h("div", { class: "controls" },
    h("label", {}, "Class ", h("select", { onchange: pick("class") }, map.classes.map((one, n) =>
      h("option", { value: n, selected: n === chosen.class }, `${one.model} · ${one.name}`)))),
    h("label", {}, "Numbers ", h("select", { onchange: pick("numbers") },
      [["rate", "requests/s: planned → real"], ["share", "share of the first GPU: planned → real"], ["none", "none"]].map(([value, text]) =>
        h("option", { value, selected: value === chosen.numbers }, text)))));
}

/** Slices of one cell by GPU, the largest first. */
function byGpu(map, cell) {
  const sums = new Map();
  for (const [pool, share] of cell.slices) {
    const { gpu } = map.pools[pool];
    sums.set(gpu, (sums.get(gpu) ?? 0) + share);
  }
  return [...sums].filter(([, share]) => share >= SHOWN).sort((a, b) => b[1] - a[1]);
}

/** The planned share of a GPU, and the real one where some requests were sampled. */
function compared(map, cell, first) {
  if (!first) return "";
  const real = [...cell.went].filter(([pool]) => map.pools[pool].gpu === first[0]).reduce((sum, [, share]) => sum + share, 0);
  return `${percent(first[1], 0)}→${cell.sample ? percent(real, 0) : "–"}`;
}

function picture(map, own, again) {
  const found = marks(map.pools);
  const rows = map.input_edges.length - 1, columns = map.output_edges.length - 1;
  const lines = [];
  for (let row = rows - 1; row >= 0; row--) {
    lines.push(h("tr", { "data-key": row }, h("th", { scope: "row" }, range(map.input_edges, row)),
      Array.from({ length: columns }, (_, column) => h("td", {}, square(map, found, own.get(row * columns + column), row * columns + column, again)))));
  }
  const gpus = [...found].filter(([gpu]) => map.pools.some((pool) => pool.gpu === gpu && pool.model === map.classes[chosen.class].model));
  return card("Which GPU serves which size",
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Map of sizes" },
      h("table", { class: "map" },
        h("caption", {}, "Up: input tokens. To the right: output tokens. Each field is one bucket; press it for more."),
        h("tbody", {}, lines),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "in / out"), Array.from({ length: columns }, (_, n) => h("th", { scope: "col" }, range(map.output_edges, n))))))),
    h("p", { class: "legend" }, gpus.map(([gpu, mark]) => h("span", {}, badge(mark), ` ${gpu}`)),
      h("span", {}, h("span", { class: "badge hatch", "aria-hidden": "true" }), " split between two"),
      h("span", {}, h("span", { class: "badge faint", "aria-hidden": "true" }, "A"), " no request is planned"),
      h("span", {}, h("span", { class: "badge none", "aria-hidden": "true" }, "!"), " no GPU can keep the promise")));
}

function square(map, found, cell, at, again) {
  if (!cell) return h("span", { class: "field none" });
  const gpus = byGpu(map, cell), [first, second] = gpus.map(([gpu]) => found.get(gpu));
  const style = {};
  if (first) {
    style["--first"] = `var(--gpu${first.color})`;
    if (second) style["--second"] = `var(--gpu${second.color})`;
  }
  const faint = cell.planned <= 0 && cell.real <= 0;
  const kind = !first || cell.why ? "none" : second ? "split" : "whole";
  const told = gpus.map(([gpu, share]) => `${gpu} ${percent(share, 0)}`).join(", ") || "no GPU";
  const press = () => { chosen.cell = at; again(); };
  return h("button", {
    type: "button", class: `field ${kind} gpu${first?.color ?? ""} ${faint ? "faint" : ""}`, style, onclick: press, "aria-pressed": String(chosen.cell === at),
    "aria-label": `input ${range(map.input_edges, cell.input)}, output ${range(map.output_edges, cell.output)}: ${told}; ${brief(cell.planned)} requests a second planned, ${brief(cell.real)} real`,
  },
  h("b", {}, !first ? "!" : second ? `${first.letter}+${second.letter}` : first.letter),
  chosen.numbers === "none" || faint ? null : h("small", {}, chosen.numbers === "share" ? compared(map, cell, gpus[0]) : `${brief(cell.planned)}→${brief(cell.real)}`));
}

function detail(map, own, feed) {
  const cell = chosen.cell === null ? null : own.get(chosen.cell);
  if (!cell) return null;
  const cost = feed.views.plan?.costs.find((one) => one.bucket === cell.bucket);
  const planned = new Map(cell.slices), pools = [...new Set([...planned.keys(), ...cell.went.keys()])];
  return card(`Input ${range(map.input_edges, cell.input)}, output ${range(map.output_edges, cell.output)}`,
    h("p", { role: "status" }, `Planned ${brief(cell.planned)} requests/s, real ${brief(cell.real)} requests/s in the last ${time(map.seconds)}.`,
      cost ? ` Costs $${brief(cost.usd_per_hour)} an hour.` : "", cell.why ? ` No promise for a part of it: ${cell.why}.` : ""),
    table(`Shares of this bucket; real ones of ${count(cell.sample)} sampled requests of the last five minutes`, [
      { head: "Pool", cell: (pool) => map.pools[pool].name },
      { head: "GPU", cell: (pool) => map.pools[pool].gpu },
      { head: "Planned", number: true, cell: (pool) => percent(planned.get(pool) ?? 0) },
      { head: "Real", number: true, cell: (pool) => (cell.sample ? percent(cell.went.get(pool) ?? 0) : "–") },
    ], pools, (pool) => map.pools[pool].name));
}

function shares(now) {
  return card("Planned against real shares",
    table(`Shares of the model's requests; real in the last ${time(now.recent_s)}`, [
      { head: "Pool", cell: (pool) => pool.name },
      { head: "Model", cell: (pool) => pool.model },
      { head: "Planned", number: true, cell: (pool) => percent(pool.share, 1) },
      { head: "Real", number: true, cell: (pool) => percent(pool.real_share, 1) },
    ], now.pools, (pool) => pool.name),
    h("p", { class: "note" }, "They differ where a backend is full, rests or is down, where a conversation stays with its cache, and where sizes differ from the plan's demand."));
}

function listed(map, shares) {
  return shares.map(([pool, share]) => `${map.pools[pool].name} ${percent(share, 0)}`).join(", ");
}

function figures(map, own) {
  const cells = [...own.values()].filter((cell) => cell.planned > 0 || cell.real > 0).sort((a, b) => b.planned - a.planned);
  return h("details", { class: "behind", "data-key": "figures" }, h("summary", {}, `All ${count(cells.length)} buckets with requests: figures`),
    table("Buckets with requests, the most first", [
      { head: "Input", cell: (cell) => range(map.input_edges, cell.input) },
      { head: "Output", cell: (cell) => range(map.output_edges, cell.output) },
      { head: "Planned/s", number: true, cell: (cell) => brief(cell.planned) },
      { head: "Real/s", number: true, cell: (cell) => brief(cell.real) },
      { head: "Pools: planned", wide: true, cell: (cell) => listed(map, cell.slices) || cell.why || "none" },
      { head: "really", wide: true, cell: (cell) => listed(map, [...cell.went].sort((a, b) => b[1] - a[1])) },
    ], cells, (cell) => cell.bucket));
}
