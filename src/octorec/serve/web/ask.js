// Requests to the server's own API. A Refused says in words why there is no answer.
class Refused extends Error {
  constructor(message, wait = 0) {
    super(message);
    this.wait = wait;  // seconds, until it is worth another try
  }
}

async function ask(path, body, signal) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const options = { headers, signal, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response, found;
  try {
    response = await fetch(path, options);
    found = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(response ? `The server answered ${response.status}, and no JSON.` : "The server does not answer: is it still running?");
  }
  if (response.ok) return found;
  if (response.status === 401) askForToken();
  const wait = Number(response.headers.get("Retry-After"));
  throw new Refused(inWords(response.status, found.error || {}, wait), wait);
}

function inWords(status, error, wait) {
  const message = error.message || `status ${status}`;
  const later = wait ? ` Ask again in ${several(wait, "second")}.` : "";
  if (status === 401) return state.token ? "The server does not know this token." : "";
  if (status === 429) return `That was too much at once: ${message}.${later}`;
  const why = {
    queue_full: "The server is busy", overloaded: "The server is busy", not_ready: "The server is not ready yet",
    draining: "The server is shutting down", not_live: "The server does not work any more", deadline: "That took too long",
  }[error.type];
  if (why) return `${why}: ${message}.${later}`;
  if (status === 422 || status === 400) return `This cannot be asked: ${message}`;
  return `${message}.${later}`;
}

function askForToken() {
  at("token-form").hidden = false;
  at("main").hidden = true;
  at("token").value = "";
  at("token").focus();
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = at("token").value.trim();
  at("token").value = "";
  at("token-form").hidden = true;
  begin();
});
