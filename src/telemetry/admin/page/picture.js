// The overlay as a picture. Everything in it stands in the table of nodes as well.

import { place } from "./layout.js";
import { micros, rate } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
// With more nodes only some have room for a name; with more own links, none for what they carry.
const NAMES = 40;
const LINK_TEXTS = 8;
const LONGEST_NAME = 18;

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const shortened = (name) => {
  const letters = [...name];
  return letters.length > LONGEST_NAME ? `${letters.slice(0, LONGEST_NAME - 1).join("")}…` : name;
};

// Gives a function that shows `{nodes, links, chosen, subscribers}`: nodes as the table has them, pairs of
// their positions, the id of one, and a map from id to sessions. `press(id)` when one is clicked.
export function picture(svg, press) {
  let shape = "";
  let places = new Map();
  let drawn = "";
  let last = null;

  function show(overlay) {
    last = overlay;
    const { nodes, links } = overlay;
    const edges = links.map(([a, b]) => [nodes[a].id, nodes[b].id]);
    const now = JSON.stringify([nodes.map((node) => node.id).sort(), edges.map((edge) => [...edge].sort()).sort()]);
    if (now !== shape) [shape, places] = [now, place(nodes.map((node) => node.id), edges, places, nodes[0].id)];
    const box = frame(width(svg.parentElement), places);
    const state = JSON.stringify([box.width, now, overlay.chosen, [...overlay.subscribers], nodes]);
    if (state === drawn) return;
    drawn = state;
    svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    svg.setAttribute("height", box.height);
    svg.replaceChildren(...layers(overlay, edges, box));
  }

  function layers({ nodes, links, chosen, subscribers }, edges, box) {
    const spots = nodes.map((node) => box.spot(places.get(node.id)));
    const size = nodes.length <= 12 ? 15 : nodes.length <= NAMES ? 11 : 7;
    const own = links.filter(([a]) => a === 0).length;
    const isRoomy = nodes.length <= NAMES;
    const lines = draw("g", {});
    const texts = draw("g", {});
    links.forEach(([a, b]) => {
      const [from, to] = [spots[a], spots[b]];
      const link = a === 0 ? nodes[b].link : null;
      const width = link ? 2 + Math.min(Math.log10(1 + traffic(link)), 6) : 1.2;
      lines.append(draw("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y, class: link ? "link own" : "link", "stroke-width": width.toFixed(1) }));
      if (link && isRoomy && own <= LINK_TEXTS) texts.append(...linkText(from, to, nodes[b]));
    });
    const dots = draw("g", {});
    nodes.forEach((node, i) => {
      const has = subscribers.get(node.id);
      const some = (has !== undefined && subscribers.size <= LINK_TEXTS) || (node.hops === 1 && own <= LINK_TEXTS);
      const named = isRoomy || i === 0 || node.id === chosen || some;
      dots.append(dot(node, spots[i], { size, has, named, chosen: node.id === chosen, press }));
    });
    return [lines, texts, dots];
  }

  new ResizeObserver(() => last && show(last)).observe(svg.parentElement);
  return show;
}

const traffic = (link) => (link.received.bytes_per_second ?? 0) + (link.sent.bytes_per_second ?? 0);

function width(parent) {
  const { paddingLeft, paddingRight } = getComputedStyle(parent);
  return Math.max(parent.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight), 240);
}

// The picture's size in pixels, and where in it a place is. Narrow screens have it upright.
function frame(width, places) {
  const [xs, ys] = ["x", "y"].map((axis) => [...places.values()].map((place) => place[axis]));
  const range = (values) => [Math.min(...values), Math.max(...values) - Math.min(...values)];
  const tall = width < 560;
  const [across, down] = (tall ? [ys, xs] : [xs, ys]).map(range);
  const [side, top, bottom] = [Math.min(84, width / 5), 36, 48];
  const [room, longest, perLink] = [width - 2 * side, tall ? 480 : 420, tall ? 96 : 150];
  const breadth = Math.min(room, across[1] * 260);
  const depth = Math.min(longest, down[1] * perLink);
  const within = ([low, size], value, length) => (size > 0.05 ? ((value - low) / size - 0.5) * length : 0);
  const round = (n) => Math.round(n * 10) / 10;
  return {
    width,
    height: Math.round(top + depth + bottom),
    spot({ x, y }) {
      const [a, d] = tall ? [y, x] : [x, y];
      return { x: round(width / 2 + within(across, a, breadth)), y: round(top + depth / 2 + within(down, d, depth)) };
    },
  };
}

function linkText(from, to, { round_trip_us, link }) {
  const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
  const upright = Math.abs(to.x - from.x) < Math.abs(to.y - from.y);
  const at = upright ? { x: x + 8, "text-anchor": "start" } : { x, "text-anchor": "middle" };
  // Upright, the name of the upper node is on the link as well.
  const [first, second] = upright ? [y + 8, y + 23] : [y - 9, y + 19];
  return [
    draw("text", { ...at, y: first, class: "on-link" }, micros(round_trip_us)),
    draw("text", { ...at, y: second, class: "on-link" }, rate(link ? traffic(link) : null)),
  ];
}

function dot(node, { x, y }, { size, has, named, chosen, press }) {
  const kind = node.hops === 0 ? "me" : node.hops === 1 ? "near" : "far";
  const group = draw("g", { class: `node ${kind}${chosen ? " chosen" : ""}`, transform: `translate(${x} ${y})` });
  group.append(draw("title", {}, has === undefined ? node.name : `${node.name}: ${has} subscribed`));
  if (chosen) group.append(draw("circle", { r: size + 9, class: "ring" }));
  if (has !== undefined) {
    const half = size + 4;
    group.append(draw("rect", { x: -half, y: -half, width: 2 * half, height: 2 * half, rx: 4, class: "has" }));
  }
  group.append(draw("circle", { r: size, class: "dot" }));
  if (has !== undefined && size > 7) group.append(draw("text", { y: 5, class: "sessions" }, has > 999 ? "999+" : has));
  if (named) group.append(draw("text", { y: size + (chosen ? 24 : 20), class: "name" }, shortened(node.name)));
  group.addEventListener("click", () => press(node.id));
  return group;
}
