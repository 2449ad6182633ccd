"""The matrix: every SDK sends to every SDK, in every way, and both ends check every byte."""

import hashlib
import itertools
import time

from harness import Failure

KINDS = ("unicast", "multicast")
PLACES = {"same node": 1, "neighbour": 2, "relayed": 3}
SIZES = {"1 B": 1, "1 KiB": 1024, "1 MiB": 1 << 20, "10 MiB": 10 << 20}
TEXT = "non-ASCII text"
PAYLOADS = (*SIZES, TEXT)
PATTERN = bytes(range(251))
LIMIT_SECONDS = 30


def pairs(sdks):
    """Who sends to whom: each current version to each, old ones with themselves and the Rust SDK."""
    for pub, sub in itertools.product(sdks, sdks):
        if pub.old or sub.old:
            if pub is not sub and "rust" not in (pub.key, sub.key):
                continue
        yield pub, sub


def payload(name, number):
    """What to send, and the hash of what must arrive."""
    if name == TEXT:
        text = f"Grüße aus {number} Städten: 数据交换, топик, 🌍"
        return {"text": text}, hashlib.sha256(text.encode()).hexdigest()
    seed, size = number % len(PATTERN), SIZES[name]
    return {"size": size, "seed": seed}, hashlib.sha256(pattern(seed, size)).hexdigest()


def pattern(seed, size):
    """What the programs make of a size and a seed."""
    return ((PATTERN[seed:] + PATTERN[:seed]) * (size // len(PATTERN) + 1))[:size]


def topic_of(sub, place):
    return f"interop/{sub.key}/{place.replace(' ', '-')}"


class Matrix:
    """All cells of one profile, on one devnet."""

    def __init__(self, devnet, programs, sdks):
        self.devnet, self.programs, self.sdks = devnet, programs, sdks
        self.results = []
        self.sent = {}
        self.number = 0

    def connect(self):
        """A publisher at the first node and a subscriber at each, for every SDK."""
        for sdk in self.sdks:
            program = self.programs[sdk.key]
            program.connect("publisher", *self.devnet.at(1))
            for place, node in PLACES.items():
                program.connect(place, *self.devnet.at(node))
                program.subscribe(place, topic_of(sdk, place))
                self.devnet.await_topic(topic_of(sdk, place))

    def run(self, tell):
        for pub, sub in pairs(self.sdks):
            started = time.monotonic()
            cells = [
                self.cell(pub, sub, place, kind, name)
                for place, kind, name in itertools.product(PLACES, KINDS, PAYLOADS)
            ]
            bad = [cell for cell in cells if not cell["ok"]]
            tell(f"{pub.name} → {sub.name}: {len(cells) - len(bad)}/{len(cells)}", time.monotonic() - started)
            for cell in bad:
                tell(f"    {cell['place']}, {cell['kind']}, {cell['payload']}: {cell['why']}")
            self.results += cells
        self.check_once()

    def cell(self, pub, sub, place, kind, name):
        cell = {"publisher": pub.key, "subscriber": sub.key, "place": place, "kind": kind, "payload": name}
        try:
            self.exchange(pub, sub, place, kind, name)
            return cell | {"ok": True}
        except Failure as failure:
            return cell | {"ok": False, "why": str(failure)}

    def exchange(self, pub, sub, place, kind, name):
        self.number += 1
        sent, sha256 = payload(name, self.number)
        topic = topic_of(sub, place)
        sender, receiver = self.programs[pub.key], self.programs[sub.key]
        sender_mark, receiver_mark = sender.mark(), receiver.mark()
        sender.send(**{
            "do": "request" if kind == "unicast" else "multicast",
            "as": "publisher",
            "id": self.number,
            "topic": topic,
            "timeout_ms": LIMIT_SECONDS * 1000,
            **sent,
        })
        outcome = sender.wait(sender_mark, LIMIT_SECONDS + 5, event="outcome", id=self.number)
        self.check_outcome(pub, kind, outcome, sha256)
        message = receiver.wait(receiver_mark, LIMIT_SECONDS, **{"event": "message", "as": place})
        if message["sha256"] != sha256 or message["topic"] != topic:
            raise Failure(f"the subscriber got {message}")
        if sub.knows_kind and message["kind"] != kind:
            raise Failure(f"the subscriber took it for a {message['kind']}")
        self.sent[topic] = self.sent.get(topic, 0) + 1

    @staticmethod
    def check_outcome(pub, kind, outcome, sha256):
        told = kind == "unicast" or pub.multicast_code
        if told and outcome["code"] != 0:
            raise Failure(f"the publisher got {outcome['code']}: {outcome.get('why', '')}")
        if kind == "unicast" and outcome["sha256"] != sha256:
            raise Failure("the answer is not what the subscriber sent")

    def check_once(self):
        """Nobody got anything twice."""
        for sub in self.sdks:
            for place in PLACES:
                topic = topic_of(sub, place)
                got = len(self.programs[sub.key].since(0, event="message", topic=topic))
                failed = any(not cell["ok"] for cell in self.results if cell["subscriber"] == sub.key)
                if got != self.sent.get(topic, 0) and not failed:
                    raise Failure(f"{sub.name} got {got} messages on {topic}, of {self.sent.get(topic, 0)}")
