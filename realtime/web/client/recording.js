/* Recording what is shown into a file, which says of itself that it is synthetic. */

import { marked } from './marking.js';

const TYPES = [ // in the order of preference
  'video/mp4;codecs=avc1.42E01E,mp4a.40.2', 'video/mp4;codecs=avc1.42E01E,opus', 'video/mp4',
  'video/webm;codecs=vp8,opus', 'video/webm',
];
const VIDEO_BITRATE = 4e6; // bit/s
const SOUND_BITRATE = 128e3;
const PIECE_MS = 1000; // handed over by the browser at a time
const SHOWN_MS = 500;

export class Recording {
  /** @param {import('./page.js').Page} page shows how long it is, and is told of what goes wrong */
  constructor(page) {
    this.page = page;
    /** @type {MediaRecorder | null} while it runs */
    this.recorder = null;
    this.since_ms = 0;
    this.timer = 0;
  }

  /**
   * @param {MediaStream} stream
   * @param {import('./requests.js').Config} config whose picture it is
   */
  start(stream, config) {
    const mimeType = window.MediaRecorder && TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    if (!mimeType) {
      this.page.tell('This browser cannot record. Chromium, Firefox and Safari can.');
      return;
    }
    const chunks = [];
    const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: VIDEO_BITRATE, audioBitsPerSecond: SOUND_BITRATE });
    recorder.addEventListener('dataavailable', ({ data }) => { if (data.size) chunks.push(data); });
    recorder.addEventListener('error', () => this.page.tell('The recording broke off; what was recorded is saved.'));
    recorder.addEventListener('stop', () => {
      if (this.recorder === recorder) this.#end(); // its stream ended
      if (chunks.length) void download(new Blob(chunks, { type: recorder.mimeType }), config);
    });
    recorder.start(PIECE_MS);
    this.recorder = recorder;
    this.since_ms = performance.now();
    this.timer = setInterval(() => this.#showLength(), SHOWN_MS);
    this.#showLength();
    this.page.render();
  }

  /** Ends it, if it runs, and downloads the file. */
  save() {
    const { recorder } = this;
    if (!recorder) return;
    this.#end();
    if (recorder.state !== 'inactive') recorder.stop();
  }

  #end() {
    clearInterval(this.timer);
    this.recorder = null;
    this.page.render();
  }

  #showLength() {
    this.page.showRecorded(Math.floor((performance.now() - this.since_ms) / 1000));
  }
}

/** Downloads a recording under a name that says what it is, marked as what it is. */
async function download(recorded, { avatar, marking }) {
  const blob = await marked(recorded, avatar, marking);
  const anchor = document.createElement('a');
  const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-');
  anchor.href = URL.createObjectURL(blob);
  const name = avatar.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  anchor.download = `miravox-${name}-synthetic-${stamp}.${blob.type.includes('mp4') ? 'mp4' : 'webm'}`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}
