// Runs before the page is drawn: the theme must not flash, and a report draws one page instead of all.
"use strict";
document.documentElement.classList.add("one-page");
try {
  const theme = localStorage.getItem("lakegate-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // a page from disk may have no storage
}
