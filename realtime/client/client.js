/*
 * Miravox in the browser: speech goes up, the portrait that says it comes down.
 *
 * The file reads in the direction of the data:
 *
 *   config -> source (microphone, file) -> connect -> frames -> status -> recovery -> page
 *
 * `choice` is what the person wants to see, `link` is the connection that shows it. A run (Start to Stop) is one loop,
 * keepConnected(); everything that ends a connection calls link.lose(reason), and the loop makes the next one.
 * Measuring programs read window.miravox, which is written nowhere else.
 */

import { marked } from './marking.js';

const BACKOFF_MS = [500, 1000, 2000, 4000, 5000]; // the last one for ever
const GATHERING_MS = 2000; // candidates found later are not waited for
const REQUEST_MS = 10000;
const FIRST_FRAME_MS = 10000;
const DISCONNECTED_MS = 2000; // so long a connection may be "disconnected" before it counts as lost
const STALLED_MS = 3000; // no frame for so long, and no answer either: the server is gone
const POLL_MS = 1000;
const POLL_TIMEOUT_MS = 2000;
const OFFSETS = 20; // the clock offset is that of the quickest of so many requests
const SPEECH_BUFFER_MS = 70;
const UPLINK_MS = 8; // capture and Opus (its 6.5 ms of lookahead), measured in Chromium; the sound card's own delay is not known
const SAMPLES_PER_MS = 16;
const RTP_CYCLE = 2 ** 32;
const SAMPLES_PER_TICK = 16000 / 90000;
const FRAMES_KEPT = 1500; // a minute
const MEDIAN_MS = 2000; // the figures shown are medians over so long
const CHART_SECONDS = 60;
const METER_FLOOR_DB = -60;
const RECORDINGS = [ // in the order of preference
  'video/mp4;codecs=avc1.42E01E,mp4a.40.2', 'video/mp4;codecs=avc1.42E01E,opus', 'video/mp4',
  'video/webm;codecs=vp8,opus', 'video/webm',
];
const SWITCH = Symbol('the next session replaces this one');

const byId = (id) => document.getElementById(id);
const now = () => performance.now();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const video = byId('video');

let config = null; // GET /config
let choice = { kind: 'browser', file: null }; // replaced, never changed: two choices are the same if they are the same object
let keptFile = null; // the file that was last chosen, for when the person comes back to it
let microphone = null; // MediaStreamTrack, open only while it is used
let muted = false;
let run = null; // AbortController from Start to Stop
let link = null; // the connection whose frames are shown
let status = null; // GET /sessions/{id}
let state = 'idle';

// ---------------------------------------------------------------------------------------------------------------- requests

const token = new URLSearchParams(location.search).get('token');

/** An answer that is not 2xx; the message is the server's sentence. */
class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** Whether asking again can help: the server is starting, full, or behind a proxy that misses it. */
  get passes() {
    return this.code >= 500 || [404, 408, 429].includes(this.code);
  }
}

async function request(path, { signal, timeout = REQUEST_MS, ...options } = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const signals = [AbortSignal.timeout(timeout)];
  if (signal) signals.push(signal);
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

const get = async (path, options) => (await request(path, options)).json();
const post = async (path, body, options) => (await request(path, {
  method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' }, ...options,
})).json();

const sessionPath = (id, rest = '') => `sessions/${encodeURIComponent(id)}${rest}`;

// ------------------------------------------------------------------------------------------------------------------ config

/** Learns what the server has. A source that it has not is no longer chosen; whether the choice still stands. */
async function loadConfig(signal) {
  const first = config === null;
  config = await get('config', { signal });
  const gone = (choice.kind === 'shared' && !config.shared) || (choice.kind === 'mic' && !config.server_microphone);
  if (first && config.shared && choice.kind === 'browser') choice = { kind: 'shared', file: null };
  else if (gone) choice = { kind: config.shared ? 'shared' : 'browser', file: null };
  render();
  return !gone;
}

/** The avatar at rest; fetched rather than linked, since an image element cannot carry the token. */
async function loadPoster() {
  const picture = await (await request('poster.jpg', { cache: 'default' })).blob();
  video.poster = URL.createObjectURL(picture);
}

// -------------------------------------------------------------------------------------------------------------- preferences

/** Storage may be forbidden; then nothing is remembered, and nothing else changes. */
function recall(name) {
  try { return localStorage.getItem(`miravox.${name}`); } catch { return null; }
}

function remember(name, value) {
  try { localStorage.setItem(`miravox.${name}`, value); } catch { /* see recall */ }
}

/** Whether the avatar is heard. Not with one's own microphone unless asked for: it would come back into it. */
function hears(kind = choice.kind) {
  return (recall(`hear.${kind}`) ?? String(kind !== 'browser')) === 'true';
}

// --------------------------------------------------------------------------------------------------------------- microphone

const MICROPHONE_ADVICE = {
  NotAllowedError: 'The microphone is not allowed for this page. '
    + 'Allow it in the browser’s address bar (the icon beside the address), then try again.',
  NotFoundError: 'No microphone was found. Plug one in or switch it on, then try again.',
  NotReadableError: 'The microphone is in use by another program or did not start. Close that program, then try again.',
  insecure: 'Browsers give a microphone only to pages opened by https:// or on localhost. Open this page that way, then try again.',
};

class MicrophoneError extends Error {
  constructor(name, detail) {
    super(MICROPHONE_ADVICE[name] ?? `The microphone did not open (${detail}). Choose another device, then try again.`);
  }
}

/** Opens the chosen device, or the default one where it is gone, in place of the one that is open. */
async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) throw new MicrophoneError('insecure');
  const device = recall('microphone');
  const audio = { echoCancellation: hears(), noiseSuppression: false, autoGainControl: true, channelCount: 1 };
  if (device) audio.deviceId = { ideal: device };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new MicrophoneError(error.name, error.message || error.name);
  }
  closeMicrophone();
  microphone = stream.getAudioTracks()[0];
  microphone.enabled = !muted;
  microphone.addEventListener('ended', () => void microphoneLost());
  meter.open(stream);
  await listMicrophones(); // the names are told only to those who may listen
}

