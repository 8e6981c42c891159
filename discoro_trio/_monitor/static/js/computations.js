// The computations: running, queued, past.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { State, serverNow, useSeconds } from "./parts.js";
import { Choice, Search, Table } from "./table.js";

const STATES = [["", "all"], ["running", "running"], ["queued", "queued"], ["closed", "past"]];

export function Computations({ view, query, may, ask }) {
  useSeconds();
  const close = (one) => ask({
    action: "close",
    verb: "Close it",
    title: "Close this computation?",
    warning: "Its coroutines are cancelled, its servers are given back, and its program is told.",
    things: [{ id: one.id, name: one.name || one.owner, detail: one.owner }],
  });
  const columns = [
    { id: "name", label: "Name", width: 130, title: true, wraps: true, cell: (one) => one.name || "–" },
    { id: "owner", label: "Owner", width: 160, full: true, wraps: true, hint: (one) => one.owner, cell: (one) => one.owner },
    { id: "place", label: "Place", width: 56, number: true, cell: (one) => one.place ?? "–" },
    { id: "state", label: "State", width: 104, hint: (one) => one.why, cell: (one) => html`<${State} of=${one.state} />` },
    { id: "lease", label: "Servers", width: 68, number: true, cell: (one) => format.count(one.lease) },
    { id: "done", label: "Done", width: 76, number: true, cell: (one) => format.count(one.done) },
    { id: "failed", label: "Failed", width: 64, number: true, cell: (one) => format.count(one.failed) },
    { id: "running", label: "Running", width: 72, number: true, cell: (one) => format.count(one.running) },
    { id: "begin", label: "Began", width: 86, spare: true, hint: (one) => format.moment(one.begin), number: true, cell: (one) => format.moment(one.begin) },
    { id: "queued", label: "Waited", width: 94, number: true, cell: (one) => (one.queued === null || (one.begin === null && ["running", "detached"].includes(one.state)) ? "–" : format.duration((one.begin ?? one.end ?? serverNow(view)) - one.queued)) },
    { id: "why", label: "Waits for", spare: true, wide: true, full: true, wraps: true, quiet: true, sort: false, hint: (one) => one.why, cell: (one) => one.why },
    { id: "took", label: "Took", width: 94, number: true, sort: false, cell: (one) => (one.begin ? format.duration((one.end ?? serverNow(view)) - one.begin) : "–") },
    may("close") && { id: "act", label: "", width: 104, full: true, sort: false, cell: (one) => one.state !== "closed" && html`<button type="button" aria-label="Close ${one.name}" onClick=${() => close(one)}>Close …</button>` },
  ].filter(Boolean);
  return html`<${Table} label="Computations" columns=${columns} view=${view} query=${query} heading="h1" empty="No computation yet.">
      <${Choice} query=${query} name="state" label="Show" options=${STATES} />
      <${Search} query=${query} label="Filter by name, owner" />
    <//>`;
}
