/** Charts as SVG: values by arrow keys, a table beside them, and CSV. */

import { button, download, draw, make, table } from "./elements.js";
import { compact, number } from "./words.js";

const MARGIN = { top: 10, right: 4, bottom: 24, left: 44 };
const HEIGHT_PX = 232;
const BAR_PX_MAX = 44;
const LABEL_PX = 58;
const SERIES_MAX = 8;
const CSV_QUOTED = /[",\r\n]/;
const CSV_FORMULA = /^[=+\-@\t]/;

/** Round ticks from zero to above the highest value. */
function ticksTo(highest) {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(highest, 4) / 4));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * magnitude).find((each) => highest / each <= 4.2 && (each >= 1 || highest < 4)) ?? magnitude * 10;
  const ticks = [];
  for (let tick = 0; tick < highest + step; tick += step) ticks.push(tick);
  return ticks.length > 1 ? ticks : [0, step];
}

const colors = new Map();

/** A color for each name, the same in every chart for as long as the page is open. */
function colored(series) {
  const taken = new Set(series.map(({ name, color }) => color ?? colors.get(name)));
  const free = Array.from({ length: SERIES_MAX - 1 }, (_, at) => at + 1).filter((color) => !taken.has(color));
  const seen = new Set();
  return series.map((one) => {
    let color = one.color ?? colors.get(one.name);
    if (color === undefined || seen.has(color)) color = free.shift() ?? SERIES_MAX;
    if (one.color === undefined) colors.set(one.name, color);
    seen.add(color);
    return { ...one, color };
  });
}

/** The largest series, and all others together in the last color. */
export function largest(series, others = "Others") {
  const sum = ({ values }) => values.reduce((total, value) => total + value, 0);
  const sorted = [...series].sort((one, other) => sum(other) - sum(one));
  const kept = sorted.filter(({ rest }) => !rest).slice(0, SERIES_MAX - 1);
  const left = sorted.filter((one) => !kept.includes(one));
  if (!left.length) return kept;
  const values = left[0].values.map((_, at) => left.reduce((total, each) => total + each.values[at], 0));
  return [...kept, { name: others, values, color: SERIES_MAX }];
}

