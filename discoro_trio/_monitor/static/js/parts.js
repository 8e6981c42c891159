// Small parts that several views share.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { href } from "./route.js";

const LOOKS = {
  ready: "good", running: "good", done: "", discovered: "hollow", queued: "hollow", suspended: "warn", unresponsive: "bad", detached: "warn", ended: "",
  cancelled: "warn", blocked: "bad", "held up": "warn", failed: "bad", lost: "bad", disconnected: "bad", ignored: "", closed: "",
};

export const State = ({ of }) => html`<span class="state"><span class="dot ${LOOKS[of] ?? ""}" aria-hidden="true"></span>${of}</span>`;

export const CoroutineLink = ({ id, name }) => html`<a href=${href({ view: "coroutine", key: id })}>${name || "–"}</a>`;
export const FunctionLink = ({ name }) => html`<a href=${href({ view: "function", key: name })}>${name}</a>`;
export const NodeLink = ({ addr }) => html`<a href=${href({ view: "node", key: addr })}>${addr}</a>`;
export const ServerLink = ({ location }) => html`<a href=${href({ view: "server", key: location })}>${location}</a>`;

// Calls again every second, so that ages grow between messages.
export function useSeconds() {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((number) => number + 1), 1000);
    return () => clearInterval(timer);
  }, []);
}

export const serverNow = (view) => Date.now() / 1000 + view.ahead;

export function Stats({ sums }) {
  const failed = sums.failed ? html`<a class="bad-text" href=${href({ view: "failures" })}>${format.count(sums.failed)}</a>` : format.count(sums.failed);
  const figures = [
    ["Nodes", format.count(sums.nodes)],
    ["Servers", format.count(sums.servers)],
    ["Running", format.count(sums.running)],
    ["Submitted", format.count(sums.submitted)],
    ["Done", format.count(sums.done)],
    ["Failed", failed],
    ["Ended", format.rate(sums.rate), "/ s"],
    ["CPU", format.percent(sums.cpu)],
    ["Memory", format.percent(sums.memory)],
  ];
  return html`<dl class="stats panel">
    ${figures.map(([name, value, unit]) => html`<div key=${name}><dt>${name}</dt><dd>${value}${unit && html`<small>${unit}</small>`}</dd></div>`)}
  </dl>`;
}

const WIDTH = 56;
const HEIGHT = 20;

// The last five minutes, the newest at the right; `top` is the value at the upper edge.
export function Spark({ values, top, points = 60 }) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"><line x1="0" y1=${HEIGHT - 0.5} x2=${WIDTH} y2=${HEIGHT - 0.5} /></svg>`;
  const high = top ?? Math.max(...known, 1);
  const step = WIDTH / (points - 1);
  const first = WIDTH - (values.length - 1) * step;
  const corners = [];
  values.forEach((value, index) => {
    if (value !== null) corners.push(`${(first + index * step).toFixed(1)} ${(HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, value / high)).toFixed(1)}`);
  });
  const line = `M${corners.join("L")}`;
  const left = corners[0].split(" ")[0];
  const right = corners.at(-1).split(" ")[0];
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
    <path class="area" d="${line}L${right} ${HEIGHT}L${left} ${HEIGHT}Z" /><path d=${line} />
  </svg>`;
}

export const Load = ({ values, top, text }) => html`<span class="load"><${Spark} values=${values ?? []} top=${top} /><span class="value">${text}</span></span>`;

export function Progress({ of }) {
  if (!of) return html`<span class="quiet">–</span>`;
  const [done, total, text] = of;
  const share = total ? Math.min(100, (100 * done) / total) : null;
  const label = share === null ? format.count(done) : `${Math.floor(share)} %`;
  return html`<span class="load">
    ${share !== null && html`<span class="bar-of" aria-hidden="true"><i style=${{ width: `${share}%` }}></i></span>`}
    <span class="value">${label}</span>${text && html`<span class="quiet" title=${text}>${text}</span>`}
  </span>`;
}

// Frames or a traceback, as they are.
export function Trace({ title, text, note }) {
  return html`<section class="panel" aria-label=${title}>
    <div class="tools-row"><h2>${title}</h2>${note && html`<span class="quiet">${note}</span>`}</div>
    <pre class="trace mono" tabindex="0">${text}</pre>
  </section>`;
}

export function Missing({ what, name }) {
  return html`<div class="panel"><p class="empty">No ${what} <span class="mono">${name}</span> is known. <a href="/">Back to the cluster</a></p></div>`;
}
