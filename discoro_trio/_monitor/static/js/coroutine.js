// One coroutine: what it was called with, where it is or how it ended, and what it wrote.

import { html } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { FunctionLink, Missing, NodeLink, Progress, ServerLink, State, Trace, serverNow, useSeconds } from "./parts.js";
import { withNeighbours } from "./coroutines.js";
import { href } from "./route.js";

export function Coroutine({ view, query, may, ask }) {
  useSeconds();
  const { coroutine: one, missing, stack, waits, trace, alike, blocks, blocked_by: blockedBy, computation, owner } = view.head;
  if (missing !== undefined && missing !== null) return html`<${Missing} what="coroutine" name=${missing} />`;
  const runs = ["running", "blocked", "held up"].includes(one.state);
  const terminate = () => ask({
    action: "terminate",
    verb: "Terminate",
    title: "Terminate this coroutine?",
    warning: "It is cancelled and may clean up. If it still runs after the grace period, its server is replaced, and all that runs there is lost.",
    things: [{ id: one.id, name: one.name, detail: withNeighbours(one) }],
  });
  const facts = [
    ["Function", html`<${FunctionLink} name=${one.name} />`],
    ["Server", html`<${ServerLink} location=${one.server} />`],
    ["Computation", [computation, owner].filter(Boolean).join(" of ") || "–"],
    ["Began", format.moment(one.start)],
    [runs ? "Age" : "Took", format.duration((one.end ?? serverNow(view)) - one.start)],
    ["Progress", html`<${Progress} of=${one.progress} />`],
  ];
  return html`
    <div class="heading">
      <a class="crumb" href=${href({ view: "coroutines" })}>Coroutines</a><span class="crumb" aria-hidden="true">/</span>
      <h1>${one.name}</h1><${State} of=${one.state} />
      ${runs && one.can_end && may("terminate") && html`<div class="buttons"><button type="button" class="danger" onClick=${terminate}>Terminate …</button></div>`}
    </div>
    <section class="panel" aria-label="Facts">
      <dl class="facts-list">
        ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
        <div class="whole"><dt>Arguments</dt><dd class="mono">${one.args || "–"}</dd></div>
        ${one.error && html`<div class="whole"><dt>${one.state === "failed" ? "Error" : "Reason"}</dt><dd class="mono bad-text">${one.error}</dd></div>`}
      </dl>
    </section>
    ${blockedBy && !blocks && html`<p class="notice bad">Its server is blocked in <span class="mono">${blockedBy}</span>; this coroutine cannot go on. <a href=${href({ view: "server", key: one.server })}>Where it is blocked</a></p>`}
    ${trace && html`<${Trace} title="Traceback" text=${trace} note=${alike > 1 ? `of the first of ${format.count(alike)} that are alike` : ""} />`}
    ${runs && stack.length > 0 && html`<${Trace} title=${blocks ? "Where it blocks its server" : "Where it is now"} text=${stack.join("\n")} note=${waits ? `waits for ${waits}` : ""} />`}
    <section class="panel" aria-label="Output">
      <div class="tools-row"><h2>Output</h2><span class="count">${format.count(view.total)}</span></div>
      ${view.rows.length
        ? html`<ol class="lines mono" tabindex="0" aria-label="Lines, the newest first">${view.rows.map((line) => html`<li key=${line.id} class="short ${line.level}">
            <time>${format.clock(line.time, 3)}</time><span class="level">${line.level}</span><span>${line.text}</span></li>`)}</ol>`
        : html`<p class="empty">It has written nothing that is remembered.</p>`}
    </section>`;
}
