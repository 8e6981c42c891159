// The timeline: which coroutine ran when and where; zoom, pan, live; and the same as a table.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { barAt, colourOf, draw, gutterOf, inView, isFailed, laneAt, layOut } from "./lanes.js";
import { CoroutineLink, ServerLink, State, serverNow } from "./parts.js";
import { go, href } from "./route.js";
import { Choice, Search, Table } from "./table.js";

const SETTLED = 180; // milliseconds after which a new window is asked for at the server
const SHORTEST = 0.01;
const LONGEST = 86400;
const CLICK = 4; // pixels that a click may move
const LIVE_PAUSE = 30; // milliseconds between two pictures that only move with the time
const AROUND = 16; // nodes; what is asked for is a multiple
const MOST_UNFOLDED = 32; // servers that are shown one by one at first

const isDark = () => document.documentElement.dataset.theme === "dark";

function palette() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["line", "muted", "text", "bad", "panel", "raised"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
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
    const bar = ({ x, y, width }) => {
      const { span, layout, now, scrolled } = latest.current;
      return barAt(layout, scrolled(), x, y, { begin: span.begin, end: span.end, now: now(), width });
    };
    const handlers = {
      pointerdown: (event) => {
        const { x, y } = place(event);
        drag.current = { x, from: x, y, moved: false };
        element.setPointerCapture(event.pointerId);
      },
      pointermove: (event) => {
        const spot = place(event);
        const held = drag.current;
        if (held && (held.moved || Math.abs(spot.x - held.from) >= CLICK)) {
          latest.current.span.pan(-seconds(spot.x - held.x, spot.width));
          held.x = spot.x;
          held.moved = true;
          element.classList.add("dragged");
        }
        const found = held ? null : bar(spot);
        element.classList.toggle("over", Boolean(found) || (!held && spot.x < gutterOf(spot.width)));
        setTip(found ? { ...found.span, ...spot } : null);
      },
      pointerup: (event) => {
        const held = drag.current;
        drag.current = null;
        element.classList.remove("dragged");
        if (held && !held.moved && Math.abs(place(event).y - held.y) < CLICK) click(place(event));
      },
      pointercancel: () => {
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
    const click = (spot) => {
      const { layout, scrolled, toggle } = latest.current;
      if (spot.x < gutterOf(spot.width)) {
        const lane = laneAt(layout, scrolled(), spot.y);
        if (lane) toggle(lane.group.node);
        return;
      }
      const found = bar(spot);
      if (found) {
        go({ view: "coroutine", key: found.span.id });
        scrollTo(0, 0);
      }
    };
    for (const [name, handler] of Object.entries(handlers)) element.addEventListener(name, handler, { passive: false });
    return () => {
      for (const [name, handler] of Object.entries(handlers)) element.removeEventListener(name, handler);
    };
  }, []);
}

// Paints at most once a picture, and again by itself while the window is live.
function usePaint(paint, live) {
  const latest = useRef(null);
  latest.current = { paint, live };
  const wanted = useRef(0);
  const painted = useRef(0);
  const next = () => {
    wanted.current ||= requestAnimationFrame(step);
  };
  const want = () => {
    painted.current = 0;
    next();
  };
  const step = (time) => {
    wanted.current = 0;
    if (time - painted.current >= LIVE_PAUSE) {
      painted.current = time;
      latest.current.paint();
    }
    if (latest.current.live) next();
  };
  useLayoutEffect(want); // an effect would miss the next picture
  useEffect(() => {
    addEventListener("theme", want);
    return () => {
      removeEventListener("theme", want);
      cancelAnimationFrame(wanted.current);
      latest.current = { paint: () => {}, live: false };
    };
  }, []);
  return want;
}

