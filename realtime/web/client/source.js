/* Who speaks: what the person chose, the file that goes with it, and how a running session gets another source. */

import { SWITCH } from './connection.js';
import { Refusal, post, request, sessionPath } from './requests.js';

const SENDING_MS = 120000; // for a file to arrive

/** @typedef {import('./connection.js').Connection} Connection */
/** @typedef {import('./player.js').Player} Player */

/**
 * Who is to speak. Replaced, never changed: two choices are the same if they are the same object.
 * @typedef {object} Choice
 * @property {string} kind shared, browser, mic, sample, file or silence
 * @property {File | null} file of the kind "file", once it is chosen
 */

export class Source {
  /**
   * @param {object} parts
   * @param {import('./microphone.js').Microphone} parts.microphone
   * @param {import('./page.js').Page} parts.page
   * @param {HTMLInputElement} parts.input of type file
   */
  constructor({ microphone, page, input }) {
    this.microphone = microphone;
    this.page = page;
    this.input = input;
    /** @type {Choice} */
    this.choice = { kind: 'browser', file: null };
    /** @type {File | null} the file that was last chosen, for when the person comes back to it */
    this.kept = null;
    /** @type {string | null} what the server said last about its source */
    this.message = null;
    this.changes = Promise.resolve(); // changes of source happen one after the other
  }

  /** A new run: what the server says of its source is news again. */
  forget() {
    this.message = null;
  }

  /**
   * A source that the server does not have is no longer chosen; whether the choice still stands.
   * @param {import('./requests.js').Config} config
   * @param {boolean} first nothing was known of the server before
   */
  fit(config, first) {
    const { kind } = this.choice;
    const gone = (kind === 'shared' && !config.shared) || (kind === 'mic' && !config.server_microphone);
    if (first && config.shared && kind === 'browser') this.choice = { kind: 'shared', file: null };
    else if (gone) this.choice = { kind: config.shared ? 'shared' : 'browser', file: null };
    return !gone;
  }

  /**
   * The person chooses who speaks; takes effect at once if something is shown, at Start otherwise.
   * @param {Player} player
   * @param {string} kind
   * @param {File | null} [file]
   */
  choose(player, kind, file = null) {
    const keptBefore = this.kept;
    this.kept = file ?? this.kept;
    this.choice = { kind, file: kind === 'file' ? this.kept : null };
    if (kind !== 'browser') this.microphone.cancel();
    this.page.tell('');
    this.page.offerSample(false);
    this.page.render();
    if (!player.run && ['idle', 'stopped'].includes(player.state)) player.setState('idle', invitation(this.choice, player.avatar));
    if (!player.connection || player.state !== 'live' || (kind === 'file' && !this.choice.file)) return; // else see settle()
    const wanted = this.choice;
    this.changes = this.changes.then(() => this.#change(player, wanted, keptBefore));
  }

  /** Makes the choice come true, unless another one was made since; if it cannot be, the one before is chosen again. */
  async #change(player, wanted, keptBefore) {
    const target = player.connection;
    if (wanted !== this.choice || !target || target.choice === wanted) return;
    try {
      await this.#apply(player, target, wanted);
    } catch (error) {
      if (wanted !== this.choice || target !== player.connection) return;
      this.choice = target.choice;
      if (error instanceof Refusal && !error.passes && wanted.kind === 'file') this.kept = keptBefore === wanted.file ? null : keptBefore;
      if (this.choice.kind !== 'browser') this.microphone.close();
      this.page.tell(error.message);
      player.sayLive();
      this.page.render();
    }
  }

