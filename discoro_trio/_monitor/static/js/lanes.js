// Lays out and draws the timeline: a lane for each node or, unfolded, each server; a bar for each coroutine, coloured by
// its name. Only what is in view is drawn. No state but the colours.

const GUTTER = 176;
const NARROW_GUTTER = 104;
const LANE = 24;
const AXIS = 26;
const BAR = 14;
const FOLDED_BAR = 18;
const LEAST_STEP = 4;
const MOST_ROWS = 12;
const MAP = 8;
const LEAST_FAILURE = 3;
const HUES = [205, 28, 145, 285, 320, 175, 55, 235, 260, 95];
const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600];

// The place of a name's hue, as long as the page is open: that of its hash, or the next one that no other name has.
const places = new Map();

function placeOf(name) {
  const known = places.get(name);
  if (known !== undefined) return known;
  let hash = 0;
  for (let at = 0; at < name.length; at += 1) hash = (hash * 31 + name.charCodeAt(at)) | 0;
  let place = Math.abs(hash) % HUES.length;
  if (places.size >= HUES.length) return place; // there are more names than hues
  const taken = new Set(places.values());
  while (taken.has(place)) place = (place + 1) % HUES.length;
  places.set(name, place);
  return place;
}

export const colourOf = (name, dark) => `hsl(${HUES[placeOf(name)]} ${dark ? "34% 56%" : "42% 58%"})`;
export const gutterOf = (width) => (width < 600 ? NARROW_GUTTER : GUTTER);
export const isFailed = (span) => span.state === "failed" || span.state === "lost";

// Coroutines that overlap at one server get thin rows. A bar stays in the row it once got (`kept`), so nothing jumps.
function rowsOf(spans, now, kept) {
  const ends = [];
  const placed = spans.map((span) => {
    let row = kept.get(span.id) ?? ends.findIndex((until) => !(until > span.start));
    if (row < 0) row = ends.length < MOST_ROWS ? ends.length : ends.indexOf(Math.min(...ends));
    while (ends.length <= row) ends.push(-Infinity);
    ends[row] = Math.max(ends[row], span.end ?? now);
    kept.set(span.id, row);
    return [span, row];
  });
  return { placed, count: Math.max(1, ends.length) };
}

function byServer(rows) {
  const found = new Map();
  for (const row of [...rows].sort((one, other) => one.start - other.start)) {
    const here = found.get(row.server);
    if (here) here.push(row);
    else found.set(row.server, [row]);
  }
  return found;
}

// Gives the lanes with their upper edges and bars, and the height of all. `kept` holds the rows of bars and how many
// rows a server has had, so that lanes never shrink while a person looks.
export function layOut({ groups, rows, isOpen, now, kept }) {
  const present = new Set(rows.map((row) => row.id));
  for (const id of kept.bars.keys()) if (!present.has(id)) kept.bars.delete(id);
  const spans = byServer(rows);
  const lanes = [];
  let top = AXIS;
  const add = (lane) => {
    lanes.push({ ...lane, top });
    top += lane.height;
  };
  groups.forEach((group, index) => {
    const open = isOpen(group.node);
    add({ group, index, open, label: group.name, height: LANE, bars: open ? [] : foldedBars(group, spans) });
    for (const server of open ? group.servers : []) {
      const { placed, count } = rowsOf(spans.get(server) ?? [], now, kept.bars);
      const most = Math.max(count, kept.rows.get(server) ?? 1);
      kept.rows.set(server, most);
      const step = Math.max(LEAST_STEP, BAR / most);
      const height = Math.max(LANE, step * most + 8);
      const first = (height - step * most) / 2;
      const bars = placed.map(([span, row]) => ({ span, y: first + row * step, height: step - (most > 1 ? 0.8 : 0) }));
      add({ group, index, server, label: server, height, bars });
    }
  });
  return { lanes, height: top + 2 };
}

// A folded node is one lane in which each server has a thin row.
function foldedBars(group, spans) {
  const step = FOLDED_BAR / group.servers.length;
  return group.servers.flatMap((server, index) =>
    (spans.get(server) ?? []).map((span) => ({ span, y: 3 + index * step, height: Math.max(0.8, step - (step > 2 ? 0.8 : 0)) })));
}

// The lanes that are in view when `scrolled` pixels are above; the axis stays in sight.
export function inView(lanes, scrolled, height) {
  let low = 0;
  let high = lanes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lanes[middle].top + lanes[middle].height <= scrolled + AXIS) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < lanes.length && lanes[end].top < scrolled + height) end += 1;
  return lanes.slice(low, end);
}

export function draw(canvas, { layout, failed, scrolled, begin, end, now, colours, dark, clock, focus }) {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const gutter = gutterOf(width);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d", { alpha: false });
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.fillStyle = colours.panel;
  context.fillRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const shown = inView(layout.lanes, scrolled, height);
  const at = (time) => gutter + ((time - begin) / (end - begin)) * (width - gutter);
  clipped(context, [0, AXIS, width, height - AXIS], () => drawLanes(context, { shown, failed, scrolled, width, gutter, colours }));
  drawAxis(context, { begin, end, at, width, height, gutter, colours, clock });
  clipped(context, [gutter, AXIS, width - gutter, height - AXIS], () => drawBars(context, { shown, scrolled, at, now, width, gutter, colours, dark, focus }));
  if (layout.height > height) drawMap(context, { layout, failed, scrolled, width, height, colours });
}

function clipped(context, box, paint) {
  context.save();
  context.beginPath();
  context.rect(...box);
  context.clip();
  paint();
  context.restore();
}

