// The view's state lives in the address: what is shown can be bookmarked, sent on, and gone back to.

import { useEffect, useState } from "../vendor/preact-htm.js";

// What only the page needs; all others are the server's query.
const OF_THE_PAGE = new Set(["show", "fold"]);

export function read() {
  const query = Object.fromEntries(new URLSearchParams(location.search));
  query.view ??= "cluster";
  return query;
}

export function href(query) {
  const kept = Object.entries(query).filter(([name, value]) => value && !(name === "view" && value === "cluster"));
  const text = new URLSearchParams(kept).toString();
  return text ? `/?${text}` : "/";
}

export function go(query, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href(query));
  dispatchEvent(new Event("route"));
}

export const forServer = (query) => Object.fromEntries(Object.entries(query).filter(([name]) => !OF_THE_PAGE.has(name)));

export function useRoute() {
  const [query, setQuery] = useState(read);
  useEffect(() => {
    const changed = () => setQuery(read());
    addEventListener("popstate", changed);
    addEventListener("route", changed);
    return () => {
      removeEventListener("popstate", changed);
      removeEventListener("route", changed);
    };
  }, []);
  return query;
}

// Links within the page change the address without loading it anew.
export function follow(event) {
  const link = event.target.closest?.("a[href^='/?'], a[href='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  dispatchEvent(new Event("route"));
  scrollTo(0, 0);
}
