// Makes elements, and changes what is shown into what is to be shown without losing the focus, what
// is open, or where it was scrolled to. Text goes in as text: never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "path", "rect", "line", "circle", "g"]);

/** An element. Attributes: `on…` are listeners, `style` an object of properties; null is left out. */
export function h(name, attributes, ...children) {
  const made = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) {
      made.addEventListener(key.slice(2), value);
      (made.heard ??= new Map()).set(key.slice(2), value);
    } else if (key === "style") {
      // Property by property: the page's policy forbids the attribute.
      for (const [property, setting] of Object.entries(value)) made.style.setProperty(property, setting);
    } else {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

/** Change the children of an element into these. */
export function show(place, ...children) {
  const wanted = document.createElement(place.tagName);
  wanted.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  morphChildren(place, wanted);
}

function morph(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether it is open is the reader's; a style is compared as a whole below.
    if (name === "open" || name === "style") continue;
    if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name !== "style" && name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style && old.style.cssText !== wanted.style.cssText) old.style.cssText = wanted.style.cssText;
  for (const [event, heard] of old.heard ?? []) old.removeEventListener(event, heard);
  for (const [event, heard] of wanted.heard ?? []) old.addEventListener(event, heard);
  old.heard = wanted.heard;
  if (wanted.hasAttribute("data-keep")) return; // somebody else draws in it
  morphChildren(old, wanted);
  if (old.tagName === "SELECT" && wanted.value !== old.value && document.activeElement !== old) old.value = wanted.value;
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName &&
    (a.nodeType !== Node.ELEMENT_NODE || a.getAttribute("data-key") === b.getAttribute("data-key"));
}

function morphChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) {
    const key = child.getAttribute("data-key");
    if (key !== null) keyed.set(key, child);
  }
  let here = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    const key = child.nodeType === Node.ELEMENT_NODE ? child.getAttribute("data-key") : null;
    const same = key === null ? null : keyed.get(key);
    if (same && same !== here && same.nodeName === child.nodeName) {
      old.insertBefore(same, here);
      morph(same, child);
    } else if (here && alike(here, child)) {
      const next = here.nextSibling;
      morph(here, child);
      here = next;
    } else {
      old.insertBefore(child, here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

/** A table. columns: {head, cell(row), number?, wide?, only?(row)}; one with `only` is there if it is
 * true of some row. key(row): names a row between two changes. */
export function table(caption, all, rows, key = null) {
  const columns = all.filter((column) => !column.only || rows.some(column.only));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col", class: kind(c) }, c.head)))),
      h("tbody", {}, rows.length
        ? rows.map((row, i) => h("tr", { "data-key": key ? key(row, i) : null }, columns.map((c, n) =>
          h(n === 0 ? "th" : "td", { scope: n === 0 ? "row" : null, class: kind(c) }, c.cell(row, i)))))
        : h("tr", {}, h("td", { colspan: columns.length, class: "empty" }, "Nothing yet.")))));
}

function kind(column) {
  return column.number ? "number" : column.wide ? "wide" : null;
}

/** What is behind a picture: closed until somebody asks. */
export function behind(name, ...children) {
  return h("details", { class: "behind", "data-key": `behind ${name}` }, h("summary", {}, name), ...children);
}

/** A part of a view with a heading. */
export function card(title, ...children) {
  return h("section", { class: "card", "data-key": `card ${title}` }, h("h2", {}, title), ...children);
}
