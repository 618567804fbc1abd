/* HTTP with the server: the page's token goes with every request, and a refusal speaks the server's own sentence. */

const REQUEST_MS = 10000;
const TOKEN = new URLSearchParams(location.search).get('token');

/**
 * GET /config: what the server has.
 * @typedef {object} Config
 * @property {string} avatar its name
 * @property {string} marking says that it is synthetic
 * @property {number} lookahead_ms of the lips
 * @property {RTCIceServer[]} ice_servers
 * @property {{name: string, may_change: boolean} | null} shared the session that everyone sees: the name of its source, and
 *   whether its viewers may choose another
 * @property {boolean} server_microphone whether the server can listen
 * @property {number} max_file_bytes that it takes
 */

/**
 * GET /sessions/{id}: how a session fares.
 * @typedef {object} SessionStatus
 * @property {boolean} shared
 * @property {number} viewers
 * @property {{kind: string, name: string, state: string, message: string | null}} source state: live, waiting, ended or lost
 * @property {{sample: number, time_ms: number}} arrival when a sample of the speech came, 16 kHz, by the server's clock
 * @property {{rendered: number, late: number, dropped: number}} frames so far
 * @property {{silence: number, discarded: number, bad: number}} samples so far
 * @property {string[]} given_up what is left out so that it keeps up
 * @property {number | null} fps
 * @property {number} lookahead_ms
 * @property {number} buffer_ms how long live speech waits on the server, as the lateness of its packets needs
 * @property {number} drift_ms of the source's clock
 * @property {Record<string, {p50: number, p95: number, p99: number}>} stages_ms
 */

/**
 * GET /viewers/{id}: how the session of a viewer fares, and what is the viewer's own.
 * @typedef {object} ViewerStatus
 * @property {number} time_ms by the server's clock, when it answered
 * @property {{codec: string, rtp_origin: number | null}} video RTP timestamp of frame 0, 90 kHz; null at first
 */

/** @typedef {SessionStatus & Partial<ViewerStatus>} Status the viewer's part is missing if only the session was asked */

/** An answer that is not 2xx; the message is the server's sentence. */
export class Refusal extends Error {
  /**
   * @param {number} code status of the answer
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** Whether asking again can help: the server is starting, full, or behind a proxy that misses it. */
  get passes() {
    return this.code >= 500 || [404, 408, 429].includes(this.code);
  }
}

/**
 * The server's answer. Throws a Refusal if it is not 2xx, an Error if none comes, the signal's reason if that aborts.
 * @param {string} path relative to the page
 * @param {RequestInit & {timeout_ms?: number}} [options]
 */
export async function request(path, { signal, timeout_ms = REQUEST_MS, ...options } = {}) {
  const headers = { ...options.headers, ...(TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {}) };
  const signals = [AbortSignal.timeout(timeout_ms), ...(signal ? [signal] : [])];
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', ...options, headers, signal: AbortSignal.any(signals) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error(options.body instanceof Blob
      ? 'The file could not be sent: either it can no longer be read, or the server does not answer.'
      : 'The server does not answer.');
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error ?? `The server answered ${response.status} ${response.statusText}.`);
}

/**
 * The JSON at a path.
 * @param {string} path
 * @param {{signal?: AbortSignal, timeout_ms?: number}} [options]
 * @returns {Promise<any>}
 */
export async function get(path, options) {
  return (await request(path, options)).json();
}

/**
 * Sends JSON; the JSON that is answered.
 * @param {string} path
 * @param {object} body
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function post(path, body, options) {
  const headers = { 'Content-Type': 'application/json' };
  return (await request(path, { method: 'POST', body: JSON.stringify(body), headers, ...options })).json();
}

/**
 * Where a session takes something new to say.
 * @param {string} session as POST /offer named it
 * @param {string} what source or file?name=...
 */
export const sessionPath = (session, what) => `sessions/${encodeURIComponent(session)}/${what}`;

/** @param {string} viewer as POST /offer named it */
export const viewerPath = (viewer) => `viewers/${encodeURIComponent(viewer)}`;
