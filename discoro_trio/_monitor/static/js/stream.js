// One WebSocket to the monitor: asks for a view, keeps its state up to date, and connects again by itself.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;

export class Stream {
  #socket = null;
  #query = null;
  #pause = FIRST_PAUSE;
  #heard = 0;
  #view = null;

  constructor({ onView, onState, onError }) {
    this.onView = onView;
    this.onState = onState;
    this.onError = onError;
    this.pollSeconds = 10;
    this.#connect();
    setInterval(() => this.#check(), 1000);
    addEventListener("online", () => this.#connect());
  }

  watch(query) {
    this.#query = query;
    this.#view = null;
    this.#ask();
  }

  again() {
    this.#socket?.close();
    this.#socket = null;
    this.#connect();
  }

  #connect() {
    if (this.#socket) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/v1/stream`);
    this.#socket = socket;
    this.#heard = Date.now();
    socket.onopen = () => {
      this.#pause = FIRST_PAUSE;
      this.#ask();
    };
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#take(JSON.parse(event.data));
    };
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.onState("lost");
      setTimeout(() => this.#connect(), this.#pause * (0.75 + Math.random() / 2));
      this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
    };
  }

  // A connection that says nothing for longer than it promised is taken for dead.
  #check() {
    if (this.#socket && Date.now() - this.#heard > 1000 * (this.pollSeconds + 5)) {
      const silent = this.#socket;
      silent.close();
      silent.onclose?.();
    }
  }

  #ask() {
    if (this.#query && this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ watch: this.#query }));
    }
  }

  #take(message) {
    this.#heard = Date.now();
    this.onState("live");
    if (message.type === "error") {
      this.onError(message.text);
      return;
    }
    if (message.type === "full") {
      this.#view = fromFull(message);
    } else if (message.type === "change") {
      if (!this.#view) return;
      if (message.seq !== this.#view.seq + 1) {
        this.watch(this.#query); // something was missed: begin anew
        return;
      }
      this.#view = changed(this.#view, message);
    } else if (message.type === "beat" && this.#view && message.as_of !== this.#view.asOf) {
      this.#view = { ...this.#view, asOf: message.as_of };
    } else {
      return;
    }
    this.onView(this.#view);
  }
}

export function fromFull({ seq, now, as_of: asOf, view, head, rows, total }) {
  return { seq, asOf, view, head, rows, total, ahead: now - Date.now() / 1000 };
}

export function changed(view, message) {
  const byId = new Map(view.rows.map((row) => [row.id, row]));
  for (const [id, fields] of Object.entries(message.rows ?? {})) byId.set(id, { ...byId.get(id), ...fields });
  const order = message.order ?? view.rows.map((row) => row.id);
  return {
    ...view,
    seq: message.seq,
    asOf: message.as_of,
    head: message.head ? { ...view.head, ...message.head } : view.head,
    rows: order.map((id) => byId.get(id)),
    total: message.total ?? view.total,
  };
}
