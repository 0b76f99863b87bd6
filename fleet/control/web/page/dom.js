// Elements: finds them, clones them from the templates of index.html, fills them with text, keeps them in lists.
// Text is set through textContent only: topics, outputs and messages may contain anything.

/**
 * The named parts of an element.
 * @param {ParentNode} root
 * @returns {Object<string, Element>} by the value of data-slot
 */
export function slotsOf(root) {
  return Object.fromEntries([...root.querySelectorAll('[data-slot]')].map((slot) => [slot.dataset.slot, slot]));
}

/**
 * A new copy of a template.
 * @param {string} id of the template
 * @returns {{root: Element, slots: Object<string, Element>}}
 */
export function cloned(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  return { root, slots: slotsOf(root) };
}

/**
 * Sets a text if it differs: setting an equal text would cost layout and clear the reader's selection.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Sets or removes an attribute, if it differs.
 * @param {Element} node
 * @param {string} name
 * @param {?string} value null: remove it
 */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/**
 * Shows a state by a tone (colour) and a shape; the text beside them names it.
 * @param {Element} node with an svg.shape inside
 * @param {{tone: string, shape: string}} look
 */
export function setLook(node, look) {
  setAttribute(node, 'data-tone', look.tone);
  setAttribute(node.querySelector('use'), 'href', `#shape-${look.shape}`);
}

/**
 * Fills a bar.
 * @param {HTMLElement} node the filling
 * @param {number} share 0 to 1; values outside are clamped
 */
export function setShare(node, share) {
  node.style.transform = `scaleX(${Math.min(Math.max(share, 0), 1).toFixed(4)})`;
}

/**
 * An address that is safe as a link.
 * @param {?string} address
 * @returns {?string} null unless it is http or https
 */
export function webAddress(address) {
  return address !== null && /^https?:\/\//i.test(address) ? address : null;
}

/**
 * Rows that mirror a list: rows that stay keep their elements, focus and selection.
 *
 * `create(item)` returns `{root, update(item), removed?()}`.
 */
export class KeyedList {
  #rows = new Map();
  #parent;
  #keyOf;
  #create;

  constructor(parent, keyOf, create) {
    this.#parent = parent;
    this.#keyOf = keyOf;
    this.#create = create;
  }

  /** @returns {Iterable<object>} the rows, in no particular order */
  rows() {
    return this.#rows.values();
  }

  /** @returns {object|undefined} the row with that key */
  row(key) {
    return this.#rows.get(key);
  }

  /** @param {object[]} items in the wanted order */
  render(items) {
    const focused = document.activeElement;
    const wanted = new Map(items.map((item) => [this.#keyOf(item), item]));
    this.#removeAllBut(wanted);
    let place = this.#parent.firstElementChild;
    for (const [key, item] of wanted) {
      const row = this.#rows.get(key) ?? this.#add(key, item);
      row.update(item);
      if (row.root === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(row.root, place);
    }
    // A moved element loses the focus.
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  #add(key, item) {
    const row = this.#create(item);
    this.#rows.set(key, row);
    return row;
  }

  #removeAllBut(wanted) {
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      this.#rows.delete(key);
      row.root.remove();
      row.removed?.();
    }
  }
}

/**
 * A list of plain texts.
 * @param {Element} parent of the li
 * @returns {KeyedList} of strings
 */
export function textList(parent) {
  return new KeyedList(parent, (text) => text, (text) => {
    const root = document.createElement('li');
    root.textContent = text;
    return { root, update() {} };
  });
}
