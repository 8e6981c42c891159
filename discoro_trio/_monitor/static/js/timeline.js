// The timeline: which coroutine ran when and where; zoom, pan, live; and the same as a table.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { barAt, colourOf, draw, gutterOf, heightOf, layOut } from "./lanes.js";
import { ServerLink, State, serverNow } from "./parts.js";
import { go } from "./route.js";
import { Choice, Search, Table } from "./table.js";

const SETTLED = 180; // milliseconds after which a new window is asked for at the server
const SHORTEST = 0.01;
const LONGEST = 86400;

const isDark = () => document.documentElement.dataset.theme === "dark";

function palette() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["line", "muted", "text", "bad"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// The window that is shown: of the address, until somebody drags or zooms; soon after, the address follows.
function useSpan(query, now) {
  const [moved, setMoved] = useState(null);
  const timer = useRef(0);
  const asked = { span: Number(query.span ?? 60), end: Number(query.end ?? 0) };
  const { span, end } = moved ?? asked;
  const set = (next) => {
    const settled = { span: Math.min(LONGEST, Math.max(SHORTEST, next.span)), end: next.end };
    setMoved(settled);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      go({ ...query, span: settled.span.toPrecision(4), end: settled.end ? settled.end.toFixed(3) : "" }, { replace: true });
      setMoved(null);
    }, SETTLED);
  };
  const until = end || now();
  return {
    span, live: !end, begin: until - span, end: until,
    pan: (seconds) => set({ span, end: Math.min(until + seconds, now()) }),
    zoom: (factor, anchor = null) => {
      const wide = Math.min(LONGEST, Math.max(SHORTEST, span * factor));
      const fixed = anchor ?? until - span / 2;
      set({ span: wide, end: !end && anchor === null ? 0 : fixed + ((until - fixed) * wide) / span });
    },
    goLive: () => set({ span, end: 0 }),
  };
}

function usePointer(canvas, frame, setTip) {
  const drag = useRef(null);
  const latest = useRef(frame);
  latest.current = frame;
  useEffect(() => {
    const element = canvas.current;
    const place = (event) => {
      const box = element.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top, width: box.width };
    };
    const seconds = (pixels, width) => (pixels * latest.current.span.span) / (width - gutterOf(width));
    const handlers = {
      pointerdown: (event) => {
        drag.current = place(event).x;
        element.setPointerCapture(event.pointerId);
        element.classList.add("dragged");
      },
      pointermove: (event) => {
        const { x, y, width } = place(event);
        if (drag.current !== null && Math.abs(x - drag.current) >= 1) {
          latest.current.span.pan(-seconds(x - drag.current, width));
          drag.current = x;
        }
        const { span, bars, now } = latest.current;
        const bar = drag.current === null ? barAt(bars, x, y, { begin: span.begin, end: span.end, now: now(), width }) : null;
        setTip(bar ? { ...bar.span, x, y, width } : null);
      },
      pointerup: () => {
        drag.current = null;
        element.classList.remove("dragged");
      },
      pointerleave: () => setTip(null),
      wheel: (event) => {
        if (!event.ctrlKey && !event.shiftKey && Math.abs(event.deltaX) < Math.abs(event.deltaY) && !event.altKey) return;
        event.preventDefault();
        const { x, width } = place(event);
        const { span } = latest.current;
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) span.pan(seconds(event.deltaX || event.deltaY, width));
        else span.zoom(Math.exp(event.deltaY * 0.002), span.begin + seconds(Math.max(0, x - gutterOf(width)), width));
      },
    };
    for (const [name, handler] of Object.entries(handlers)) element.addEventListener(name, handler, { passive: false });
    return () => {
      for (const [name, handler] of Object.entries(handlers)) element.removeEventListener(name, handler);
    };
  }, []);
}

function Lanes({ view, query }) {
  const canvas = useRef(null);
  const [tip, setTip] = useState(null);
  const now = () => serverNow(view);
  const span = useSpan(query, now);
  const { lanes } = view.head;
  const kept = useRef(new Map());
  const { bars, tops } = useMemo(() => layOut(view.rows, lanes, now(), kept.current), [view.rows, lanes]);
  const frame = { span, bars, now };
  usePointer(canvas, frame, setTip);
  const paint = () => draw(canvas.current, {
    bars, lanes, tops, now: now(), colours: palette(), dark: isDark(), clock: format.clock, focus: tip?.id,
    begin: span.live ? now() - span.span : span.begin, end: span.live ? now() : span.end,
  });
  useEffect(() => {
    let wanted = 0;
    const again = () => {
      paint();
      if (span.live) wanted = requestAnimationFrame(again);
    };
    again();
    const resized = new ResizeObserver(paint);
    resized.observe(canvas.current);
    addEventListener("theme", paint);
    return () => {
      cancelAnimationFrame(wanted);
      resized.disconnect();
      removeEventListener("theme", paint);
    };
  });
  const keys = { ArrowLeft: () => span.pan(-span.span / 8), ArrowRight: () => span.pan(span.span / 8), "+": () => span.zoom(0.7), "=": () => span.zoom(0.7), "-": () => span.zoom(1.43), End: span.goLive };
  const pressed = (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  };
  const names = [...new Set(view.rows.map((row) => row.name))].sort().slice(0, 14);
  return html`
    <div class="timeline">
      <canvas ref=${canvas} style=${{ height: `${heightOf(tops)}px` }} tabindex="0" role="img" onKeyDown=${pressed}
        aria-label="Timeline of ${view.rows.length} coroutines on ${lanes.length} servers; arrow keys move, plus and minus zoom, End goes live. The button Table shows the same as a table."></canvas>
      ${tip && html`<${Tip} ...${tip} now=${now()} />`}
    </div>
    <div class="legend">
      ${names.map((name) => html`<span key=${name}><${Swatch} name=${name} />${name}</span>`)}
      ${view.head.cut && html`<span>Only the latest ${format.count(view.total)} coroutines are drawn; zoom in to see all.</span>`}
    </div>`;
}

