/*
 * The player: a run, from Start to Stop, shows one connection after the other.
 *
 *   config -> microphone -> offer and answer -> first frame -> live, until the connection is lost -> the next one
 *
 * Everything that ends a connection calls its lose(reason); the loop of keepConnected() makes the next one.
 */

import { Connection, SWITCH, pause } from './connection.js';
import { MicrophoneError } from './microphone.js';
import { hears } from './preferences.js';
import { Refusal, get } from './requests.js';
import { liveSentence } from './source.js';

const BACKOFF_MS = [500, 1000, 2000, 4000, 5000]; // the last one for ever
const STALLED_MS = 3000; // no frame for so long, and no answer either: the server is gone
const STILL_MS = 1000; // no frame for so long when the network comes back: the connection did not survive
const POLL_MS = 1000;

/** @typedef {'idle' | 'asking' | 'connecting' | 'live' | 'reconnecting' | 'stopped'} State */

export class Player {
  /**
   * @param {object} parts
   * @param {HTMLVideoElement} parts.video
   * @param {import('./source.js').Source} parts.source
   * @param {import('./microphone.js').Microphone} parts.microphone
   * @param {import('./frames.js').FrameLog} parts.frames
   * @param {import('./recording.js').Recording} parts.recording
   * @param {import('./page.js').Page} parts.page is told of everything that it shows
   */
  constructor({ video, source, microphone, frames, recording, page }) {
    this.video = video;
    this.source = source;
    this.microphone = microphone;
    this.frames = frames;
    this.recording = recording;
    this.page = page;
    /** @type {import('./requests.js').Config | null} as soon as it is known */
    this.config = null;
    /** @type {Connection | null} whose frames are shown */
    this.connection = null;
    /** @type {State} */
    this.state = 'idle';
    /** @type {AbortController | null} from Start to Stop */
    this.run = null;
  }

  /** What to call the avatar. */
  get avatar() {
    return this.config?.avatar ?? 'The avatar';
  }

  /** Whether the microphone of this page is to be heard. */
  get speaks() {
    return this.run !== null && this.source.choice.kind === 'browser';
  }

  /**
   * @param {State} state
   * @param {string} sentence says so to the person
   */
  setState(state, sentence) {
    this.state = state;
    this.page.showState(state, sentence);
  }

  /** What is shown may have changed: while it is live, the sentence says so. */
  sayLive() {
    if (this.state === 'live') this.setState('live', this.#liveSentence());
  }

  #liveSentence() {
    return liveSentence(this.source.choice, this.connection?.status, this.avatar, this.microphone.muted);
  }

  /** Sound on or off, as the person wishes it for what is chosen. */
  applyHearing() {
    this.video.muted = !hears(this.source.choice.kind);
  }

  /**
   * Learns what the server has; whether the choice of source still stands.
   * @param {AbortSignal} [signal]
   */
  async loadConfig(signal) {
    const first = this.config === null;
    this.config = await get('config', { signal });
    const stands = this.source.fit(this.config, first);
    this.page.render();
    return stands;
  }

  async start() {
    if (this.run) return;
    this.run = new AbortController();
    this.source.forget();
    this.page.tell('');
    this.page.offerSample(false);
    void this.#poll(this.run.signal);
    await this.#keepConnected(this.run.signal);
  }

  /**
   * Ends the run, and says why.
   * @param {string} reason
   * @param {boolean} [offersSample] whether the person is asked if the sample will do instead
   */
  stop(reason, offersSample = false) {
    this.run?.abort();
    this.run = null;
    this.#drop(true);
    this.microphone.close();
    this.setState('stopped', reason);
    this.page.showFigures();
    this.page.offerSample(offersSample);
  }

  /** The network is back: if the picture stands still, does not wait until the browser notices. */
  networkBack() {
    const { connection } = this;
    if (this.state !== 'live' || !connection || document.hidden) return;
    if (performance.now() - connection.frame_ms > STILL_MS) connection.lose('The network was away.');
  }

