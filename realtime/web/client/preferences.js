/* What the browser remembers of the person's wishes. Storage may be forbidden; then nothing is remembered, and nothing else changes. */

/**
 * @param {string} name
 * @returns {string | null}
 */
export function recall(name) {
  try { return localStorage.getItem(`miravox.${name}`); } catch { return null; }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try { localStorage.setItem(`miravox.${name}`, value); } catch { /* forbidden */ }
}

/**
 * Whether the avatar is heard while this kind of source speaks. Not with one's own microphone unless asked for: it would come
 * back into it.
 * @param {string} kind
 */
export function hears(kind) {
  return (recall(`hear.${kind}`) ?? String(kind !== 'browser')) === 'true';
}
