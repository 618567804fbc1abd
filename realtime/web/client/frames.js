/* The frames on the screen: which one, when, and how long after the sound that it shows. */

const FRAMES_KEPT = 1500; // a minute
const OFFSETS = 20; // the clock offset is that of the quickest of so many requests
const UPLINK_MS = 8; // capture and Opus (its 6.5 ms of lookahead), measured in Chromium; the sound card's own delay is not known
const SAMPLES_PER_MS = 16;
const RTP_CYCLE = 2 ** 32;
const SAMPLES_PER_TICK = 16000 / 90000;

/** @typedef {import('./connection.js').Connection} Connection */

/**
 * One frame that was put on the screen. Times are performance.now() of the page, milliseconds.
 * @typedef {object} ShownFrame
 * @property {number} time_ms when the browser told of it
 * @property {number} [rtpTimestamp] 90 kHz
 * @property {number} [expectedDisplayTime]
 * @property {number} [presentationTime]
 * @property {number} [receiveTime] when its last packet came
 * @property {number} [presentedFrames] how many the browser has put on the screen
 * @property {number | null} latency_ms from the sound to the screen; null while the server has not told enough
 */

/**
 * What the frames of the last moments say; null where they say nothing.
 * @typedef {object} Summary
 * @property {number | null} latency_ms median
 * @property {number | null} low_ms 5th percentile
 * @property {number | null} high_ms 95th percentile
 * @property {number | null} fps frames a second
 */

/** The page's clock minus the server's, from requests that carry the server's time. */
export class Clock {
  constructor() {
    this.reset();
  }

  /** Another server, another clock. */
  reset() {
    /** @type {{roundTrip_ms: number, offset_ms: number}[]} of the last OFFSETS requests */
    this.samples = [];
    /** @type {number | null} */
    this.offset_ms = null;
    /** @type {number | null} */
    this.roundTrip_ms = null;
  }

  /**
   * @param {number} sent_ms by the page's clock
   * @param {number} received_ms by the page's clock
   * @param {number} server_ms by the server's clock, somewhere in between
   */
  note(sent_ms, received_ms, server_ms) {
    this.samples.push({ roundTrip_ms: received_ms - sent_ms, offset_ms: (sent_ms + received_ms) / 2 - server_ms });
    if (this.samples.length > OFFSETS) this.samples.shift();
    const best = this.samples.reduce((a, b) => (b.roundTrip_ms < a.roundTrip_ms ? b : a));
    this.offset_ms = best.offset_ms;
    this.roundTrip_ms = best.roundTrip_ms;
  }
}

/** Notes every frame of one connection at a time. */
export class FrameLog {
  /** @param {HTMLVideoElement} video where the frames are shown */
  constructor(video) {
    this.video = video;
    this.clock = new Clock();
    /** @type {ShownFrame[]} the last FRAMES_KEPT */
    this.shown = [];
    this.count = 0; // of all frames, those that are no longer kept among them
    this.callback = 0; // the browser's number for the call that is awaited
  }

  /**
   * From now on the frames are those of this connection.
   * @param {Connection} connection
   */
  watch(connection) {
    const { video } = this;
    if (!video.requestVideoFrameCallback) { // frames are seen, but not measured
      video.ontimeupdate = () => this.#note(connection, {});
      return;
    }
    const next = (_, metadata) => {
      this.#note(connection, metadata);
      if (!connection.closed) this.callback = video.requestVideoFrameCallback(next);
    };
    video.cancelVideoFrameCallback(this.callback);
    this.callback = video.requestVideoFrameCallback(next);
  }

  /**
   * @param {Connection} connection
   * @param {Partial<VideoFrameCallbackMetadata>} metadata empty from a browser that does not measure
   */
  #note(connection, metadata) {
    if (connection.closed) return;
    const { rtpTimestamp, expectedDisplayTime, presentationTime, receiveTime, presentedFrames } = metadata;
    const frame = {
      time_ms: performance.now(), rtpTimestamp, expectedDisplayTime, presentationTime, receiveTime, presentedFrames,
      latency_ms: this.#latency(connection.status, rtpTimestamp, expectedDisplayTime),
    };
    this.shown.push(frame);
    if (this.shown.length > FRAMES_KEPT) this.shown.shift();
    this.count += 1;
    connection.noteFrame(frame.time_ms);
  }

  /** From the sound of a frame's moment to the frame on the screen; null while the server has not told enough. */
  #latency(status, rtpTimestamp, expectedDisplayTime) {
    const origin = status?.video?.rtp_origin;
    const arrived = status?.arrival;
    const { offset_ms, roundTrip_ms } = this.clock;
    if (rtpTimestamp === undefined || origin == null || !arrived || offset_ms === null) return null;
    const ticks = (((rtpTimestamp - origin) % RTP_CYCLE) + RTP_CYCLE) % RTP_CYCLE;
    const cycle = RTP_CYCLE * SAMPLES_PER_TICK; // the timestamp starts anew every 13 hours
    const sample = ticks * SAMPLES_PER_TICK;
    const behind = sample - arrived.sample - cycle * Math.round((sample - arrived.sample) / cycle);
    const reached_ms = arrived.time_ms + behind / SAMPLES_PER_MS + offset_ms;
    const uplink_ms = status.source?.kind === 'browser' ? roundTrip_ms / 2 + UPLINK_MS : 0;
    return expectedDisplayTime - reached_ms + uplink_ms;
  }

  /**
   * What the frames of the last moments say.
   * @param {number} window_ms how far to look back
   * @returns {Summary}
   */
  over(window_ms) {
    const since = performance.now() - window_ms;
    const recent = this.shown.filter((frame) => frame.time_ms >= since);
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
}

/**
 * @param {number[]} values at least one
 * @param {number} q 0 to 1
 */
export function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}
