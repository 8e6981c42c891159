// What coroutines wrote and logged: the newest at the top, filtered by level, server and text.

import { html } from "../vendor/preact-htm.js";
import { clock, count } from "./format.js";
import { Choice, Pager, Search } from "./table.js";

export function Output({ view, query }) {
  const { levels, servers } = view.head;
  const choices = (values) => [["", "all"], ...values.map((value) => [value, value])];
  return html`<section class="panel" aria-label="Output">
      <div class="tools-row">
        <h1>Output</h1><span class="count" role="status">${count(view.total)}</span>
        <${Choice} query=${query} name="state" label="Level" options=${choices(levels)} />
        <${Choice} query=${query} name="server" label="Server" options=${choices(servers)} />
        <${Search} query=${query} label="Filter by text" />
      </div>
      ${view.rows.length
        ? html`<ol class="lines mono" tabindex="0" aria-label="Lines, the newest first">
            ${view.rows.map((line) => html`<li key=${line.id} class=${line.level}>
              <time>${clock(line.time, 3)}</time><span class="from">${line.server}</span><span class="level">${line.level}</span><span>${line.text}</span>
            </li>`)}
          </ol>`
        : html`<p class="empty">${query.text || query.state || query.server ? "No line passes these filters." : "Nothing was written yet. What coroutines print and log appears here."}</p>`}
      <${Pager} total=${view.total} page=${Number(query.page ?? 1)} size=${Number(query.size ?? 50)} query=${query} />
    </section>`;
}
