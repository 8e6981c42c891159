// Failures that are alike, and one function: how its coroutines ended, how long they took, and its failures.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { FunctionLink } from "./parts.js";
import { href } from "./route.js";
import { Pager, Search } from "./table.js";

function Groups({ view, query, named }) {
  return html`<section class="panel" aria-label="Failures">
    <div class="tools-row">
      ${named ? html`<h1>Failures</h1>` : html`<h2>Failures</h2>`}<span class="count" role="status">${format.count(view.total)} ${view.total === 1 ? "kind" : "kinds"}</span>
      <${Search} query=${query} label="Filter by function, error" />
    </div>
    ${view.rows.length
      ? html`<ul class="failures">${view.rows.map((one) => html`<li key=${one.id}>
          <details>
            <summary><span class="times">${format.count(one.count)} ×</span>${named && html`<strong>${one.name}</strong>`}<span class="error">${one.error}</span><time>${format.moment(one.at)}</time></summary>
            <p class="quiet">Raised at <span class="mono">${one.place || "–"}</span>${named && html`, in <${FunctionLink} name=${one.name} />`}</p>
            <pre class="trace mono" tabindex="0">${one.trace || "No traceback is known."}</pre>
          </details></li>`)}</ul>`
      : html`<p class="empty">${query.text ? "No failure contains that." : "Nothing has failed."}</p>`}
    <${Pager} total=${view.total} page=${Number(query.page ?? 1)} size=${Number(query.size ?? 50)} query=${query} />
  </section>`;
}

export const Failures = (props) => html`<${Groups} ...${props} named=${true} />`;

export function Function({ view, query }) {
  const { name, running, states, failed, failed_lately: lately, times, bars, sampled } = view.head;
  const figures = [
    ["Running", format.count(running)], ["Failed", format.count(failed)], ["In 5 minutes", format.count(lately)],
    ["Returned", format.count(states.done ?? 0)], ["Cancelled", format.count(states.cancelled ?? 0)], ["Lost", format.count(states.lost ?? 0)],
  ];
  return html`
    <div class="heading">
      <a class="crumb" href=${href({ view: "coroutines" })}>Coroutines</a><span class="crumb" aria-hidden="true">/</span><h1>${name}</h1>
      <span class="facts">${sampled ? "of very short coroutines only some are remembered" : "of those that are remembered"}</span>
    </div>
    <dl class="stats panel six">${figures.map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>
    ${times && html`<section class="panel" aria-label="Durations">
      <div class="tools-row"><h2>Duration of those that returned</h2></div>
      <${Histogram} bars=${bars} />
      <dl class="facts-list">${Object.entries(times).map(([part, value]) => html`<div key=${part}><dt>${part === "100" ? "Longest" : part === "50" ? "Median" : `${part} %`}</dt><dd>${format.duration(value)}</dd></div>`)}</dl>
    </section>`}
    <${Groups} view=${view} query=${query} named=${false} />`;
}

function Histogram({ bars }) {
  const most = Math.max(...bars.map((bar) => bar.count), 1);
  const label = `From ${format.duration(bars[0].from)}: ${bars.map((bar) => bar.count).join(", ")}`;
  return html`<div class="histogram" role="img" aria-label=${label}>
    ${bars.map((bar) => html`<span key=${bar.from} title="from ${format.duration(bar.from)}: ${bar.count}"><i style=${{ height: `${(100 * bar.count) / most}%` }}></i></span>`)}
  </div>`;
}
