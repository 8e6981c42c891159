// A table whose sorting, filter and page are in the address, and are carried out at the server.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { count } from "./format.js";
import { go, href } from "./route.js";

const PAGE_SIZES = [25, 50, 100, 250];
const TYPING_PAUSE = 250;

// Columns: {id, label, width (px, or what is left), number, sort (the server's name, false for none), cell(row), hint(row)};
// spare: left out where there is little room; on a phone: title (the card's heading), full and wide and graphed (a line of its own).
const LEAST_WIDTH = 96;
const narrow = matchMedia("(max-width: 1160px)");
const medium = matchMedia("(max-width: 1360px)");
const SPARK = 64; // the width of a small graph and its gap
const widthOf = (column) => (column.width ?? LEAST_WIDTH) - (medium.matches && column.graphed ? SPARK : 0);
const leastWidth = (columns, choose) => columns.filter((column) => !(medium.matches && column.spare)).reduce((sum, column) => sum + widthOf(column), choose ? 44 : 0);

// Draws again when the window gets so wide or narrow that other columns fit.
function useWidth() {
  const [, again] = useState(0);
  useEffect(() => {
    const changed = () => again((number) => number + 1);
    for (const one of [narrow, medium]) one.addEventListener("change", changed);
    return () => {
      for (const one of [narrow, medium]) one.removeEventListener("change", changed);
    };
  }, []);
}

export function Table({ label, columns, view, query, order = "", heading = "h2", choose = null, empty = "Nothing here.", children }) {
  useWidth();
  const size = Number(query.size ?? 50);
  const page = Number(query.page ?? 1);
  const sort = query.sort ?? order;
  const [rows, held] = useHeld(view.rows, JSON.stringify(query));
  const set = (changes) => go({ ...query, page: "", ...changes });
  return html`<section class="panel" aria-label=${label}>
    <div class="tools-row">
      <${heading}>${label}<//>
      <span class="count" role="status">${count(view.total)}</span>
      ${children}
      <${SortChoice} columns=${columns} sort=${sort} set=${set} />
    </div>
    ${view.rows.length
      ? html`<div class="scroll"><table role="table" aria-label=${label} style=${{ minWidth: narrow.matches ? "" : `${leastWidth(columns, choose)}px` }}>
          <colgroup>${choose && html`<col style=${{ width: "44px" }} />`}${columns.map((column) => html`<col key=${column.id} class=${column.spare ? "spare" : ""} style=${{ width: column.width ? `${widthOf(column)}px` : "auto" }} />`)}</colgroup>
          <${Head} columns=${columns} sort=${sort} set=${set} choose=${choose} rows=${view.rows} />
          <tbody role="rowgroup" ...${held}>${rows.map((row) => html`<${Row} key=${row.id} row=${row} columns=${columns} choose=${choose} />`)}</tbody>
        </table></div>`
      : html`<p class="empty">${view.total ? html`There is no page ${count(page)}. <a href=${href({ ...query, page: "" })}>Back to the first</a>` : empty}</p>`}
    <${Pager} total=${view.total} page=${page} size=${size} query=${query} />
  </section>`;
}

// Rows keep their places while a mouse is over them: what comes is shown when it leaves, what goes stays until then.
// What a person asks for (another order, filter or page) is shown at once, wherever the mouse is.
function useHeld(rows, key) {
  const held = useRef(rows);
  const [over, setOver] = useState(false);
  useEffect(() => setOver(false), [key]);
  if (over) {
    const byId = new Map(rows.map((row) => [row.id, row]));
    held.current = held.current.map((row) => byId.get(row.id) ?? row);
  } else {
    held.current = rows;
  }
  const entered = (event) => event.pointerType === "mouse" && setOver(true);
  return [held.current, { onPointerEnter: entered, onPointerLeave: () => setOver(false) }];
}

const sortName = (column) => (column.sort === undefined ? column.id : column.sort);

function turned(sort, column) {
  const name = sortName(column);
  if (sort === name) return `-${name}`;
  if (sort === `-${name}`) return name;
  return column.number ? `-${name}` : name; // of numbers the large ones are wanted first
}

