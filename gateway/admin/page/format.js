// Numbers for people. Unknown is a dash.

const NONE = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Dollars per hour, or dollars. */
export function usd(value) {
  if (!known(value)) return NONE;
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 1 || value === 0 ? 2 : 4;
  return `$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

/** A share as a percentage; with more digits where it is near to all. */
export function percent(value, digits = null) {
  if (!known(value)) return NONE;
  const own = digits ?? (value > 0.9 && value < 1 ? 2 : value === 0 || value === 1 ? 0 : 1);
  // A promise that was broken once is not a promise that was kept.
  const shown = value < 1 ? Math.min(value * 100, 100 - 10 ** -own) : value * 100;
  return `${shown.toFixed(own)} %`;
}

/** A share that was promised: as it was written. */
export function target(value) {
  return known(value) ? `${Number((value * 100).toFixed(3))} %` : NONE;
}

/** A count. */
export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en-US") : NONE;
}

/** A rate, or any number of which three digits say enough. */
export function brief(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value.toFixed(size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** A length of time. */
export function time(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 2 : 1))} s`;
  if (seconds < 5400) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.round(seconds / 86400)} days`;
}

/** A moment, given in seconds since 1970 or as text of ISO 8601, on this machine's clock. */
export function moment(at) {
  const date = new Date(typeof at === "number" ? at * 1000 : at);
  const clock = date.toLocaleTimeString("en-GB");
  return Date.now() - date.getTime() > 72e6 ? `${date.toLocaleDateString("en-GB")} ${clock}` : clock;
}

/** "1 backend", "2 backends". */
export function many(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A size range: `256–512`, or `1,024+` where the last cell has no upper edge. */
export function range(edges, index) {
  const low = edges[index].toLocaleString("en-US");
  return index === edges.length - 2 ? `${low}+` : `${low}–${edges[index + 1].toLocaleString("en-US")}`;
}