function closeMicrophone() {
  const track = microphone;
  microphone = null; // first, so that 'ended' finds it is not missed
  track?.stop();
  meter.close();
}

/** The device was unplugged: the default one instead, else silence. */
async function microphoneLost() {
  if (!microphone || microphone.readyState === 'live') return;
  const name = microphone.label || 'The microphone';
  closeMicrophone();
  await link?.sender.replaceTrack(null).catch(() => {});
  if (await reopenMicrophone()) tell(`${name} was disconnected; ${microphone.label || 'the default microphone'} is used instead.`);
  else tell(`${name} was disconnected, and there is no other: the avatar hears silence until one is plugged in.`);
}

/** Puts the microphone of the moment on the connection; whether there is one. */
async function reopenMicrophone() {
  try {
    await openMicrophone();
    if (choice.kind === 'browser' && run) await link?.sender.replaceTrack(microphone);
    else closeMicrophone();
    return true;
  } catch {
    return false;
  }
}

async function listMicrophones() {
  if (!navigator.mediaDevices?.enumerateDevices) return;
  const devices = (await navigator.mediaDevices.enumerateDevices().catch(() => []))
    .filter((device) => device.kind === 'audioinput' && !['', 'default', 'communications'].includes(device.deviceId));
  const select = byId('device');
  const options = devices.map((device, index) => new Option(device.label || `Microphone ${index + 1}`, device.deviceId));
  select.replaceChildren(new Option('Default microphone', ''), ...options);
  select.value = recall('microphone') ?? '';
  if (select.selectedIndex < 0) select.value = '';
}

async function devicesChanged() {
  await listMicrophones();
  if (state === 'live' && choice.kind === 'browser' && !microphone && await reopenMicrophone()) {
    tell(`${microphone.label || 'A microphone'} is used.`);
  }
}

/** Level of the microphone; quieter than METER_FLOOR_DB is 0, full scale is 1. */
const meter = {
  context: null,
  nodes: [],
  timer: 0,

  open(stream) {
    this.close();
    this.context ??= new AudioContext();
    void this.context.resume();
    const analyser = new AnalyserNode(this.context, { fftSize: 1024 });
    const source = new MediaStreamAudioSourceNode(this.context, { mediaStream: stream });
    source.connect(analyser);
    this.nodes = [source, analyser];
    const samples = new Float32Array(analyser.fftSize);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      this.show(muted ? 0 : 1 - (10 * Math.log10(power + 1e-12)) / METER_FLOOR_DB);
    }, 80);
  },

  close() {
    clearInterval(this.timer);
    for (const node of this.nodes) node.disconnect();
    this.nodes = [];
    if (this.context?.state === 'running') void this.context.suspend();
    this.show(0);
  },

  show(level) {
    const bounded = Math.min(1, Math.max(0, level));
    byId('meter').setAttribute('aria-valuenow', String(Math.round(100 * bounded)));
    byId('meter').firstElementChild.style.setProperty('--level', bounded.toFixed(2));
  },
};

// ------------------------------------------------------------------------------------------------------------------ source

let changes = Promise.resolve(); // changes of source happen one after the other

/** The person chooses who speaks; takes effect at once if something is shown, at Start otherwise. */
function choose(kind, file = null) {
  const keptBefore = keptFile;
  keptFile = file ?? keptFile;
  choice = { kind, file: kind === 'file' ? keptFile : null };
  tell('');
  offerSample(false);
  render();
  if (!run && ['idle', 'stopped'].includes(state)) setState('idle', invitation());
  if (!link || state !== 'live' || (kind === 'file' && !choice.file)) return; // while connecting, see settle()
  const wanted = choice;
  changes = changes.then(async () => {
    if (wanted !== choice || !link || link.choice === wanted) return;
    try {
      await changeSource(link, wanted);
    } catch (error) {
      if (wanted !== choice || !run || !link) return;
      choice = link.choice;
      if (error instanceof Refusal && !error.passes && kind === 'file') keptFile = keptBefore === wanted.file ? null : keptBefore;
      if (choice.kind !== 'browser') closeMicrophone();
      tell(error.message);
      if (state === 'live') setState('live', liveSentence());
      render();
    }
  });
}

/** Gives the running session another source; between shared and private, gives the person another session. */
async function changeSource(target, wanted) {
  const { kind, file } = wanted;
  if (kind === 'browser' && !microphone) await openMicrophone();
  if (run === null) return closeMicrophone();
  if (target.shared ? kind === 'browser' : kind === 'shared') return target.lose(SWITCH);
  if (kind === 'file') await sendFile(target, file);
  else if (kind !== 'shared') status = await post(sessionPath(target.session, '/source'), { source: kind });
  await target.sender.replaceTrack(kind === 'browser' ? microphone : null); // only now: the server may refuse
  if (kind !== 'browser') closeMicrophone();
  target.choice = wanted;
  target.changed_ms = now();
  video.muted = !hears();
  if (state === 'live') setState('live', liveSentence());
  render();
}

