// Injected into the page before its own scripts: stamps what leaves the microphone, what comes back and what is shown.
//
// All times are milliseconds on one clock, performance.timeOrigin + performance.now(), which all threads of the browser
// share. `globalThis.latencyProbe` answers collect() with counts, and take(name, start, count) with bytes in base64.
// Its configuration is put in front of this file: region [left, top, right, bottom] of the frame in shares of its side,
// width and height of the mouth's picture in pixels, poll_ms between two looks at the server's state.
(() => {
  const config = globalThis.latencyProbeConfig;
  const now = () => performance.timeOrigin + performance.now();
  const startWorker = (body, options) => {
    const clock = "const now = () => performance.timeOrigin + performance.now();";
    const address = URL.createObjectURL(new Blob([clock, `(${body})();`], { type: "text/javascript" }));
    return new Worker(address, options);
  };
  const ask = (worker) =>
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = (event) => resolve(event.data);
      worker.postMessage({ collect: port2 }, [port2]);
    });

  // Worker 1: every encoded audio packet of the microphone, [time stamp on the wire, now]; the packet goes on untouched.
  const wire = startWorker(() => {
    const packets = [];
    onrtctransform = async ({ transformer }) => {
      const reader = transformer.readable.getReader();
      const writer = transformer.writable.getWriter();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        packets.push(value.getMetadata().rtpTimestamp, now());
        writer.write(value);
      }
    };
    onmessage = ({ data }) => data.collect.postMessage({ packets: new Float64Array(packets) });
  });

  // Worker 2: the sound of the microphone and of the loudspeaker at 16 kHz, and the server's state.
  const ears = startWorker(() => {
    const RATE = 16000;
    const micBlocks = []; // [arrival, stamp of the track in ms, samples of `mic` before the block, samples in it]
    const heardBlocks = []; // [context time of the first sample in s, samples of `heard` before the block, samples in it]
    const polls = []; // [asked, answered] and the answer
    const answers = [];
    const mic = { parts: [], length: 0 };
    const heard = { parts: [], length: 0 };
    // Adds a block, each sample the mean of what it covers at 16 kHz; blocks are chosen so that they hold whole ones.
    const append = (sound, samples, rate) => {
      const step = rate / RATE;
      const part = new Int16Array(Math.round(samples.length / step));
      for (let i = 0; i < part.length; i++) {
        let sum = 0;
        const end = Math.min((i + 1) * step, samples.length);
        for (let at = i * step, next; at < end; at = next) {
          next = Math.min(Math.floor(at) + 1, end);
          sum += (next - at) * samples[Math.floor(at)];
        }
        part[i] = Math.max(-32768, Math.min(32767, Math.round((32768 * sum) / step)));
      }
      sound.parts.push(part);
      sound.length += part.length;
      return [sound.length - part.length, part.length];
    };
    const listen = async (readable) => {
      const reader = readable.getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const arrival = now();
        const samples = new Float32Array(value.numberOfFrames);
        value.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
        micBlocks.push(arrival, value.timestamp / 1000, ...append(mic, samples, value.sampleRate));
        value.close();
      }
    };
    const hear = ({ data }) => heardBlocks.push(data.time, ...append(heard, data.samples, data.rate));
    const poll = async (address, milliseconds) => {
      for (;;) {
        const asked = now();
        const answer = await fetch(address).then((r) => (r.ok ? r.json() : null)).catch(() => null);
        const answered = now();
        if (answer) {
          polls.push(asked, answered);
          answers.push(answer);
        }
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
      }
    };
    const whole = (sound) => {
      const all = new Int16Array(sound.length);
      let at = 0;
      for (const part of sound.parts) {
        all.set(part, at);
        at += part.length;
      }
      return all;
    };
    onmessage = ({ data }) => {
      if (data.readable) listen(data.readable);
      else if (data.heard) data.heard.onmessage = hear;
      else if (data.address) poll(data.address, data.milliseconds);
      else {
        data.collect.postMessage({
          mic: whole(mic),
          mic_blocks: new Float64Array(micBlocks),
          heard: whole(heard),
          heard_blocks: new Float64Array(heardBlocks),
          polls: new Float64Array(polls),
          answers: new TextEncoder().encode(JSON.stringify(answers)),
        });
      }
    };
  });

  const frames = []; // a row of FRAME of browser.py for each frame
  const crops = []; // the picture around the mouth of each of them, width * height * RGB
  const outputs = []; // [context time in s, when it is heard] as the audio output states it
  const shownLatency = []; // [now, what the page's own latency display says]
  const faults = [];
  const guard = (what) => (error) => faults.push(`${what}: ${error}`);

  // The microphone, before the page sends it.
  const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    const stream = await getUserMedia(constraints);
    for (const track of stream.getAudioTracks()) {
      const { readable } = new MediaStreamTrackProcessor({ track: track.clone() });
      ears.postMessage({ readable }, [readable]);
    }
    return stream;
  };

  // The speech that comes back, at the output of WebAudio.
  const worklet = `registerProcessor("latency-probe", class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.samples = new Float32Array(4608); // a multiple of 128 and of 3
      this.filled = 0;
      this.port.onmessage = ({ data }) => { this.out = data; };
    }
    process([[samples]]) {
      if (!samples || !this.out) return true;
      if (!this.filled) this.time = currentTime;
      this.samples.set(samples, this.filled);
      this.filled += samples.length;
      if (this.filled === this.samples.length) {
        this.out.postMessage({ time: this.time, rate: sampleRate, samples: this.samples.slice() });
        this.filled = 0;
      }
      return true;
    }
  });`;
  const hear = async (track) => {
    const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })));
    const node = new AudioWorkletNode(context, "latency-probe");
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage(port1, [port1]);
    ears.postMessage({ heard: port2 }, [port2]);
    const silence = new GainNode(context, { gain: 0 });
    context.createMediaStreamSource(new MediaStream([track])).connect(node).connect(silence).connect(context.destination);
    setInterval(() => {
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      if (performanceTime > 0) outputs.push(contextTime, performance.timeOrigin + performanceTime);
    }, 100);
  };

  // The page's connections: the hook on the microphone's sender, the tap on the received speech.
  const transform = (sender) => {
    if (!sender.transform) sender.transform = new RTCRtpScriptTransform(wire);
  };
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener("track", ({ track }) => {
        if (track.kind === "audio") hear(track).catch(guard("loudspeaker"));
      });
    }
    addTransceiver(trackOrKind, ...options) {
      const transceiver = super.addTransceiver(trackOrKind, ...options);
      if (trackOrKind === "audio" || trackOrKind.kind === "audio") transform(transceiver.sender);
      return transceiver;
    }
    addTrack(track, ...streams) {
      const sender = super.addTrack(track, ...streams);
      if (track.kind === "audio") transform(sender);
      return sender;
    }
  };

  // The server's state, once there is a viewer; a new one after a reconnection has another address.
  const nativeFetch = globalThis.fetch.bind(globalThis);
  globalThis.fetch = async (resource, options) => {
    const response = await nativeFetch(resource, options);
    const address = new URL(resource.url ?? resource, location.href);
    if (address.pathname === "/offer" && response.ok) {
      const { viewer } = await response.clone().json();
      const state = new URL(`/viewers/${viewer}`, location.href);
      ears.postMessage({ address: state.href, milliseconds: config.poll_ms });
    }
    return response;
  };

  // Every frame that is shown, with the picture around its mouth.
  const canvas = new OffscreenCanvas(config.width, config.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const watch = (video) => {
    const shown = (_, m) => {
      video.requestVideoFrameCallback(shown);
      const called = now();
      const [left, top, right, bottom] = config.region;
      const [w, h] = [m.width, m.height];
      context.drawImage(video, left * w, top * h, (right - left) * w, (bottom - top) * h, 0, 0, config.width, config.height);
      const { data } = context.getImageData(0, 0, config.width, config.height);
      const rgb = new Uint8Array(3 * config.width * config.height);
      for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
        rgb[i] = data[j];
        rgb[i + 1] = data[j + 1];
        rgb[i + 2] = data[j + 2];
      }
      crops.push(rgb);
      const epoch = (time) => (time === undefined ? NaN : performance.timeOrigin + time);
      frames.push(
        m.rtpTimestamp ?? NaN, epoch(m.expectedDisplayTime), epoch(m.presentationTime), m.presentedFrames,
        epoch(m.receiveTime), 1000 * (m.processingDuration ?? NaN), called, now() - called,
      );
    };
    video.requestVideoFrameCallback(shown);
  };
  addEventListener("DOMContentLoaded", () => {
    const video = document.querySelector("video");
    if (video) watch(video);
    else faults.push("page: no <video>");
    const display = () => document.querySelector(config.latency_selector);
    setInterval(() => {
      const milliseconds = parseFloat(display()?.textContent.match(/\d+(\.\d+)?/)?.[0]);
      if (milliseconds > 0) shownLatency.push(now(), milliseconds);
    }, 1000);
  });

  const joined = (arrays) => {
    const all = new Uint8Array(3 * arrays.length * config.width * config.height);
    arrays.forEach((array, i) => all.set(array, i * array.length));
    return all;
  };
  let collected = {};
  globalThis.latencyProbe = {
    // The length in bytes of everything that was recorded up to now.
    async collect() {
      collected = {
        ...(await ask(wire)),
        ...(await ask(ears)),
        frames: new Float64Array(frames),
        crops: joined(crops.slice(0, frames.length / 8)),
        outputs: new Float64Array(outputs),
        page_latency: new Float64Array(shownLatency),
        faults: new TextEncoder().encode(JSON.stringify(faults)),
      };
      return Object.fromEntries(Object.entries(collected).map(([name, array]) => [name, array.byteLength]));
    },
    take(name, start, count) {
      const { buffer, byteOffset } = collected[name];
      const bytes = new Uint8Array(buffer, byteOffset + start, count);
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return btoa(text);
    },
  };
})();
