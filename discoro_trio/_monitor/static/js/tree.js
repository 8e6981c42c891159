// The live tree: processes, nurseries, coroutines, what each waits for, and circles.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { CoroutineLink } from "./parts.js";

export function Tree({ view }) {
  const { processes, circle } = view.head;
  return html`
    ${circle.length > 0 && html`<section class="panel verdict bad" aria-label="Circle">
      <p role="status"><span class="dot bad" aria-hidden="true"></span><strong>These all send to each other, and none of them receives</strong></p>
      <ul>${circle.map((line) => html`<li key=${line} class="bad-text mono">${line}</li>`)}</ul>
    </section>`}
    <section class="panel" aria-label="Tree">
      <div class="tools-row"><h1>Tree</h1><span class="count">${format.count(processes.length)} ${processes.length === 1 ? "process" : "processes"}</span></div>
      ${processes.length ? html`<ul class="tree">${processes.map((one) => html`<${Process} key=${one.id} one=${one} />`)}</ul>` : html`<p class="empty">The processes are being asked …</p>`}
    </section>`;
}

function Process({ one }) {
  return html`<li><details>
    <summary><span class="dot ${one.answers ? "good" : "bad"}" aria-hidden="true"></span> <strong>${one.name}</strong> <span class="quiet">${one.answers ? `${format.count(size(one.tasks))} ${size(one.tasks) === 1 ? "task" : "tasks"}` : "does not answer"}</span></summary>
    ${one.stack.length > 0 && html`<pre class="trace mono" tabindex="0">${one.stack.join("\n")}</pre>`}
    <${Tasks} tasks=${one.tasks} />
    ${one.coroutines.length > 0 && html`<p class="quiet">Ran there when it last reported: ${one.coroutines.join(", ")}</p>`}
    ${one.left_out > 0 && html`<p class="quiet">and ${format.count(one.left_out)} more tasks</p>`}
  </details></li>`;
}

const size = (tasks) => tasks.reduce((sum, task) => sum + 1 + size(task.tasks), 0);

const Tasks = ({ tasks }) => (tasks.length ? html`<ul>${tasks.map((task, index) => html`<${Task} key=${`${index} ${task.name}`} task=${task} />`)}</ul>` : null);

function Task({ task }) {
  const words = html`${task.coro ? html`<${CoroutineLink} id=${task.coro} name=${task.name} />` : html`<span>${task.name}</span>`}
    ${task.nursery && html` <span class="quiet">in ${task.nursery}</span>`}${task.waits && html` <span class="waits">${task.waits}</span>`}
    ${task.stack.map((line) => html`<span class="quiet mono where">${line}</span>`)}`;
  return task.tasks.length
    ? html`<li><details open><summary>${words}</summary><${Tasks} tasks=${task.tasks} /></details></li>`
    : html`<li class="leaf">${words}</li>`;
}
