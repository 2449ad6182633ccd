// Where nodes stand in the picture: the same for the same overlay, and near to where they stood before.

const STEPS = 120;
const STEPS_AFTER_CHANGE = 30;

// `links` are pairs of ids, `before` a map from id to {x, y} of an earlier picture, possibly empty. Gives such
// a map: a link is one long, who is far apart in the overlay is so in the picture, along x most, and the node
// `first` stands in the first half of that.
export function place(ids, links, before = new Map(), first = undefined) {
  const order = [...ids].sort();
  const at = new Map(order.map((id, i) => [id, i]));
  const near = order.map(() => []);
  for (const [a, b] of links) {
    if (!at.has(a) || !at.has(b) || a === b) continue;
    near[at.get(a)].push(at.get(b));
    near[at.get(b)].push(at.get(a));
  }
  for (const list of near) list.sort((a, b) => a - b);
  const hops = near.map((_, from) => distances(near, from));
  const isChange = order.filter((id) => before.has(id)).length * 2 > order.length;
  const points = isChange ? settled(order, near, before) : layers(near, hops);
  relax(points, hops, isChange ? STEPS_AFTER_CHANGE : STEPS);
  if (!isChange && at.has(first)) turn(points, points[at.get(first)]);
  return new Map(order.map((id, i) => [id, points[i]]));
}

// Links between a node and each; to those that are not reached a little more than to any other.
function distances(near, from) {
  const hops = near.map(() => -1);
  const queue = [from];
  hops[from] = 0;
  for (const node of queue) {
    for (const other of near[node]) {
      if (hops[other] < 0) {
        hops[other] = hops[node] + 1;
        queue.push(other);
      }
    }
  }
  const beyond = Math.max(...hops) + 2;
  return hops.map((h) => (h < 0 ? beyond : h));
}

// To begin with: by hops from a node at the rim; within a layer by where their links to the one before lead.
function layers(near, hops) {
  if (near.length === 0) return [];
  const farthest = (list) => list.indexOf(Math.max(...list));
  const from = hops[farthest(hops[0])];
  const points = near.map(() => ({ x: 0, y: 0 }));
  for (let layer = 0; layer <= Math.max(...from); layer += 1) {
    const lean = (node) => {
      const ys = near[node].filter((other) => from[other] === layer - 1).map((other) => points[other].y);
      return ys.length === 0 ? 0 : ys.reduce((sum, y) => sum + y, 0) / ys.length;
    };
    const members = from.flatMap((h, node) => (h === layer ? [[lean(node), node]] : []));
    members.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    members.forEach(([, node], i) => {
      const side = i - (members.length - 1) / 2;
      // Not quite in a row: those in one row would never leave it.
      points[node] = { x: layer + (members.length > 1 ? 0.05 * Math.sin(node + 1) : 0), y: side };
    });
  }
  return points;
}

// Has one stand where reading begins.
function turn(points, { x }) {
  const middle = points.reduce((sum, point) => sum + point.x, 0) / points.length;
  if (x <= middle) return;
  for (const point of points) point.x = -point.x;
}

// Where they stood; newcomers beside a neighbour.
function settled(order, near, before) {
  const golden = Math.PI * (3 - Math.sqrt(5));
  return order.map((id, i) => {
    const old = before.get(id);
    if (old) return { x: old.x, y: old.y };
    const beside = near[i].map((other) => before.get(order[other])).find(Boolean) ?? { x: 0, y: 0 };
    return { x: beside.x + Math.cos(i * golden), y: beside.y + Math.sin(i * golden) };
  });
}

// Each in turn goes to where all others would have it, at as many lengths of a link as there are links
// between them; the near ones count most (stress majorisation).
function relax(points, hops, steps) {
  for (let step = 0; step < steps; step += 1) {
    points.forEach((point, i) => {
      let [x, y, weights] = [0, 0, 0];
      points.forEach((other, j) => {
        if (i === j) return;
        const weight = 1 / (hops[i][j] * hops[i][j]);
        const [dx, dy] = [point.x - other.x, point.y - other.y];
        const scale = hops[i][j] / Math.max(Math.hypot(dx, dy), 0.01);
        x += weight * (other.x + dx * scale);
        y += weight * (other.y + dy * scale);
        weights += weight;
      });
      if (weights > 0) [point.x, point.y] = [x / weights, y / weights];
    });
  }
}
