// Draws the timeline: a lane a server, a bar a coroutine, coloured by its name. No state but the colours.

const GUTTER = 132;
const LANE = 22;
const AXIS = 26;
const BAR = 14;
const LEAST_STEP = 4;
const MOST_ROWS = 12;
const HUES = [205, 28, 145, 285, 355, 175, 55, 235, 320, 95];
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

export function colourOf(name, dark) {
  return `hsl(${HUES[placeOf(name)]} ${dark ? "34% 56%" : "42% 58%"})`;
}

export const gutterOf = (width) => (width < 600 ? 96 : GUTTER);
export const heightOf = (tops) => Math.max(tops.at(-1), AXIS + LANE) + 2;

// What overlaps in one lane gets thin rows of its own. A bar stays in the row it once got (`kept`), so nothing jumps.
function rowsOf(spans, now, kept) {
  const ends = [];
  const placed = [];
  for (const span of spans.sort((one, other) => one.start - other.start)) {
    let row = kept.get(span.id) ?? ends.findIndex((until) => !(until > span.start));
    if (row < 0) row = ends.length < MOST_ROWS ? ends.length : ends.indexOf(Math.min(...ends));
    while (ends.length <= row) ends.push(-Infinity);
    ends[row] = Math.max(ends[row], span.end ?? now);
    kept.set(span.id, row);
    placed.push([span, row]);
  }
  return { placed, rows: Math.max(1, ends.length) };
}

// Gives the bars with their places, and the upper edge of each lane (and below the last).
export function layOut(rows, lanes, now, kept) {
  const byLane = new Map(lanes.map((lane) => [lane, []]));
  for (const row of rows) byLane.get(row.server)?.push(row);
  const present = new Set(rows.map((row) => row.id));
  for (const id of [...kept.keys()]) if (!present.has(id)) kept.delete(id);
  const tops = [AXIS];
  const bars = lanes.flatMap((lane) => {
    const { placed, rows: count } = rowsOf(byLane.get(lane), now, kept);
    const top = tops.at(-1);
    const step = Math.max(LEAST_STEP, BAR / count);
    tops.push(top + Math.max(LANE, step * count + 8));
    const first = top + (tops.at(-1) - top - step * count) / 2;
    return placed.map(([span, row]) => ({ span, y: first + row * step, height: step - (count > 1 ? 0.8 : 0) }));
  });
  return { bars, tops };
}

export function draw(canvas, { bars, lanes, tops, begin, end, now, colours, dark, clock, focus }) {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = heightOf(tops);
  const gutter = gutterOf(width);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const at = (time) => gutter + ((time - begin) / (end - begin)) * (width - gutter);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  drawLanes(context, { lanes, tops, width, gutter, colours });
  drawAxis(context, { begin, end, at, width, height, gutter, colours, clock });
  context.save();
  context.beginPath();
  context.rect(gutter, 0, width - gutter, height);
  context.clip();
  for (const { span, y, height: thick } of bars) {
    const from = at(span.start);
    const to = at(span.end ?? now);
    if (to < gutter || from > width) continue;
    const long = Math.max(1.2, to - from - 0.6);
    context.globalAlpha = span.end === null ? 0.6 : 1;
    context.fillStyle = colourOf(span.name, dark);
    context.fillRect(from, y, long, thick);
    if (span.state === "failed" || span.state === "lost") {
      context.fillStyle = colours.bad;
      context.fillRect(from, y + thick - 2, long, 2);
    }
    if (focus === span.id) {
      context.strokeStyle = colours.text;
      context.strokeRect(from - 0.5, y - 1, long + 1, thick + 2);
    }
  }
  context.restore();
  context.globalAlpha = 1;
}

function drawLanes(context, { lanes, tops, width, gutter, colours }) {
  lanes.forEach((lane, index) => {
    const y = tops[index];
    context.fillStyle = colours.line;
    context.fillRect(0, y, width, 1);
    context.fillStyle = colours.muted;
    context.fillText(fitted(context, lane, gutter - 24), 14, (y + tops[index + 1]) / 2 + 1);
  });
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

export function barAt(bars, x, y, { begin, end, now, width }) {
  const gutter = gutterOf(width);
  const at = (time) => gutter + ((time - begin) / (end - begin)) * (width - gutter);
  let found = null;
  for (const bar of bars) {
    if (y < bar.y - 2 || y > bar.y + bar.height + 2) continue;
    if (x >= at(bar.span.start) - 2 && x <= at(bar.span.end ?? now) + 2) found = bar;
  }
  return found;
}
