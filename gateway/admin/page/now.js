// How the fleet is now, whether the promises are kept, and what it costs.

import { chart, draw, rolling } from "./charts.js";
import { card, h, table } from "./dom.js";
import { badge, bar, marks, state } from "./fleet.js";
import { brief, count, many, percent, target, time, usd } from "./format.js";

const MINUTE = 6; // samples
const COLORS = ["--line0", "--line1", "--line2", "--line3", "--line4", "--line5"];

export const now = {
  title: "Now",
  needs: () => ({}),
  view(feed) {
    const told = feed.now;
    return [tiles(feed), alarms(told), fleet(told), promises(feed), dollars(feed), load(feed), cluster(told)];
  },
  drawn(feed) {
    const kept = classes(feed.rows), rows = attained(feed.rows);
    const least = Math.min(0.9, ...rows.flatMap((row) => kept.map((name) => row[name] ?? 1)));
    draw("Promise kept", rows, kept.map((name, n) => ({
      label: name, value: (row) => row[name] ?? null, text: (value) => percent(value), color: COLORS[n % COLORS.length],
    })), { low: Math.max(0, Math.floor(least * 20) / 20), high: 1, text: (value) => `${Number((value * 100).toFixed(1))} %` });
    draw("Dollars an hour", feed.rows, money(), { text: (value) => `$${value}` });
    draw("Requests", feed.rows, flow(), { text: (value) => brief(value) });
    draw("Waiting and refused", feed.rows, crowd(), { text: (value) => brief(value) });
  },
};

function tile(name, value, note, tone = "") {
  return h("div", { class: `tile ${tone}`, "data-key": name }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), h("span", {}, note)));
}

/** Requests a second in the last minute; of all gateways, where there are several. */
function rate(feed) {
  const last = feed.rows.slice(-MINUTE);
  if (feed.now.cluster || !last.length) return feed.now.rate;
  return last.reduce((sum, row) => sum + row.rate, 0) / last.length;
}

function tiles(feed) {
  const told = feed.now;
  const promised = told.classes.filter((one) => one.target !== null && one.attainment !== null);
  const worst = promised.toSorted((a, b) => (a.attainment - a.target) - (b.attainment - b.target))[0];
  const { planned, running, single, single_gpu: gpu } = told.dollars;
  const refused = Object.values(told.refusals).reduce((a, b) => a + b, 0);
  const minutes = `in ${time(told.recent_s)}`;
  return h("dl", { class: "tiles" },
    worst
      ? tile("Promise kept", percent(worst.attainment), `${target(worst.target)} promised · ${worst.name}`, worst.attainment < worst.target ? "bad" : "good")
      : tile("Promise kept", "–", "no request with a promise yet"),
    tile("Cost", `${usd(running)}/h`, `plan ${usd(planned)}/h`),
    single === null || !single
      ? tile("Best single type", "–", "not known")
      : tile("Best single type", `${usd(single)}/h`, `${gpu}: ${beside(planned, single)}`, planned < single ? "good" : ""),
    tile("Requests", `${brief(rate(feed))}/s`, `planned for ${brief(told.plan.rate)}/s`),
    tile("In flight", count(told.in_flight), `${count(told.queued)} wait in the queue`, told.queued ? "warn" : ""),
    tile("Refused", count(refused), minutes, refused ? "warn" : ""));
}

function beside(planned, single) {
  const saved = 1 - planned / single;
  return saved > 0.005 ? `the plan saves ${percent(saved, 0)}` : saved < -0.005 ? "costs less than the plan" : "costs as much as the plan";
}

/** Backends that run and that the plan does without. */
function spare(told) {
  const more = told.pools.filter((pool) => !pool.shared) // GPUs that pools share are paid for, whoever is awake
    .map((pool) => [pool.running - (pool.states.asleep ?? 0) - pool.planned, pool]).filter(([number]) => number > 0);
  const cost = more.reduce((sum, [number, pool]) => sum + number * pool.usd_each, 0);
  return more.length && cost > 0
    ? `The plan does without ${more.map(([number, pool]) => `${number} × ${pool.name}`).join(", ")}: ${usd(cost)} an hour.` : null;
}