async function sendFile(target, file) {
  if (config && file.size > config.max_file_bytes) {
    throw new Refusal(413, `${file.name} has ${megabytes(file.size)}; the server takes ${megabytes(config.max_file_bytes)} at most. `
      + 'Choose a shorter recording.');
  }
  tell(`Sending ${file.name}…`);
  const headers = { 'Content-Type': 'application/octet-stream' };
  const path = sessionPath(target.session, `/file?name=${encodeURIComponent(file.name)}`);
  status = await (await request(path, { method: 'POST', body: file, headers, timeout: 120000 })).json();
  tell('');
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** Asks for a file; null when the person thinks better of it. */
function pickFile() {
  const input = byId('file');
  input.value = '';
  return new Promise((resolve) => {
    input.onchange = () => resolve(input.files[0] ?? null);
    input.oncancel = () => resolve(null);
    input.click();
  });
}

async function pickAndChoose() {
  const file = await pickFile();
  if (file) choose('file', file);
}

// ----------------------------------------------------------------------------------------------------------------- connect

/** A connection that is not yet connected. `lost` resolves with the reason as soon as it is of no use any more. */
function makeLink() {
  const pc = new RTCPeerConnection({ iceServers: config.ice_servers ?? [], bundlePolicy: 'max-bundle' });
  const shared = choice.kind === 'shared';
  const next = { pc, shared, choice, session: null, stream: new MediaStream(), changed_ms: 0, frame_ms: 0, gone: false, ended: false };
  next.lost = new Promise((resolve) => { next.lose = resolve; });
  next.receiver = pc.addTransceiver('video', { direction: 'recvonly' }).receiver;
  const audio = pc.addTransceiver('audio', { direction: shared ? 'recvonly' : 'sendrecv' });
  next.sender = audio.sender;
  if ('jitterBufferTarget' in next.receiver) {
    next.receiver.jitterBufferTarget = 0;
    // The server sends speech so much ahead of its picture. Left to itself the browser would begin with less and move
    // to this within a minute, and the sound with it.
    audio.receiver.jitterBufferTarget = SPEECH_BUFFER_MS;
  }
  pc.addEventListener('track', ({ track, streams }) => {
    if (streams[0]) [next.stream] = streams; // sound and picture in one stream, so that the browser keeps them in time
    else next.stream.addTrack(track);
  });
  pc.addEventListener('connectionstatechange', () => watchConnection(next));
  return next;
}

function watchConnection({ pc, lose }) {
  if (pc.connectionState === 'failed') lose('The connection was lost.');
  if (pc.connectionState !== 'disconnected') return;
  setTimeout(() => {
    if (pc.connectionState === 'disconnected') lose('The connection was lost.');
  }, DISCONNECTED_MS);
}

/** Offer and answer; the link, with its tracks in link.stream. */
async function connect(signal) {
  const next = makeLink();
  try {
    if (choice.kind === 'browser') await next.sender.replaceTrack(microphone);
    await next.pc.setLocalDescription();
    await gathered(next.pc);
    const { sdp, type } = next.pc.localDescription;
    const source = next.choice.kind === 'file' ? 'silence' : next.choice.kind;
    const answer = await post('offer', { sdp, type, source }, { signal });
    next.session = answer.session;
    signal.throwIfAborted();
    await next.pc.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
  } catch (error) {
    disconnect(next);
    throw error;
  }
  return next;
}

function gathered(pc) {
  const complete = new Promise((resolve) => {
    const check = () => pc.iceGatheringState === 'complete' && resolve();
    pc.addEventListener('icegatheringstatechange', check);
    check();
  });
  return Promise.race([complete, pause(GATHERING_MS)]);
}

/** Shows the link's stream once pictures come; until then the one before stays on the screen. */
async function show(next, signal) {
  const { track } = next.receiver;
  const flowing = new Promise((resolve) => {
    if (track.muted) track.addEventListener('unmute', resolve, { once: true });
    else resolve();
  });
  await arrival(flowing, next, signal);
  saveRecording();
  const drawn = new Promise((resolve) => { next.onFirstFrame = resolve; });
  status = null;
  link = next;
  video.srcObject = next.stream;
  video.muted = !hears();
  watchFrames(next);
  await video.play().catch((error) => {
    if (error.name !== 'NotAllowedError') return undefined; // a newer stream took its place, or Stop was pressed
    video.muted = true;
    tell('The browser does not allow sound before you press something: press Hear.');
    return video.play().catch(() => {});
  });
  await arrival(drawn, next, signal);
}

/** Waits for the promise; in vain if the link is lost, Stop is pressed, or nothing comes. A hidden page draws nothing and waits. */
async function arrival(promise, next, signal) {
  signal.throwIfAborted();
  const lost = next.lost.then((reason) => { throw new Error(reason === SWITCH ? 'The source was changed.' : reason); });
  const stopped = new Promise((_, reject) => { signal.addEventListener('abort', () => reject(signal.reason), { once: true }); });
  const late = (async () => {
    let rest_ms = FIRST_FRAME_MS;
    for (; rest_ms > 0; rest_ms -= document.hidden ? 0 : 250) await pause(250);
    throw new Error('The server answered, but no pictures came. A firewall may be in the way.');
  })();
  late.catch(() => {});
  await Promise.race([promise, lost, stopped, late]);
}

/** The poster comes back; without this the screen would go black. */
function blank() {
  saveRecording();
  video.srcObject = null;
  video.load();
}

/** Ends the connection and tells the server, which may not be there any more. */
function disconnect(old, keepalive = false) {
  if (!old || old.ended) return;
  old.ended = true;
  old.lose('');
  const told = old.session && !old.gone ? request(sessionPath(old.session), { method: 'DELETE', keepalive }) : Promise.resolve();
  told.catch(() => {}).finally(() => old.pc.close());
}

// ------------------------------------------------------------------------------------------------------------------ frames

const frames = []; // the last FRAMES_KEPT shown
let frameRequest = 0;

/** Notes every frame of the link that is put on the screen. */
function watchFrames(watched) {
  if (!('requestVideoFrameCallback' in video)) { // frames are seen, but not measured
    video.ontimeupdate = () => noteFrame(watched, {});
    return;
  }
  const next = (_, metadata) => {
    if (link !== watched) return;
    noteFrame(watched, metadata);
    frameRequest = video.requestVideoFrameCallback(next);
  };
  video.cancelVideoFrameCallback(frameRequest);
  frameRequest = video.requestVideoFrameCallback(next);
}

function noteFrame(owner, { rtpTimestamp, expectedDisplayTime, presentationTime, receiveTime, presentedFrames }) {
  if (link !== owner) return;
  const frame = { time_ms: now(), rtpTimestamp, expectedDisplayTime, presentationTime, receiveTime, presentedFrames, latency_ms: null };
  frame.latency_ms = latencyOf(frame);
  frames.push(frame);
  if (frames.length > FRAMES_KEPT) frames.shift();
  owner.frame_ms = frame.time_ms;
  owner.onFirstFrame?.();
}

/** From the sound of a frame's moment to the frame on the screen; null while the server has not told enough. */
function latencyOf({ rtpTimestamp, expectedDisplayTime }) {
  const origin = status?.video?.rtp_origin;
  const arrived = status?.arrival;
  if (rtpTimestamp === undefined || origin == null || !arrived || clock.offset_ms === null) return null;
  const ticks = (((rtpTimestamp - origin) % RTP_CYCLE) + RTP_CYCLE) % RTP_CYCLE;
  const cycle = RTP_CYCLE * SAMPLES_PER_TICK; // the timestamp starts anew every 13 hours
  const sample = ticks * SAMPLES_PER_TICK;
  const behind = sample - arrived.sample - cycle * Math.round((sample - arrived.sample) / cycle);
  const reached_ms = arrived.time_ms + behind / SAMPLES_PER_MS + clock.offset_ms;
  const uplink_ms = status.source?.kind === 'browser' ? clock.roundTrip_ms / 2 + UPLINK_MS : 0;
  return expectedDisplayTime - reached_ms + uplink_ms;
}

/** The page's clock minus the server's. */
const clock = {
  samples: [], // {roundTrip_ms, offset_ms} of the last OFFSETS requests
  offset_ms: null,
  roundTrip_ms: null,

  note(sent_ms, received_ms, server_ms) {
    this.samples.push({ roundTrip_ms: received_ms - sent_ms, offset_ms: (sent_ms + received_ms) / 2 - server_ms });
    if (this.samples.length > OFFSETS) this.samples.shift();
    const best = this.samples.reduce((a, b) => (b.roundTrip_ms < a.roundTrip_ms ? b : a));
    this.offset_ms = best.offset_ms;
    this.roundTrip_ms = best.roundTrip_ms;
  },

  /** Another server, another clock. */
  reset() {
    this.samples = [];
    this.offset_ms = null;
    this.roundTrip_ms = null;
  },
};

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

/** What the last frames say: median latency and frames in a second; null where they say nothing. */
function figures(window_ms) {
  const since = now() - window_ms;
  const recent = frames.filter((frame) => frame.time_ms >= since);
  const latencies = recent.map((frame) => frame.latency_ms).filter((latency) => latency !== null);
  const first = recent[0];
  const last = recent.at(-1);
  const counted = last?.presentedFrames - first?.presentedFrames;
  return {
    latency_ms: latencies.length ? quantile(latencies, 0.5) : null,
    low_ms: latencies.length ? quantile(latencies, 0.05) : null,
    high_ms: latencies.length ? quantile(latencies, 0.95) : null,
    fps: recent.length > 1 && counted >= 0 ? (1000 * counted) / (last.time_ms - first.time_ms) : null,
  };
}

// ------------------------------------------------------------------------------------------------------------------ status

/** As long as the run lasts, once a second asks the server how it fares; never two questions at a time. */
async function pollStatus(signal) {
  while (!signal.aborted) {
    const asked = link;
    if (asked) await askStatus(asked, signal);
    if (asked && asked === link) await readTransport(asked.pc);
    if (signal.aborted) return;
    showFigures();
    await pause(link && status ? POLL_MS : POLL_MS / 5); // a new link is asked soon: without status no latency
  }
}

async function askStatus(asked, signal) {
  const sent_ms = now();
  try {
    const response = await request(sessionPath(asked.session), { signal, timeout: POLL_TIMEOUT_MS });
    const received_ms = now();
    const answer = await response.json();
    if (asked !== link || sent_ms < asked.changed_ms) return;
    clock.note(sent_ms, received_ms, answer.time_ms);
    status = answer;
    noteSource(asked);
  } catch (error) {
    if (asked !== link || signal.aborted) return;
    if (error.code === 404) {
      asked.gone = true;
      asked.lose('The server has ended the session.');
    } else if (error instanceof Refusal && !error.passes) asked.lose(error.message);
    else if (now() - asked.frame_ms > STALLED_MS) asked.lose('The server does not answer.');
  }
}

let sourceMessage = null;

/** The server's word on its source: somebody else changed the shared one, the sound card is gone. */
function noteSource(asked) {
  const { source } = status;
  if (asked.shared && choice === asked.choice && choice.kind !== 'shared' && choice.kind !== source.kind) {
    choice = { kind: 'shared', file: null };
    asked.choice = choice;
  }
  const message = source.message ?? (source.state === 'lost' ? 'The source was lost; the avatar hears silence.' : null);
  if (message !== sourceMessage) {
    if (message || byId('notice').textContent === sourceMessage) tell(message ?? '');
    sourceMessage = message;
  }
  if (state === 'live') setState('live', liveSentence());
}

/** What the browser measures of the connection, for the details. */
const transport = { bytes: 0, time_ms: 0, facts: {} };

async function readTransport(pc) {
  const report = await pc.getStats().catch(() => null);
  if (!report) return;
  const stats = [...report.values()];
  const picture = stats.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video') ?? {};
  const sound = stats.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'audio') ?? {};
  const pair = stats.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded') ?? {};
  const seconds = (picture.timestamp - transport.time_ms) / 1000;
  const bits = 8 * (picture.bytesReceived - transport.bytes);
  const bitrate = seconds > 0.2 && bits >= 0 ? bits / seconds : null;
  transport.bytes = picture.bytesReceived ?? 0;
  transport.time_ms = picture.timestamp ?? 0;
  const both = sound.estimatedPlayoutTimestamp && picture.estimatedPlayoutTimestamp;
  transport.facts = {
    codec: report.get(picture.codecId)?.mimeType?.replace('video/', '') ?? null,
    decoder: picture.decoderImplementation ?? null,
    bitrate,
    dropped: picture.framesDropped ?? null,
    jitter_ms: picture.jitter === undefined ? null : 1000 * picture.jitter,
    lost: picture.packetsLost ?? null,
    roundTrip_ms: pair.currentRoundTripTime === undefined ? null : 1000 * pair.currentRoundTripTime,
    skew_ms: both ? picture.estimatedPlayoutTimestamp - sound.estimatedPlayoutTimestamp : null,
  };
}

