/* One connection: offer and answer, the stream that comes back, how its session and its network fare. Another one is another object. */

import { post, request, viewerPath } from './requests.js';

const GATHERING_MS = 2000; // candidates found later are not waited for
const FIRST_FRAME_MS = 10000;
const DISCONNECTED_MS = 2000; // so long a connection may be "disconnected" before it counts as lost
const STATUS_MS = 2000; // for the answer to GET /viewers/{id}
const SPEECH_BUFFER_MS = 70;

/** Why a connection ends: the next session replaces this one. */
export const SWITCH = Symbol('the next session replaces this one');

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** @typedef {import('./source.js').Choice} Choice */

/**
 * What the browser measures of a connection; null where it does not say.
 * @typedef {object} Transport
 * @property {string | null} codec of the picture
 * @property {string | null} decoder
 * @property {number | null} bitrate of the picture, bit/s
 * @property {number | null} dropped frames
 * @property {number | null} jitter_ms
 * @property {number | null} lost packets of the picture
 * @property {number | null} roundTrip_ms
 * @property {number | null} skew_ms sound after lips
 */

export class Connection {
  /**
   * Not connected yet: see open().
   * @param {Choice} choice
   * @param {RTCIceServer[]} iceServers
   */
  constructor(choice, iceServers) {
    this.choice = choice; // what its session shows; another one when the source changes
    this.shared = choice.kind === 'shared';
    /** @type {string | null} the server's name for the session that is seen */
    this.session = null;
    /** @type {string | null} the server's name for this connection */
    this.viewer = null;
    /** @type {import('./requests.js').Status | null} the last answer */
    this.status = null;
    this.changed_ms = 0; // when its source was changed
    this.frame_ms = 0; // when its last frame was put on the screen
    this.gone = false; // the server does not know it any more
    this.closed = false;
    /** @type {Transport | null} */
    this.transport = null;
    this.received = { bytes: 0, time_ms: 0 }; // of the picture, when the transport was last measured
    this.stream = new MediaStream();
    /** @type {(reason: string | typeof SWITCH) => void} */
    this.lose = () => {};
    /** @type {Promise<string | typeof SWITCH>} resolves with the reason as soon as the connection is of no use any more */
    this.lost = new Promise((resolve) => { this.lose = resolve; });
    /** @type {Promise<void>} resolves with the first frame on the screen */
    this.drawn = new Promise((resolve) => { this.draw = resolve; });

    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.receiver = this.pc.addTransceiver('video', { direction: 'recvonly' }).receiver;
    const audio = this.pc.addTransceiver('audio', { direction: this.shared ? 'recvonly' : 'sendrecv' });
    this.sender = audio.sender;
    if ('jitterBufferTarget' in this.receiver) {
      this.receiver.jitterBufferTarget = 0;
      // The server sends speech so much ahead of its picture. Left to itself the browser would begin with less and move
      // to this within a minute, and the sound with it.
      audio.receiver.jitterBufferTarget = SPEECH_BUFFER_MS;
    }
    this.pc.addEventListener('track', ({ track, streams }) => {
      if (streams[0]) [this.stream] = streams; // sound and picture in one stream, so that the browser keeps them in time
      else this.stream.addTrack(track);
    });
    this.pc.addEventListener('connectionstatechange', () => this.#watch());
  }

  #watch() {
    if (this.pc.connectionState === 'failed') this.lose('The connection was lost.');
    if (this.pc.connectionState !== 'disconnected') return;
    setTimeout(() => {
      if (this.pc.connectionState === 'disconnected') this.lose('The connection was lost.');
    }, DISCONNECTED_MS);
  }

