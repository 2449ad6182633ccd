// The page: asks for `/v1/overview`, and shows what it says.

import { NONE, ago, bytes, count, date, duration, many, micros, rate, time } from "./format.js";
import { picture } from "./picture.js";
import { poll } from "./poll.js";
import { choice, make, name, number, say, set, table, text } from "./tables.js";
import { trace } from "./trace.js";

const $ = (id) => document.getElementById(id);
const SOON_DAYS = 30;
const NEAR = 0.8;
const NODES_NAMED = 6;

// What is asked for and what is chosen; `earlier` are the places that the pages before began after.
const topics = { prefix: "", at: null, after: null, earlier: [], seen: 0 };
const clients = { after: null, earlier: [], seen: 0 };
let chosenTopic = null;
let shown = null;
let version = null;
let traced = null;
let heard = null;

const asked = poll({
  path() {
    const query = new URLSearchParams();
    const add = (key, value) => value !== null && value !== "" && query.set(key, value);
    add("prefix", topics.prefix);
    add("after", topics.after);
    add("at", topics.at);
    add("clients_after", clients.after);
    return query.size > 0 ? `/v1/overview?${query}` : "/v1/overview";
  },
  told(overview) {
    shown = overview;
    $("authority").hidden = true;
    $("shown").hidden = false;
    heard = new Date();
    show();
  },
  failed({ why, pause }) {
    state("gone", heard ? `No answer since ${time(heard)}` : "No answer");
    const old = heard ? `What is shown is from ${time(heard)}. ` : "";
    notice(`The node does not answer: ${why}. ${old}Trying again every ${duration(Math.round(pause / 1000))}.`, true);
  },
  refused({ status, why }) {
    state("gone", "Not allowed");
    $("shown").hidden = true;
    $("authority").hidden = false;
    say($("authority-why"), `The node answers ${status}: ${why}`);
    notice(null);
    $("token").focus();
  },
});

// The overlay's nodes as the page sees them: this one first.
const nodesOf = ({ status, peers, topics_at }) => [
  { id: status.node_id, name: status.name, institution: status.institution, hops: 0, via: null, round_trip_us: null, link: null, topics: topics_at[0] },
  ...peers.map((peer, i) => ({ ...peer, id: peer.node_id, topics: topics_at[i + 1] })),
];

const showPicture = picture($("picture"), (id) => chooseNode(id));

const showNodes = table($("nodes"), (node) => node.id, [
  choice((node) => node.name, (node) => node.id === topics.at, (node) => chooseNode(node.id)),
  name((node) => node.institution),
  text((node) => (node.hops === 0 ? "this node" : node.hops === 1 ? "neighbour" : `${node.hops} links, over ${node.via ?? NONE}`)),
  number((node) => (node.hops === 1 ? micros(node.round_trip_us) : NONE)),
  number((node) => rate(node.link?.received.bytes_per_second)),
  number((node) => rate(node.link?.sent.bytes_per_second)),
  number((node) => bytes(node.link?.queued_bytes)),
  number((node) => (node.link ? duration(node.link.up_seconds) : NONE)),
  number((node) => count(node.topics)),
], "No node.");

const showTopics = table($("topic-rows"), (row) => row.topic, [
  choice((row) => row.topic, (row) => row.topic === chosenTopic?.topic, chooseTopic),
  number((row) => count(row.subscribers)),
  name((row) => whereabouts(row)),
], "No topic. One appears as soon as somebody subscribes.");

const showClients = table($("client-rows"), (client) => client.session, [
  name((client) => client.name),
  name((client) => client.institution),
  text((client) => client.address),
  text((client) => (client.dialect === "2.x" ? "FISCO BCOS 2.x" : client.dialect)),
  number((client) => count(client.topics)),
  number((client) => bytes(client.queued_bytes)),
  number((client) => duration(client.connected_seconds)),
], "No client is connected.");

const showSends = table($("send-rows"), (ended) => ended.cause, [
  {
    make: (cell) => cell.append(make("span", { className: "badge" })),
    show(cell, { code }) {
      set(cell.firstChild, "data-state", code === 0 ? "good" : "bad");
      say(cell.firstChild, code === 0 ? "delivered" : `failed, ${code}`);
    },
  },
  {
    make: (cell) => cell.append(make("span"), " ", make("code")),
    show(cell, ended) {
      say(cell.children[0], ended.text);
      say(cell.children[1], ended.cause);
    },
  },
  number((ended) => count(ended.recent)),
  number((ended) => count(ended.total)),
  number((ended) => ago(ended.last_seconds)),
], "Nothing was sent yet.");

const showFailures = table($("failure-rows"), (failed) => failed.id, [
  choice((failed) => failed.id, (failed) => failed.id === traced, (failed) => follow(failed.id)),
  name((failed) => failed.topic ?? NONE),
  {
    make: (cell) => cell.append(make("span"), " ", make("code")),
    show(cell, failed) {
      say(cell.children[0], `${failed.code}: ${failed.text}`);
      say(cell.children[1], failed.cause);
    },
  },
  number((failed) => ago(failed.seconds)),
], "None failed.");

