// Shows one page of the report at a time, by the fragment of the address. Without a script all pages stand in a row.
"use strict";
(() => {
  const pages = new Map([...document.querySelectorAll("article.page")].map((page) => [page.id, page]));
  const name = () => decodeURIComponent(location.hash.slice(1)) || "overview";

  function show(isFirst) {
    if (location.hash === "#main") return;
    const page = pages.get(name()) || pages.get("overview");
    for (const other of pages.values()) other.classList.toggle("is-shown", other === page);
    for (const link of document.querySelectorAll(".bar nav a")) {
      if (link.dataset.page === page.id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${page.dataset.title} · Lakegate`;
    lakegate.enhance(page);
    lakegate.showTheme();
    if (!isFirst) {
      scrollTo(0, 0);
      document.getElementById("main").focus({ preventScroll: true });
    }
  }
  addEventListener("hashchange", () => show(false));
  show(true);
})();