  /** The run: from Start to Stop, one connection after the other. */
  async #keepConnected(signal) {
    let failures = 0;
    let shown = false; // whether this run has been live
    this.setState('connecting', 'Connecting…');
    while (!signal.aborted) {
      const previous = this.connection; // still on the screen when another session is wanted; null otherwise
      let next = null;
      let reason;
      try {

        // What the server has now; it may be another one than a moment ago.
        if (!await this.loadConfig(signal) && shown) {
          this.stop('The server does not have this source any more. Press Start to go on.');
          return;
        }
        await this.#openMicrophone(signal, shown);

        // Offer, answer, first frame.
        const { choice } = this.source;
        next = new Connection(choice, this.config.ice_servers ?? []);
        await next.open(choice.kind === 'browser' ? this.microphone.track : null, signal);
        await this.#show(next, signal);
        previous?.close();
        if (choice.kind !== 'browser') this.microphone.close();
        failures = 0;
        shown = true;
        this.setState('live', this.#liveSentence());
        this.source.settle(this, next);

        // Live, until something ends it.
        reason = await next.lost;
      } catch (error) {
        reason = error;
        next?.close();
        previous?.close();
      }
      if (signal.aborted) return;

      // Another session is wanted: the one shown stays until the next is there.
      if (reason === SWITCH) {
        const joins = this.source.choice.kind === 'shared';
        this.setState('connecting', joins ? 'Joining the shared session…' : 'Leaving for a session of your own…');
        continue;
      }

      // It failed: for good, or until it is tried again.
      const message = reason instanceof Error ? reason.message : reason;
      const final = reason instanceof MicrophoneError || (reason instanceof Refusal && !reason.passes);
      if (final && !previous) {
        this.stop(message, reason instanceof MicrophoneError);
        return;
      }
      if (previous && reason instanceof Error) { // the other session was not to be had: back to the one before
        this.source.choice = previous.choice;
        this.page.tell(message);
      } else if (this.connection?.shared) this.source.choice = { kind: 'shared', file: null }; // its source belongs to everyone
      this.#drop();
      this.setState('reconnecting', `${message} Trying again…`);
      await Promise.race([pause(BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)]), online(signal)]);
      failures += 1;
    }
  }

  /** Opens the microphone if it is wanted and not open yet. Throws a MicrophoneError if a run cannot begin without it. */
  async #openMicrophone(signal, shown) {
    if (this.source.choice.kind !== 'browser' || this.microphone.live) return;
    if (!shown) this.setState('asking', 'Allow the microphone in the browser’s prompt.');
    try {
      await this.microphone.open();
    } catch (error) {
      if (this.source.choice.kind === 'browser' && !signal.aborted) { // otherwise the person chose something else instead of answering
        if (!shown) throw error;
        this.page.tell(error.message); // it went while it was live: on in silence
      }
    }
    signal.throwIfAborted();
    if (!shown) this.setState('connecting', 'Connecting…');
  }

  /** Shows the connection's stream once pictures come; until then the one before stays on the screen. */
  async #show(next, signal) {
    await next.arrival(next.flowing(), signal);
    this.recording.save();
    this.connection = next;
    this.video.srcObject = next.stream;
    this.applyHearing();
    this.frames.watch(next);
    await this.video.play().catch((error) => {
      if (error.name !== 'NotAllowedError') return undefined; // a newer stream took its place, or Stop was pressed
      this.video.muted = true;
      this.page.tell('The browser does not allow sound before you press something: press Hear.');
      return this.video.play().catch(() => {});
    });
    await next.arrival(next.drawn, signal);
  }

  /** Ends the connection that is shown. The poster comes back; without load() the screen would go black. */
  #drop(keepalive = false) {
    this.recording.save(); // before its stream ends
    this.connection?.close(keepalive);
    this.connection = null;
    this.video.srcObject = null;
    this.video.load();
    this.frames.clock.reset(); // the next server may be another one
  }

  /** As long as the run lasts, once a second asks the server how it fares; never two questions at a time. */
  async #poll(signal) {
    while (!signal.aborted) {
      const asked = this.connection;
      if (asked) await this.#askStatus(asked, signal);
      if (asked && asked === this.connection) await asked.readTransport();
      if (signal.aborted) return;
      this.page.showFigures();
      await pause(this.connection?.status?.video ? POLL_MS : POLL_MS / 5); // a new one is asked soon: without this no latency
    }
  }

  async #askStatus(asked, signal) {
    let answered;
    try {
      answered = await asked.askStatus(this.frames.clock, signal);
    } catch (error) {
      if (asked !== this.connection || signal.aborted) return;
      if (error.code === 404) {
        asked.gone = true;
        asked.lose('The server has ended the session.');
      } else if (error instanceof Refusal && !error.passes) asked.lose(error.message);
      else if (performance.now() - asked.frame_ms > STALLED_MS) asked.lose('The server does not answer.');
      return;
    }
    if (answered && asked === this.connection) this.source.note(this, asked);
  }
}

/** The browser says that there is a network again. */
const online = (signal) => new Promise((resolve) => { window.addEventListener('online', resolve, { once: true, signal }); });