const limitOf = (limit) => limit.what;
const reached = (limit) => limit.policy + (limit.metric ? `; ${limit.metric}` : "");
const share = ({ used, most }) => (most > 0 ? used / most : 0);
const amount = (limit, n) => (/[KMG]iB|bytes/.test(limit.bound) ? bytes(n) : count(n));

const showLimits = table($("limit-rows"), limitOf, [
  {
    make: (cell) => cell.append(make("span"), " ", make("code")),
    show(cell, limit) {
      say(cell.children[0], limit.what);
      say(cell.children[1], limit.key ?? "");
    },
  },
  {
    make: (cell) => cell.append(make("meter", { min: 0, max: 1, high: NEAR, optimum: 0 }), make("span")),
    show(cell, limit) {
      const percent = `${(share(limit) * 100).toFixed(share(limit) < 0.1 ? 1 : 0)} %`;
      cell.children[0].value = share(limit);
      set(cell.children[0], "aria-label", `${limit.what}: ${percent}`);
      say(cell.children[1], share(limit) >= NEAR ? `${percent}, near` : percent);
    },
  },
  number((limit) => amount(limit, limit.used)),
  number((limit) => amount(limit, limit.most)),
  text(reached),
], "None is measured.");

const showOtherLimits = table($("other-limit-rows"), limitOf, [text(limitOf), number((limit) => limit.bound), text(reached)], "None.");

const showCertificates = table($("certificate-rows"), (certificate) => `${certificate.issuer} ${certificate.serial} ${certificate.of}`, [
  text((certificate) => certificate.of),
  name((certificate) => certificate.subject),
  name((certificate) => certificate.issuer),
  text((certificate) => certificate.serial),
  text((certificate) => date(certificate.not_after)),
  {
    kind: "n",
    make: (cell) => cell.append(make("span", { className: "badge" })),
    show(cell, { days_left }) {
      set(cell.firstChild, "data-state", days_left < 0 ? "bad" : days_left < SOON_DAYS ? "warn" : "good");
      say(cell.firstChild, days_left < 0 ? `expired ${many(-days_left, "day")} ago` : days_left < SOON_DAYS ? `${count(days_left)}, soon` : count(days_left));
    },
  },
], "None.");

function show() {
  const { status, drain } = shown;
  const nodes = nodesOf(shown);
  say($("name"), status.name);
  document.title = `${status.name} · amop`;
  say($("of"), `${status.institution} · version ${status.version} · up ${duration(status.uptime_seconds)}`);
  say($("updated"), `updated ${time(heard)}`);
  showState(status, drain);
  showTiles(nodes);
  refreshChosen();
  showOverlay(nodes);
  showNodes(nodes);
  showTopics(shown.topics);
  showClients(shown.clients);
  showSends(shown.outcomes);
  showFailures(shown.failures);
  showLimits(shown.limits.filter((limit) => limit.used !== null && limit.most !== null).sort((a, b) => share(b) - share(a)));
  showOtherLimits(shown.limits.filter((limit) => limit.used === null || limit.most === null));
  showCertificates([...shown.certificates].sort((a, b) => a.days_left - b.days_left));
  showPages(nodes);
  say($("about"), `Node ${status.node_id}. Clients connect to ${status.addresses.channel}, nodes to ${status.addresses.overlay}. This page only reads.`);
}

function showState(status, drain) {
  const ends = { draining: "Draining", stopped: "Stopped" }[drain.phase];
  if (ends) state("warn", `${ends}, ${many(drain.in_flight, "send")} in flight`);
  else state(status.ready ? "good" : "bad", status.ready ? "Ready" : "Not ready");
  const upgraded = version !== null && version !== status.version;
  version ??= status.version;
  if (!status.ready) notice(`The node is not ready: ${status.not_ready.join("; ")}.`);
  else notice(upgraded ? `The node runs version ${status.version} now. Load this page again.` : null);
}

function state(kind, words) {
  set($("state"), "data-state", kind);
  say($("state-text"), words);
}

function notice(words, again = false) {
  say($("notice-text"), words ?? "");
  $("notice").hidden = words === null;
  $("again").hidden = !again;
}

