/** A balance over time as a stepped line, drawn by hand into one SVG that is kept and changed in place. */

const SVG = "http://www.w3.org/2000/svg";
const SPANS_MIN = [1, 2, 5];
const MARGIN = { top: 22, right: 56, bottom: 22, left: 0 };
const COLUMN_PX = 2;
const LABEL_GAP_PX = 40;
const SUMMARY_EVERY_MS = 5000;

const number = new Intl.NumberFormat(document.documentElement.lang);
const round = (value) => Math.round(value * 10) / 10;

function make(tag, attributes = {}, words = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = words;
  return node;
}

/** The part of the points (oldest first) that a window of at most five minutes shows. */
function cut(points, now) {
  const age = (now - points[0].at) / 60_000;
  const minutes = SPANS_MIN.find((span) => span >= age) ?? SPANS_MIN.at(-1);
  const from = now - minutes * 60_000;
  const first = points.findIndex((point) => point.at >= from);
  const seen = first < 0 ? [] : points.slice(first);
  const before = first < 0 ? points.at(-1).balance : points[first].balance - points[first].credits;
  return { minutes, from, seen, start: { at: Math.max(from, points[0].at), balance: before } };
}

/** Round ticks around the values, zero when it is near. */
function scale(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const range = Math.max(high - low, 40);
  const magnitude = 10 ** Math.floor(Math.log10(range / 3));
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((candidate) => range / candidate <= 3.6);
  const from = Math.floor((low - (low > range / 2 ? step / 4 : 0)) / step) * step;
  const to = Math.ceil(Math.max(high, from + step) / step) * step;
  const ticks = [];
  for (let tick = from; tick <= to; tick += step) ticks.push(tick);
  return { from, to, ticks };
}

/** One path: within a column of pixels only the highest, the lowest and the last value are kept. */
function steps(seen, x, y, start) {
  let path = `M${round(x(start.at))} ${round(y(start.balance))}`;
  let column = null;
  const flush = () => {
    if (!column) return;
    const { left, high, low, last } = column;
    path += `H${round(left)}`;
    if (high !== last && high !== low) path += `V${round(y(high))}`;
    if (low !== last) path += `V${round(y(low))}`;
    path += `V${round(y(last))}`;
  };
  for (const { at, balance } of seen) {
    const left = x(at);
    const key = Math.floor(left / COLUMN_PX);
    if (column?.key !== key) {
      flush();
      column = { key, left, high: balance, low: balance, last: balance };
    }
    column.high = Math.max(column.high, balance);
    column.low = Math.min(column.low, balance);
    column.last = balance;
  }
  flush();
  return path;
}

export class BalanceChart {
  #box;
  #caption;
  #svg = make("svg", { role: "img", "aria-label": "Balance over time" });
  #grid = make("g");
  #area = make("path", { fill: "url(#chart-fade)" });
  #line = make("path", { class: "chart-line" });
  #marks = make("g");
  #dot = make("circle", { class: "chart-dot", r: 5, visibility: "hidden" });
  #size = null;
  #summarizedAt = 0;

  /** `redraw` is asked for whenever the box changes its size. */
  constructor(box, caption, redraw) {
    this.#box = box;
    this.#caption = caption;
    const fade = make("linearGradient", { id: "chart-fade", x1: 0, y1: 0, x2: 0, y2: 1 });
    fade.append(make("stop", { offset: 0, class: "chart-fade-top" }), make("stop", { offset: 1, class: "chart-fade-end" }));
    const definitions = make("defs");
    definitions.append(fade);
    this.#svg.append(definitions, this.#grid, this.#area, this.#marks, this.#line, this.#dot);
    box.append(this.#svg);
    new ResizeObserver(() => {
      this.#size = null;
      redraw();
    }).observe(box);
  }

  /** Draw points `{at, balance, credits, landed}`, oldest first, up to the time `now`. */
  draw(points, now) {
    if (!points.length) return;
    const { width, height } = this.#measure();
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const { minutes, from, seen, start } = cut(points, now);
    const balance = seen.at(-1)?.balance ?? start.balance;
    const { from: low, to: high, ticks } = scale([start.balance, ...seen.map((point) => point.balance)]);
    const x = (at) => MARGIN.left + ((Math.min(at, now) - from) / (now - from)) * (right - MARGIN.left);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);

    const path = `${steps(seen, x, y, start)}H${round(right)}`;
    this.#line.setAttribute("d", path);
    this.#area.setAttribute("d", `${path}V${bottom}H${round(x(start.at))}Z`);
    this.#dot.setAttribute("cx", round(right));
    this.#dot.setAttribute("cy", round(y(balance)));
    this.#dot.setAttribute("visibility", "visible");
    this.#grid.replaceChildren(...this.#ticks(ticks, y, width, right), ...this.#times(minutes, right, height));
    this.#marks.replaceChildren(...this.#landings(seen, x, y, bottom));
    this.#caption.textContent = `last ${minutes === 1 ? "minute" : `${minutes} minutes`}`;
    this.#summarize(seen, start, balance, minutes);
  }

  #measure() {
    if (!this.#size) {
      const { clientWidth: width } = this.#box;
      const { height } = this.#svg.getBoundingClientRect();
      this.#size = { width, height };
      this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
    return this.#size;
  }

  #ticks(ticks, y, width, right) {
    return ticks.flatMap((tick) => {
      const at = round(y(tick));
      return [
        make("line", { class: "chart-grid", x1: 0, x2: right, y1: at, y2: at }),
        make("text", { class: "chart-text", x: width - 14, y: at + 4, "text-anchor": "end" }, number.format(tick)),
      ];
    });
  }

  #times(minutes, right, height) {
    const y = height - 5;
    const middle = { 1: "30 s ago", 2: "1 min ago", 5: "2½ min ago" }[minutes];
    return [
      make("text", { class: "chart-text", x: 16, y }, `${minutes} min ago`),
      make("text", { class: "chart-text", x: right / 2, y, "text-anchor": "middle" }, middle),
      make("text", { class: "chart-text", x: right, y, "text-anchor": "end" }, "now"),
    ];
  }

  #landings(seen, x, y, bottom) {
    let free = Infinity;
    return seen.filter((point) => point.landed).reverse().flatMap((point) => {
      const at = round(x(point.at));
      const stem = make("line", { class: "chart-stem", x1: at, x2: at, y1: round(y(point.balance)), y2: bottom });
      if (free - at < LABEL_GAP_PX) return [stem];
      free = at;
      const words = `+${number.format(point.credits)}`;
      const spot = { class: "chart-landed", x: Math.max(at, 20), y: round(y(point.balance)) - 7, "text-anchor": "middle" };
      return [stem, make("text", spot, words)];
    });
  }

  #summarize(seen, start, balance, minutes) {
    if (Date.now() - this.#summarizedAt < SUMMARY_EVERY_MS) return;
    this.#summarizedAt = Date.now();
    const values = [start.balance, ...seen.map((point) => point.balance)];
    const landed = seen.filter((point) => point.landed).length;
    const facts = [
      `now ${number.format(balance)}`,
      `highest ${number.format(Math.max(...values))}`,
      `lowest ${number.format(Math.min(...values))}`,
      landed === 1 ? "one top-up" : `${landed || "no"} top-ups`,
    ];
    this.#svg.setAttribute("aria-label", `Balance over the last ${minutes} minutes: ${facts.join(", ")}.`);
  }
}
