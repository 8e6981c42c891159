// The cluster: its sums, their last five minutes, and a row a node.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Graph } from "./graph.js";
import { Load, NodeLink, State, Stats } from "./parts.js";
import { Search, Table } from "./table.js";

const COLUMNS = [
  { id: "addr", label: "Address", width: 156, title: true, cell: (node) => html`<${NodeLink} addr=${node.addr} />` },
  { id: "name", label: "Name", width: 104, cell: (node) => node.name },
  { id: "platform", label: "Platform", quiet: true, hint: (node) => node.platform, full: true, cell: (node) => node.platform },
  { id: "state", label: "State", width: 112, cell: (node) => html`<${State} of=${node.state} />` },
  { id: "servers", label: "Servers", width: 80, number: true, cell: (node) => format.count(node.servers) },
  { id: "submitted", label: "Submitted", width: 98, number: true, cell: (node) => format.count(node.submitted) },
  { id: "done", label: "Done", width: 84, number: true, cell: (node) => format.count(node.done) },
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
    <h1 class="unseen">Cluster</h1>
    <${Stats} sums=${summary} />
    <div class="graphs">
      <${Graph} title="Ended a second" now=${format.rate(summary.rate)} times=${graphs.times} values=${graphs.rate} format=${format.count} />
      <${Graph} title="Running" now=${format.count(summary.running)} times=${graphs.times} values=${graphs.running} format=${format.count} />
      <${Graph} title="CPU" now=${format.percent(summary.cpu)} times=${graphs.times} values=${graphs.cpu} top=${100} format=${format.percent} />
      <${Graph} title="Memory" now=${format.percent(summary.memory)} times=${graphs.times} values=${graphs.memory} top=${100} format=${format.percent} />
    </div>
    <${Table} label="Nodes" columns=${COLUMNS} view=${view} query=${query} order="addr"
        empty=${query.text ? "No node contains that." : "No node yet. Nodes appear here as soon as they are found."}>
      <${Search} query=${query} label="Filter by address or name" />
    <//>`;
}
