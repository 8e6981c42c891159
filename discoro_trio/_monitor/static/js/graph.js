// A graph of the last five minutes with uPlot; redrawn when the theme or the width changes.

import { html, useEffect, useRef } from "../vendor/preact-htm.js";
import uPlot from "../vendor/uplot.js";
import { clock } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const MINUTES = [60, 120, 300]; // labels have no seconds, so closer ones would look the same

function options(element, top, format) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [8, 14, 0, 0],
    cursor: { show: false },
    legend: { show: false },
    scales: { x: { time: true }, y: { range: (_, __, high) => [0, top ?? Math.max(1, high * 1.1)] } },
    axes: [
      { ...axis, grid: { show: false }, size: 22, values: (_, splits) => splits.map((at) => clock(at).slice(0, 5)), space: 44, incrs: MINUTES },
      { ...axis, size: 46, values: (_, splits) => splits.map((value) => (Number.isInteger(value) ? format(value) : "")), space: 26 },
    ],
    series: [{}, { stroke: colour("--graph"), fill: colour("--graph-fill"), width: 1.5, points: { show: false } }],
  };
}

export function Graph({ title, now, times, values, top, format }) {
  const place = useRef(null);
  const plot = useRef(null);
  const data = useRef([[], []]);
  const skipped = Math.max(0, times.length - values.length);
  data.current = [times.slice(skipped), values];
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(place.current, top, format), data.current, place.current);
    };
    draw();
    const resized = new ResizeObserver(() => plot.current.setSize({ width: place.current.clientWidth, height: place.current.clientHeight }));
    resized.observe(place.current);
    addEventListener("theme", draw);
    return () => {
      resized.disconnect();
      removeEventListener("theme", draw);
      plot.current.destroy();
    };
  }, []);
  const newest = times.at(-1);
  useEffect(() => plot.current?.setData(data.current), [newest, values.length]);
  return html`<figure class="graph panel" role="img" aria-label="${title}: ${now} now, over five minutes" style=${{ margin: 0 }}>
    <header><h2>${title}</h2><span>${now}</span></header><div class="canvas" ref=${place}></div>
  </figure>`;
}