// ---------------------------------------------------------------------------------------------------------------- recovery

async function start() {
  if (run) return;
  run = new AbortController();
  const { signal } = run;
  tell('');
  offerSample(false);
  if (choice.kind === 'file' && !choice.file) {
    const file = await pickFile();
    if (signal.aborted) return;
    if (!file) { run = null; tell('Choose a recording first.'); render(); return; }
    keptFile = file;
    choice = { kind: 'file', file };
  }
  void pollStatus(signal);
  await keepConnected(signal);
}

/** The run: from Start to Stop, one connection after the other. */
async function keepConnected(signal) {
  let failures = 0;
  let shown = false; // whether this run has been live
  setState('connecting', 'Connecting…');
  while (!signal.aborted) {
    const previous = link; // still on the screen when another session is wanted; null otherwise
    let next = null;
    let reason;
    try {

      // What the server has now; it may be another one than a moment ago.
      if (!await loadConfig(signal) && shown) return stop('The server does not have this source any more. Press Start to go on.');

      // The microphone, unless it is open already.
      if (choice.kind === 'browser' && microphone?.readyState !== 'live') {
        if (!shown) setState('asking', 'Allow the microphone in the browser’s prompt.');
        await openMicrophone().catch((error) => {
          if (!shown) throw error;
          tell(error.message); // it went while it was live: on in silence
        });
        if (signal.aborted) return closeMicrophone();
        if (!shown) setState('connecting', 'Connecting…');
      }

      // Offer, answer, first frame.
      next = await connect(signal);
      await show(next, signal);
      disconnect(previous);
      if (next.choice.kind !== 'browser') closeMicrophone();
      failures = 0;
      shown = true;
      setState('live', liveSentence());
      settle(next);

      // Live, until something ends it.
      reason = await next.lost;
    } catch (error) {
      reason = error;
      disconnect(next);
      disconnect(previous);
    }
    if (signal.aborted) return undefined;

    // Another session is wanted: the one shown stays until the next is there.
    if (reason === SWITCH) {
      setState('connecting', choice.kind === 'shared' ? 'Joining the shared session…' : 'Leaving for a session of your own…');
      continue;
    }

    // It failed: for good, or until it is tried again.
    const message = reason instanceof Error ? reason.message : reason;
    const final = reason instanceof MicrophoneError || (reason instanceof Refusal && !reason.passes);
    if (final && !previous) return stop(message, reason instanceof MicrophoneError);
    if (previous && reason instanceof Error) { // the other session was not to be had: back to the one before
      choice = previous.choice;
      tell(message);
    } else if (link?.shared) choice = { kind: 'shared', file: null }; // its source belongs to everyone
    disconnect(link);
    link = null;
    blank();
    clock.reset();
    setState('reconnecting', `${message} Trying again…`);
    await Promise.race([pause(BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)]), online(signal)]);
    failures += 1;
  }
  return undefined;
}

