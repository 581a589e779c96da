// Single requests: the last ones and the slowest ones, each with its receipt in words.

import { card, h } from "./dom.js";
import { count, moment, percent, time } from "./format.js";

const MET = { yes: "kept", no: "missed", refused: "refused", unknown: "not known", "": "no promise" };
const chosen = { list: "last", words: "", open: null };

export const requests = {
  title: "Requests",
  needs: (now) => ({ requests: Math.floor(now.at_s / 2) }),
  view(feed, again) {
    const told = feed.views.requests;
    if (!told) return h("p", { class: "empty" }, "Asking for the last requests …");
    // The one that is open stays, also when later ones have taken its place.
    const all = told[chosen.list], open = chosen.open;
    const shown = open && !all.some((one) => key(one) === key(open)) ? [open, ...all] : all;
    const words = chosen.words.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = shown.filter((one) => one === open || words.every((word) => JSON.stringify(one).toLowerCase().includes(word)));
    return [filter(told, again), list(rows, again),
      h("p", { class: "note" }, "A sample: each worker tells of some of its last requests, and of the slowest between. Time is beside what the class promises for an answer of this length. Of prompts and answers nothing is kept; a caller is a digest of its key.")];
  },
};

function filter(told, again) {
  const pick = (name) => () => { chosen.list = name; chosen.open = null; again(); };
  return h("div", { class: "controls", role: "group", "aria-label": "Filter" },
    [["last", `Last ${told.last.length}`], ["slowest", `Slowest ${told.slowest.length} of the hour`]].map(([name, text]) =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(chosen.list === name), onclick: pick(name) }, text)),
    h("label", {}, "Words ", h("input", { type: "search", value: chosen.words, placeholder: "id, pool, status …", oninput: (event) => { chosen.words = event.target.value; again(); } })));
}

function list(rows, again) {
  return card(chosen.list === "last" ? "The last requests" : "The slowest requests",
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests" },
      h("table", { class: "requests" },
        h("caption", {}, "Press a request for its receipt in words."),
        h("thead", {}, h("tr", {}, ["Request", "Came", "End", "Promise"].map((head) => h("th", { scope: "col" }, head)),
          ["Time beside promised", "First token", "In", "Out"].map((head) => h("th", { scope: "col", class: "number" }, head)),
          h("th", { scope: "col" }, "Backend"), h("th", { scope: "col" }, "Caller"))),
        h("tbody", {}, rows.length ? rows.map((one) => row(one, again)) : h("tr", {}, h("td", { colspan: 10, class: "empty" }, "Nothing yet."))))));
}

function key(one) {
  return `${one.id} ${one.at_s}`;
}

/** The end of an id: workers begin theirs alike. */
function short(id) {
  return id.length > 12 ? `…${id.slice(-10)}` : id || "without an id";
}

function row(one, again) {
  const open = chosen.open !== null && key(chosen.open) === key(one);
  const press = () => { chosen.open = open ? null : one; again(); };
  return [
    h("tr", { "data-key": key(one), class: one.met === "no" || one.met === "refused" || one.status >= 500 ? "late" : null },
      h("th", { scope: "row" }, h("button", { type: "button", class: "link", "aria-expanded": String(open), onclick: press }, short(one.id))),
      h("td", {}, moment(one.at_s)),
      h("td", {}, `${one.status} ${one.outcome}`),
      h("td", {}, MET[one.met] ?? one.met),
      h("td", { class: "number" }, percent(one.slowness, 0)),
      h("td", { class: "number" }, time(one.ttft_s)),
      h("td", { class: "number" }, count(one.input_tokens)),
      h("td", { class: "number" }, count(one.output_tokens)),
      h("td", {}, one.backend ?? "none"),
      h("td", {}, one.caller.slice(0, 8) || "without a key")),
    open ? h("tr", { "data-key": `${key(one)} words`, class: "words" }, h("td", { colspan: 10 },
      h("dl", { class: "facts" }, [["Request", one.id], ...one.words].map(([name, text]) =>
        h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, text)))))) : null,
  ];
}