function Swatch({ name }) {
  const canvas = useRef(null);
  useEffect(() => {
    const paint = () => {
      const context = canvas.current.getContext("2d");
      context.fillStyle = colourOf(name, isDark());
      context.fillRect(0, 0, 10, 10);
    };
    paint();
    addEventListener("theme", paint);
    return () => removeEventListener("theme", paint);
  }, [name]);
  return html`<canvas ref=${canvas} width="10" height="10" aria-hidden="true"></canvas>`;
}

function Tip({ name, server, start, end, state, error, x, y, width, now }) {
  const style = { top: `${y + 14}px`, ...(x > width / 2 ? { right: `${width - x + 8}px` } : { left: `${x + 8}px` }) };
  return html`<div class="tip" style=${style}><strong>${name}</strong><br />${server}<br />
    ${format.clock(start, 3)} · ${format.duration((end ?? now) - start)} · ${state}${error && html`<br />${error}`}</div>`;
}

const COLUMNS = [
  { id: "name", label: "Name", title: true, sort: false, cell: (one) => one.name },
  { id: "server", label: "Server", full: true, sort: false, cell: (one) => html`<${ServerLink} location=${one.server} />` },
  { id: "start", label: "Began", number: true, sort: false, cell: (one) => format.clock(one.start, 3) },
  { id: "end", label: "Ended", number: true, sort: false, cell: (one) => format.clock(one.end, 3) },
  { id: "took", label: "Took", number: true, sort: false, cell: (one) => (one.end ? format.duration(one.end - one.start) : "–") },
  { id: "state", label: "State", sort: false, cell: (one) => html`<${State} of=${one.state} />` },
];
const TABLE_ROWS = 200;
const SPANS = [["1", "1 s"], ["10", "10 s"], ["", "1 min"], ["300", "5 min"], ["1800", "30 min"], ["21600", "6 h"]];

export function Timeline({ view, query }) {
  const asTable = query.show === "table";
  const now = () => serverNow(view);
  const span = Number(query.span ?? 60);
  const other = SPANS.some(([value]) => value === (query.span ?? "")) ? [] : [[query.span, format.duration(span)]];
  const toggle = () => go({ ...query, show: asTable ? "" : "table" });
  const pause = () => go({ ...query, end: query.end ? "" : now().toFixed(3) });
  const tools = html`
    <${Choice} query=${query} name="span" label="Window" options=${[...SPANS, ...other]} />
    <button type="button" aria-pressed=${!query.end} onClick=${pause}>Live</button>
    <button type="button" aria-pressed=${asTable} onClick=${toggle}>Table</button>
    <${Search} query=${query} label="Filter by name" />`;
  if (asTable) {
    const newest = { ...view, rows: view.rows.slice(0, TABLE_ROWS) };
    return html`<${Table} label="Timeline" heading="h1" columns=${COLUMNS} view=${newest} query=${{ ...query, size: TABLE_ROWS }} empty="None ran in this window.">${tools}<//>`;
  }
  return html`
    <section class="panel" aria-label="Timeline">
      <div class="tools-row"><h1>Timeline</h1>${tools}<${Zoom} query=${query} /></div>
      ${view.head.lanes.length ? html`<${Lanes} view=${view} query=${query} />` : html`<p class="empty">No server yet. Each gets a lane here.</p>`}
    </section>`;
}

function Zoom({ query }) {
  const by = (factor) => go({ ...query, span: Math.min(LONGEST, Math.max(SHORTEST, Number(query.span ?? 60) * factor)).toPrecision(4) });
  return html`<span class="grow">
    <button type="button" aria-label="Zoom in" title="Zoom in (+, or Ctrl and wheel)" onClick=${() => by(0.5)}>+</button>${" "}
    <button type="button" aria-label="Zoom out" title="Zoom out (−, or Ctrl and wheel)" onClick=${() => by(2)}>−</button>
  </span>`;
}
