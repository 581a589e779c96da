// Each backend: how it is and why, how fast beside its profile, and what its engine says.

import { card, h, table } from "./dom.js";
import { SIGNS, bar, marks, badge, state } from "./fleet.js";
import { brief, count, percent, time } from "./format.js";

const MANY = 100; // backends: of more the view is read less often, as it is long
const chosen = { state: "", words: "" };

export const backends = {
  title: "Backends",
  needs: (now) => ({ backends: Math.floor(now.at_s / (number(now) > MANY ? 6 : 2)) }),
  view(feed, again) {
    const told = feed.views.backends;
    if (!told) return h("p", { class: "empty" }, "Asking for the backends …");
    const rows = told.backends.filter((one) => (!chosen.state || one.state === chosen.state) &&
      `${one.name} ${one.url} ${one.pool}`.toLowerCase().includes(chosen.words.toLowerCase()));
    const found = marks(feed.now.pools);
    return [filter(told, again), starting(told), card("Backends", table(`${rows.length} of ${told.backends.length} backends`, [
      { head: "Backend", cell: (one) => [badge(found.get(told.gpus[one.pool]) ?? { letter: "?", color: 7 }), " ", one.name] },
      { head: "State", cell: (one) => state(one.state) },
      { head: "Why", wide: true, only: (one) => one.why, cell: (one) => why(one) },
      { head: "Load", cell: (one) => bar(one.load, percent(one.load, 0), null, true) },
      { head: "In flight", number: true, cell: (one) => count(one.in_flight) },
      { head: "Speed", cell: (one) => speed(one.pace) },
      { head: "Engine: runs", number: true, cell: (one) => count(one.engine?.running) },
      { head: "waits", number: true, cell: (one) => count(one.engine?.waiting) },
      { head: "KV full", number: true, cell: (one) => percent(one.engine?.kv_used, 0) },
      { head: "Prefix hits", number: true, only: (one) => one.engine?.hit_share !== null, cell: (one) => percent(one.engine?.hit_share, 0) },
      { head: "Others' load", number: true, only: (one) => one.engine?.foreign, cell: (one) => count(one.engine?.foreign) },
      { head: "Failures", wide: true, only: (one) => Object.keys(one.failures).length, cell: (one) => Object.entries(one.failures).map(([kind, n]) => `${n} ${kind}`).join(", ") },
      { head: "URL", cell: (one) => one.url },
    ], rows, (one) => one.name),
    h("p", { class: "note" }, "Speed: how long requests stay beside what the profile expects at the same load. Failures are counted since the gateway started; others' load is sequences of other clients of the engine."))];
  },
};

function number(now) {
  return now.pools.reduce((sum, pool) => sum + Object.values(pool.states).reduce((a, b) => a + b, 0), 0);
}

function filter(told, again) {
  const numbers = {};
  for (const one of told.backends) numbers[one.state] = (numbers[one.state] ?? 0) + 1;
  const pick = (name) => () => { chosen.state = chosen.state === name ? "" : name; again(); };
  return h("div", { class: "controls", role: "group", "aria-label": "Filter" },
    Object.entries(SIGNS).filter(([name]) => numbers[name] || chosen.state === name).map(([name]) =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(chosen.state === name), onclick: pick(name) }, state(name, numbers[name] ?? 0))),
    h("label", {}, "Name ", h("input", { type: "search", value: chosen.words, oninput: (event) => { chosen.words = event.target.value; again(); } })));
}

function why(one) {
  const ends = one.ends_in_s === null ? "" : `; ends in ${time(Math.max(0, one.ends_in_s))}`;
  return one.why + ends;
}

function speed(pace) {
  if (pace === null) return "not known yet";
  const kind = pace > 1.15 ? "slow" : "";
  const words = Math.abs(pace - 1) < 0.02 ? "as its profile" : pace > 1 ? `${percent(pace - 1, 0)} slower` : `${percent(1 - pace, 0)} faster`;
  return h("span", { class: kind }, words);
}

function starting(told) {
  const rows = Object.entries(told.pending).flatMap(([pool, all]) => all.map((one) => ({ pool, ...one })));
  if (!rows.length) return null;
  return card("Starting", table("Backends that were ordered and do not serve yet", [
    { head: "Pool", cell: (one) => one.pool },
    { head: "Phase", cell: (one) => one.phase },
    { head: "Backend", cell: (one) => one.backend ?? "–" },
    { head: "Since", number: true, cell: (one) => time(one.age_s) },
  ], rows));
}
