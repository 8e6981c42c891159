// The dialogs: what an action would do to whom, how it went; and signing in.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { act, signIn } from "./session.js";

function Modal({ label, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${label} onClose=${onClose}>${children}</dialog>`;
}

// `asked`: {action, verb, title, warning, things: [{id, name, detail}]}
export function Confirm({ asked, onClose }) {
  const [results, setResults] = useState(null);
  const [busy, setBusy] = useState(false);
  const carryOut = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setResults(await act(asked.action, asked.things.map((thing) => thing.id)));
    } catch (error) {
      setResults(asked.things.map((thing) => ({ id: thing.id, ok: false, text: error.message })));
    }
    setBusy(false);
  };
  const result = (thing) => results?.find((one) => one.id === thing.id);
  return html`<${Modal} label=${asked.title} onClose=${() => onClose(results)}>
    <form onSubmit=${carryOut}>
      <h1>${asked.title}</h1>
      ${!results && html`<p>${asked.warning}</p>`}
      <ul tabindex="0" aria-label="What it is done to">
        ${asked.things.map((thing) => html`<li key=${thing.id}>
          <span>${thing.name}</span>
          <span class="quiet">${result(thing) ? `${result(thing).ok ? "✓" : "✗"} ${result(thing).text}` : thing.detail}</span>
        </li>`)}
      </ul>
      <p class="unseen" role="status">${results ? summaryOf(results) : ""}</p>
      <div class="buttons">
        ${results
          ? html`<button type="button" class="main" onClick=${() => onClose(results)}>Close</button>`
          : html`<button type="button" disabled=${busy} onClick=${() => onClose(null)}>Cancel</button>
              <button type="submit" class="danger" disabled=${busy}>${busy ? "Working …" : asked.verb}</button>`}
      </div>
    </form>
  <//>`;
}

function summaryOf(results) {
  const well = results.filter((one) => one.ok).length;
  return well === results.length ? `Done: ${well}.` : `Done: ${well}, failed: ${results.length - well}.`;
}

export function SignIn({ onClose, onSignedIn, required }) {
  const [error, setError] = useState("");
  const field = useRef(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await signIn(field.current.value);
      onSignedIn();
    } catch (problem) {
      setError(problem.message);
    }
  };
  return html`<${Modal} label="Sign in" onClose=${onClose}>
    <form onSubmit=${submit}>
      <h1>Sign in</h1>
      <p>The address that the monitor printed when it started carries its token; it is the part behind <code>#token=</code>.</p>
      <input ref=${field} type="password" aria-label="Token" autocomplete="current-password" required />
      <p role="alert" class="quiet">${error}</p>
      <div class="buttons">
        ${!required && html`<button type="button" onClick=${onClose}>Cancel</button>`}
        <button type="submit" class="main">Sign in</button>
      </div>
    </form>
  <//>`;
}