/** Does what was chosen while the connection was being made, and sends the file that a new session does not have. */
function settle(next) {
  if (choice === next.choice && choice.kind !== 'file') return;
  const { kind, file } = choice;
  if (kind === 'file' && !file) return;
  if (choice === next.choice) next.choice = { kind: 'file', file: null }; // until the file is sent it is silent
  choose(kind, file);
}

const online = (signal) => new Promise((resolve) => { window.addEventListener('online', resolve, { once: true, signal }); });

/** The network is back: if the picture stands still, does not wait until the browser notices. */
function networkBack() {
  if (state === 'live' && link && !document.hidden && now() - link.frame_ms > 1000) link.lose('The network was away.');
}

/** Ends the run, and says why. */
function stop(reason, offersSample = false) {
  run?.abort();
  run = null;
  saveRecording(); // before its stream ends
  disconnect(link, true);
  link = null;
  status = null;
  closeMicrophone();
  blank();
  clock.reset();
  setState('stopped', reason);
  showFigures();
  offerSample(offersSample);
}

// --------------------------------------------------------------------------------------------------------------- recording

const recording = { recorder: null, since_ms: 0, timer: 0 };

function toggleRecording() {
  if (recording.recorder) saveRecording();
  else if (state === 'live') startRecording();
}

function startRecording() {
  const mimeType = window.MediaRecorder && RECORDINGS.find((type) => MediaRecorder.isTypeSupported(type));
  if (!mimeType) { tell('This browser cannot record. Chromium, Firefox and Safari can.'); return; }
  const chunks = [];
  const recorder = new MediaRecorder(link.stream, { mimeType, videoBitsPerSecond: 4e6, audioBitsPerSecond: 128e3 });
  recorder.addEventListener('dataavailable', ({ data }) => { if (data.size) chunks.push(data); });
  recorder.addEventListener('error', () => tell('The recording broke off; what was recorded is saved.'));
  recorder.addEventListener('stop', () => {
    if (recording.recorder === recorder) endRecording(); // its stream ended
    if (chunks.length) save(new Blob(chunks, { type: recorder.mimeType }));
  });
  recorder.start(1000);
  recording.recorder = recorder;
  recording.since_ms = now();
  recording.timer = setInterval(showRecorded, 500);
  showRecorded();
  render();
}

