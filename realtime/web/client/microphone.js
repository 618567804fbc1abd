/* The microphone: opened when it is used, replaced when it is unplugged, its level metered. */

import { hears, recall } from './preferences.js';

const METER_FLOOR_DB = -60; // quieter is shown as nothing
const METER_MS = 80;
const ADVICE = {
  NotAllowedError: 'The microphone is not allowed for this page. '
    + 'Allow it in the browser’s address bar (the icon beside the address), then try again.',
  NotFoundError: 'No microphone was found. Plug one in or switch it on, then try again.',
  NotReadableError: 'The microphone is in use by another program or did not start. Close that program, then try again.',
  insecure: 'Browsers give a microphone only to pages opened by https:// or on localhost. Open this page that way, then try again.',
};

/** @typedef {import('./player.js').Player} Player */

/** The microphone did not open; the message says what can be done. */
export class MicrophoneError extends Error {
  /**
   * @param {string} name of the browser's error, or "insecure"
   * @param {string} [detail]
   */
  constructor(name, detail) {
    super(ADVICE[name] ?? `The microphone did not open (${detail}). Choose another device, then try again.`);
  }
}

export class Microphone {
  /**
   * @param {object} hooks
   * @param {() => void} hooks.onEnded the device is gone: its track has ended without close()
   * @param {(level: number) => void} hooks.onLevel several times a second; 0 METER_FLOOR_DB or less, 1 full scale
   * @param {() => Promise<void>} hooks.onOpened the browser tells the devices' names now
   */
  constructor({ onEnded, onLevel, onOpened }) {
    this.onEnded = onEnded;
    this.onOpened = onOpened;
    this.meter = new Meter((level) => onLevel(this.muted ? 0 : level));
    /** @type {MediaStreamTrack | null} open only while it is used */
    this.track = null;
    this.muted = false;
    /** @type {AbortController | null} while the browser asks the person */
    this.asking = null;
  }

  /**
   * Opens the chosen device, or the default one where it is gone, in place of the one that is open. Throws a MicrophoneError if
   * that fails, and at once an AbortError if meanwhile it is cancelled, closed or opened again.
   */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new MicrophoneError('insecure');
    const device = recall('microphone');
    const audio = { echoCancellation: hears('browser'), noiseSuppression: false, autoGainControl: true, channelCount: 1 };
    if (device) audio.deviceId = { ideal: device };
    this.cancel();
    const asking = new AbortController();
    this.asking = asking;
    const stream = await ask(audio, asking.signal).finally(() => { if (this.asking === asking) this.asking = null; });
    this.close();
    const [track] = stream.getAudioTracks();
    track.enabled = !this.muted;
    track.addEventListener('ended', () => { if (track === this.track) this.onEnded(); });
    this.track = track;
    this.meter.open(stream);
    await this.onOpened();
  }

  /** Whether it is open and its device is there. */
  get live() {
    return this.track?.readyState === 'live';
  }

  /** What the device is called, or what to call it. */
  name(otherwise) {
    return this.track?.label || otherwise;
  }

  mute(muted) {
    this.muted = muted;
    if (this.track) this.track.enabled = !muted;
  }

  /** No longer waits for the person's answer; a microphone that comes all the same is closed at once. */
  cancel() {
    this.asking?.abort();
    this.asking = null;
  }

  close() {
    this.cancel();
    this.track?.stop();
    this.track = null;
    this.meter.close();
  }

  /**
   * Opens it again, as it is wanted now, and puts it on the player's connection; whether that went well. If it did not, the one
   * that was open still is.
   * @param {Player} player
   */
  async reopen(player) {
    try {
      await this.open();
      if (player.speaks) await player.connection?.sender.replaceTrack(this.track);
      else this.close();
      return true;
    } catch {
      return false;
    }
  }

  /**
   * The device was unplugged: the default one instead, else silence. The sentence for the person.
   * @param {Player} player
   */
  async replace(player) {
    const gone = this.name('The microphone');
    this.close();
    await player.connection?.sender.replaceTrack(null).catch(() => {});
    return await this.reopen(player)
      ? `${gone} was disconnected; ${this.name('the default microphone')} is used instead.`
      : `${gone} was disconnected, and there is no other: the avatar hears silence until one is plugged in.`;
  }
}

/**
 * The microphones that can be chosen; none has a label before the person allowed one.
 * @returns {Promise<{id: string, label: string}[]>}
 */
export async function microphones() {
  if (!navigator.mediaDevices?.enumerateDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  return devices
    .filter(({ kind, deviceId }) => kind === 'audioinput' && !['', 'default', 'communications'].includes(deviceId))
    .map(({ deviceId, label }, index) => ({ id: deviceId, label: label || `Microphone ${index + 1}` }));
}

/** The stream that the person allows; if the signal aborts, at once an AbortError, and a stream that comes later is closed. */
async function ask(audio, signal) {
  const asked = navigator.mediaDevices.getUserMedia({ audio });
  const cancelled = new Promise((_, reject) => { signal.addEventListener('abort', () => reject(signal.reason), { once: true }); });
  try {
    const stream = await Promise.race([asked, cancelled]);
    signal.throwIfAborted();
    return stream;
  } catch (error) {
    if (!signal.aborted) throw new MicrophoneError(error.name, error.message || error.name);
    asked.then((stream) => stream.getTracks().forEach((track) => track.stop()), () => {});
    throw error;
  }
}

/** Level of a stream's sound, METER_MS after METER_MS. */
class Meter {
  /** @param {(level: number) => void} onLevel 0 to 1 */
  constructor(onLevel) {
    this.onLevel = onLevel;
    /** @type {AudioContext | null} */
    this.context = null;
    this.nodes = [];
    this.timer = 0;
  }

  /** @param {MediaStream} stream */
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
      const level = 1 - (10 * Math.log10(power + 1e-12)) / METER_FLOOR_DB;
      this.onLevel(Math.min(1, Math.max(0, level)));
    }, METER_MS);
  }

  close() {
    clearInterval(this.timer);
    for (const node of this.nodes) node.disconnect();
    this.nodes = [];
    if (this.context?.state === 'running') void this.context.suspend();
    this.onLevel(0);
  }
}
