// Keeps a served page fresh: the server sends an event at each change, and the page replaces its content in place.
"use strict";
(() => {
  const banner = document.querySelector("[data-banner]");
  const SILENCE = 40000; // milliseconds without an event after which the server counts as gone
  let tag = document.body.dataset.tag; // of the facts that the page shows
  let last = Date.now();
  let busy = false;
  let again = false;

  function warn(text) {
    banner.textContent = text;
    banner.hidden = !text;
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.pathname, { headers: { accept: "text/html" }, cache: "no-cache" });
      if (answer.ok) replace(await answer.text());
      else warn(`The page cannot be read now: ${(await answer.text()).trim()}`);
    } catch {
      lost();
    }
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }

  // Only parts that differ are replaced, so that open lists, drawn graphs and the place on the page stay.
  function replace(text) {
    const next = new DOMParser().parseFromString(text, "text/html");
    tag = next.body.dataset.tag;
    const daemon = document.querySelector("[data-daemon]");
    const nextDaemon = next.querySelector("[data-daemon]");
    if (daemon.outerHTML !== nextDaemon.outerHTML) daemon.replaceWith(nextDaemon);
    warn(nextDaemon.classList.contains("off") ? "The daemon does not run: nothing is processed. Start it with lakegate run." : "");
    const [page] = document.getElementsByTagName("article");
    const [nextPage] = next.getElementsByTagName("article");
    const before = [...page.children];
    const after = [...nextPage.children];
    after.forEach((part, place) => {
      const old = before[place];
      const source = part.outerHTML;
      part.lakegateSource = source;
      if (!old) page.append(part);
      else if (old.lakegateSource !== source) {
        keepOpen(old, part);
        old.replaceWith(part);
      }
    });
    before.slice(after.length).forEach((part) => part.remove());
    lakegate.enhance(page);
  }

  function keepOpen(old, part) {
    const open = [...old.querySelectorAll("details")];
    [...part.querySelectorAll("details")].forEach((d, place) => {
      if (open[place]) d.open = open[place].open;
    });
  }

  function lost() {
    warn("No connection to lakegate ui: this page is no longer fresh.");
  }

  // The source of each part as the server sent it: scripts change the parts themselves.
  for (const part of document.getElementsByTagName("article")[0].children) part.lakegateSource = part.outerHTML;
  lakegate.enhance(document);
  warn(document.querySelector("[data-daemon]").classList.contains("off") ? "The daemon does not run: nothing is processed. Start it with lakegate run." : "");

  const events = new EventSource("/events");
  events.addEventListener("change", (event) => {
    last = Date.now();
    if (event.data === tag) return;
    refresh();
  });
  events.addEventListener("error", lost);
  events.addEventListener("open", () => {
    if (banner.textContent.startsWith("No connection")) refresh();
  });
  setInterval(() => {
    if (Date.now() - last > SILENCE) lost();
    for (const time of document.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dataset.since)) / 1000));
      time.textContent = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    }
  }, 1000);
})();