  /**
   * Offer and answer. Closes the connection and throws if that fails: a Refusal if the server does not want it.
   * @param {MediaStreamTrack | null} track the microphone
   * @param {AbortSignal} signal
   */
  async open(track, signal) {
    try {
      if (track) await this.sender.replaceTrack(track);
      await this.pc.setLocalDescription();
      await gathered(this.pc);
      const { sdp, type } = this.pc.localDescription;
      const source = this.choice.kind === 'file' ? 'silence' : this.choice.kind; // the file is sent to the session that answers
      const answer = await post('offer', { sdp, type, source }, { signal });
      this.session = answer.session;
      this.viewer = answer.viewer;
      signal.throwIfAborted();
      await this.pc.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Pictures come: the track of the video is no longer muted. */
  async flowing() {
    const { track } = this.receiver;
    if (track.muted) await new Promise((resolve) => { track.addEventListener('unmute', resolve, { once: true }); });
  }

  /**
   * Waits for the promise; throws if the connection is lost, the signal aborts, or nothing comes. A hidden page draws nothing
   * and waits.
   * @param {Promise<void>} promise
   * @param {AbortSignal} signal
   */
  async arrival(promise, signal) {
    signal.throwIfAborted();
    const lost = this.lost.then((reason) => { throw new Error(reason === SWITCH ? 'The source was changed.' : String(reason)); });
    const stopped = new Promise((_, reject) => { signal.addEventListener('abort', () => reject(signal.reason), { once: true }); });
    const late = (async () => {
      let rest_ms = FIRST_FRAME_MS;
      for (; rest_ms > 0; rest_ms -= document.hidden ? 0 : 250) await pause(250);
      throw new Error('The server answered, but no pictures came. A firewall may be in the way.');
    })();
    late.catch(() => {});
    await Promise.race([promise, lost, stopped, late]);
  }

  /**
   * A frame was put on the screen.
   * @param {number} time_ms performance.now()
   */
  noteFrame(time_ms) {
    this.frame_ms = time_ms;
    this.draw();
  }

  /**
   * Its session has another source now: what was asked before no longer counts.
   * @param {import('./requests.js').SessionStatus} status
   */
  noteChange(status) {
    this.status = { ...this.status, ...status };
    this.changed_ms = performance.now();
  }

  /**
   * Asks the server how the session fares; whether there is a new status.
   * @param {import('./frames.js').Clock} clock notes the server's time
   * @param {AbortSignal} signal
   */
  async askStatus(clock, signal) {
    const sent_ms = performance.now();
    const response = await request(viewerPath(this.viewer), { signal, timeout_ms: STATUS_MS });
    const received_ms = performance.now();
    const answer = await response.json();
    if (this.closed || sent_ms < this.changed_ms) return false;
    clock.note(sent_ms, received_ms, answer.time_ms);
    this.status = answer;
    return true;
  }

  /** Measures the transport. */
  async readTransport() {
    const report = await this.pc.getStats().catch(() => null);
    if (!report) return;
    const stats = [...report.values()];
    const picture = stats.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video') ?? {};
    const sound = stats.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'audio') ?? {};
    const pair = stats.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded') ?? {};
    const seconds = (picture.timestamp - this.received.time_ms) / 1000;
    const bits = 8 * (picture.bytesReceived - this.received.bytes);
    const both = sound.estimatedPlayoutTimestamp && picture.estimatedPlayoutTimestamp;
    this.transport = {
      codec: report.get(picture.codecId)?.mimeType?.replace('video/', '') ?? null,
      decoder: picture.decoderImplementation ?? null,
      bitrate: this.received.time_ms && seconds > 0.2 ? bits / seconds : null,
      dropped: picture.framesDropped ?? null,
      jitter_ms: picture.jitter === undefined ? null : 1000 * picture.jitter,
      lost: picture.packetsLost ?? null,
      roundTrip_ms: pair.currentRoundTripTime === undefined ? null : 1000 * pair.currentRoundTripTime,
      skew_ms: both ? picture.estimatedPlayoutTimestamp - sound.estimatedPlayoutTimestamp : null,
    };
    this.received = { bytes: picture.bytesReceived ?? 0, time_ms: picture.timestamp ?? 0 };
  }

  /**
   * Ends it and tells the server, which may not be there any more. May be called twice.
   * @param {boolean} [keepalive] the page is left: the goodbye outlives it
   */
  close(keepalive = false) {
    if (this.closed) return;
    this.closed = true;
    this.lose('');
    const told = this.viewer && !this.gone ? request(viewerPath(this.viewer), { method: 'DELETE', keepalive }) : Promise.resolve();
    told.catch(() => {}).finally(() => this.pc.close());
  }
}

/** All candidates are found, or as many as are found in GATHERING_MS. */
function gathered(pc) {
  const complete = new Promise((resolve) => {
    const check = () => pc.iceGatheringState === 'complete' && resolve(undefined);
    pc.addEventListener('icegatheringstatechange', check);
    check();
  });
  return Promise.race([complete, pause(GATHERING_MS)]);
}