function Head({ columns, sort, set, choose, rows }) {
  const heading = (column) => {
    const name = sortName(column);
    const way = sort === name ? "ascending" : sort === `-${name}` ? "descending" : null;
    const classes = ["number", "spare"].filter((part) => column[part]).join(" ");
    const mark = way === "ascending" ? "▲" : way === "descending" ? "▼" : "";
    return html`<th key=${column.id} role="columnheader" scope="col" class=${classes} aria-sort=${way}>
      ${name ? html`<button type="button" onClick=${() => set({ sort: turned(sort, column) })}>${column.label}<span class="way" aria-hidden="true">${mark}</span></button>` : column.label || html`<span class="unseen">Actions</span>`}
    </th>`;
  };
  return html`<thead role="rowgroup"><tr role="row">
    ${choose && html`<th role="columnheader" ><${ChooseAll} choose=${choose} rows=${rows} /></th>`}
    ${columns.map(heading)}
  </tr></thead>`;
}

function Row({ row, columns, choose }) {
  const chosen = choose?.has(row);
  return html`<tr role="row" class="${chosen ? "selected" : ""} ${choose ? "can-choose" : ""}">
    ${choose && html`<td role="cell" class="choose"><input type="checkbox" aria-label="Select ${choose.name(row)}" checked=${chosen} onChange=${() => choose.toggle(row)} /></td>`}
    ${columns.map((column) => {
      const classes = ["number", "wide", "full", "title", "graphed", "quiet", "spare", "wraps"].filter((name) => column[name]).join(" ");
      const hint = column.hint?.(row);
      return html`<td key=${column.id} role="cell" class=${classes} data-label=${column.label} title=${hint}><span class="cell">${column.cell(row)}</span></td>`;
    })}
  </tr>`;
}

function ChooseAll({ choose, rows }) {
  const box = useRef(null);
  const chosen = rows.filter((row) => choose.has(row)).length;
  useEffect(() => {
    box.current.indeterminate = chosen > 0 && chosen < rows.length;
  });
  return html`<input ref=${box} type="checkbox" aria-label="Select all of this page" checked=${chosen === rows.length} onChange=${() => choose.all(rows, chosen < rows.length)} />`;
}

function SortChoice({ columns, sort, set }) {
  const options = columns.filter(sortName).flatMap((column) => [
    [sortName(column), `${column.label} ▲`],
    [`-${sortName(column)}`, `${column.label} ▼`],
  ]);
  return html`<label class="field phone-sort">Sort
    <select value=${sort} onChange=${(event) => set({ sort: event.target.value })}>
      ${!sort && html`<option value="">newest first</option>`}
      ${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select>
  </label>`;
}

export function Pager({ total, page, size, query }) {
  const pages = Math.max(1, Math.ceil(total / size));
  if (total <= PAGE_SIZES[0]) return null;
  const turn = (to) => go({ ...query, page: to > 1 ? String(to) : "" });
  const first = total ? (page - 1) * size + 1 : 0;
  return html`<nav class="pager" aria-label="Pages">
    <span class="count">${count(Math.min(first, total))} – ${count(Math.min(total, page * size))} of ${count(total)}</span>
    <label class="field"><span class="unseen">Rows of a page</span>
      <select value=${String(size)} onChange=${(event) => go({ ...query, page: "", size: event.target.value })}>
        ${PAGE_SIZES.map((one) => html`<option key=${one} value=${String(one)}>${one} rows</option>`)}
      </select>
    </label>
    <button type="button" disabled=${page <= 1} onClick=${() => turn(page - 1)} aria-label="Previous page">‹</button>
    <span class="count">${count(page)} / ${count(pages)}</span>
    <button type="button" disabled=${page >= pages} onClick=${() => turn(page + 1)} aria-label="Next page">›</button>
  </nav>`;
}

export function Search({ query, label = "Filter" }) {
  const [text, setText] = useState(query.text ?? "");
  const timer = useRef(0);
  useEffect(() => setText(query.text ?? ""), [query.text]);
  const typed = (event) => {
    const value = event.target.value;
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go({ ...query, text: value, page: "" }, { replace: true }), TYPING_PAUSE);
  };
  return html`<input type="search" maxlength="200" placeholder=${label} aria-label=${label} value=${text} onInput=${typed} />`;
}

export function Choice({ query, name, label, options }) {
  const chosen = (event) => go({ ...query, [name]: event.target.value, page: "" });
  return html`<label class="field">${label}
    <select value=${query[name] ?? ""} onChange=${chosen}>
      ${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select>
  </label>`;
}