function alarms(told) {
  const lines = [];
  if (told.status !== "ready") lines.push(`The gateway is not ready: ${told.status}.`);
  for (const one of told.classes) {
    if (one.target !== null && one.attainment !== null && one.attainment < one.target) {
      lines.push(`${one.name}: ${percent(one.attainment)} kept of ${target(one.target)} promised (${count(one.missed)} late, ${count(one.refused)} refused, in ${time(told.recent_s)}).`);
    }
  }
  for (const loop of told.loops) if (loop.error) lines.push(`The loop “${loop.name}” fails: ${loop.error}`);
  for (const pool of told.pools) {
    const lacking = pool.planned - (pool.states.serving ?? 0) - (pool.states.full ?? 0) - (pool.states.warming ?? 0);
    for (const name of ["down", "resting"]) {
      const number = pool.states[name] ?? 0;
      if (number) lines.push(`${pool.name}: ${number} of ${many(Object.values(pool.states).reduce((a, b) => a + b, 0), "backend")} ${number === 1 ? "is" : "are"} ${name}; “Backends” says why.`);
    }
    if (lacking > 0) lines.push(`${pool.name}: ${many(lacking, "backend")} of the plan ${lacking === 1 ? "does" : "do"} not serve.`);
    if (pool.pace > 1.15) lines.push(`${pool.name}: engines take ${percent(pool.pace - 1, 0)} longer than their profile says.`);
  }
  if (told.plan.unserved > 0) lines.push(`The plan can promise nothing to ${brief(told.plan.unserved)} requests/s; “Plan” says why.`);
  for (const line of told.scaling?.limits ?? []) lines.push(line);
  if (told.cluster && !told.cluster.up) lines.push(`Redis does not answer: ${told.cluster.error}`);
  if (told.cluster?.problem) lines.push(told.cluster.problem);
  const more = spare(told);
  return [
    lines.length
      ? card("Look at this", h("ul", { class: "alarms" }, lines.map((line) => h("li", { "data-key": line }, line))))
      : h("p", { class: "calm", "data-key": "calm" }, "Nothing needs you: promises are kept, all loops run, and the plan has its backends."),
    more ? h("p", { class: "hint", "data-key": "hint" }, more) : null,
  ];
}

function fleet(told) {
  const found = marks(told.pools);
  return card("Fleet",
    table("Pools and their backends", [
      { head: "Pool", cell: (pool) => [badge(found.get(pool.gpu)), " ", pool.name] },
      { head: "GPU", cell: (pool) => pool.gpu },
      { head: "Backends", wide: true, cell: (pool) => {
        const states = Object.entries(pool.states);
        return states.length ? states.map(([name, number]) => state(name, number)) : "none";
      } },
      { head: "Plan", number: true, cell: (pool) => count(pool.planned) },
      { head: "Load", cell: (pool) => (pool.load === null ? "–" : bar(pool.load, percent(pool.load, 0), pool.planned_load, true)) },
      { head: "Share: planned", number: true, cell: (pool) => percent(pool.share, 1) },
      { head: "real", number: true, cell: (pool) => percent(pool.real_share, 1) },
      { head: "In flight", number: true, cell: (pool) => count(pool.in_flight) },
      { head: "Each", number: true, cell: (pool) => (pool.shared ? `shares ${pool.shared}` : `${usd(pool.usd_each)}/h`) },
    ], told.pools, (pool) => pool.name),
    h("p", { class: "note" }, "Load: 100 % is as much as keeps the promise. The line in the bar is what the plan counts with. Shares are of the model's requests."));
}

function classes(rows) {
  const names = new Set(rows.flatMap((row) => Object.entries(row.classes).filter(([, n]) => n.some(Boolean)).map(([name]) => name)));
  return [...names].sort();
}

