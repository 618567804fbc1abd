/* The figures: two numbers, the chart of the last minute, and the details. */

import { quantile } from './frames.js';

const MEDIAN_MS = 2000; // the numbers are medians over so long
const POINT_MS = 1000; // a point of the chart
const CHART_SECONDS = 60;
const GAP_MS = 3000; // between two points: nothing was measured in between
const LOWEST_TOP_MS = 200; // the chart reaches at least so far up
const GIVEN_UP = { unrefined: 'refinement of the face', halved: 'half of its resolution' };
const UNKNOWN = '–';

/** @typedef {import('./player.js').Player} Player */
/** @typedef {{time_ms: number} & import('./frames.js').Summary} Point one second of the chart */

export class Figures {
  /**
   * @param {object} elements
   * @param {HTMLElement} elements.label of the latency
   * @param {HTMLElement} elements.latency
   * @param {HTMLElement} elements.fps
   * @param {HTMLCanvasElement} elements.chart
   * @param {HTMLDetailsElement} elements.details
   * @param {HTMLElement} elements.facts a dl
   * @param {HTMLElement} elements.stages a tbody
   */
  constructor(elements) {
    this.elements = elements;
    /** @type {Point[]} of the last CHART_SECONDS */
    this.history = [];
  }

  /**
   * Median latency of the moment, milliseconds; null if it is not known.
   * @param {Player} player
   */
  latency(player) {
    return player.frames.over(MEDIAN_MS).latency_ms;
  }

  /**
   * Takes the player's figures and shows them; wanted once a second.
   * @param {Player} player
   */
  update(player) {
    const { connection, frames, source } = player;
    const { label, latency, fps } = this.elements;
    const shown = connection ? frames.over(MEDIAN_MS) : null;
    label.textContent = (connection?.status?.source?.kind ?? source.choice.kind) === 'browser' ? 'Mouth to photon' : 'Sound to photon';
    latency.textContent = number(shown?.latency_ms, 0);
    fps.textContent = number(shown?.fps, 1);
    const now_ms = performance.now();
    if (connection) this.history.push({ time_ms: now_ms, ...frames.over(POINT_MS) });
    while (this.history[0]?.time_ms < now_ms - 1000 * (CHART_SECONDS + 2)) this.history.shift();
    this.draw();
    this.showDetails(player);
  }

  /** Draws the last minute: the line is the median of each second, the band its 5th to 95th percentile. */
  draw() {
    const { chart } = this.elements;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [chart.clientWidth, chart.clientHeight];
    const measured = this.history.filter((point) => point.latency_ms !== null);
    chart.setAttribute('aria-label', `Latency over the last minute: ${inWords(measured.map((point) => point.latency_ms))}`);
    if (!width) return;
    chart.width = Math.round(width * scale);
    chart.height = Math.round(height * scale);
    const context = chart.getContext('2d');
    context.scale(scale, scale);
    const style = getComputedStyle(chart);
    const [accent, line, soft] = ['--accent', '--line', '--soft'].map((name) => style.getPropertyValue(name));
    const top_ms = Math.max(LOWEST_TOP_MS, 100 * Math.ceil(Math.max(0, ...measured.map((point) => point.high_ms)) / 100));
    const [left, right, upper, lower] = [34, width - 2, 8, height - 18];
    const now_ms = performance.now();
    const x = (time_ms) => right - ((now_ms - time_ms) / (1000 * CHART_SECONDS)) * (right - left);
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

    // Band and line, broken where nothing was measured.
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.fillStyle = accent;
    context.strokeStyle = accent;
    context.lineWidth = 2;
    context.lineJoin = 'round';
    for (const piece of pieces(this.history)) {
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
  }

  /**
   * Shows source, picture, network and server, if the person has opened the details.
   * @param {Player} player
   */
  showDetails({ connection, config, video }) {
    const { details, facts, stages } = this.elements;
    if (!details.open) return;
    const { source, samples, frames, given_up, fps, lookahead_ms, buffer_ms, drift_ms, stages_ms } = connection?.status ?? {};
    const { codec, decoder, bitrate, roundTrip_ms, jitter_ms, lost, skew_ms, dropped } = connection?.transport ?? {};
    const rows = [
      ['Source', source ? `${source.name || source.kind}, ${source.state}` : UNKNOWN],
      ['Picture', codec ? `${codec}, ${video.videoWidth} × ${video.videoHeight}` : UNKNOWN],
      ['Decoder', decoder ?? UNKNOWN],
      ['Bit rate', number(bitrate == null ? null : bitrate / 1000, 0, ' kbit/s')],
      ['Network round trip', number(roundTrip_ms, 1, ' ms')],
      ['Network jitter', number(jitter_ms, 1, ' ms')],
      ['Packets lost', number(lost, 0)],
      ['Sound after lips, estimate', video.muted ? 'not measured while the avatar is not heard' : number(skew_ms, 0, ' ms')],
      ['Frames the browser dropped', number(dropped, 0)],
      ['Frames rendered / late / dropped', frames ? [frames.rendered, frames.late, frames.dropped].join('\u00a0/\u00a0') : UNKNOWN],
      ['Given up to keep up', given_up ? given_up.map((step) => GIVEN_UP[step] ?? step).join(', ') || 'nothing' : UNKNOWN],
      ['Frame rate on the server', number(fps, 1, ' fps')],
      ['Samples inserted as silence', number(samples?.silence, 0)],
      ['Samples discarded', number(samples?.discarded, 0)],
      ['Bad samples', number(samples?.bad, 0)],
      ['Look-ahead of the lips', number(lookahead_ms ?? config?.lookahead_ms, 1, ' ms')],
      ['Speech waits for late packets', number(buffer_ms, 1, ' ms')],
      ['Clock drift', number(drift_ms, 1, ' ms')],
    ];
    facts.replaceChildren(...rows.map(([term, value]) => element('div', element('dt', term), element('dd', value))));
    stages.replaceChildren(...Object.entries(stages_ms ?? {}).map(([stage, time]) => {
      const head = document.createElement('th');
      head.append(stage.replaceAll('_', ' '));
      head.scope = 'row';
      return element('tr', head, ...[time.p50, time.p95, time.p99].map((value) => element('td', number(value, 1))));
    }));
  }
}

const number = (value, digits, unit = '') => (value == null ? UNKNOWN : `${value.toFixed(digits)}${unit}`);

function inWords(medians) {
  if (!medians.length) return 'nothing yet';
  return `median ${quantile(medians, 0.5).toFixed(0)}, lowest ${Math.min(...medians).toFixed(0)}, `
    + `highest ${Math.max(...medians).toFixed(0)} milliseconds`;
}

/** Runs of points in which something was measured. */
function pieces(points) {
  const found = [];
  let piece = null;
  for (const point of points) {
    const follows = piece && point.time_ms - piece.at(-1).time_ms < GAP_MS;
    if (point.latency_ms === null) piece = null;
    else if (follows) piece.push(point);
    else found.push(piece = [point]);
  }
  return found;
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}
