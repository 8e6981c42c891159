// Light or dark: as the system says, until somebody chooses.

import { html, useState } from "../vendor/preact-htm.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => localStorage.getItem("theme");
const current = () => chosen() ?? (system.matches ? "dark" : "light");

function apply() {
  document.documentElement.dataset.theme = current();
  dispatchEvent(new Event("theme"));
}

export function startTheme() {
  apply();
  system.addEventListener("change", apply);
}

export function ThemeButton() {
  const [theme, setTheme] = useState(current);
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    if ((system.matches ? "dark" : "light") === other) localStorage.removeItem("theme");
    else localStorage.setItem("theme", other);
    apply();
    setTheme(other);
  };
  return html`<button type="button" class="plain" onClick=${change} aria-label="Use ${other} colours" title="Use ${other} colours">${theme === "dark" ? "☀" : "☾"}</button>`;
}