/** Cells as CSV, which a spreadsheet shows and does not run. */
export function csv(rows) {
  const cell = (value) => {
    const text = typeof value === "string" && CSV_FORMULA.test(value) ? `'${value}` : String(value ?? "");
    return CSV_QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return new Blob([`${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`], { type: "text/csv" });
}

/**
 * Bars over categories or periods, stacked where there are several series.
 *
 * @param title what it shows; the table's caption and the file's name
 * @param labels the name of each bar on the axis
 * @param names the same in full, for reading out
 * @param series `{name, values, color}`; colors are the numbers 1 to 8 of the palette
 * @param unit words for a value, as `credits`
 * @param words how a value is written, and `axisWords` on the axis
 * @param marked so many bars from the first on are marked
 * @param sofar the place of a period that is not over
 */
export function bars({ title, labels, names = labels, series, first = "Period", unit = "", words = number, axisWords = compact, height = HEIGHT_PX, marked = 0, sofar = -1, stack = series.length > 1 }) {
  const drawn = colored(series);
  const totals = labels.map((_, at) => drawn.reduce((total, { values }) => total + values[at], 0));
  const plot = make("div", { class: "plot", tabIndex: 0, role: "group", "aria-roledescription": "chart" });
  const readout = make("div", { class: "readout", hidden: true });
  const heard = make("p", { class: "unseen", role: "status" });
  const frame = make("div", { class: "frame" }, plot, readout, heard);
  plot.setAttribute("aria-label", `${title}: ${labels.length} bars. Arrow keys read them.`);
  let at = null;
  let geometry = null;

  const lines = (place) => [...drawn].reverse().filter(({ values }) => drawn.length === 1 || values[place]);
  const said = (place) =>
    [`${names[place]}: ${words(totals[place])} ${unit}`.trim(), ...(drawn.length > 1 ? lines(place).map(({ name, values }) => `${name} ${words(values[place])}`) : [])].join(", ");

  function paint() {
    const width = plot.clientWidth;
    if (!width) return;
    const ticks = ticksTo(Math.max(...totals, 0));
    const top = ticks.at(-1);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const step = inner.width / labels.length;
    const bar = Math.max(1, Math.min(BAR_PX_MAX, step - Math.min(6, step * 0.28)));
    const y = (value) => MARGIN.top + inner.height * (1 - value / top);
    const x = (place) => MARGIN.left + step * (place + 0.5);
    geometry = { step, x };
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const tick of ticks) {
      svg.append(
        draw("line", { class: tick ? "rule" : "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
        draw("text", { class: "tick", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, axisWords(tick)),
      );
    }
    const every = Math.max(1, Math.ceil(LABEL_PX / step));
    labels.forEach((label, place) => {
      if ((labels.length - 1 - place) % every === 0) svg.append(draw("text", { class: "tick", x: Math.min(x(place) + (place === labels.length - 1 ? step / 2 : 0), width - 1), y: height - 6, "text-anchor": place === labels.length - 1 ? "end" : "middle" }, label));
    });
    svg.append(draw("rect", { class: "cursor", x: 0, y: MARGIN.top, width: step, height: inner.height, visibility: "hidden" }));
    labels.forEach((_, place) => {
      let under = 0;
      for (const { values, color } of drawn) {
        const value = values[place];
        if (value <= 0) continue;
        const upper = y(under + value);
        const size = Math.max(1, y(under) - upper - (stack && under ? 1 : 0));
        svg.append(draw("rect", { class: `fill-${place < marked ? "low" : color}${place === sofar ? " so-far" : ""}`, x: x(place) - bar / 2, y: upper, width: bar, height: size, rx: Math.min(2, bar / 4) }));
        under += value;
      }
    });
    plot.replaceChildren(svg);
    if (at !== null) show(at, false);
  }

  function show(place, aloud) {
    at = place;
    const cursor = plot.querySelector(".cursor");
    cursor.setAttribute("x", geometry.x(place) - geometry.step / 2);
    cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(
      make("b", {}, names[place]),
      make("span", { class: "number" }, `${words(totals[place])} ${unit}`),
      ...(drawn.length > 1 ? lines(place).map(({ name, values, color }) => make("span", { class: "line" }, make("i", { class: `swatch back-${color}` }), name, make("span", { class: "number" }, words(values[place])))) : []),
    );
    readout.hidden = false;
    const left = geometry.x(place) > plot.clientWidth / 2;
    readout.style.left = left ? "" : `${geometry.x(place) + geometry.step / 2 + 8}px`;
    readout.style.right = left ? `${plot.clientWidth - geometry.x(place) + geometry.step / 2 + 8}px` : "";
    if (aloud) heard.textContent = said(place);
  }

  function hide() {
    at = null;
    readout.hidden = true;
    plot.querySelector(".cursor")?.setAttribute("visibility", "hidden");
  }

  plot.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: (at ?? -1) + 1, ArrowLeft: (at ?? labels.length) - 1, Home: 0, End: labels.length - 1 };
    if (event.key === "Escape") return hide();
    if (!(event.key in moves) || !labels.length || !geometry) return;
    event.preventDefault();
    show(Math.max(0, Math.min(labels.length - 1, moves[event.key])), true);
  });
  plot.addEventListener("pointermove", (event) => {
    if (!geometry) return;
    const place = Math.floor((event.clientX - plot.getBoundingClientRect().left - MARGIN.left) / geometry.step);
    if (place >= 0 && place < labels.length) show(place, false);
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  new ResizeObserver(paint).observe(plot);

  const columns = [{ name: first }, ...drawn.map(({ name }) => ({ name, number: true })), ...(drawn.length > 1 ? [{ name: "All", number: true }] : [])];
  const cells = (write) => labels.map((_, place) => [names[place], ...drawn.map(({ values }) => write(values[place])), ...(drawn.length > 1 ? [write(totals[place])] : [])]);
  return figure({
    title,
    frame,
    legend: stack ? drawn.map(({ name, color }) => make("li", {}, make("i", { class: `swatch back-${color}` }), name)) : [],
    asTable: () => table(title, columns, cells(words), { plain: true }),
    asCsv: () => csv([columns.map(({ name }) => name), ...cells((value) => value)]),
  });
}

/** A chart with its legend, and with its table and its CSV behind two buttons. */
function figure({ title, frame, legend, asTable, asCsv }) {
  const place = make("div", { class: "as-table", hidden: true });
  const toggle = button("Table", () => {
    const shown = place.hidden;
    if (shown) place.replaceChildren(asTable());
    place.hidden = !shown;
    frame.hidden = shown;
    toggle.textContent = shown ? "Chart" : "Table";
    toggle.setAttribute("aria-label", `${toggle.textContent}: ${title}`);
  }, "slim");
  toggle.setAttribute("aria-label", `Table: ${title}`);
  const file = `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`;
  const save = button("CSV", () => download(file, asCsv()), "slim");
  save.setAttribute("aria-label", `CSV: ${title}`);
  return make("figure", { class: "chart", "aria-label": title }, frame, place, make("figcaption", {}, make("ul", { class: "legend" }, legend), make("div", { class: "views" }, toggle, save)));
}

/** A line of a few values, which says nothing that is not said beside it. */
export function spark(values) {
  const known = values.filter((value) => value !== null);
  const svg = draw("svg", { class: "spark", viewBox: "0 0 96 24", width: 96, height: 24, "aria-hidden": "true" });
  if (known.length < 2) return svg;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = (value) => (high === low ? 12 : 21 - (18 * (value - low)) / (high - low));
  const points = values.map((value, at) => (value === null ? null : `${Math.round((at * 920) / (values.length - 1)) / 10 + 2} ${Math.round(y(value) * 10) / 10}`)).filter(Boolean);
  svg.append(draw("polyline", { points: points.join(" ") }), draw("circle", { cx: points.at(-1).split(" ")[0], cy: points.at(-1).split(" ")[1], r: 2 }));
  return svg;
}

/**
 * From where to where each row's percentage went, and where it is: rows are read as they stand, so it has no keys.
 *
 * @param rows `{name, event, low, high, value, words, way}`: percentages, null where they are not known, and words
 * @param target a line across all of them
 */
export function bands({ rows, target, from, to, href }) {
  const place = (value) => (Math.max(from, Math.min(to, value)) - from) / (to - from);
  const lines = rows.map(({ name, event, low, high, value, words, way }) => {
    const svg = draw("svg", { class: "band", viewBox: "0 0 1000 22", preserveAspectRatio: "none", "aria-hidden": "true" });
    const x = (of) => 8 + place(of) * 984;
    svg.append(draw("line", { class: "rail", x1: 0, x2: 1000, y1: 11, y2: 11 }), draw("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 22 }), draw("line", { class: "target", x1: x(target), x2: x(target), y1: 0, y2: 22 }));
    if (low !== null) svg.append(draw("rect", { class: "range", x: x(low), y: 6, width: Math.max(6, x(high) - x(low)), height: 10, rx: 3 }));
    if (value !== null) svg.append(draw("rect", { class: value < 0 ? "now bad" : value < target ? "now wait" : "now", x: x(value) - 4, y: 1, width: 8, height: 20, rx: 2 }));
    return make("li", {}, make("a", { href: href(event) }, name), make("span", { class: `number ${value !== null && value < 0 ? "bad" : ""}` }, words), svg, way && make("span", { class: "way number faint" }, way));
  });
  return make("ul", { class: "bands" }, lines);
}