function saveRecording() {
  const { recorder } = recording;
  if (!recorder) return;
  endRecording();
  if (recorder.state !== 'inactive') recorder.stop();
}

function endRecording() {
  clearInterval(recording.timer);
  recording.recorder = null;
  render();
}

function showRecorded() {
  const seconds = Math.floor((now() - recording.since_ms) / 1000);
  byId('recorded').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

async function save(recorded) {
  const blob = await marked(recorded, avatarName(), config?.marking ?? 'Synthetic');
  const anchor = document.createElement('a');
  const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-');
  anchor.href = URL.createObjectURL(blob);
  const name = (config?.avatar ?? 'avatar').toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  anchor.download = `miravox-${name}-synthetic-${stamp}.${blob.type.includes('mp4') ? 'mp4' : 'webm'}`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}

// -------------------------------------------------------------------------------------------------------------------- page

const BADGES = {
  idle: 'Ready', asking: 'Microphone?', connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting', stopped: 'Stopped',
};

const avatarName = () => config?.avatar ?? 'The avatar';

function setState(name, sentence) {
  state = name;
  document.body.dataset.state = name;
  if (byId('state').textContent !== sentence) byId('state').textContent = sentence;
  byId('badge').textContent = BADGES[name];
  render();
}

/** One sentence about something that happened; empty: nothing to tell. */
function tell(sentence) {
  byId('notice').textContent = sentence;
  byId('notice').hidden = !sentence;
}

function offerSample(offered) {
  byId('fallback').hidden = !offered;
}

function invitation() {
  const { kind, file } = choice;
  if (kind === 'browser') return 'Press Start, allow the microphone, and speak.';
  if (kind === 'shared') return 'Press Start to join the shared session.';
  if (kind === 'file' && !file) return 'Choose a recording, then press Start.';
  if (kind === 'file') return `Press Start: ${avatarName()} says ${file.name}.`;
  return `Press Start to see and hear ${avatarName()}.`;
}

function liveSentence() {
  const { kind, file } = choice;
  const source = kind === 'shared' ? status?.source : { kind, name: file?.name };
  switch (source?.kind) {
    case 'browser': return muted ? 'You are muted.' : `Speak: ${avatarName()} speaks with you.`;
    case 'mic': return `${avatarName()} says what the server’s microphone hears.`;
    case 'sample': return `${avatarName()} says the sample recording.`;
    case 'silence': return `${avatarName()} is at rest.`;
    case 'file': return source.name ? `${avatarName()} says ${source.name}.` : 'Choose a recording.';
    default: return `${avatarName()} speaks in the shared session.`;
  }
}

/** Puts everything that the person can choose in the place where it is. */
function render() {
  const running = run !== null;
  byId('name').textContent = config?.avatar ?? 'Miravox';
  document.title = config ? `${config.avatar} · Miravox` : 'Miravox';
  video.setAttribute('aria-label', avatarName());
  byId('marking').textContent = config?.marking ?? '';
  byId('marking').hidden = !config;
  byId('start').textContent = running ? 'Stop' : 'Start';
  byId('start').classList.toggle('running', running);
  renderSources();

  const own = choice.kind === 'browser';
  press('mute', muted && own, muted ? 'Muted' : 'Mute', muted ? '#icon-muted' : '#icon-microphone');
  byId('mute').disabled = !own;
  press('hear', hears(), 'Hear', hears() ? '#icon-sound' : '#icon-quiet');
  press('record', recording.recorder !== null, recording.recorder ? 'Save' : 'Record', '#icon-record');
  byId('record').disabled = state !== 'live' && recording.recorder === null;
  press('full', document.fullscreenElement !== null, 'Full screen', '#icon-full');
  byId('recording').hidden = recording.recorder === null;
}

function renderSources() {
  const shared = config?.shared ?? null;
  const radios = [...document.querySelectorAll('input[name="source"]')];
  for (const radio of radios) radio.checked = radio.value === choice.kind;
  byId('option-shared').hidden = shared === null;
  byId('option-silence').hidden = shared === null;
  if (shared) {
    const joined = status?.shared ? status : null;
    byId('shared-name').textContent = `: ${joined?.source.name ?? shared.name}`;
    byId('shared-hint').textContent = joined
      ? `${joined.viewers} ${joined.viewers === 1 ? 'viewer' : 'viewers'}; other sources change it for everyone`
      : 'Everyone who joins sees the same';
  }
  const unheard = config !== null && !config.server_microphone;
  radios.find((radio) => radio.value === 'mic').disabled = unheard;
  byId('mic-hint').textContent = unheard
    ? 'Not available: PyAudio is not installed on the server'
    : 'What is said in the server’s room';
  byId('file-hint').textContent = keptFile ? keptFile.name : 'Choose a recording, or drop it on the page';
  byId('microphone').hidden = choice.kind !== 'browser';
}

function press(id, pressed, label, icon) {
  const button = byId(id);
  button.setAttribute('aria-pressed', String(pressed));
  button.querySelector('span').textContent = label;
  button.querySelector('use').setAttribute('href', icon);
}

// Figures.

const history = []; // one {time_ms, latency_ms, low_ms, high_ms} a second

function showFigures() {
  const { latency_ms, fps } = link ? figures(MEDIAN_MS) : {};
  byId('latency-label').textContent = (status?.source?.kind ?? choice.kind) === 'browser' ? 'Mouth to photon' : 'Sound to photon';
  byId('latency').textContent = latency_ms == null ? '–' : latency_ms.toFixed(0);
  byId('fps').textContent = fps == null ? '–' : fps.toFixed(1);
  if (link) history.push({ time_ms: now(), ...figures(POLL_MS) });
  while (history[0]?.time_ms < now() - 1000 * (CHART_SECONDS + 2)) history.shift();
  drawChart();
  if (byId('details').open) showDetails();
}

/** The last minute: the line is the median of each second, the band its 5th to 95th percentile. */
function drawChart() {
  const canvas = byId('chart');
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const [accent, line, soft] = ['--accent', '--line', '--soft'].map((name) => style.getPropertyValue(name));
  const points = history.filter((point) => point.latency_ms !== null);
  const top_ms = Math.max(200, 100 * Math.ceil(Math.max(0, ...points.map((point) => point.high_ms)) / 100));
  const [left, right, upper, lower] = [34, width - 2, 8, height - 18];
  const x = (time_ms) => right - ((now() - time_ms) / (1000 * CHART_SECONDS)) * (right - left);
  const y = (latency_ms) => lower - (Math.max(0, latency_ms) / top_ms) * (lower - upper);

  // Grid and labels.
  context.font = `11px ${style.fontFamily}`;
  context.fillStyle = soft;
  context.strokeStyle = line;
  context.textBaseline = 'middle';
  for (const level of [0, top_ms / 2, top_ms]) {
    context.textAlign = 'right';
    context.fillText(String(level), left - 6, y(level));
    context.beginPath();
    context.moveTo(left, Math.round(y(level)) + 0.5);
    context.lineTo(right, Math.round(y(level)) + 0.5);
    context.stroke();
  }
  context.textAlign = 'left';
  context.fillText(`${CHART_SECONDS} s ago`, left, height - 6);
  context.textAlign = 'right';
  context.fillText('now', right, height - 6);
  if (!points.length) return;

  // Band and line, broken where nothing was measured.
  context.save();
  context.beginPath();
  context.rect(left, 0, right - left, height);
  context.clip();
  context.fillStyle = accent;
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.lineJoin = 'round';
  for (const piece of pieces(history)) {
    context.globalAlpha = 0.18;
    context.beginPath();
    for (const point of piece) context.lineTo(x(point.time_ms), y(point.high_ms));
    for (const point of piece.toReversed()) context.lineTo(x(point.time_ms), y(point.low_ms));
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    for (const point of piece) context.lineTo(x(point.time_ms), y(point.latency_ms));
    context.stroke();
  }
  context.restore();
  const medians = points.map((point) => point.latency_ms);
  canvas.setAttribute('aria-label', `Latency over the last minute: median ${quantile(medians, 0.5).toFixed(0)}, `
    + `lowest ${Math.min(...medians).toFixed(0)}, highest ${Math.max(...medians).toFixed(0)} milliseconds`);
}

/** Runs of seconds in which something was measured. */
function pieces(points) {
  const found = [];
  let piece = null;
  for (const point of points) {
    const follows = piece && point.time_ms - piece.at(-1).time_ms < 3 * POLL_MS;
    if (point.latency_ms === null) piece = null;
    else if (follows) piece.push(point);
    else found.push(piece = [point]);
  }
  return found;
}

const GIVEN_UP = { unrefined: 'refinement of the face', halved: 'half of its resolution' };

function showDetails() {
  const { facts } = transport;
  const { source, samples, frames: rendered } = status ?? {};
  const number = (value, digits, unit) => (value == null ? '–' : `${value.toFixed(digits)}${unit}`);
  const rows = [
    ['Source', source ? `${source.name || source.kind}, ${source.state}` : '–'],
    ['Picture', facts.codec ? `${facts.codec}, ${video.videoWidth} × ${video.videoHeight}` : '–'],
    ['Decoder', facts.decoder ?? '–'],
    ['Bit rate', number(facts.bitrate == null ? null : facts.bitrate / 1000, 0, ' kbit/s')],
    ['Network round trip', number(facts.roundTrip_ms, 1, ' ms')],
    ['Network jitter', number(facts.jitter_ms, 1, ' ms')],
    ['Packets lost', number(facts.lost, 0, '')],
    ['Sound after lips, estimate', video.muted ? 'not measured while the avatar is not heard' : number(facts.skew_ms, 0, ' ms')],
    ['Frames the browser dropped', number(facts.dropped, 0, '')],
    ['Frames rendered / late / dropped', rendered ? [rendered.rendered, rendered.late, rendered.dropped].join('\u00a0/\u00a0') : '–'],
    ['Given up to keep up', status?.given_up ? status.given_up.map((step) => GIVEN_UP[step] ?? step).join(', ') || 'nothing' : '–'],
    ['Frame rate on the server', number(status?.fps, 1, ' fps')],
    ['Samples inserted as silence', number(samples?.silence, 0, '')],
    ['Samples discarded', number(samples?.discarded, 0, '')],
    ['Bad samples', number(samples?.bad, 0, '')],
    ['Look-ahead of the lips', number(status?.lookahead_ms ?? config?.lookahead_ms, 1, ' ms')],
    ['Clock drift', number(status?.drift_ms, 1, ' ms')],
  ];
  byId('facts').replaceChildren(...rows.map(([term, value]) => element('div', element('dt', term), element('dd', value))));
  const stages = Object.entries(status?.stages_ms ?? {});
  byId('stages').replaceChildren(...stages.map(([stage, time]) => {
    const head = element('th', stage.replaceAll('_', ' '));
    head.scope = 'row';
    return element('tr', head, ...[time.p50, time.p95, time.p99].map((value) => element('td', number(value, 1, ''))));
  }));
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

// What the person does.

async function toggleRun() {
  if (run) stop('Stopped. Press Start to go on.');
  else await start();
}

function toggleMute() {
  if (choice.kind !== 'browser') return;
  muted = !muted;
  if (microphone) microphone.enabled = !muted;
  if (state === 'live') setState('live', liveSentence());
  render();
}

async function toggleHear() {
  const heard = !hears();
  remember(`hear.${choice.kind}`, String(heard));
  video.muted = !heard;
  render();
  if (microphone) await reopenMicrophone(); // with or without echo cancellation
}

async function toggleFullScreen() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await byId('portrait').requestFullscreen();
  } catch {
    tell('This browser does not allow full screen here.');
  }
}

