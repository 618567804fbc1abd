/*
 * What a recording of the page says of itself: title and comment, in the file's own metadata.
 *
 * MediaRecorder writes none. WebM (RFC 9559) gets a Tags element before its first cluster, fragmented MP4 (ISO/IEC
 * 14496-12) a box of user data within its moov box. The recording itself stays where it is, read from the blob as needed.
 */

const EBML = 0x1a45dfa3, SEGMENT = 0x18538067, CLUSTER = 0x1f43b675;
const TAGS = 0x1254c367, TAG = 0x7373, TARGETS = 0x63c0, SIMPLE_TAG = 0x67c8, TAG_NAME = 0x45a3, TAG_STRING = 0x4487;
const HEAD_BYTES = 65536; // what comes before the first cluster is far shorter
const TEXT = 1; // of an MP4 metadata item: UTF-8

const utf8 = (text) => new TextEncoder().encode(text);
const read = async (blob, start, end) => new DataView(await blob.slice(start, end).arrayBuffer());

function joined(...parts) {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  parts.reduce((at, part) => { bytes.set(part, at); return at + part.length; }, 0);
  return bytes;
}

function uint32(...values) {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setUint32(4 * i, value));
  return new Uint8Array(view.buffer);
}

/** The same recording with a title and a comment; unchanged if it is built in a way that is not known here. */
export async function marked(blob, title, comment) {
  try {
    return await (blob.type.includes('mp4') ? markedMp4 : markedWebm)(blob, title, comment);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // it ends within an element
    return blob;
  }
}

// -------------------------------------------------------------------------------------------------------------------- WebM

/** {id, data, end} of the element at `at`; `end` is infinite if its size is unknown, as a live segment's is. */
function elementAt(view, at) {
  const first = view.getUint8(at);
  const idLength = Math.clz32(first) - 23;
  let id = 0;
  for (let i = 0; i < idLength; i++) id = id * 256 + view.getUint8(at + i);
  const sizeAt = at + idLength;
  const sizeLength = Math.clz32(view.getUint8(sizeAt)) - 23;
  let size = view.getUint8(sizeAt) & (0xff >> sizeLength), unknown = size === 0xff >> sizeLength;
  for (let i = 1; i < sizeLength; i++) {
    size = size * 256 + view.getUint8(sizeAt + i);
    unknown &&= view.getUint8(sizeAt + i) === 0xff;
  }
  const data = sizeAt + sizeLength;
  return { id, data, end: unknown ? Infinity : data + size };
}

function element(id, ...parts) {
  const data = joined(...parts);
  const idBytes = uint32(id).subarray(Math.clz32(id) >> 3);
  return joined(idBytes, uint32(0x10000000 | data.length), data);
}

const simpleTag = (name, text) => element(SIMPLE_TAG, element(TAG_NAME, utf8(name)), element(TAG_STRING, utf8(text)));

async function markedWebm(blob, title, comment) {
  const view = await read(blob, 0, HEAD_BYTES);
  const header = elementAt(view, 0);
  const segment = elementAt(view, header.end);
  // A segment of known size may hold positions of what would be moved.
  if (header.id !== EBML || segment.id !== SEGMENT || segment.end !== Infinity) return blob;
  let at = segment.data;
  for (let child = elementAt(view, at); child.id !== CLUSTER; child = elementAt(view, at)) at = child.end;
  const tags = element(TAGS, element(TAG, element(TARGETS), simpleTag('TITLE', title), simpleTag('COMMENT', comment)));
  return new Blob([blob.slice(0, at), tags, blob.slice(at)], { type: blob.type });
}

// --------------------------------------------------------------------------------------------------------------------- MP4

const letters = (view, at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));

/** {type, start, data, end} of a box, of which `view` holds the first 16 bytes at `at`; `start` is its place in the file. */
function boxAt(view, at, start, fileEnd) {
  let size = view.getUint32(at), header = 8;
  if (size === 1) { size = Number(view.getBigUint64(at + 8)); header = 16; }
  return { type: letters(view, at + 4), start, data: start + header, end: size === 0 ? fileEnd : start + size };
}

