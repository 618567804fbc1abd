/*
 * Miravox in the browser: speech goes up, the portrait that says it comes down.
 *
 *   page -> controls                  what is shown, and what the person does
 *        -> player -> connection      a run, from Start to Stop: one connection after the other
 *        -> source, microphone        who speaks
 *        -> frames -> figures         what is on the screen, and how late
 *        -> recording -> marking      what is saved says that it is synthetic
 *
 * Modules keep nothing: all state lies in the objects that Page makes. Measuring programs read window.miravox.
 */

import { Controls } from './controls.js';
import { byId, press, radios } from './elements.js';
import { Figures } from './figures.js';
import { FrameLog } from './frames.js';
import { Microphone, microphones } from './microphone.js';
import { Player } from './player.js';
import { hears, recall } from './preferences.js';
import { Recording } from './recording.js';
import { request } from './requests.js';
import { Source, invitation } from './source.js';

const BADGES = {
  idle: 'Ready', asking: 'Microphone?', connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting', stopped: 'Stopped',
};

export class Page {
  constructor() {
    const video = byId('video');
    this.microphone = new Microphone({
      onEnded: () => void this.microphone.replace(this.player).then((sentence) => this.tell(sentence)),
      onLevel: (level) => this.#showLevel(level),
      onOpened: () => this.listMicrophones(),
    });
    this.source = new Source({ microphone: this.microphone, page: this, input: byId('file') });
    this.recording = new Recording(this);
    this.frames = new FrameLog(video);
    this.figures = new Figures({
      label: byId('latency-label'), latency: byId('latency'), fps: byId('fps'), chart: byId('chart'),
      details: byId('details'), facts: byId('facts'), stages: byId('stages'),
    });
    const { source, microphone, frames, recording } = this;
    this.player = new Player({ video, source, microphone, frames, recording, page: this });
  }

  /** Once, when the page is loaded. */
  async open() {
    Object.defineProperty(window, 'miravox', { value: view(this) });
    new Controls(this).listen();
    this.render();
    this.figures.draw();
    void this.listMicrophones();
    this.#loadPoster().catch(() => {}); // a portrait without a poster is no fault
    const { player, source } = this;
    const problem = await player.loadConfig().then(() => '', (error) => `${error.message} Press Start to try again.`);
    if (!player.run) player.setState('idle', problem || invitation(source.choice, player.avatar)); // else Start was quicker
  }

  /** The avatar at rest; fetched rather than linked, since an image element cannot carry the token. */
  async #loadPoster() {
    const picture = await (await request('poster.jpg', { cache: 'default' })).blob();
    this.player.video.poster = URL.createObjectURL(picture);
  }

  /**
   * @param {import('./player.js').State} state
   * @param {string} sentence
   */
  showState(state, sentence) {
    document.body.dataset.state = state;
    if (byId('state').textContent !== sentence) byId('state').textContent = sentence; // screen readers say it again otherwise
    byId('badge').textContent = BADGES[state];
    this.render();
  }

  /** One sentence about something that happened; empty: nothing to tell. */
  tell(sentence) {
    byId('notice').textContent = sentence;
    byId('notice').hidden = !sentence;
  }

  /** What was told last. */
  get notice() {
    return byId('notice').textContent;
  }

  /** Shows or hides the button for the sample. */
  offerSample(offered) {
    byId('fallback').hidden = !offered;
  }

  showFigures() {
    this.figures.update(this.player);
  }

  /** @param {number} seconds that the recording has */
  showRecorded(seconds) {
    byId('recorded').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  }

  #showLevel(level) {
    byId('meter').setAttribute('aria-valuenow', String(Math.round(100 * level)));
    byId('meter').firstElementChild.style.setProperty('--level', level.toFixed(2));
  }

  /** Offers the microphones that there are. */
  async listMicrophones() {
    const options = (await microphones()).map(({ id, label }) => new Option(label, id));
    const select = byId('device');
    select.replaceChildren(new Option('Default microphone', ''), ...options);
    select.value = recall('microphone') ?? '';
    if (select.selectedIndex < 0) select.value = '';
  }

  /** Puts everything that the person can choose in the place where it is. */
  render() {
    const { config, avatar, run, state } = this.player;
    const { choice } = this.source;
    const { muted } = this.microphone;
    const recorded = this.recording.recorder !== null;
    byId('name').textContent = config?.avatar ?? 'Miravox';
    document.title = config ? `${config.avatar} · Miravox` : 'Miravox';
    byId('video').setAttribute('aria-label', avatar);
    byId('marking').textContent = config?.marking ?? '';
    byId('marking').hidden = !config;
    byId('start').textContent = run ? 'Stop' : 'Start';
    byId('start').classList.toggle('running', run !== null);
    this.#renderSources();

    const own = choice.kind === 'browser';
    const heard = hears(choice.kind);
    press('mute', muted && own, muted ? 'Muted' : 'Mute', muted ? '#icon-muted' : '#icon-microphone');
    byId('mute').disabled = !own;
    press('hear', heard, 'Hear', heard ? '#icon-sound' : '#icon-quiet');
    press('record', recorded, recorded ? 'Save' : 'Record', '#icon-record');
    byId('record').disabled = state !== 'live' && !recorded;
    press('full', document.fullscreenElement !== null, 'Full screen', '#icon-full');
    byId('recording').hidden = !recorded;
  }

  #renderSources() {
    const { config, connection } = this.player;
    const { choice, kept } = this.source;
    const shared = config?.shared ?? null;
    for (const radio of radios()) radio.checked = radio.value === choice.kind;
    byId('option-shared').hidden = shared === null;
    byId('option-silence').hidden = shared === null;
    if (shared) {
      const joined = connection?.status?.shared ? connection.status : null;
      byId('shared-name').textContent = `: ${joined?.source.name ?? shared.name}`;
      byId('shared-hint').textContent = joined
        ? `${joined.viewers} ${joined.viewers === 1 ? 'viewer' : 'viewers'}; `
          + (shared.may_change ? 'other sources change it for everyone' : 'another source is a session of your own')
        : 'Everyone who joins sees the same';
    }
    const unheard = config !== null && !config.server_microphone;
    radios().find((radio) => radio.value === 'mic').disabled = unheard;
    byId('mic-hint').textContent = unheard
      ? 'Not available: the server offers no microphone'
      : 'What is said in the server’s room';
    byId('file-hint').textContent = kept ? kept.name : 'Choose a recording, or drop it on the page';
    byId('microphone').hidden = choice.kind !== 'browser';
  }
}

/** What measuring programs may read. @param {Page} page */
function view({ player, source, frames, figures }) {
  return Object.freeze({
    get pc() { return player.connection?.pc ?? null; },
    get session() { return player.connection?.session ?? null; },
    get viewer() { return player.connection?.viewer ?? null; },
    get status() { return player.connection?.status ?? null; },
    get state() { return player.state; },
    get source() { return source.choice.kind; },
    get frames() { return frames.shown; },
    get frameCount() { return frames.count; },
    get clockOffsetMs() { return frames.clock.offset_ms; },
    get roundTripMs() { return frames.clock.roundTrip_ms; },
    get latencyMs() { return figures.latency(player); },
  });
}

await new Page().open();
