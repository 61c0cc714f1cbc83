// Draws graphs of tables: dagre places the boxes, SVG shows them. The list beside a graph has the same content.
"use strict";
(() => {
  const HEIGHT = 44;
  const FONTS = { title: "560 12.5px system-ui, sans-serif", sub: "11px system-ui, sans-serif" };
  const pen = document.createElement("canvas").getContext("2d");
  const widthOf = (text, font) => {
    pen.font = FONTS[font];
    return pen.measureText(text).width;
  };
  const short = (text, font, room) => {
    let shown = text;
    while (shown.length > 1 && widthOf(shown, font) > room) shown = `${shown.slice(0, -2)}…`;
    return shown;
  };

  // boxes: {id, layer, title, sub, link, tone, chosen}; edges: [from, to, strong]
  function draw(box, boxes, edges, onChoose) {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "LR", nodesep: 10, ranksep: 30, marginx: 8, marginy: 8 });
    graph.setDefaultEdgeLabel(() => ({}));
    const widest = Math.max(...boxes.map((b) => Math.max(widthOf(b.title, "title"), widthOf(b.sub || "", "sub")) + 34), 90);
    const width = Math.min(widest, 240);
    for (const b of boxes) graph.setNode(b.id, { width, height: HEIGHT });
    for (const [from, to] of edges) graph.setEdge(from, to);
    dagre.layout(graph);
    const size = graph.graph();
    // A wide graph shrinks a little; beyond that its box scrolls.
    const scale = Math.min(Math.max((box.clientWidth - 20) / size.width, 0.76), 1);
    const svg = lakegate.node("svg", { viewBox: `0 0 ${size.width} ${size.height}`, width: size.width * scale, height: size.height * scale, "aria-hidden": "true" });
    for (const [from, to, strong] of edges) {
      const points = graph.edge(from, to).points;
      const [start, ...rest] = points;
      const end = points.at(-1);
      const middle = (start.x + end.x) / 2;
      const way = points.length <= 3 ? `M${start.x},${start.y}C${middle},${start.y} ${middle},${end.y} ${end.x},${end.y}` : `M${start.x},${start.y}` + curve(rest);
      svg.append(lakegate.node("path", { class: `edge${strong ? " strong" : ""}`, d: way }));
    }
    for (const b of boxes) {
      const at = graph.node(b.id);
      const x = at.x - width / 2;
      const y = at.y - HEIGHT / 2;
      const shapes = [
        lakegate.node("rect", { class: "box", x, y, width, height: HEIGHT, rx: 7 }),
        lakegate.node("rect", { class: `side ${b.layer}`, x: x + 5, y: y + 7, width: 4, height: HEIGHT - 14, rx: 2 }),
        lakegate.node("text", { class: "title", x: x + 17, y: y + (b.sub ? 19 : 27) }, short(b.title, "title", width - 26)),
      ];
      if (b.sub) shapes.push(lakegate.node("text", { class: "sub", x: x + 17, y: y + 34 }, short(b.sub, "sub", width - 26)));
      shapes.push(lakegate.node("title", {}, `${b.title}${b.sub ? `: ${b.sub}` : ""}`));
      // No link: the list beside the graph has one for each table, for keyboards and screen readers.
      const group = lakegate.node("g");
      group.setAttribute("class", `node ${b.tone || ""}${b.chosen ? " chosen" : ""}`);
      group.append(...shapes);
      if (onChoose) group.addEventListener("click", () => onChoose(b.id));
      else if (b.link) group.addEventListener("click", () => location.assign(b.link));
      svg.append(group);
    }
    box.replaceChildren(svg);
    lakegate.reachable(box);
  }

  function curve(points) {
    let way = "";
    for (let n = 0; n < points.length - 1; n += 1) {
      const to = n === points.length - 2 ? points[n + 1] : { x: (points[n].x + points[n + 1].x) / 2, y: (points[n].y + points[n + 1].y) / 2 };
      way += `Q${points[n].x},${points[n].y} ${to.x},${to.y}`;
    }
    return way;
  }

  // ---- the work of a batch: boxes come from the rows of the list below

  lakegate.enhancers.push((root) => {
    for (const box of root.querySelectorAll("[data-work]")) {
      if (box.firstChild || !box.clientWidth) continue;
      const rows = [...box.parentElement.querySelectorAll(".work tbody tr")];
      const boxes = rows.map((row, place) => {
        const name = row.children[0].firstChild.textContent;
        return {
          id: String(place),
          layer: name.split(".")[0],
          title: name.replace(/^files\./, "files "),
          sub: `${row.children[1].textContent} rows · ${row.children[2].textContent}`,
          link: row.querySelector("a")?.getAttribute("href") || undefined,
          tone: "f" in row.dataset ? "bad" : "",
        };
      });
      const shown = boxes.filter((b) => ["files", "bronze", "silver", "gold"].includes(b.layer));
      const there = new Set(shown.map((b) => b.id));
      const edges = rows.flatMap((row, place) => (row.dataset.u || "").split(" ").filter((u) => there.has(u)).map((u) => [u, String(place), false]));
      rows.forEach((row, place) => {
        const [start, length] = row.dataset.g.split(" ").map(Number);
        const bar = lakegate.node("rect", { class: boxes[place].layer, x: start, width: Math.max(length, 0.8), height: 8 });
        row.children[3].replaceChildren(lakegate.node("svg", { class: "gantt", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, bar));
      });
      draw(box, shown, edges);
    }
  });

  // ---- the lineage of a source

  function lineage(page) {
    const data = lakegate.json(page);
    const select = page.querySelector("[data-table]");
    const depth = page.querySelector("[data-depth]");
    const side = page.querySelector("[data-side]");
    const places = new Map(data.tables.map((t, n) => [t.name, n]));
    const state = { table: places.get(page.dataset.first) ?? 0, column: null };
    const up = new Map();
    const down = new Map();
    for (const [from, , to] of data.edges) {
      if (!up.has(to)) up.set(to, new Set());
      if (!down.has(from)) down.set(from, new Set());
      up.get(to).add(from);
      down.get(from).add(to);
    }

    const around = (start, next, steps) => {
      const found = new Set([start]);
      let edge = [start];
      for (let n = 0; n < steps && edge.length; n += 1) {
        edge = edge.flatMap((t) => [...(next.get(t) || [])]).filter((t) => !found.has(t));
        edge.forEach((t) => found.add(t));
      }
      return found;
    };

    // Every edge on the way from the files to a column, as places in data.edges.
    const wayTo = (table, column) => {
      const found = new Set();
      const waiting = [[table, column]];
      const seen = new Set();
      while (waiting.length) {
        const [t, c] = waiting.pop();
        if (seen.has(`${t} ${c}`)) continue;
        seen.add(`${t} ${c}`);
        data.edges.forEach(([from, x, to, y], n) => {
          if (to !== t || y !== c) return;
          found.add(n);
          if (x !== data.rows) waiting.push([from, x]);
        });
      }
      return found;
    };

    function show() {
      select.selectedIndex = state.table;
      const way = state.column ? wayTo(state.table, state.column) : null;
      const steps = Number(depth.value);
      const tables = way
        ? new Set([state.table, ...[...way].flatMap((n) => [data.edges[n][0], data.edges[n][2]])])
        : new Set([...around(state.table, up, steps), ...around(state.table, down, steps)]);
      const columns = new Map();
      for (const n of way || []) {
        const [from, x] = data.edges[n];
        if (x) columns.set(from, new Set([...(columns.get(from) || []), x]));
      }
      const boxes = [...tables].sort((a, b) => a - b).map((t) => ({
        id: String(t),
        layer: data.tables[t].layer,
        title: data.tables[t].name,
        sub: t === state.table && state.column ? state.column : way ? [...(columns.get(t) || ["rows"])].join(", ") : `${data.tables[t].columns.length} columns`,
        chosen: t === state.table,
      }));
      const pairs = new Map();
      data.edges.forEach(([from, , to], n) => {
        if (tables.has(from) && tables.has(to) && from !== to && (!way || way.has(n))) pairs.set(`${from} ${to}`, [String(from), String(to), Boolean(way)]);
      });
      draw(page.querySelector("[data-graph]"), boxes, [...pairs.values()], (id) => choose(Number(id), null));
      list(way);
    }

    function list(way) {
      const table = data.tables[state.table];
      const heading = lakegate.node("h2", {}, table.name);
      const about = lakegate.node("p", { class: "about" }, table.about);
      if (table.link) about.append(" ", lakegate.node("a", { href: table.link }, "Page of the table"));
      const parts = [heading, about];
      if (way) parts.push(...steps(way));
      const buttons = table.columns.map(([name, type]) => {
        const button = lakegate.node("button", { type: "button", class: "column", "aria-pressed": String(state.column === name) }, lakegate.node("span", { class: "mono" }, name), lakegate.node("small", {}, type));
        button.addEventListener("click", () => choose(state.table, state.column === name ? null : name));
        return button;
      });
      parts.push(lakegate.node("h3", {}, `${table.columns.length} columns`), lakegate.node("div", { class: "columns" }, ...buttons));
      for (const [title, next] of [["Computed from", up], ["Used by", down]]) {
        const names = [...(next.get(state.table) || [])].filter((t) => t !== state.table);
        if (!names.length) continue;
        const items = names.map((t) => {
          const button = lakegate.node("button", { type: "button", class: "column" }, data.tables[t].name);
          button.addEventListener("click", () => choose(t, null));
          return button;
        });
        parts.push(lakegate.node("h3", {}, title), lakegate.node("div", { class: "columns" }, ...items));
      }
      side.replaceChildren(...parts);
    }

    // The steps of a column, nearest first, each with its SQL.
    function steps(way) {
      const targets = new Map();
      for (const n of way) {
        const [from, x, to, y, certain] = data.edges[n];
        const key = `${to} ${y}`;
        if (!targets.has(key)) targets.set(key, { to, y, from: [], certain: true });
        const step = targets.get(key);
        step.from.push(x ? `${data.tables[from].name}.${x}` : `the rows of ${data.tables[from].name}`);
        if (certain === 0) step.certain = false;
      }
      const sorted = [...targets.values()].sort((a, b) => b.to - a.to);
      const items = sorted.map(({ to, y, from, certain }) => {
        const sql = data.tables[to].columns.find(([name]) => name === y)?.[2];
        const item = lakegate.node("li", {}, lakegate.node("b", { class: "mono" }, `${data.tables[to].name}.${y}`), ` from ${[...new Set(from)].join(", ")}`);
        if (sql) item.append(lakegate.node("code", { class: "sql" }, sql));
        if (!certain) item.append(lakegate.node("small", {}, "not followed exactly: it may read fewer columns"));
        return item;
      });
      const empty = lakegate.node("p", { class: "faint" }, "This column comes from no other column: it is a count, a constant, or the batch's own.");
      return [lakegate.node("h3", {}, `The way of ${state.column}`), items.length ? lakegate.node("ol", { class: "steps" }, ...items) : empty];
    }

    function choose(table, column) {
      state.table = table;
      state.column = column;
      show();
    }

    select.addEventListener("change", () => choose(select.selectedIndex, null));
    depth.addEventListener("change", show);
    page.choose = (name) => choose(places.get(name) ?? 0, null);
    show();
  }

  lakegate.enhancers.push((root) => {
    for (const page of root.querySelectorAll("[data-lineage-page]")) {
      if (!page.clientWidth) continue;
      let wanted = "";
      try {
        wanted = sessionStorage.getItem("lakegate-lineage") || "";
        sessionStorage.removeItem("lakegate-lineage");
      } catch {
        // without storage the page starts with its first table
      }
      if (!page.choose) lineage(page);
      if (wanted) page.choose(wanted);
    }
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-lineage]");
    if (!link) return;
    try {
      sessionStorage.setItem("lakegate-lineage", link.dataset.lineage);
    } catch {
      // see above
    }
  });
})();
