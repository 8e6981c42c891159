// Tables of coroutines, of one server or of all, with the means to terminate those that are selected.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { CoroutineLink, Missing, NodeLink, Progress, ServerLink, State, Trace, serverNow, useSeconds } from "./parts.js";
import { Choice, Search, Table } from "./table.js";

const STATES = [["", "running"], ["ended", "ended, any way"], ["done", "done"], ["failed", "failed"], ["cancelled", "cancelled"], ["lost", "lost"], ["closed", "closed with its server"]];

function columns(view, ofServer, ended) {
  const age = (one) => format.duration((one.end ?? serverNow(view)) - one.start);
  return [
    { id: "name", label: "Name", width: 200, title: true, hint: (one) => one.name, cell: (one) => html`<${CoroutineLink} id=${one.id} name=${one.name} />` },
    !ofServer && { id: "server", label: "Server", width: 180, full: true, cell: (one) => html`<${ServerLink} location=${one.server} />` },
    ended
      ? { id: "error", label: "Error", wide: true, quiet: true, hint: (one) => one.error, cell: (one) => one.error }
      : { id: "args", label: "Arguments", wide: true, sort: false, quiet: true, hint: (one) => one.args, cell: (one) => one.args && html`<span class="mono">${one.args}</span>` },
    { id: "start", label: "Started", width: 96, number: true, cell: (one) => format.moment(one.start) },
    { id: "age", label: ended ? "Took" : "Age", width: 112, number: true, sort: false, cell: age },
    !ended && { id: "progress", label: "Progress", width: 230, full: true, sort: false, cell: (one) => html`<${Progress} of=${one.progress} />` },
    { id: "state", label: "State", width: 112, cell: (one) => html`<${State} of=${one.state} />` },
  ].filter(Boolean);
}

function useSelection(key) {
  const [chosen, setChosen] = useState(new Map());
  useEffect(() => setChosen(new Map()), [key]);
  const change = (rows, on) => {
    const next = new Map(chosen);
    for (const row of rows) on ? next.set(row.id, row) : next.delete(row.id);
    setChosen(next);
  };
  return {
    chosen,
    clear: () => setChosen(new Map()),
    choose: {
      has: (row) => chosen.has(row.id),
      name: (row) => row.name,
      toggle: (row) => change([row], !chosen.has(row.id)),
      all: change,
    },
  };
}

function CoroutineTable({ view, query, may, ask, ofServer, heading }) {
  useSeconds();
  const ended = Boolean(query.state);
  const selection = useSelection(`${query.view} ${query.key ?? ""} ${query.state ?? ""}`);
  const canEnd = !ended && may("terminate");
  const terminate = () => ask({
    action: "terminate",
    verb: "Terminate",
    title: selection.chosen.size === 1 ? "Terminate this coroutine?" : `Terminate ${selection.chosen.size} coroutines?`,
    warning: "They are cancelled and may clean up. If one still runs after the grace period, its server is replaced, and all that runs there is lost.",
    things: [...selection.chosen.values()].map((one) => ({ id: one.id, name: one.name, detail: withNeighbours(one) })),
    then: selection.clear,
  });
  return html`<${Table} label="Coroutines" columns=${columns(view, ofServer, ended)} view=${view} query=${query} heading=${heading}
      choose=${canEnd && view.rows.length ? selection.choose : null}
      empty=${query.text ? "No coroutine contains that." : ended ? "None of those is remembered." : "No coroutine runs here."}>
    <${Choice} query=${query} name="state" label="Show" options=${STATES} />
    <${Search} query=${query} label=${ofServer ? "Filter by name" : "Filter by name, server"} />
    ${canEnd && html`<button type="button" class="danger grow" disabled=${!selection.chosen.size} onClick=${terminate}>Terminate ${selection.chosen.size || ""} …</button>`}
  <//>`;
}

// Where a coroutine runs, and how many others would be lost if it had to be ended by force.
export const withNeighbours = (one) => (one.neighbours ? `${one.server}, where ${one.neighbours === 1 ? "1 other runs" : `${format.count(one.neighbours)} others run`}` : one.server);

export function Coroutines(props) {
  return html`<${CoroutineTable} ...${props} heading="h1" />`;
}

export function Server(props) {
  const { view, may, ask } = props;
  const { server, missing } = view.head;
  if (missing !== undefined && missing !== null) return html`<${Missing} what="server" name=${missing} />`;
  const restart = () => ask({
    action: "restart",
    verb: "Restart",
    title: "Restart this server?",
    warning: "Its process is replaced by a fresh one. All coroutines that run there are lost.",
    things: [{ id: server.location, name: server.location, detail: `${format.count(server.running)} running` }],
  });
  const figures = [
    ["Submitted", format.count(server.submitted)], ["Done", format.count(server.done)], ["Failed", format.count(server.failed)], ["Running", format.count(server.running)],
    ["CPU", format.percent(server.cpu)], ["Memory", format.bytes(server.memory)],
  ];
  return html`
    <div class="heading">
      <a class="crumb" href="/">Cluster</a><span class="crumb" aria-hidden="true">/</span>
      <span class="crumb"><${NodeLink} addr=${server.node} /></span><span class="crumb" aria-hidden="true">/</span>
      <h1>${server.location}</h1><${State} of=${server.state} />
      <span class="facts">${[server.name, server.pid && `process ${server.pid}`].filter(Boolean).join(" · ")}</span>
      ${may("restart") && html`<div class="buttons"><button type="button" onClick=${restart}>Restart …</button></div>`}
    </div>
    ${view.head.blocked !== null && view.head.blocked !== undefined && html`<${Trace} title="This server is blocked" text=${view.head.stack.join("\n") || "Where its thread is could not be found out."}
        note="no coroutine has reached a checkpoint for ${format.duration(view.head.blocked)}${view.head.blocked_in ? `, in ${view.head.blocked_in}` : ""}" />`}
    <dl class="stats panel six">${figures.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${CoroutineTable} ...${props} ofServer=${true} />`;
}
