// Lines over time, by uPlot; each with its figures in a table behind it.

import { behind, h, table } from "./dom.js";
import { moment } from "./format.js";

const HEIGHT = 190, TABLE_EVERY = 6, DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const made = new Map(); // by name: what is drawn, for which lines, and in which colours

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The place of a chart. What stands in it is drawn by `draw`. */
export function chart(name, label, columns, rows) {
  return [
    h("div", { class: "chart", "data-keep": "", "data-key": `chart ${name}`, "data-chart": name, role: "img", "aria-label": label }),
    behind(`${name}: figures`, table(`${name}, one row a minute`, [
      { head: "time", cell: (row) => moment(row.t) },
      ...columns.map((column) => ({ head: column.label, number: true, cell: (row) => column.text(column.value(row)) })),
    ], rows.filter((_, i) => (rows.length - 1 - i) % TABLE_EVERY === 0).reverse())),
  ];
}

/** Draw a chart where its place is shown. series: {label, value(row), text(value), color, dash?, area?}. */
export function draw(name, rows, series, { low = 0, high = null, text = String } = {}) {
  const place = document.querySelector(`[data-chart="${CSS.escape(name)}"]`);
  if (!place) return;
  const width = place.clientWidth;
  if (!width) return;
  if (rows.length < 2) { // one sample is no line
    made.get(name)?.plot.destroy();
    made.delete(name);
    if (!place.firstChild?.data) place.replaceChildren("The first samples come 20 seconds after the start.");
    return;
  }
  const data = [rows.map((row) => row.t), ...series.map((one) => rows.map(one.value))];
  const look = JSON.stringify([series.map((one) => [one.label, one.color]), style("--ink"), low, high]);
  let own = made.get(name);
  if (!own || own.look !== look || own.place !== place || own.width !== width) {
    own?.plot.destroy();
    place.replaceChildren();
    own = { look, place, width, plot: new window.uPlot(options(width, series, low, high, text), data, place) };
    made.set(name, own);
  } else {
    own.plot.setData(data);
  }
}

function options(width, series, low, high, text) {
  const ink = style("--quiet"), grid = { stroke: style("--line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  return {
    width, height: HEIGHT, legend: { live: true }, padding: [10, 28, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, min, max) => bounds(min, max, low, high) } },
    axes: [
      { stroke: ink, grid, ticks: grid, font, space: 80, values: clock },
      { stroke: ink, grid, ticks: grid, font, size: 62, values: (_, values) => values.map(text) },
    ],
    series: [
      { label: "time", value: (_, at) => (at === null ? "–" : moment(at)) },
      ...series.map((one, n) => ({
        label: one.label, stroke: style(one.color), width: 2, dash: DASHES[(one.dash ?? n) % DASHES.length],
        fill: one.area ? `${style(one.color)}22` : undefined, spanGaps: false, points: { show: false },
        value: (_, value) => (value === null || value === undefined ? "–" : one.text(value)),
      })),
    ],
  };
}

/** Times below the axis; with seconds while it is short. */
function clock(plot, values) {
  const short = plot.scales.x.max - plot.scales.x.min < 600;
  return values.map((value) => new Date(value * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(short ? { second: "2-digit" } : {}) }));
}

function bounds(min, max, low, high) {
  if (high !== null) return [Math.min(low, min ?? low), high];
  const top = max ?? 1;
  return [0, top > 0 ? top * 1.12 : 1];
}

/** Values over the last samples: their sum by `of`, so that a line of few requests is no comb. */
export function rolling(rows, width, of) {
  return rows.map((row, i) => ({ t: row.t, ...of(rows.slice(Math.max(0, i - width + 1), i + 1)) }));
}

/** Forget what was drawn: the colours are others. */
export function redraw() {
  for (const own of made.values()) own.look = "";
}
