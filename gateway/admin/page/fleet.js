// How GPUs and states of backends look wherever they are shown: by colour, and by a letter or sign.

import { h } from "./dom.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", COLORS = 8;
export const SIGNS = {
  serving: "●", full: "■", warming: "◐", resting: "▲", down: "✕", asleep: "☾", draining: "↓",
};

/** By GPU: a letter and the number of a colour, in the order of the pools. */
export function marks(pools) {
  const found = new Map();
  for (const pool of pools) {
    if (!found.has(pool.gpu)) found.set(pool.gpu, { letter: LETTERS[found.size % 26], color: found.size % COLORS });
  }
  return found;
}

/** The sign of a GPU: its letter on its colour. */
export function badge(mark) {
  return h("span", { class: `badge gpu${mark.color}`, "aria-hidden": "true" }, mark.letter);
}

/** A state, by sign and word. */
export function state(name, number = null) {
  return h("span", { class: `state ${name}` },
    h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[name]), number === null ? name : `${number} ${name}`);
}

/** A bar that is full at 1, with its text. mark: where a line stands in it. hot: red when it is full. */
export function bar(share, text, mark = null, hot = false) {
  const width = `${Math.max(0, Math.min(1, share ?? 0)) * 100}%`;
  return h("span", { class: "bar" },
    h("span", { class: `fill${hot && share > 0.95 ? " hot" : ""}`, style: { width } }),
    mark === null ? null : h("span", { class: "mark", style: { left: `${Math.max(0, Math.min(1, mark)) * 100}%` } }),
    h("span", { class: "text" }, text));
}
