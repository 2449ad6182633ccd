// Tables that change in place: what stays the same is not touched, so that focus and selection stay.
// Whatever comes from the network becomes text, never markup.

import { NONE } from "./format.js";

// Rows that a table shows without scrolling in itself.
const LONG = 15;

export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Keeps `element[name]` as it should be, for attributes as well.
export function set(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// A column of plain text, of numbers, of names that others chose.
export const text = (show) => ({ show: (cell, row) => say(cell, show(row)) });
export const number = (show) => ({ ...text(show), kind: "n" });
export const name = (show) => ({
  make: (cell) => cell.append(make("bdi")),
  show: (cell, row) => say(cell.firstChild, show(row)),
});

// A button that is pressed or not.
export const choice = (show, isPressed, press, label) => ({
  make: (cell, row) => cell.append(make("button", { type: "button", className: "choice", onclick: () => press(row()) }, make("bdi"))),
  show(cell, row) {
    const button = cell.firstChild;
    say(button.firstChild, show(row));
    set(button, "aria-pressed", isPressed(row) ? "true" : "false");
    if (label) say(cell.children[1] ?? cell.appendChild(make("span", { className: "quiet" })), label(row));
  },
});

// Gives a function that shows rows: each known by `key(row)`, made of `columns`; `none` says that there are none.
export function table(element, key, columns, none) {
  const body = element.tBodies[0];
  const headings = [...element.tHead.rows[0].cells];
  // Narrow screens show rows as cards, by which browsers would forget that this is a table.
  set(element, "role", "table");
  for (const group of [element.tHead, body]) set(group, "role", "rowgroup");
  set(element.tHead.rows[0], "role", "row");
  for (const heading of headings) set(heading, "role", "columnheader");
  const known = new Map();
  const frame = element.parentElement;
  set(frame, "aria-label", element.caption.textContent);
  const empty = make("tr", { role: "row" }, make("td", { role: "cell", colSpan: headings.length, className: "quiet", textContent: none }));

  function add(id) {
    const entry = { element: make("tr", { role: "row" }), row: null };
    columns.forEach((column, i) => {
      const cell = make(i === 0 ? "th" : "td", { role: i === 0 ? "rowheader" : "cell", "data-label": headings[i].textContent });
      if (i === 0) set(cell, "scope", "row");
      if (column.kind) cell.className = column.kind;
      column.make?.(cell, () => entry.row);
      entry.element.append(cell);
    });
    known.set(id, entry);
    return entry;
  }

  return (rows) => {
    const gone = new Set(known.keys());
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    empty.remove();
    let place = body.firstElementChild;
    for (const row of rows) {
      const id = key(row);
      if (!gone.delete(id) && known.has(id)) continue;
      const entry = known.get(id) ?? add(id);
      entry.row = row;
      columns.forEach((column, i) => {
        const cell = entry.element.cells[i];
        column.show(cell, row);
        cell.classList.toggle("none", cell.textContent === NONE);
      });
      if (entry.element === place) place = place.nextElementSibling;
      else body.insertBefore(entry.element, place);
    }
    for (const id of gone) {
      known.get(id).element.remove();
      known.delete(id);
    }
    if (rows.length === 0) body.append(empty);
    // A long one scrolls within its frame, by keyboard as well.
    set(frame, "tabindex", rows.length > LONG ? "0" : null);
    set(frame, "role", rows.length > LONG ? "region" : null);
    // A row that moved has lost it.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  };
}