  /** Gives the running session another source; between shared and private, gives the person another session. */
  async #apply(player, target, wanted) {
    const { kind, file } = wanted;
    if (kind === 'browser' && !this.microphone.track) await this.microphone.open();
    if (target !== player.connection) return; // the next connection begins with what is chosen
    const mayChange = player.config?.shared?.may_change ?? false;
    if (target.shared ? kind === 'browser' || (kind !== 'shared' && !mayChange) : kind === 'shared') {
      target.lose(SWITCH);
      return;
    }
    if (kind === 'file') await this.#send(target, file, player.config);
    else if (kind !== 'shared') target.noteChange(await post(sessionPath(target.session, 'source'), { source: kind }));
    await target.sender.replaceTrack(kind === 'browser' ? this.microphone.track : null); // only now: the server may refuse
    if (kind !== 'browser') this.microphone.close();
    target.choice = wanted;
    player.applyHearing();
    player.sayLive();
    this.page.render();
  }

  /** Sends the file to the session. Throws a Refusal if the server does not take it. */
  async #send(target, file, config) {
    if (file.size > config.max_file_bytes) {
      throw new Refusal(413, `${file.name} has ${mebibytes(file.size)}; the server takes ${mebibytes(config.max_file_bytes)} at most. `
        + 'Choose a shorter recording.');
    }
    this.page.tell(`Sending ${file.name}…`);
    const headers = { 'Content-Type': 'application/octet-stream' };
    const path = sessionPath(target.session, `file?name=${encodeURIComponent(file.name)}`);
    const response = await request(path, { method: 'POST', body: file, headers, timeout_ms: SENDING_MS });
    target.noteChange(await response.json());
    this.page.tell('');
  }

  /**
   * Does what was chosen while the connection was being made, and sends the file that a new session does not have.
   * @param {Player} player
   * @param {Connection} connection
   */
  settle(player, connection) {
    if (this.choice === connection.choice && this.choice.kind !== 'file') return;
    const { kind, file } = this.choice;
    if (kind === 'file' && !file) return;
    if (this.choice === connection.choice) connection.choice = { kind: 'file', file: null }; // until the file is sent it is silent
    this.choose(player, kind, file);
  }

  /**
   * The server's word on its source: somebody else changed the shared one, the sound card is gone.
   * @param {Player} player
   * @param {Connection} connection with a new status
   */
  note(player, connection) {
    const { source } = connection.status;
    const { choice } = this;
    if (connection.shared && choice === connection.choice && choice.kind !== 'shared' && choice.kind !== source.kind) {
      this.choice = { kind: 'shared', file: null };
      connection.choice = this.choice;
    }
    const message = source.message ?? (source.state === 'lost' ? 'The source was lost; the avatar hears silence.' : null);
    if (message !== this.message) {
      if (message || this.page.notice === this.message) this.page.tell(message ?? '');
      this.message = message;
    }
    player.sayLive();
  }

  /**
   * Asks for a file; null when the person thinks better of it.
   * @returns {Promise<File | null>}
   */
  pickFile() {
    this.input.value = '';
    return new Promise((resolve) => {
      this.input.onchange = () => resolve(this.input.files[0] ?? null);
      this.input.oncancel = () => resolve(null);
      this.input.click();
    });
  }
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/**
 * What to do before Start.
 * @param {Choice} choice
 * @param {string} avatar what to call it
 */
export function invitation({ kind, file }, avatar) {
  if (kind === 'browser') return 'Press Start, allow the microphone, and speak.';
  if (kind === 'shared') return 'Press Start to join the shared session.';
  if (kind === 'file' && !file) return 'Choose a recording, then press Start.';
  if (kind === 'file') return `Press Start: ${avatar} says ${file.name}.`;
  return `Press Start to see and hear ${avatar}.`;
}

/**
 * What is seen and heard.
 * @param {Choice} choice
 * @param {import('./requests.js').Status | null | undefined} status of the session, once it is known
 * @param {string} avatar what to call it
 * @param {boolean} muted the person's own microphone
 */
export function liveSentence({ kind, file }, status, avatar, muted) {
  const source = kind === 'shared' ? status?.source : { kind, name: file?.name };
  switch (source?.kind) {
    case 'browser': return muted ? 'You are muted.' : `Speak: ${avatar} speaks with you.`;
    case 'mic': return `${avatar} says what the server’s microphone hears.`;
    case 'sample': return `${avatar} says the sample recording.`;
    case 'silence': return `${avatar} is at rest.`;
    case 'file': return source.name ? `${avatar} says ${source.name}.` : 'Choose a recording.';
    default: return `${avatar} speaks in the shared session.`;
  }
}
