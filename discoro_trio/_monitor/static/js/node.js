// One node: what its machine does, and its servers.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Graph } from "./graph.js";
import { Load, Missing, ServerLink, State } from "./parts.js";
import { Search, Table } from "./table.js";

const COLUMNS = [
  { id: "location", label: "Server", width: 190, title: true, cell: (server) => html`<${ServerLink} location=${server.location} />` },
  { id: "name", label: "Name", cell: (server) => server.name },
  { id: "state", label: "State", width: 136, cell: (server) => html`<${State} of=${server.state} />` },
  { id: "pid", label: "Process", width: 96, number: true, cell: (server) => server.pid ?? "–" },
  { id: "submitted", label: "Submitted", width: 104, number: true, cell: (server) => format.count(server.submitted) },
  { id: "done", label: "Done", width: 96, number: true, cell: (server) => format.count(server.done) },
  { id: "failed", label: "Failed", width: 84, number: true, cell: (server) => format.count(server.failed) },
  { id: "running", label: "Running", width: 92, number: true, cell: (server) => format.count(server.running) },
  { id: "cpu", label: "CPU", width: 140, number: true, graphed: true, cell: (server) => html`<${Load} values=${server.cpu_history} top=${100} text=${format.percent(server.cpu)} />` },
  { id: "memory", label: "Memory", width: 156, number: true, graphed: true, cell: (server) => html`<${Load} values=${server.memory_history} text=${format.bytes(server.memory)} />` },
];

export function Node({ view, query, may, ask }) {
  const { node, times, missing } = view.head;
  if (missing !== undefined && missing !== null) return html`<${Missing} what="node" name=${missing} />`;
  const suspended = node.state === "suspended";
  const action = suspended ? "resume" : "suspend";
  const askTo = () => ask({
    action,
    verb: suspended ? "Resume" : "Suspend",
    title: suspended ? "Resume this node?" : "Suspend this node?",
    warning: suspended ? "New coroutines may start there again." : "No new coroutine starts there until it is resumed; those that run go on.",
    things: [{ id: node.addr, name: node.addr, detail: node.name }],
  });
  const part = (used, total) => (total ? `${format.bytes(used)} of ${format.bytes(total)}` : "–");
  return html`
    <div class="heading">
      <a class="crumb" href="/">Cluster</a><span class="crumb" aria-hidden="true">/</span>
      <h1>${node.addr}</h1><${State} of=${node.state} />
      <span class="facts">${[node.name, node.platform, node.cpus && `${node.cpus} ${node.cpus === 1 ? "processor" : "processors"}`].filter(Boolean).join(" · ")}</span>
      ${may(action) && html`<div class="buttons"><button type="button" onClick=${askTo}>${suspended ? "Resume" : "Suspend"} …</button></div>`}
    </div>
    <div class="graphs">
      <${Graph} title="CPU" now=${format.percent(node.cpu)} times=${times} values=${node.cpu_history} top=${100} format=${format.percent} />
      <${Graph} title="Memory" now=${part(node.memory, node.memory_total)} times=${times} values=${node.memory_history} top=${100} format=${format.percent} />
      <${Graph} title="Disk" now=${part(node.disk, node.disk_total)} times=${times} values=${node.disk_history} top=${100} format=${format.percent} />
    </div>
    <${Table} label="Servers" columns=${COLUMNS} view=${view} query=${query} order="location" empty="This node has no servers.">
      <${Search} query=${query} label="Filter by location, name" />
    <//>`;
}
