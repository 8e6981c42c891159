// The cluster: its sums, their last five minutes, and a row a node.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Graph } from "./graph.js";
import { Load, NodeLink, State, Stats, serverNow } from "./parts.js";
import { href } from "./route.js";
import { Search, Table } from "./table.js";

const COLUMNS = [
  { id: "addr", label: "Address", width: 156, title: true, cell: (node) => html`<${NodeLink} addr=${node.addr} />` },
  { id: "name", label: "Name", width: 104, cell: (node) => node.name },
  { id: "platform", label: "Platform", quiet: true, spare: true, hint: (node) => node.platform, full: true, cell: (node) => node.platform },
  { id: "state", label: "State", width: 136, cell: (node) => html`<${State} of=${node.state} />` },
  { id: "servers", label: "Servers", width: 80, number: true, cell: (node) => format.count(node.servers) },
  { id: "submitted", label: "Submitted", width: 98, number: true, cell: (node) => format.count(node.submitted) },
  { id: "done", label: "Done", width: 84, number: true, cell: (node) => format.count(node.done) },
  { id: "failed", label: "Failed", width: 84, number: true, cell: (node) => format.count(node.failed) },
  { id: "running", label: "Running", width: 84, number: true, cell: (node) => format.count(node.running) },
  ...["cpu", "memory", "disk"].map((name) => ({
    id: name,
    label: { cpu: "CPU", memory: "Memory", disk: "Disk" }[name],
    width: 137,
    number: true,
    graphed: true,
    cell: (node) => html`<${Load} values=${node[`${name}_history`]} top=${100} text=${format.percent(node[name])} />`,
  })),
];

export function Cluster({ view, query }) {
  const { summary, graphs } = view.head;
  return html`
    <h1 class="unseen">Now</h1>
    <${Verdict} verdict=${view.head.verdict} />
    <${Stats} sums=${summary} />
    <div class="graphs">
      <${Graph} title="Ended a second" now=${format.rate(summary.rate)} times=${graphs.times} values=${graphs.rate} format=${format.compact} />
      <${Graph} title="Running" now=${format.count(summary.running)} times=${graphs.times} values=${graphs.running} format=${format.compact} />
      <${Graph} title="CPU" now=${format.percent(summary.cpu)} times=${graphs.times} values=${graphs.cpu} top=${100} format=${format.percent} />
      <${Graph} title="Memory" now=${format.percent(summary.memory)} times=${graphs.times} values=${graphs.memory} top=${100} format=${format.percent} />
    </div>
    <${Table} label="Nodes" columns=${COLUMNS} view=${view} query=${query} order="addr"
        empty=${query.text ? "No node contains that." : "No node yet. Nodes appear here as soon as they are found."}>
      <${Search} query=${query} label="Filter by address or name" />
    <//>
    <${Queue} rows=${view.head.queue} total=${view.head.queued} view=${view} />
    <${Events} events=${view.head.events} />`;
}

// What is not well, each a link to where it is seen.
function Verdict({ verdict }) {
  const { level, text, problems, more } = verdict;
  const line = (problem) => (Object.keys(problem.link).length ? html`<a href=${href(problem.link)}>${problem.text}</a>` : problem.text);
  return html`<section class="panel verdict ${level}" aria-label="Verdict">
    <p role="status"><span class="dot ${level || "hollow"}" aria-hidden="true"></span><strong>${text}</strong></p>
    ${problems.length > 0 && html`<ul>${problems.map((problem) => html`<li key=${problem.text} class=${problem.level}>${line(problem)}</li>`)}${more > 0 && html`<li>and ${format.count(more)} more</li>`}</ul>`}
  </section>`;
}

function Queue({ rows, total, view }) {
  if (!total) return null;
  return html`<section class="panel" aria-label="Queue">
    <div class="tools-row"><h2>Queue</h2><span class="count">${format.count(total)}</span><a class="grow" href=${href({ view: "computations", state: "queued" })}>All</a></div>
    <ol class="queue">${rows.map((one) => html`<li key=${one.id}>
      <span class="place">${one.place ?? "–"}</span><span class="who"><strong>${one.name || "–"}</strong> <span class="quiet">${one.owner}</span></span>
      <span class="quiet">${one.why}</span><span class="number">${one.queued === null ? "–" : format.duration(serverNow(view) - one.queued)}</span>
    </li>`)}</ol>
  </section>`;
}

function Events({ events }) {
  if (!events.length) return null;
  const words = (event) => (Object.keys(event.link).length ? html`<a href=${href(event.link)}>${event.text}</a>` : event.text);
  return html`<section class="panel" aria-label="Events">
    <div class="tools-row"><h2>What changed lately</h2></div>
    <ol class="events">${events.map((event) => html`<li key=${event.number}>
      <time>${format.moment(event.at)}</time><span class="dot ${event.level || "hollow"}" aria-hidden="true"></span><span>${words(event)}</span>
    </li>`)}</ol>
  </section>`;
}
