/* The elements of index.html, by their names. */

/**
 * @param {string} id
 * @returns {any} the element, of whatever kind it is
 */
export const byId = (id) => document.getElementById(id);

/** @returns {any[]} the sources that can be chosen: radio buttons whose value is the kind */
export const radios = () => [...document.querySelectorAll('input[name="source"]')];

/**
 * Shows a button as pressed or not, with its label and its icon.
 * @param {string} id
 * @param {boolean} pressed
 * @param {string} label
 * @param {string} icon address of the symbol
 */
export function press(id, pressed, label, icon) {
  const button = byId(id);
  button.setAttribute('aria-pressed', String(pressed));
  button.querySelector('span').textContent = label;
  button.querySelector('use').setAttribute('href', icon);
}
