// What was decided, why, and what came of it; the newest first.

import { card, h } from "./dom.js";
import { brief, count, many, moment, percent, target, time, usd } from "./format.js";

const KINDS = {
  plan: "Plan", start: "Start", stop: "Stop", looks: "Looks", backends: "Backends", scale: "Scaling",
};
const STEP = 40; // entries that are shown at first, and more at each press
const chosen = { most: STEP, kinds: new Set(Object.keys(KINDS).filter((kind) => kind !== "looks")), words: "" };

export const history = {
  title: "History",
  needs: (now) => ({ history: `${now.history} ${Math.floor(now.at_s / 10)}` }),
  view(feed, again) {
    const told = feed.views.history;
    if (!told) return h("p", { class: "empty" }, "Reading the history …");
    const words = chosen.words.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = told.decisions.filter((one) => chosen.kinds.has(one.kind) &&
      words.every((word) => JSON.stringify(one).toLowerCase().includes(word)));
    return [filter(told, again),
      h("p", { class: "note", role: "status" }, `${count(rows.length)} of ${many(told.decisions.length, "entry").replace("entrys", "entries")}`),
      h("ol", { class: "history" }, rows.slice(0, chosen.most).map(entry)),
      rows.length > chosen.most ? h("button", { type: "button", class: "more", onclick: () => { chosen.most += STEP; again(); } }, `Show ${count(Math.min(STEP, rows.length - chosen.most))} more`) : null];
  },
};

function filter(told, again) {
  const toggle = (kind) => () => {
    if (!chosen.kinds.delete(kind)) chosen.kinds.add(kind);
    again();
  };
  return h("div", { class: "controls", role: "group", "aria-label": "Filter" },
    Object.entries(KINDS).map(([kind, name]) => h("button", {
      type: "button", class: "chip", "aria-pressed": String(chosen.kinds.has(kind)), onclick: toggle(kind),
    }, `${name} ${told.decisions.filter((one) => one.kind === kind).length}`)),
    h("label", {}, "Words ", h("input", { type: "search", value: chosen.words, oninput: (event) => { chosen.words = event.target.value; again(); } })));
}

function entry(one) {
  return h("li", { class: `card entry ${one.kind}`, "data-key": `${one.at} ${one.kind} ${one.plan_id ?? one.why}` },
    h("h2", {}, h("time", { datetime: one.at }, moment(one.at)), " ", KINDS[one.kind] ?? one.kind, one.in_force ? h("span", { class: "pill good" }, "in force") : null),
    h("dl", { class: "chain" },
      step("Why", why(one)), step("Demand", demand(one)), step("Change", change(one)), step("Predicted", predicted(one)), step("What happened", happened(one))));
}

function step(name, text) {
  return text ? h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, text)) : null;
}

function why(one) {
  if (one.kind === "looks") return `${many(one.looks ?? 1, "look")} since ${moment(one.since ?? one.at)} changed nothing: ${one.why.replace(/^kept: /, "")}`;
  return one.why || (one.kind === "start" ? "the gateway started" : one.kind === "stop" ? "the gateway ended" : "");
}

function demand(one) {
  if (one.rate === null) return "";
  return one.rate_before === null ? `${brief(one.rate)} requests/s` : `${brief(one.rate_before)} → ${brief(one.rate)} requests/s`;
}

function change(one) {
  const parts = one.changes.map(([pool, before, after]) => `${pool} ${before} → ${after}`);
  if (one.usd_before !== null && one.usd !== null) {
    parts.push(usd(one.usd_before) === usd(one.usd) ? `${usd(one.usd)} an hour as before` : `${usd(one.usd_before)} → ${usd(one.usd)} an hour`);
    if (!one.changes.length) parts.unshift("the same backends, other shares");
  } else if (one.backends) {
    parts.push(Object.entries(one.backends).map(([pool, number]) => `${number} × ${pool}`).join(", ") || "no backend");
    if (one.usd !== null) parts.push(`${usd(one.usd)} an hour`);
  }
  return parts.join("; ");
}

function predicted(one) {
  if (one.usd === null) return "";
  const kept = one.attainment === null ? "no certificate yet" : `${percent(one.attainment)} kept (${target(one.target)} promised)`;
  const single = one.single_usd ? `; ${one.single_gpu} alone ${usd(one.single_usd)} an hour` : "";
  return `${kept}, ${usd(one.usd)} an hour${single}`;
}

function happened(one) {
  const told = one.happened;
  if (!told) return "";
  const until = one.in_force ? "so far " : "";
  const saved = told.usd_single ? `, one GPU type ${usd(told.usd_single)}` : "";
  return `${until}${time(told.seconds)}: ${many(told.requests, "request")}, ${told.attainment === null ? "none with a promise" : `${percent(told.attainment)} kept`}, ${count(told.refused)} refused; spent ${usd(told.usd_running)} (plan ${usd(told.usd_planned)}${saved})`;
}