function showTiles(nodes) {
  const { status, drain, outcomes, certificates, limits } = shown;
  const failed = outcomes.filter(({ code }) => code !== 0).reduce((sum, { recent }) => sum + recent, 0);
  const sent = outcomes.reduce((sum, { recent }) => sum + recent, 0);
  const days = Math.min(...certificates.map(({ days_left }) => days_left));
  const nearest = Math.max(0, ...limits.filter(({ used, most }) => used !== null && most).map(share));
  const institutions = new Set(nodes.map(({ institution }) => institution)).size;
  const tiles = [
    ["Other nodes", count(status.nodes), `of ${many(institutions, "institution")}`],
    ["Own links", count(status.links), status.links === 0 && status.nodes === 0 ? "alone" : "up"],
    ["Clients", count(status.clients), "connected here"],
    ["Topics", count(status.topics), "subscribed here"],
    ["Sends", count(sent), `in 10 min, ${count(drain.in_flight)} in flight`],
    ["Failed", count(failed), "in 10 min", failed > 0 ? "bad" : null],
    ["Nearest limit", `${Math.round(nearest * 100)} %`, nearest >= NEAR ? "taken, near" : "taken", nearest >= NEAR ? "warn" : null],
    ["Certificates", Number.isFinite(days) ? count(days) : NONE, days < 0 ? "days left, expired" : days < SOON_DAYS ? "days left, soon" : "days left", days < 0 ? "bad" : days < SOON_DAYS ? "warn" : null],
  ];
  const list = $("tiles");
  tiles.forEach(([label, value, note, kind], i) => {
    const tile = list.children[i] ?? list.appendChild(make("div", {}, make("dt"), make("dd"), make("dd", { className: "quiet" })));
    set(tile, "data-state", kind ?? null);
    [label, value, note].forEach((words, at) => say(tile.children[at], words));
  });
}

function showOverlay(nodes) {
  const subscribers = new Map((chosenTopic?.nodes ?? []).map(([at, sessions]) => [nodes[at]?.id, sessions]));
  showPicture({ nodes, links: shown.links.filter(([a, b]) => nodes[a] && nodes[b]), chosen: topics.at, subscribers });
  const more = shown.status.nodes - shown.peers.length;
  const cut = shown.links_known - shown.links.length;
  const where = chosenTopic ? ` Topic ${chosenTopic.topic}: ${many(chosenTopic.subscribers, "subscriber")} on ${many(chosenTopic.nodes_known, "node")}.` : "";
  const left = more > 0 || cut > 0 ? ` Not shown: ${many(Math.max(more, 0), "node")}, ${many(cut, "link")}.` : "";
  say($("picture-says"), `${many(nodes.length, "node")} and ${many(shown.links.length, "link")}, as ${shown.status.name} knows them.${where}${left}`);
}

// A topic that was chosen and has left the page, or the overlay, is as it was seen last.
function refreshChosen() {
  const now = shown.topics.find(({ topic }) => topic === chosenTopic?.topic);
  if (now) chosenTopic = now;
}

function whereabouts({ nodes: at, nodes_known }) {
  const nodes = nodesOf(shown);
  const named = at.slice(0, NODES_NAMED).map(([i, sessions]) => `${nodes[i]?.name ?? NONE} (${count(sessions)})`);
  const more = nodes_known - named.length;
  return named.join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
}

function showPages(nodes) {
  $("chosen").hidden = topics.at === null;
  say($("chosen-name"), nodes.find(({ id }) => id === topics.at)?.name ?? "a node that is gone");
  const found = topics.seen + shown.topics_found;
  showPage("topics", topics, shown.topics.length, found, shown.topics_found > shown.topics.length);
  const all = Math.max(shown.status.clients, clients.seen + shown.clients.length);
  showPage("clients", clients, shown.clients.length, all, clients.seen + shown.clients.length < all && shown.clients.length > 0);
}

function showPage(id, list, rows, all, isMore) {
  $(`${id}-back`).disabled = list.earlier.length === 0;
  $(`${id}-on`).disabled = !isMore;
  for (const button of [$(`${id}-back`), $(`${id}-on`)]) button.hidden = list.earlier.length === 0 && !isMore;
  const [first, last] = [list.seen + 1, list.seen + rows];
  say($(`${id}-where`), rows === 0 ? "" : `${count(first)} to ${count(last)} of ${count(all)}`);
}

function turn(id, list, rows, key) {
  $(`${id}-on`).addEventListener("click", () => {
    const last = rows().at(-1);
    if (!last) return;
    list.earlier.push([list.after, list.seen]);
    [list.after, list.seen] = [key(last), list.seen + rows().length];
    asked.now();
  });
  $(`${id}-back`).addEventListener("click", () => {
    [list.after, list.seen] = list.earlier.pop() ?? [null, 0];
    asked.now();
  });
}

const first = () => Object.assign(topics, { after: null, earlier: [], seen: 0 });

function chooseNode(id) {
  topics.at = topics.at === id ? null : id;
  first();
  show();
  asked.now();
}

function chooseTopic(row) {
  chosenTopic = chosenTopic?.topic === row.topic ? null : row;
  show();
}

function follow(id) {
  traced = id;
  $("trace-id").value = id;
  show();
  trace($("trace"), asked.once, id);
}

turn("topics", topics, () => shown.topics, ({ topic }) => topic);
turn("clients", clients, () => shown.clients, ({ session }) => session);
$("chosen-not").addEventListener("click", () => {
  chooseNode(topics.at);
  $("prefix").focus();
});
$("find").addEventListener("submit", (event) => event.preventDefault());
let typing = null;
$("prefix").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    topics.prefix = $("prefix").value;
    first();
    asked.now();
  }, 200);
});
$("trace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  follow($("trace-id").value.trim());
});
$("again").addEventListener("click", () => asked.now());
$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  set($("pause"), "aria-pressed", String(paused));
  asked.pause(paused);
});
$("authority-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  asked.use(token);
});
asked.now();