async function changeDevice() {
  remember('microphone', byId('device').value);
  if (!microphone) return;
  if (await reopenMicrophone()) tell('');
  else tell('That microphone did not open; the one before is still used.');
}

const KEYS = { s: toggleRun, m: toggleMute, h: toggleHear, r: toggleRecording, f: toggleFullScreen };

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest?.('select')) return;
  const action = KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  void action();
}

function listenToSources() {
  for (const radio of document.querySelectorAll('input[name="source"]')) {
    radio.addEventListener('change', () => choose(radio.value));
    radio.addEventListener('click', (event) => { // by mouse or touch: arrow keys pass over the file without a dialogue
      if (radio.value === 'file' && event.detail > 0 && !keptFile) void pickAndChoose();
    });
  }
  byId('choose').addEventListener('click', () => void pickAndChoose());
}

function listenToDrops() {
  const carriesFile = (event) => event.dataTransfer?.types.includes('Files');
  const over = (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    byId('drop').hidden = false;
  };
  window.addEventListener('dragenter', over);
  window.addEventListener('dragover', over);
  window.addEventListener('dragleave', (event) => { if (event.relatedTarget === null) byId('drop').hidden = true; });
  window.addEventListener('drop', (event) => {
    byId('drop').hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) choose('file', file);
  });
}

