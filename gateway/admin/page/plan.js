// Why the plan is as it is, what is proven of it, and what comes next.

import { card, h, table } from "./dom.js";
import { badge, bar, marks } from "./fleet.js";
import { brief, count, many, moment, percent, target, time, usd } from "./format.js";

export const plan = {
  title: "Plan",
  needs: (now) => ({ plan: now.plan.mark }),
  view(feed) {
    const told = feed.views.plan;
    if (!told) return h("p", { class: "empty" }, "Reading the plan …");
    return [reason(told), proof(told), next(feed.now), pools(told, feed.now), singles(told), costs(told), unserved(told)];
  },
};

function facts(...rows) {
  return h("dl", { class: "facts" }, rows.filter(Boolean).map(([name, value, note]) =>
    h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value, note ? h("span", { class: "note" }, ` ${note}`) : null))));
}

function reason(told) {
  const counts = Object.entries(told.backends).filter(([, n]) => n).map(([name, n]) => `${n} × ${name}`).join(", ");
  return card("The plan in force",
    h("p", { class: "lead" }, `${counts || "No backend"} for ${brief(told.requests_per_s)} requests/s, ${usd(told.usd_per_hour)} an hour.`),
    facts(
      ["Why", told.reason],
      ["Name", told.plan_id],
      ["Kind", told.objective === "provision" ? "how many backends, and who serves what" : "who serves what, with the backends there are"],
      told.switching_usd_per_hour ? ["Change", `${usd(told.switching_usd_per_hour)}/h`, "for starting and stopping, spread over the horizon"] : null));
}

function proof(told) {
  const bound = told.lower_bound_usd_per_hour, own = told.usd_per_hour, proven = told.certificate;
  return card("What is proven",
    facts(
      ["Cost", `${usd(own)}/h`],
      ["Bound", `${usd(bound)}/h`, bound > 0 ? `no plan costs less; this one is ${percent(own / bound - 1, 1)} above it, for whole backends and for peaks` : ""],
      ["Gap", percent(told.gap, 2), "what the solver left open of its own program"],
      ["Solved in", time(told.solve_s)],
      told.safe_usd_per_hour !== null ? ["Safe plan", `${usd(told.safe_usd_per_hour)}/h`, "what the program alone would have bought; playing fleets found a cheaper one"] : null,
      proven
        ? ["Certificate", proven.holds ? "holds" : "does not hold", `${percent(proven.attainment)} kept in ${many(proven.seeds, "rehearsal")} of ${count(proven.requests)} requests (95 % interval ${percent(proven.low)} to ${percent(proven.high)}; promised ${target(proven.target)})`]
        : ["Certificate", "none yet", "it is searched for beside the looks, or the plan is too new"],
      proven ? ["Worst minute", percent(proven.worst_window ?? proven.worst), "of any rehearsal"] : null,
      proven ? ["Margin", percent(proven.margin, 0), "engines were played that much slower, with that much more demand"] : null));
}

function next(now) {
  const looks = now.looks, scaling = now.scaling;
  const moves = Object.entries(scaling?.pools ?? {});
  return card("What comes next",
    h("p", {}, looks
      ? `${many(looks[1], "look")} at the demand since ${moment(looks[2])} changed nothing: ${looks[0].replace(/^kept: /, "")}.`
      : "No look at the demand since the plan was made."),
    scaling ? [
      h("p", {}, `The forecast reaches ${time(scaling.horizon_s)} ahead, until a start is over: up to ${brief(scaling.peak_requests_per_s)} requests/s.`,
        scaling.dry_run ? " Dry run: nothing is ordered." : "", scaling.leads ? "" : " Another gateway decides."),
      table("Pools that are scaled", [
        { head: "Pool", cell: ([name]) => name },
        { head: "There", number: true, cell: ([, pool]) => count(pool.there) },
        { head: "Needed", number: true, cell: ([, pool]) => count(pool.needed) },
        { head: "Wished", number: true, cell: ([, pool]) => count(pool.wish) },
        { head: "Asleep", number: true, only: ([, pool]) => pool.sleep, cell: ([, pool]) => (pool.sleep ? `${count(pool.sleep.asleep_now)} of ${count(pool.sleep.asleep)}` : "–") },
        { head: "Starting", number: true, cell: ([, pool]) => count(pool.pending.length) },
        { head: "Starts in", number: true, cell: ([, pool]) => time(pool.startup.mean_s) },
        { head: "Why", wide: true, cell: ([, pool]) => [pool.why, pool.held, pool.idle].filter(Boolean).join("; ") },
      ], moves, ([name]) => name),
    ] : h("p", { class: "note" }, "No pool is scaled by this gateway. Where the plan wants other backends, people start and stop them."));
}

