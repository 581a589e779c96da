// What the gateway tells: a stream of events, and views that are read while they are shown.
// `fetch` instead of `EventSource`, which could send no token.

const FIRST_PAUSE_MS = 500, LONGEST_PAUSE_MS = 10000, SAMPLES = 360, SILENT_MS = 8000;
const TOKEN = "cuvee-token";

function kept() {
  try { return sessionStorage.getItem(TOKEN); } catch { return null; }
}

export class Feed {
  /** changed: called when there is something new to show. */
  constructor(changed) {
    this.changed = changed;
    this.now = null; // the last event
    this.rows = []; // samples of the last hour
    this.views = {}; // by name
    this.link = "connecting"; // connecting, open, lost, locked or full
    this.token = kept();
    this.refused = false; // whether a token was, that the gateway was asked with last
    this.marks = {};
    this.asking = new Set();
  }

  /** Read for ever. */
  async run() {
    let pause = FIRST_PAUSE_MS;
    for (;;) {
      const tried = this.token;
      try {
        if (await this.#listen()) pause = FIRST_PAUSE_MS;
      } catch {
        this.#linked("lost");
      }
      if (this.link === "locked") {
        if (this.token !== tried) continue; // another one was entered meanwhile
        this.refused = Boolean(tried);
        this.changed();
        await new Promise((resume) => { this.unlock = resume; });
      } else await new Promise((resume) => setTimeout(resume, pause));
      pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
    }
  }

  /** Try again with a token. */
  enter(token) {
    this.token = token;
    try { sessionStorage.setItem(TOKEN, token); } catch { /* it lasts as long as the page */ }
    this.marks = {};
    this.unlock?.();
  }

  /** Have a view that is shown: read again when its mark is another one. */
  async want(name, mark) {
    if (this.marks[name] === mark || this.asking.has(name) || this.link !== "open") return;
    this.asking.add(name);
    try {
      const reply = await fetch(`cuvee/view/${name}`, { headers: this.#headers(), credentials: "same-origin", cache: "no-store" });
      if (reply.ok) {
        this.views[name] = await reply.json();
        this.marks[name] = mark;
        this.changed();
      } else if (reply.status === 401 || reply.status === 403) {
        this.#linked("locked");
      }
    } catch {
      // The stream notices what is wrong.
    } finally {
      this.asking.delete(name);
    }
  }

  #headers(more = {}) {
    return this.token ? { ...more, authorization: `Bearer ${this.token}` } : more;
  }

  #linked(link) {
    if (this.link === link) return;
    this.link = link;
    this.changed();
  }

  /** Read one stream to its end; whether anything came. */
  async #listen() {
    const stop = new AbortController();
    let silent = setTimeout(() => stop.abort(), SILENT_MS);
    try {
      const reply = await fetch("cuvee/events", {
        headers: this.#headers({ accept: "text/event-stream" }), credentials: "same-origin", cache: "no-store", signal: stop.signal,
      });
      if (!reply.ok) {
        await reply.body?.cancel();
        this.#linked(reply.status === 401 || reply.status === 403 ? "locked" : reply.status === 503 ? "full" : "lost");
        return false;
      }
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let held = "", heard = false;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(silent);
        silent = setTimeout(() => stop.abort(), SILENT_MS);
        const events = (held + value).split("\n\n");
        held = events.pop();
        for (const text of events) this.#hear(text);
        if (events.length) {
          heard = true;
          this.link = "open";
          this.changed();
        }
      }
      this.#linked("lost");
      return heard;
    } finally {
      clearTimeout(silent);
    }
  }

  #hear(text) {
    const [first, second] = text.split("\n", 2);
    const name = first.slice("event: ".length), data = JSON.parse(second.slice("data: ".length));
    if (name === "now") this.now = data;
    else if (name === "series") this.rows = data.rows;
    else if (name === "sample" && data && data.t > (this.rows.at(-1)?.t ?? 0)) {
      this.rows = [...this.rows, data].slice(-SAMPLES);
    }
  }
}