function listen() {
  byId('start').addEventListener('click', () => void toggleRun());
  byId('fallback').addEventListener('click', () => { choose('sample'); void start(); });
  byId('mute').addEventListener('click', toggleMute);
  byId('hear').addEventListener('click', () => void toggleHear());
  byId('record').addEventListener('click', toggleRecording);
  byId('full').addEventListener('click', () => void toggleFullScreen());
  byId('device').addEventListener('change', () => void changeDevice());
  byId('details').addEventListener('toggle', () => byId('details').open && showDetails());
  listenToSources();
  listenToDrops();
  navigator.mediaDevices?.addEventListener('devicechange', () => void devicesChanged());
  document.addEventListener('keydown', pressKey);
  document.addEventListener('fullscreenchange', render);
  window.addEventListener('online', networkBack);
  window.addEventListener('resize', drawChart);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawChart);
  window.addEventListener('pagehide', () => { if (run) stop('Stopped, since the page was left. Press Start to go on.'); });
}

/** For measuring programs; read only. */
const view = Object.freeze({
  get pc() { return link?.pc ?? null; },
  get session() { return link?.session ?? null; },
  get status() { return status; },
  get state() { return state; },
  get source() { return choice.kind; },
  get frames() { return frames; },
  get clockOffsetMs() { return clock.offset_ms; },
  get roundTripMs() { return clock.roundTrip_ms; },
  get latencyMs() { return figures(MEDIAN_MS).latency_ms; },
});
Object.defineProperty(window, 'miravox', { value: view });

listen();
render();
drawChart();
void listMicrophones();
loadPoster().catch(() => {}); // a portrait without a poster is no fault
try {
  await loadConfig();
  setState('idle', invitation());
} catch (error) {
  setState('idle', `${error.message} Press Start to try again.`);
}
