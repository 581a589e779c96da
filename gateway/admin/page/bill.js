// What it has cost: by hour, by model and by caller.

import { card, h, table } from "./dom.js";
import { bar } from "./fleet.js";
import { count, moment, percent, time, usd } from "./format.js";

export const bill = {
  title: "Bill",
  needs: (now) => ({ bill: Math.floor(now.at_s / 10) }),
  view(feed) {
    const told = feed.views.bill;
    if (!told) return h("p", { class: "empty" }, "Reading the bill …");
    return [total(told), hours(told), parts("By model", "model", told.models), parts("By caller", "caller", told.callers, true)];
  },
};

function total(told) {
  const { usd_running: spent, usd_planned: planned, usd_single: single, usd_idle: idle } = told.total;
  const tile = (name, value, note, tone = "") => h("div", { class: `tile ${tone}`, "data-key": name },
    h("dt", {}, name), h("dd", {}, h("strong", {}, value), h("span", {}, note)));
  return h("dl", { class: "tiles" },
    tile("Spent", usd(spent), `${count(told.complete)} full hours and this one`),
    tile("The plans' cost", usd(planned), "if only their backends had run"),
    single === null ? tile("One GPU type", "–", "not known for all hours")
      : tile("One GPU type", usd(single), spent <= single ? `${usd(single - spent)} were saved` : `${usd(spent - single)} less than was spent`, spent <= single ? "good" : ""),
    tile("Without requests", usd(idle), "of pools that had none"));
}

function hours(told) {
  const most = Math.max(0.000001, ...told.hours.map((one) => Math.max(one.usd_running, one.usd_single ?? 0)));
  return card("By hour", table("Hours, the newest first", [
    { head: "Until", cell: (one, n) => (n === 0 ? `${moment(one.to)} (now)` : moment(one.to)) },
    { head: "Spent", cell: (one) => bar(one.usd_running / most, usd(one.usd_running), one.usd_single === null ? null : one.usd_single / most) },
    { head: "Plan", number: true, cell: (one) => usd(one.usd_planned) },
    { head: "One GPU type", number: true, cell: (one) => usd(one.usd_single) },
    { head: "Requests", number: true, cell: (one) => count(one.requests) },
    { head: "Kept", number: true, cell: (one) => percent(one.attainment) },
    { head: "Refused", number: true, cell: (one) => count(one.refused) },
    { head: "Length", number: true, cell: (one) => time(one.seconds) },
  ], told.hours, (one) => one.to), h("p", { class: "note" }, "The line in a bar is what the best fleet of one GPU type would have cost."));
}

function parts(title, noun, rows, hits = false) {
  const all = rows.reduce((sum, one) => sum + one.usd, 0);
  return card(title, table(`${title}, in the hours above`, [
    { head: noun === "model" ? "Model" : "Caller", cell: (one) => one.name || "without a key" },
    { head: "Cost", number: true, cell: (one) => usd(one.usd) },
    { head: "Of all", cell: (one) => bar(all ? one.usd / all : 0, percent(all ? one.usd / all : 0, 1)) },
    { head: "Requests", number: true, cell: (one) => count(one.requests) },
    { head: "Input tokens", number: true, cell: (one) => count(one.input_tokens) },
    { head: "Output tokens", number: true, cell: (one) => count(one.output_tokens) },
    { head: "$ per million", number: true, cell: (one) => usd((one.usd / Math.max(1, one.input_tokens + one.output_tokens)) * 1e6) },
    ...(hits ? [{ head: "Prefix hits", number: true, cell: (one) => percent(one.cached, 0) }] : []),
  ], rows, (one) => one.name),
  hits ? h("p", { class: "note" }, "A caller is shown by a digest of its key, never by the key. Cost: of a backend's time, the part that the caller's requests were in it.") : null);
}