function pools(told, now) {
  const found = marks(now.pools);
  return card("Backends by pool", table("Backends and load that the plan counts with", [
    { head: "Pool", cell: (name) => [badge(found.get(told.gpus[name]) ?? { letter: "?", color: 7 }), " ", name] },
    { head: "GPU", cell: (name) => told.gpus[name] },
    { head: "Backends", number: true, cell: (name) => count(told.backends[name]) },
    { head: "Mean load", cell: (name) => (told.backends[name] ? bar(told.load[name] / told.backends[name], percent(told.load[name] / told.backends[name], 0), null, true) : "–") },
    { head: "For peaks", number: true, cell: (name) => `${brief(told.tail[name])} backends` },
    { head: "Prefix hits", number: true, cell: (name) => percent(told.cached_share[name] ?? 0, 0) },
    { head: "$/h", number: true, cell: (name) => usd(told.backends[name] * told.prices[name]) },
  ], told.pools, (name) => name));
}

function beside(more) {
  return Math.abs(more) < 0.005 ? "the same" : `${more > 0 ? "+" : "−"}${percent(Math.abs(more), 0)}`;
}

function singles(told) {
  const rows = Object.entries(told.single_types).sort((a, b) => a[1].usd_per_hour - b[1].usd_per_hour);
  return card("One GPU type instead", table("The cheapest fleet of one GPU type for the same demand", [
    { head: "GPU", cell: ([gpu]) => gpu },
    { head: "$/h", number: true, cell: ([, one]) => usd(one.usd_per_hour) },
    { head: "Beside the plan", number: true, cell: ([, one]) => (one.feasible && told.usd_per_hour ? beside(one.usd_per_hour / told.usd_per_hour - 1) : "–") },
    { head: "Backends", wide: true, cell: ([, one]) => Object.entries(one.backends).filter(([, n]) => n).map(([name, n]) => `${n} × ${name}`).join(", ") },
    { head: "Serves all", wide: true, cell: ([, one]) => (one.feasible ? `yes${one.certified ? ", played" : ""}` : `no, ${percent(one.unserved_share)} not: ${one.why ?? ""}`) },
  ], rows, ([gpu]) => gpu));
}

function costs(told) {
  const total = told.costs.reduce((sum, one) => sum + one.usd_per_hour, 0);
  const columns = [
    { head: "Bucket", cell: (one) => one.what },
    { head: "Requests/s", number: true, cell: (one) => brief(one.rate) },
    { head: "$/h", number: true, cell: (one) => usd(one.usd_per_hour) },
    { head: "Of the bill", cell: (one) => bar(total ? one.usd_per_hour / total : 0, percent(total ? one.usd_per_hour / total : 0, 1)) },
    { head: "$ per 1,000", number: true, cell: (one) => usd((one.usd_per_hour / (one.rate * 3600)) * 1000) },
    { head: "Pools", wide: true, cell: (one) => Object.entries(one.pools).map(([name, share]) => `${name} ${percent(share, 0)}`).join(", ") },
  ];
  return card("Cost by bucket", table("The ten that cost most", columns, told.costs.slice(0, 10), (one) => one.bucket),
    h("details", { class: "behind", "data-key": "all" }, h("summary", {}, `All ${count(told.costs.length)} buckets: figures`),
      table("All buckets with planned requests", columns, told.costs, (one) => one.bucket)));
}

function unserved(told) {
  if (!told.unserved.length) return null;
  return card("Without a promise",
    told.relaxation ? h("p", {}, `To lift first: ${told.relaxation.limit}; the plan would then cost ${usd(told.relaxation.usd_per_hour)} an hour.`) : null,
    table("Buckets that the plan cannot serve within their promise", [
      { head: "Bucket", cell: (one) => one.what },
      { head: "Requests/s", number: true, cell: (one) => brief(one.rate) },
      { head: "Why", wide: true, cell: (one) => one.why },
    ], told.unserved, (one) => one.bucket));
}
