/* What the person does: buttons, keys, the choice of source, files that are dropped on the page. */

import { byId, radios } from './elements.js';
import { hears, remember } from './preferences.js';

export class Controls {
  /** @param {import('./page.js').Page} page whose elements are listened to */
  constructor(page) {
    this.page = page;
    this.player = page.player;
    this.source = page.source;
    this.microphone = page.microphone;
    this.recording = page.recording;
  }

  /** Once: from now on the page does what the person wants. */
  listen() {
    const { page } = this;
    const actions = {
      start: () => this.#toggleRun(),
      mute: () => this.#toggleMute(),
      hear: () => this.#toggleHear(),
      record: () => this.#toggleRecording(),
      full: () => this.#toggleFullScreen(),
    };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener('click', () => void action());
    document.addEventListener('keydown', (event) => pressKey(event, actions));
    byId('fallback').addEventListener('click', () => { this.#choose('sample'); void this.#start(); });
    byId('choose').addEventListener('click', () => void this.#pickFile());
    byId('device').addEventListener('change', () => void this.#changeDevice());
    byId('details').addEventListener('toggle', () => page.figures.showDetails(this.player));
    for (const radio of radios()) {
      radio.addEventListener('change', () => this.#choose(radio.value));
      radio.addEventListener('click', (event) => { // by mouse or touch: arrow keys pass over the file without a dialogue
        if (radio.value === 'file' && event.detail > 0 && !this.source.kept) void this.#pickFile();
      });
    }
    listenToDrops((file) => this.#choose('file', file));
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.#devicesChanged());
    document.addEventListener('fullscreenchange', () => page.render());
    window.addEventListener('online', () => this.player.networkBack());
    window.addEventListener('resize', () => page.figures.draw());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => page.figures.draw());
    window.addEventListener('pagehide', () => {
      if (this.player.run) this.player.stop('Stopped, since the page was left. Press Start to go on.');
    });
  }

  async #toggleRun() {
    if (this.player.run) this.player.stop('Stopped. Press Start to go on.');
    else await this.#start();
  }

  async #start() {
    if (this.source.choice.kind === 'file' && !this.source.choice.file) {
      await this.#pickFile();
      if (!this.source.choice.file) {
        this.page.tell('Choose a recording first.');
        return;
      }
    }
    await this.player.start();
  }

  #toggleMute() {
    if (this.source.choice.kind !== 'browser') return;
    this.microphone.mute(!this.microphone.muted);
    this.player.sayLive();
    this.page.render();
  }

  async #toggleHear() {
    const { kind } = this.source.choice;
    remember(`hear.${kind}`, String(!hears(kind)));
    this.player.applyHearing();
    this.page.render();
    if (this.microphone.track) await this.microphone.reopen(this.player); // with or without echo cancellation
  }

  #toggleRecording() {
    const { connection, config, state } = this.player;
    if (this.recording.recorder) this.recording.save();
    else if (state === 'live') this.recording.start(connection.stream, config);
  }

  async #toggleFullScreen() {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else await byId('portrait').requestFullscreen();
    } catch {
      this.page.tell('This browser does not allow full screen here.');
    }
  }

  #choose(kind, file = null) {
    this.source.choose(this.player, kind, file);
  }

  async #pickFile() {
    const file = await this.source.pickFile();
    if (file) this.#choose('file', file);
  }

  async #changeDevice() {
    remember('microphone', byId('device').value);
    if (!this.microphone.track) return;
    if (await this.microphone.reopen(this.player)) this.page.tell('');
    else if (this.player.speaks) this.page.tell('That microphone did not open; the one before is still used.');
  }

  /** A device came or went: one that came is used if there was none. */
  async #devicesChanged() {
    await this.page.listMicrophones();
    const { player, microphone } = this;
    const missing = player.state === 'live' && player.speaks && !microphone.track && !microphone.asking;
    if (missing && await microphone.reopen(player)) this.page.tell(`${microphone.name('A microphone')} is used.`);
  }
}

/** S, M, H, R and F do what their buttons do, unless something is typed or chosen from a list. */
function pressKey(event, { start, mute, hear, record, full }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest?.('select')) return;
  const action = { s: start, m: mute, h: hear, r: record, f: full }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  void action();
}

/** Takes a file that is dropped anywhere on the page. */
function listenToDrops(onFile) {
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
    if (file) onFile(file);
  });
}
