// Signing in with the token, and actions.

async function call(method, path, body) {
  const options = { method, credentials: "same-origin", headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const content = await response.json();
  if (!response.ok) throw new Error(content.error ?? response.statusText);
  return content;
}

export const look = () => call("GET", "/api/v1/session");
export const signIn = (token) => call("POST", "/api/v1/session", { token });
export const act = async (action, ids) => (await call("POST", `/api/v1/actions/${action}`, { ids })).results;

// The address that the program prints carries the token behind "#", which is never sent, and is removed at once.
export async function signInByAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return "";
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await signIn(token);
    return "";
  } catch (error) {
    return `Not signed in: ${error.message}.`;
  }
}