// Tells the server which nodes are in view, with some more around them, as soon as scrolling pauses.
function useNodesInView(query, groups, seen) {
  const timer = useRef(0);
  const latest = useRef(query);
  latest.current = query;
  useEffect(() => () => clearTimeout(timer.current), []);
  return () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      const lanes = seen();
      const all = groups.length <= 2 * AROUND || !lanes.length;
      const first = all ? 0 : Math.max(0, Math.floor(lanes[0].index / AROUND) - 1) * AROUND;
      const most = all ? 0 : Math.ceil((lanes.at(-1).index + 1 - first) / AROUND + 1) * AROUND;
      const old = latest.current;
      if (Number(old.first ?? 0) !== first || Number(old.most ?? 0) !== most) {
        go({ ...old, first: first ? String(first) : "", most: most ? String(most) : "" }, { replace: true });
      }
    }, SETTLED);
  };
}

function Lanes({ view, query }) {
  const canvas = useRef(null);
  const scroller = useRef(null);
  const [tip, setTip] = useState(null);
  const [toggled, setToggled] = useState(new Set());
  const now = () => serverNow(view);
  const span = useSpan(query, now);
  const { groups, failed } = view.head;
  const folded = isFolded(query, groups);
  useEffect(() => setToggled(new Set()), [folded]);
  const kept = useRef({ bars: new Map(), rows: new Map() });
  const isOpen = (node) => toggled.has(node) === folded;
  const layout = useMemo(() => layOut({ groups, rows: view.rows, isOpen, now: now(), kept: kept.current }), [view.rows, groups, toggled, folded]);
  const scrolled = () => scroller.current?.scrollTop ?? 0;
  const toggle = (node) => setToggled((old) => new Set(old.has(node) ? [...old].filter((one) => one !== node) : [...old, node]));
  usePointer(canvas, { span, layout, now, scrolled, toggle }, setTip);
  const colours = useRef(palette());
  const paint = () => canvas.current && draw(canvas.current, {
    layout, failed, scrolled: scrolled(), now: now(), colours: colours.current, dark: isDark(), clock: format.clock, focus: tip?.id,
    begin: span.live ? now() - span.span : span.begin, end: span.live ? now() : span.end,
  });
  const want = usePaint(paint, span.live);
  const tellNodes = useNodesInView(query, groups, () => inView(layout.lanes, scrolled(), canvas.current?.clientHeight ?? 0));
  useEffect(tellNodes, [layout.lanes.length]);
  useEffect(() => {
    const recolour = () => {
      colours.current = palette();
    };
    const resized = new ResizeObserver(() => {
      scroller.current.style.setProperty("--seen", `${scroller.current.clientHeight}px`);
      want();
    });
    resized.observe(scroller.current);
    addEventListener("theme", recolour, true);
    return () => {
      resized.disconnect();
      removeEventListener("theme", recolour, true);
    };
  }, []);
  const scroll = () => {
    if (tip) setTip(null);
    want();
    tellNodes();
  };
  const down = (lines) => scroller.current.scrollBy({ top: lines * 24 });
  const keys = {
    ArrowLeft: () => span.pan(-span.span / 8), ArrowRight: () => span.pan(span.span / 8), ArrowUp: () => down(-1), ArrowDown: () => down(1),
    PageUp: () => down(-20), PageDown: () => down(20), "+": () => span.zoom(0.7), "=": () => span.zoom(0.7), "-": () => span.zoom(1.43), End: span.goLive,
  };
  const pressed = (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  };
  const names = [...new Set(view.rows.filter((row) => !isFailed(row)).map((row) => row.name))].sort().slice(0, 14);
  const failures = Object.values(failed).reduce((sum, one) => sum + one, 0);
  const servers = groups.reduce((sum, group) => sum + group.servers.length, 0);
  return html`
    <div class="timeline">
      <div class="lanes" ref=${scroller} onScroll=${scroll}>
        <div style=${{ height: `${layout.height}px` }}>
          <canvas ref=${canvas} tabindex="0" role="img" onKeyDown=${pressed}
            aria-label="Timeline of ${servers} servers of ${groups.length} nodes; arrow keys move, plus and minus zoom, End goes live. The button Table shows the same as a table with links."></canvas>
        </div>
      </div>
      ${tip && html`<${Tip} ...${tip} now=${now()} />`}
    </div>
    <div class="legend">
      ${failures > 0 && html`<a class="bad-text" href=${href({ view: "coroutines", state: "failed" })}>${format.count(failures)} failed</a>`}
      ${names.map((name) => html`<span key=${name}><${Swatch} name=${name} />${name}</span>`)}
      ${view.head.cut && html`<span>Failures and the latest ${format.count(view.total)} coroutines are drawn; zoom in to see all.</span>`}
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
  { id: "name", label: "Name", title: true, sort: false, cell: (one) => html`<${CoroutineLink} id=${one.id} name=${one.name} />` },
  { id: "server", label: "Server", full: true, sort: false, cell: (one) => html`<${ServerLink} location=${one.server} />` },
  { id: "start", label: "Began", number: true, sort: false, cell: (one) => format.clock(one.start, 3) },
  { id: "end", label: "Ended", number: true, sort: false, cell: (one) => format.clock(one.end, 3) },
  { id: "took", label: "Took", number: true, sort: false, cell: (one) => (one.end ? format.duration(one.end - one.start) : "–") },
  { id: "state", label: "State", sort: false, cell: (one) => html`<${State} of=${one.state} />` },
];
const TABLE_ROWS = 200;
const SPANS = [["1", "1 s"], ["10", "10 s"], ["", "1 min"], ["300", "5 min"], ["1800", "30 min"], ["21600", "6 h"]];

// Whether nodes are folded at first: as the person chose, or if there are many servers.
function isFolded(query, groups) {
  if (query.fold) return query.fold === "all";
  return groups.reduce((sum, group) => sum + group.servers.length, 0) > MOST_UNFOLDED;
}

function exportLink(query) {
  const kept = ["span", "end", "text", "server"].filter((name) => query[name]).map((name) => [name, query[name]]);
  return `/api/v1/trace?${new URLSearchParams(kept)}`;
}

export function Timeline({ view, query }) {
  const asTable = query.show === "table";
  const now = () => serverNow(view);
  const span = Number(query.span ?? 60);
  const other = SPANS.some(([value]) => value === (query.span ?? "")) ? [] : [[query.span, format.duration(span)]];
  const toggle = () => go({ ...query, show: asTable ? "" : "table", first: "", most: "" });
  const pause = () => go({ ...query, end: query.end ? "" : now().toFixed(3) });
  const { groups } = view.head;
  const folded = isFolded(query, groups);
  const fold = () => go({ ...query, fold: folded ? "none" : "all" }, { replace: true });
  const tools = html`
    <${Choice} query=${query} name="span" label="Window" options=${[...SPANS, ...other]} />
    <button type="button" aria-pressed=${!query.end} onClick=${pause}>Live</button>
    <button type="button" aria-pressed=${asTable} onClick=${toggle}>Table</button>
    ${!asTable && groups.length > 0 && html`<button type="button" onClick=${fold}>${folded ? "Unfold all" : "Fold all"}</button>`}
    <a class="button" href=${exportLink(query)} download="discoro-trace.json" title="This window in Chrome's trace format, for ui.perfetto.dev">Export</a>
    <${Search} query=${query} label="Filter by name" />`;
  if (asTable) {
    const newest = { ...view, rows: view.rows.slice(0, TABLE_ROWS) };
    return html`<${Table} label="Timeline" heading="h1" columns=${COLUMNS} view=${newest} query=${{ ...query, size: TABLE_ROWS }} empty="None ran in this window.">${tools}<//>`;
  }
  return html`
    <section class="panel" aria-label="Timeline">
      <div class="tools-row"><h1>Timeline</h1>${tools}<${Zoom} query=${query} /></div>
      ${groups.length ? html`<${Lanes} view=${view} query=${query} />` : html`<p class="empty">No server yet. Each gets a lane here.</p>`}
    </section>`;
}

function Zoom({ query }) {
  const by = (factor) => go({ ...query, span: Math.min(LONGEST, Math.max(SHORTEST, Number(query.span ?? 60) * factor)).toPrecision(4) });
  return html`<span class="grow">
    <button type="button" aria-label="Zoom in" title="Zoom in (+, or Ctrl and wheel)" onClick=${() => by(0.5)}>+</button>${" "}
    <button type="button" aria-label="Zoom out" title="Zoom out (−, or Ctrl and wheel)" onClick=${() => by(2)}>−</button>
  </span>`;
}
