// What both the report and the live pages need: theme, copy, ages of times, filter, menu. Charts and graphs register
// themselves in `enhancers`; `enhance` runs all of them over a part of the page that has become visible.
"use strict";
const lakegate = {
  enhancers: [],
  enhance(root) {
    for (const run of this.enhancers) run(root);
  },
  json(root) {
    return JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  },
  css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  },
  node(name, attributes = {}, ...children) {
    const isShape = ["svg", "g", "rect", "text", "path", "title"].includes(name);
    const made = isShape ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
    made.append(...children);
    return made;
  },
};

// ---- theme: automatic, light, dark

(() => {
  const names = { "": "automatic", light: "light", dark: "dark" };
  const order = ["", "light", "dark"];
  let theme = "";
  try {
    theme = localStorage.getItem("lakegate-theme") || "";
  } catch {
    // a page from disk may have no storage
  }
  const show = () => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    for (const name of document.querySelectorAll("[data-theme-name]")) name.textContent = `Theme: ${names[theme]}`;
  };
  show();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-button]")) return;
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem("lakegate-theme", theme);
    } catch {
      // the choice lasts as long as the page
    }
    show();
    document.dispatchEvent(new Event("lakegate:theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("lakegate:theme")));
  lakegate.showTheme = show;
})();

// ---- copy a command

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = lakegate.node("textarea", { class: "sr" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("is-done");
  setTimeout(() => button.classList.remove("is-done"), 1200);
});

// ---- the menu of a narrow screen

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-menu]");
  const header = document.querySelector(".bar");
  if (button) {
    button.setAttribute("aria-expanded", String(header.classList.toggle("is-open")));
  } else if (event.target.closest(".bar nav a")) {
    header.classList.remove("is-open");
    document.querySelector("[data-menu]").setAttribute("aria-expanded", "false");
  }
});

// ---- times: the age beside the time, in words

lakegate.age = (seconds) => {
  if (seconds < 60) return "just now";
  for (const [size, unit] of [[86400, "day"], [3600, "h"], [60, "min"]]) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${unit === "day" && count > 1 ? "s" : ""} ago`;
  }
  return "";
};
lakegate.enhancers.push((root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const local = new Date(time.dateTime).toLocaleString();
    if (time.hasAttribute("data-age") && seconds >= 0) {
      const shown = time.nextElementSibling?.classList.contains("age") ? time.nextElementSibling : lakegate.node("small", { class: "age" });
      shown.textContent = lakegate.age(seconds);
      time.after(shown);
    }
    time.title = seconds >= 0 ? `${lakegate.age(seconds)}, ${local} in your zone` : `${local} in your zone`;
  }
});

// ---- parts that scroll: the arrow keys move them, so the keyboard must reach them

lakegate.reachable = (part) => {
  if (part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1) part.tabIndex = 0;
  else part.removeAttribute("tabindex");
};
lakegate.enhancers.push((root) => {
  for (const part of root.querySelectorAll(".scroll")) lakegate.reachable(part);
});

// ---- filter of a table: a row with its reason below stays together

lakegate.enhancers.push((root) => {
  for (const input of root.querySelectorAll("[data-filter]")) {
    if (input.dataset.ready) continue;
    input.dataset.ready = "1";
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...input.closest("section").querySelectorAll("tbody tr")];
      rows.forEach((row, place) => {
        if (row.classList.contains("reason")) return;
        const reason = rows[place + 1]?.classList.contains("reason") ? rows[place + 1] : null;
        const text = `${row.textContent} ${reason ? reason.textContent : ""}`.toLowerCase();
        const hidden = !words.every((word) => text.includes(word));
        row.hidden = hidden;
        if (reason) reason.hidden = hidden;
      });
    });
  }
});