function drawBars(context, { shown, scrolled, at, now, width, gutter, colours, dark, focus }) {
  const colour = new Map();
  const failures = [];
  let focused = null;
  for (const lane of shown) {
    for (const bar of lane.bars) {
      const { span } = bar;
      const from = at(span.start);
      const to = at(span.end ?? now);
      if (to < gutter || from > width) continue;
      const box = [from, lane.top - scrolled + bar.y, Math.max(1.2, to - from - 0.6), bar.height];
      if (focus === span.id) focused = box;
      if (isFailed(span)) {
        failures.push(box);
        continue;
      }
      if (!colour.has(span.name)) colour.set(span.name, colourOf(span.name, dark));
      context.fillStyle = colour.get(span.name);
      context.globalAlpha = span.end === null ? 0.6 : 1;
      context.fillRect(...box);
    }
  }
  context.globalAlpha = 1;
  context.fillStyle = colours.bad; // above all others, and never too small to be seen
  for (const [x, y, long, thick] of failures) context.fillRect(x, y - (thick < LEAST_FAILURE ? 1 : 0), Math.max(LEAST_FAILURE, long), Math.max(LEAST_FAILURE, thick));
  if (focused) {
    context.strokeStyle = colours.text;
    context.strokeRect(focused[0] - 0.5, focused[1] - 1, focused[2] + 1, focused[3] + 2);
  }
}

function drawLanes(context, { shown, failed, scrolled, width, gutter, colours }) {
  const narrow = gutter === NARROW_GUTTER;
  for (const { group, open, server, label, top, height } of shown) {
    const y = top - scrolled;
    const middle = y + height / 2 + 1;
    if (!server && open) {
      context.fillStyle = colours.raised;
      context.fillRect(0, y, width, height);
    }
    context.fillStyle = colours.line;
    context.fillRect(0, y, width, 1);
    context.fillStyle = server ? colours.muted : colours.text;
    if (server) {
      context.fillText(fitted(context, label, gutter - 34), 24, middle);
      continue;
    }
    drawMark(context, open, 10, middle - 1);
    const failures = failed[group.node];
    const words = failures ? `${failures.toLocaleString("en-US")}${narrow ? "" : " failed"}` : narrow ? "" : `× ${group.servers.length}`;
    const wide = words ? context.measureText(words).width + 8 : 0;
    context.fillText(shortened(context, label, gutter - 34 - wide), 24, middle);
    context.fillStyle = failures ? colours.bad : colours.muted;
    context.textAlign = "right";
    context.fillText(words, gutter - 8, middle);
    context.textAlign = "left";
  }
}

function drawMark(context, open, x, y) {
  context.beginPath();
  if (open) {
    context.moveTo(x, y - 2);
    context.lineTo(x + 8, y - 2);
    context.lineTo(x + 4, y + 3);
  } else {
    context.moveTo(x + 2, y - 4);
    context.lineTo(x + 7, y);
    context.lineTo(x + 2, y + 4);
  }
  context.fill();
}

// Where in the whole height failures are, at the right edge.
function drawMap(context, { layout, failed, scrolled, width, height, colours }) {
  const scale = (height - AXIS) / layout.height;
  context.fillStyle = colours.panel;
  context.fillRect(width - MAP, AXIS, MAP, height - AXIS);
  context.fillStyle = colours.line;
  context.fillRect(width - MAP, AXIS + scrolled * scale, MAP, Math.max(6, height * scale));
  context.fillStyle = colours.bad;
  for (const lane of layout.lanes) if (!lane.server && failed[lane.group.node]) context.fillRect(width - MAP, AXIS + lane.top * scale, MAP, 2);
}

// A name begins with what tells it apart, an address ends with it.
function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept && context.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept && context.measureText(`…${kept}`).width > width) kept = kept.slice(1);
  return `…${kept.replace(/^[.:]/, "")}`;
}

function drawAxis(context, { begin, end, at, width, height, gutter, colours, clock }) {
  const wanted = ((end - begin) * 84) / Math.max(1, width - gutter);
  const step = STEPS.find((one) => one >= wanted) ?? 43200;
  const digits = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;
  context.textAlign = "center";
  for (let time = Math.ceil(begin / step) * step; time <= end; time += step) {
    const x = at(time);
    context.fillStyle = colours.line;
    context.fillRect(Math.round(x), AXIS - 5, 1, height - AXIS);
    context.fillStyle = colours.muted;
    if (x > gutter + 24 && x < width - 28) context.fillText(clock(time, digits), x, AXIS / 2);
  }
  context.textAlign = "left";
}

export const laneAt = (layout, scrolled, y) => (y < AXIS ? null : layout.lanes.find((lane) => y + scrolled >= lane.top && y + scrolled < lane.top + lane.height) ?? null);

export function barAt(layout, scrolled, x, y, { begin, end, now, width }) {
  const lane = laneAt(layout, scrolled, y);
  const gutter = gutterOf(width);
  if (!lane || x < gutter) return null;
  const at = (time) => gutter + ((time - begin) / (end - begin)) * (width - gutter);
  const down = y + scrolled - lane.top;
  let found = null;
  for (const bar of lane.bars) {
    if (down < bar.y - 1 || down > bar.y + bar.height + 1) continue;
    const here = x >= at(bar.span.start) - 2 && x <= at(bar.span.end ?? now) + 2;
    if (here && !(found && isFailed(found.span))) found = bar;
  }
  return found;
}
