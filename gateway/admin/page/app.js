// The page: which view is shown, and when.

import { backends } from "./backends.js";
import { bill } from "./bill.js";
import { redraw } from "./charts.js";
import { h, show } from "./dom.js";
import { Feed } from "./feed.js";
import { usd } from "./format.js";
import { history } from "./history.js";
import { now } from "./now.js";
import { plan } from "./plan.js";
import { requests } from "./requests.js";
import { sizes } from "./sizes.js";

// Each view: {title, needs(now): marks by name, view(feed, again): elements, drawn?(feed)}.
const VIEWS = { now, sizes, plan, history, requests, backends, bill };
const TEXTS = {
  connecting: "Connecting …", lost: "The gateway cannot be reached. Trying again …",
  full: "Too many pages are open. Trying again …", locked: "The gateway wants a token.",
};
const place = document.getElementById("main");
const feed = new Feed(() => schedule());
let shown = null, due = false;

function chosen() {
  const name = location.hash.slice(1).split("/")[0];
  return name in VIEWS ? name : "now";
}

/** Show what is new with the next picture of the screen; nothing while nobody looks. */
function schedule() {
  if (due || document.hidden) return;
  due = true;
  // Also where the browser paints rarely: what is read aloud is not painted.
  const timer = setTimeout(update, 200);
  requestAnimationFrame(() => { clearTimeout(timer); update(); });
}

function update() {
  if (!due) return;
  due = false;
  const name = chosen(), view = VIEWS[name];
  header(name);
  if (feed.link === "locked") {
    show(place, lock());
    return;
  }
  if (!feed.now) {
    show(place, h("p", { class: "empty" }, TEXTS[feed.link] ?? "Reading from the gateway …"));
    return;
  }
  for (const [wanted, mark] of Object.entries(view.needs(feed.now))) feed.want(wanted, mark);
  let shows;
  try {
    shows = view.view(feed, schedule);
  } catch (error) { // say so, and go on with the other views
    shows = h("p", { class: "banner", role: "alert" }, `This view cannot be shown: ${error.message}`);
    console.error(error);
  }
  const lost = feed.link === "open" ? null : h("p", { class: "banner", "data-key": "lost" }, `${TEXTS[feed.link]} What is shown is old.`);
  show(place, lost, h("h1", { "data-key": `title ${name}`, tabindex: "-1" }, view.title), h("div", { class: `view ${name}`, "data-key": name }, shows));
  view.drawn?.(feed);
  if (shown === null) document.querySelector("nav a[aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  else if (shown !== name) {
    window.scrollTo(0, 0); // as another page would be
    place.querySelector("h1").focus({ preventScroll: true });
    document.querySelector("nav a[aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  }
  shown = name;
}

function header(name) {
  const told = feed.now;
  const good = feed.link === "open" && told?.status === "ready";
  show(document.getElementById("status"),
    h("span", { class: `pill ${good ? "good" : "bad"}` }, feed.link === "open" ? told?.status ?? "…" : feed.link),
    told ? h("span", { class: "cost" }, `${usd(told.dollars.running)}/h`) : null);
  show(document.getElementById("nav"), Object.entries(VIEWS).map(([own, view]) =>
    h("a", { href: `#${own}`, "data-key": own, "aria-current": own === name ? "page" : null }, view.title)));
  document.title = `${VIEWS[name].title} · Cuvée`;
}

function lock() {
  const enter = (event) => {
    event.preventDefault();
    feed.enter(event.target.elements.token.value.trim());
  };
  return h("form", { class: "card lock", onsubmit: enter, "data-key": "lock" },
    h("h1", {}, "A token is needed"),
    feed.refused ? h("p", { class: "banner", role: "alert" }, "The gateway refuses this token.") : null,
    h("label", { for: "token" }, "Token of the admin port. It is kept until this tab is closed."),
    h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true }),
    h("button", { type: "submit" }, "Continue"));
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("cuvee-theme", root.dataset.theme); } catch { /* for this visit only */ }
  label();
  redraw();
  schedule();
}

function label() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").textContent = dark ? "Light" : "Dark";
  document.getElementById("theme").setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
}

document.getElementById("theme").addEventListener("click", theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { label(); redraw(); schedule(); });
addEventListener("hashchange", schedule);
addEventListener("resize", schedule);
document.addEventListener("visibilitychange", schedule);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment names the view
  place.focus();
});
label();
feed.run();
schedule();
