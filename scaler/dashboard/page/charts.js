// The curves, all over the same time, and where a decision lies on them. Drawn by plotly, which the server brings.
import { clock, element, number } from "/page/words.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Each curve: [column, name, colour, how]; `scale` turns SI into the chart's unit.
const CHARTS = [
  { title: "Load", unit: "requests/s", scale: 1, curves: [
    ["offered_rps", "offered", "offered", {}], ["goodput_rps", "goodput (within the SLO)", "goodput", {}],
    ["forecast_rps", "provided for", "mark", { dash: "dot" }]] },
  { title: "Latency at the servers", unit: "ms", scale: 1e3, slo: true, curves: [
    ["p50_s", "p50", "p50", {}], ["p99_s", "p99", "p99", {}]] },
  { title: "Power of the fleet", unit: "W", scale: 1, budget: true, curves: [
    ["idle_w", "idle (profile)", "idle", { stack: true }], ["busy_w", "busy", "busy", { stack: true }]] },
  { title: "Replicas", unit: "replicas", scale: 1, steps: true, curves: [
    ["ready", "ready", "ready", { stack: true }], ["starting", "starting", "starting", { stack: true }],
    ["draining", "draining", "draining", { stack: true }], ["desired", "wanted", "desired", { dash: "dot" }]] },
  { title: "Operating point", unit: "texts · ms", scale: 1, steps: true, curves: [
    ["max_batch_texts", "largest batch, texts", "ready", {}], ["max_delay_ms", "longest delay, ms", "p99", {}]] },
];

export class Charts {
  constructor(home) {
    this.home = home;
    this.marked = null;
    this.plots = CHARTS.map((chart) => {
      const figure = element("figure", "", { class: "chart" });
      const caption = element("figcaption", `${chart.title} `);
      caption.append(element("span", chart.unit));
      const plot = element("div", "", { class: "plot", role: "img" });
      figure.append(caption, plot);
      home.append(figure);
      return plot;
    });
    addEventListener("resize", () => this.plots.forEach((plot) => plot.data && Plotly.Plots.resize(plot)));
  }

  show(state, span_s) {
    this.span_s = span_s;
    this.policy = state.policy;
    this.columns = state.columns;
    this.history = state.history;
    this.entries = state.decisions;
    // A point of the longer spans is of so many seconds: until they are over the newest is written over.
    this.every_s = { 900: 1, 14400: 10, 86400: 60 }[span_s];
    this.redraw();
  }

  add(point) {
    const at = point[0];
    const times = this.history.at_s;
    const same = times.length && Math.floor(times.at(-1) / this.every_s) === Math.floor(at / this.every_s);
    this.columns.forEach((name, place) => {
      const values = this.history[name];
      if (same && this.every_s > 1) values[values.length - 1] = point[place];
      else values.push(point[place]);
      while (values.length > this.span_s / this.every_s) values.shift();
    });
    if (!same || this.every_s === 1) this.redraw();
  }

  decisions(entries) {
    this.entries = entries;
  }

  mark(entry) {
    this.marked = entry;
    this.redraw();
  }

  redraw() {
    if (!this.history || document.hidden) return;
    CHARTS.forEach((chart, place) => {
      const plot = this.plots[place];
      Plotly.react(plot, this.traces(chart), this.layout(chart), { displayModeBar: false, responsive: false });
      plot.setAttribute("aria-label", this.spoken(chart));
    });
  }

  column(name) {
    const { history } = this;
    if (name === "busy_w") return history.watts.map((all, place) => (all === null ? null : all - history.idle_w[place]));
    if (name === "max_delay_ms") return history.max_delay_s.map((value) => (value === null ? null : value * 1e3));
    return history[name];
  }

  traces(chart) {
    const x = this.history.at_s.map((at_s) => new Date(at_s * 1e3));
    return chart.curves.map(([column, name, paint, how]) => ({
      x,
      y: this.column(column).map((value) => (value === null ? null : value * chart.scale)),
      name,
      mode: "lines",
      line: { color: color(paint), width: 1.6, dash: how.dash ?? "solid", shape: chart.steps ? "hv" : "linear" },
      stackgroup: how.stack ? "one" : undefined,
      hovertemplate: `%{y:.4~g} ${chart.unit.includes("·") ? "" : chart.unit}<extra>${name}</extra>`,
    }));
  }

  layout(chart) {
    const shapes = [];
    const annotations = [];
    const level = (y, text) => {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: color("slo"), dash: "dash", width: 1.5 } });
      annotations.push({ xref: "paper", x: 0, y, text, showarrow: false, xanchor: "left", yanchor: "bottom", font: { color: color("slo") } });
    };
    if (chart.slo) level(this.policy.slo_s * 1e3, `SLO p${this.policy.percentile} ${number(this.policy.slo_s * 1e3)} ms`);
    if (chart.budget && this.policy.budget_w !== null) level(this.policy.budget_w, `budget ${number(this.policy.budget_w)} W`);
    const from_s = this.history.at_s[0] ?? 0;
    for (const entry of this.entries) {
      if (entry.at_s < from_s || entry.current === entry.desired) continue;
      shapes.push(this.upright(entry, { color: color("quiet"), width: 1, dash: "dot" }, 0.5));
    }
    if (this.marked && this.marked.at_s >= from_s) {
      shapes.push(this.upright(this.marked, { color: color("mark"), width: 2 }, 1));
      annotations.push({ x: new Date(this.marked.at_s * 1e3), yref: "paper", y: 1, text: this.marked.headline, showarrow: false,
        xanchor: this.marked.at_s - from_s > (this.history.at_s.at(-1) - from_s) / 2 ? "right" : "left", yanchor: "top",
        font: { color: color("mark") }, bgcolor: color("panel") });
    }
    const axis = { gridcolor: color("line"), zerolinecolor: color("line"), automargin: true };
    return {
      margin: { l: 44, r: 12, t: 6, b: 26 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("text"), size: 11, family: "system-ui, sans-serif" },
      xaxis: { ...axis, type: "date", nticks: 6, tickangle: 0, tickformat: this.span_s > 14400 ? "%H:%M" : "%H:%M:%S" },
      yaxis: { ...axis, rangemode: "tozero", fixedrange: true, tickformat: chart.steps ? undefined : "~s" },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 1, xanchor: "right" },
      hovermode: "x unified", hoverlabel: { bgcolor: color("ground") },
      shapes, annotations, uirevision: `${this.span_s}`,
    };
  }

  upright(entry, line, opacity) {
    const x = new Date(entry.at_s * 1e3);
    return { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line, opacity };
  }

  spoken(chart) {
    const parts = chart.curves.map(([column, name]) => {
      const value = this.column(column).at(-1);
      return `${name} ${value === null || value === undefined ? "unknown" : number(value * chart.scale)}`;
    });
    const at_s = this.history.at_s.at(-1);
    return `${chart.title}, ${chart.unit}, ${at_s ? `at ${clock(at_s)}` : "nothing yet"}: ${parts.join(", ")}`;
  }
}