/** By sample, the share of each class that was kept in the last minute. */
function attained(rows) {
  return rolling(rows, MINUTE, (some) => {
    const sums = {};
    for (const row of some) {
      for (const [name, [kept, missed, refused]] of Object.entries(row.classes)) {
        const own = (sums[name] ??= [0, 0]);
        own[0] += kept;
        own[1] += kept + missed + refused;
      }
    }
    return Object.fromEntries(Object.entries(sums).filter(([, own]) => own[1]).map(([name, own]) => [name, own[0] / own[1]]));
  });
}

function promises(feed) {
  const { classes: told, recent_s: seconds } = feed.now;
  const names = classes(feed.rows);
  return card("Promise kept, by class",
    chart("Promise kept", "Share of requests that kept their promise, by class, over the last hour",
      names.map((name) => ({ label: name, value: (row) => row[name], text: (value) => percent(value) })), attained(feed.rows)),
    table(`Classes in the last ${time(seconds)}`, [
      { head: "Class", cell: (one) => one.name },
      { head: "Promise", wide: true, cell: (one) => (one.target === null ? "none"
        : `${target(one.target)} begin in ${time(one.ttft_s)} and go on at ${time(one.tpot_s)} a token`) },
      { head: "Kept", number: true, cell: (one) => percent(one.attainment) },
      { head: "Late", number: true, cell: (one) => count(one.missed) },
      { head: "Refused", number: true, cell: (one) => count(one.refused) },
      { head: "Requests/s", number: true, cell: (one) => brief(one.rate) },
    ], told, (one) => one.name));
}

function money() {
  return [
    { label: "backends that run", value: (row) => row.running, text: usd, color: "--line0", area: true },
    { label: "plan", value: (row) => row.planned, text: usd, color: "--line2" },
    { label: "best single GPU type", value: (row) => row.single, text: usd, color: "--line1" },
  ];
}

function dollars(feed) {
  return card("Dollars an hour",
    chart("Dollars an hour", "Cost of the backends that run, of the plan, and of the best fleet of one GPU type, over the last hour", money(), feed.rows));
}

function flow() {
  return [{ label: "requests/s", value: (row) => row.rate, text: brief, color: "--line0", area: true },
    { label: "in flight", value: (row) => row.in_flight, text: brief, color: "--line3" }];
}

function crowd() {
  return [{ label: "waiting", value: (row) => row.queued, text: brief, color: "--line1", area: true },
    { label: "refused", value: (row) => row.refused, text: brief, color: "--line5" }];
}

function load(feed) {
  const refusals = Object.entries(feed.now.refusals);
  return [
    card("Requests", chart("Requests", "Requests per second and sequences in flight over the last hour", flow(), feed.rows)),
    card("Queue and refusals",
      chart("Waiting and refused", "Requests that waited and that were refused, over the last hour", crowd(), feed.rows),
      table(`Refused in the last ${time(feed.now.recent_s)}`, [
        { head: "Why", wide: true, cell: ([why]) => why },
        { head: "Requests", number: true, cell: ([, number]) => count(number) },
      ], refusals, ([why]) => why)),
  ];
}

function cluster(told) {
  const loops = card("Loops of the control plane", table("When each last did its work", [
    { head: "Loop", cell: (loop) => loop.name },
    { head: "Last good", number: true, cell: (loop) => (loop.age_s === null ? "not yet" : `${time(loop.age_s)} ago`) },
    { head: "Failures", number: true, cell: (loop) => count(loop.failures) },
    { head: "Says", wide: true, cell: (loop) => loop.error ?? "" },
  ], told.loops, (loop) => loop.name));
  if (!told.cluster) return loops;
  const { gateway, gateways, leader, leads } = told.cluster;
  const all = [[gateway, 0], ...Object.entries(gateways)];
  return [card("Gateways",
    h("p", {}, leads ? "This gateway plans for all." : `${leader || "Nobody that is known"} plans for all; this gateway follows.`),
    table("Gateways that serve this fleet", [
      { head: "Gateway", wide: true, cell: ([name]) => (name === gateway ? `${name} (this one)` : name) },
      { head: "Heard", number: true, cell: ([name, age]) => (name === gateway ? "–" : `${time(age)} ago`) },
    ], all, ([name]) => name)), loops];
}
