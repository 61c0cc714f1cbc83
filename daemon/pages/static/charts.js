// Draws time lines with uPlot. A line with few points is drawn as columns.
"use strict";
(() => {
  const FEW = 14;
  const charts = new Map();
  const colours = () => ["--c1", "--c2", "--c3", "--c4", "--c5"].map((name) => lakegate.css(name));
  const number = (value) => (value == null ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: 4 }));
  const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

  function draw(box, data, place) {
    charts.get(box)?.destroy();
    const measure = data.measures[place];
    const isFew = data.time.length <= FEW && data.labels.length === 1;
    const all = colours();
    const axis = { stroke: lakegate.css("--muted"), grid: { stroke: lakegate.css("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const series = data.labels.map((label, n) => ({
      label: data.labels.length === 1 ? measure.name : label,
      stroke: all[n % all.length],
      fill: isFew ? all[0] : data.labels.length === 1 ? `${all[0]}22` : undefined,
      width: 2,
      points: { show: !isFew && data.time.length < 60, size: 6 },
      paths: isFew ? uPlot.paths.bars({ size: [0.6, 48], radius: 0.12 }) : undefined,
      value: (_, value) => number(value),
    }));
    const gap = data.time.length > 1 ? (data.time.at(-1) - data.time[0]) / (data.time.length - 1) : 86400;
    const ticks = (u, splits) => splits.map((s) => (data.time.length <= FEW || s % 86400 === 0 ? day(s).slice(s % 31536000 < 86400 && data.time.length > FEW ? 0 : 5) : ""));
    const options = {
      width: Math.max(box.clientWidth, 240),
      height: 220,
      cursor: { y: false, points: { size: 8 } },
      legend: { show: data.labels.length > 1, live: false },
      scales: {
        x: { time: true, range: isFew || data.time.length < 2 ? (u, low, high) => [low - gap * 0.7, high + gap * 0.7] : undefined },
        y: { range: (u, low, high) => uPlot.rangeNum(Math.min(low ?? 0, 0), (high ?? 1) || 1, { min: { soft: 0, mode: 1 }, max: { pad: 0.1, soft: 1, mode: 2 } }) },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      axes: [
        { ...axis, size: 34, ...(data.time.length <= FEW ? { splits: () => data.time } : {}), values: ticks },
        { ...axis, size: 64, values: (u, splits) => splits.map((s) => s.toLocaleString("en-US", { notation: Math.abs(s) >= 100000 ? "compact" : "standard" })) },
      ],
      series: [{ label: "date", value: (_, value) => (value == null ? "–" : day(value)) }, ...series],
      hooks: { setCursor: [(u) => tip(box, u, data, measure)] },
    };
    charts.set(box, new uPlot(options, [data.time, ...measure.series], box));
  }

  function tip(box, u, data, measure) {
    let made = box.querySelector(".tip");
    if (!made) {
      made = lakegate.node("div", { class: "tip", "aria-hidden": "true" });
      u.over.append(made);
    }
    const at = u.cursor.idx;
    made.hidden = at == null || u.cursor.left < 0;
    if (made.hidden) return;
    const lines = data.labels.map((label, n) => `${data.labels.length === 1 ? measure.name : label}: ${number(measure.series[n][at])}`);
    made.replaceChildren(lakegate.node("b", {}, day(data.time[at])), ...lines.map((text) => lakegate.node("div", {}, text)));
    const left = u.valToPos(data.time[at], "x");
    made.style.left = `${Math.min(Math.max(left, 60), u.over.clientWidth - 60)}px`;
  }

  function start(box) {
    const data = lakegate.json(box);
    let place = 0;
    if (data.measures.length > 1) {
      const buttons = data.measures.map((measure, n) => {
        const button = lakegate.node("button", { type: "button", "aria-pressed": String(n === 0) }, measure.name);
        button.addEventListener("click", () => {
          place = n;
          buttons.forEach((b, other) => b.setAttribute("aria-pressed", String(other === n)));
          draw(box, data, place);
        });
        return button;
      });
      box.append(lakegate.node("div", { class: "choices", role: "group", "aria-label": "Measure" }, ...buttons));
    }
    if (data.hidden) box.append(lakegate.node("p", { class: "faint small" }, `${data.labels.length} of ${data.labels.length + data.hidden} lines: those with most rows.`));
    draw(box, data, 0);
    box.redraw = () => draw(box, data, place);
  }

  const visible = (box) => box.isConnected && box.clientWidth > 0;
  const redrawAll = () => {
    for (const box of charts.keys()) {
      if (visible(box)) box.redraw();
      else box.stale = true;
    }
  };
  lakegate.enhancers.push((root) => {
    for (const [box, chart] of charts) {
      if (box.isConnected) continue;
      chart.destroy();
      charts.delete(box);
    }
    for (const box of root.querySelectorAll("[data-chart]")) {
      if (!visible(box)) continue;
      if (!box.redraw) start(box);
      else if (box.stale) {
        box.stale = false;
        box.redraw();
      }
    }
  });
  document.addEventListener("lakegate:theme", redrawAll);
  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(redrawAll, 120);
  });
})();
