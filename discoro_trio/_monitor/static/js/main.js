// The page: its bar, the view that the address names, dialogs, and what it says when the connection is lost.

import { html, render, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { Cluster } from "./cluster.js";
import { Computations } from "./computations.js";
import { Coroutine } from "./coroutine.js";
import { Coroutines, Server } from "./coroutines.js";
import { Confirm, SignIn } from "./dialog.js";
import * as format from "./format.js";
import { Failures, Function } from "./functions.js";
import { Node } from "./node.js";
import { Output } from "./output.js";
import { follow, forServer, go, href, useRoute } from "./route.js";
import * as session from "./session.js";
import { Stream } from "./stream.js";
import { startTheme, ThemeButton } from "./theme.js";
import { Tree } from "./tree.js";
import { Timeline } from "./timeline.js";

const VIEWS = { cluster: Cluster, node: Node, server: Server, coroutines: Coroutines, coroutine: Coroutine, function: Function, failures: Failures, tree: Tree, computations: Computations, timeline: Timeline, output: Output };
const MENU = [["cluster", "Now"], ["coroutines", "Coroutines"], ["failures", "Failures"], ["tree", "Tree"], ["computations", "Computations"], ["timeline", "Timeline"], ["output", "Output"]];
const PACES = [["", "as it happens"], ["1", "every second"], ["5", "every 5 s"], ["10", "every 10 s"], ["60", "every minute"]];
const LOST_FOR = 1500; // milliseconds until a lost connection is worth a notice

function useStream(query, allowed, poll) {
  const [view, setView] = useState(null);
  const [state, setState] = useState("connecting");
  const [error, setError] = useState("");
  const stream = useRef(null);
  const asked = JSON.stringify(forServer(query));
  useEffect(() => {
    if (!allowed) return;
    stream.current ??= new Stream({ onView: setView, onState: setState, onError: setError });
    stream.current.pollSeconds = poll;
    setError("");
    stream.current.watch(JSON.parse(asked));
  }, [asked, allowed, poll]);
  return { view, state, error };
}

function useSession() {
  const [known, setKnown] = useState(null);
  const [error, setError] = useState("");
  const refresh = async () => {
    try {
      setKnown(await session.look());
    } catch {
      setTimeout(refresh, 2000);
    }
  };
  useEffect(() => {
    session.signInByAddress().then(setError).then(refresh);
  }, []);
  return { known, refresh, error };
}

function Bar({ query, state, stale, asOf, known, signIn }) {
  const parent = { node: "cluster", server: "cluster", coroutine: "coroutines", function: "coroutines" }[query.view] ?? query.view;
  const paced = (event) => go({ ...query, every: event.target.value }, { replace: true });
  const keep = (view) => href({ view, every: query.every });
  return html`<header class="bar">
    <a class="brand" href="/"><img src="/static/icon.svg" alt="" width="20" height="20" />discoro</a>
    <nav aria-label="Views">${MENU.map(([view, label]) => html`<a key=${view} href=${keep(view)} aria-current=${parent === view ? "page" : null}>${label}</a>`)}</nav>
    <div class="tools">
      <span class="live" role="status"><span class="dot ${state !== "live" ? "warn" : stale ? "bad" : "good"}" aria-hidden="true"></span>${state === "live" ? (stale ? `${stale} s old` : "live") : state === "lost" ? "reconnecting" : "connecting"}</span>
      ${asOf && html`<span class="as-of">as of <time datetime=${new Date(asOf * 1000).toISOString()}>${format.moment(asOf)}</time></span>`}
      <label class="pace"><span class="unseen">Updates</span><select value=${query.every ?? ""} onChange=${paced}>
        ${PACES.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}
      </select></label>
      ${known && !known.act && (known.read_only ? html`<span class="quiet">read-only</span>` : html`<button type="button" onClick=${signIn}>Sign in</button>`)}
      <${ThemeButton} />
    </div>
  </header>`;
}

function useLate(state) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (state === "live") {
      setLate(false);
      return undefined;
    }
    const timer = setTimeout(() => setLate(true), LOST_FOR);
    return () => clearTimeout(timer);
  }, [state]);
  return late;
}

function App() {
  const query = useRoute();
  const { known, refresh, error: signInError } = useSession();
  const { view, state, error } = useStream(query, known?.look, known?.poll_sec ?? 10);
  const [asked, setAsked] = useState(null);
  const [signing, setSigning] = useState(false);
  const late = useLate(state);
  const may = (action) => Boolean(known?.act && known.actions.includes(action));
  const signedIn = () => {
    setSigning(false);
    refresh();
  };
  const answered = (results) => {
    if (results) asked.then?.();
    setAsked(null);
  };
  useEffect(() => {
    const title = [query.key, (MENU.find(([name]) => name === query.view) ?? [])[1]].filter(Boolean)[0];
    document.title = title ? `${title} · discoro monitor` : "discoro monitor";
  }, [query.view, query.key]);
  const stale = view?.head?.summary?.stale ?? null;
  const View = VIEWS[query.view];
  const shown = view && view.view === query.view && View;
  return html`
    <${Bar} query=${query} state=${state} stale=${stale} asOf=${view?.asOf} known=${known} signIn=${() => setSigning(true)} />
    <div role="alert">
      ${known?.look && late && state !== "live" && html`<p class="notice bad" style=${{ margin: 0 }}>The connection to the monitor is lost. It is tried again by itself; what you see is the last known state.</p>`}
      ${state === "live" && stale > 0 && html`<p class="notice bad" style=${{ margin: 0 }}>The scheduler has not answered for ${stale} s. What you see is the last known state.</p>`}
      ${(error || signInError) && html`<p class="notice bad" style=${{ margin: 0 }}>${error || signInError}</p>`}
    </div>
    <main id="content" tabindex="-1">
      ${shown ? html`<${View} view=${view} query=${query} may=${may} ask=${setAsked} />` : html`<p class="loading">${!View ? "There is no such view." : error ? "This address cannot be shown." : "Loading …"} ${(error || !View) && html`<a href="/">Back to the first page</a>`}</p>`}
    </main>
    ${asked && html`<${Confirm} asked=${asked} onClose=${answered} />`}
    ${(signing || (known && !known.look)) && html`<${SignIn} required=${!known.look} onSignedIn=${signedIn} onClose=${() => setSigning(false)} />`}`;
}

startTheme();
addEventListener("click", follow);
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