async function topLevelBoxes(blob) {
  const boxes = [];
  for (let at = 0; at + 8 <= blob.size; at = boxes.at(-1).end) {
    const box = boxAt(await read(blob, at, at + 16), 0, at, blob.size);
    if (box.end <= at) throw new RangeError('a box without length');
    boxes.push(box);
  }
  return boxes;
}

/** The boxes within a view of one box's data that begins at `at`. */
function boxesWithin(view, at, end) {
  const boxes = [];
  for (; at + 8 <= end; at = boxes.at(-1).end) {
    boxes.push(boxAt(view, at, at, end));
    if (boxes.at(-1).end <= at) throw new RangeError('a box without length');
  }
  return boxes;
}

function box(type, ...parts) {
  const data = joined(...parts);
  return joined(uint32(8 + data.length), Uint8Array.from(type, (letter) => letter.charCodeAt(0)), data);
}

const item = (type, text) => box(type, box('data', uint32(TEXT, 0), utf8(text)));

async function markedMp4(blob, title, comment) {
  const boxes = await topLevelBoxes(blob);
  const moov = boxes.find(({ type }) => type === 'moov');
  const fragment = boxes.find(({ type }) => type === 'moof');
  const index = boxes.find(({ type }) => type === 'mfra');
  if (!moov || boxes.some(({ type, end }) => type === 'mdat' && end <= moov.start)) return blob;
  const view = await read(blob, moov.start, moov.end);
  const within = boxesWithin(view, moov.data - moov.start, view.byteLength);
  if (!within.some(({ type }) => type === 'mvex') || within.some(({ type }) => type === 'udta')) return blob;
  if (fragment && await countsFromTheStart(blob, fragment)) return blob;
  const handler = box('hdlr', uint32(0, 0), utf8('mdirappl'), uint32(0, 0), new Uint8Array(1));
  const items = box('ilst', item('\xa9nam', title), item('\xa9cmt', comment));
  const marking = box('udta', box('meta', uint32(0), handler, items));
  const content = new Uint8Array(view.buffer, moov.data - moov.start);
  const rest = index ? [blob.slice(moov.end, index.start), await movedIndex(blob, index, marking.length), blob.slice(index.end)]
    : [blob.slice(moov.end)];
  return new Blob([blob.slice(0, moov.start), box('moov', content, marking), ...rest], { type: blob.type });
}

/** Whether a movie fragment says where its samples lie by their place in the file. */
async function countsFromTheStart(blob, fragment) {
  const view = await read(blob, fragment.data, fragment.end);
  return boxesWithin(view, 0, view.byteLength)
    .filter(({ type }) => type === 'traf')
    .flatMap(({ data, end }) => boxesWithin(view, data, end))
    .some(({ type, data }) => type === 'tfhd' && view.getUint32(data) & 1);
}

/** The box that says where the fragments begin (mfra), when all of them begin so many bytes later. */
async function movedIndex(blob, index, bytes) {
  const view = await read(blob, index.start, index.end);
  for (const { type, data } of boxesWithin(view, index.data - index.start, view.byteLength)) {
    if (type !== 'tfra') continue;
    const long = view.getUint8(data) === 1;
    const lengths = view.getUint32(data + 8);
    const numbers = [4, 2, 0].reduce((sum, shift) => sum + 1 + ((lengths >> shift) & 3), 0);
    const entries = view.getUint32(data + 12);
    for (let i = 0, at = data + 16; i < entries; i++, at += (long ? 16 : 8) + numbers) {
      if (long) view.setBigUint64(at + 8, view.getBigUint64(at + 8) + BigInt(bytes));
      else view.setUint32(at + 4, view.getUint32(at + 4) + bytes);
    }
  }
  return view.buffer;
}
