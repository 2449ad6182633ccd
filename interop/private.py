"""Private topics: who has the key gets the messages, and nobody else on the same node does."""

import subprocess
import time

from harness import Failure
from matrix import LIMIT_SECONDS, PLACES, TEXT, pairs, payload

CHECKS = ("wrong key", "request", "multicast", "nobody else", "unsubscribed")
# At each place the subscriber has its key in another format, if its SDK reads that; the publisher has the public one.
FORMATS = {"same node": "pem", "neighbour": "hex", "relayed": "pkcs12"}
PASSWORD = "geheim 密码"
# Sessions of every SDK at every place, beside the one that has the key.
STRANGERS = ("wrong key", "no key")
PREFIX = "#!$TopicNeedVerify_"
# From subscription to first message: so often for each pair and place.
TRIES = 3
POLL_SECONDS = 0.002


class Keys:
    """Pairs made by `amop keys generate`: the one to be trusted and two others, in each format."""

    def __init__(self, amop, directory):
        self.dir = directory
        self.dir.mkdir()
        (self.dir / "password").write_text(PASSWORD + "\n")
        for format in FORMATS.values():
            for name in ("right", "wrong", "other"):
                made = ["--name", f"{format}-{name}", "--out", self.dir, "--format", format]
                argv = [amop, "keys", "generate", *made, "--password-file", self.dir / "password"]
                subprocess.run(argv, check=True, capture_output=True, timeout=60)

    def private(self, format, name):
        file = self.dir / f"{format}-{name}.{'p12' if format == 'pkcs12' else 'key'}"
        return {"format": format, "file": str(file), "password": PASSWORD}

    def public(self, format, name):
        # Beside a PKCS#12 file lies the public key as PEM.
        return {"format": "hex" if format == "hex" else "pem", "file": str(self.dir / f"{format}-{name}.pub")}


class PrivateTopics:
    """All cells of one profile. Publishers and those with the key use the sessions of the ordinary matrix."""

    def __init__(self, devnet, programs, sdks, keys):
        self.devnet, self.programs, self.keys = devnet, programs, keys
        self.sdks = [sdk for sdk in sdks if sdk.key_formats]
        self.results = []
        self.number = 2_000_000

    def connect(self):
        """Two sessions without the right key for every SDK at every place; Java takes a while, so all at once."""
        connecting = []
        for sdk in self.sdks:
            program = self.programs[sdk.key]
            for place, node in PLACES.items():
                for stranger in STRANGERS:
                    name = f"{stranger}, {place}"
                    connecting.append((program, name, program.mark()))
                    address, certs = self.devnet.at(node)
                    said = {"do": "connect", "as": name, "node": address, "certs": str(certs)}
                    program.send(**said | program.dialling)
        for program, name, mark in connecting:
            program.wait(mark, 90, **{"event": "connected", "as": name})
            program.subscribe(name, barrier(program, name))
            self.devnet.await_topic(barrier(program, name))

    def run(self, tell):
        for pub, sub in pairs(self.sdks):
            for handshake in ("all", "version2") if pub.key == sub.key == "rust" else ("all",):
                started = time.monotonic()
                cells = []
                for place in PLACES:
                    cells += Try(self, pub, sub, place, handshake).cells()
                self.results += cells
                bad = [cell for cell in cells if not cell["ok"]]
                first = [ms for cell in cells for ms in cell.get("ms", ())]
                tell(
                    f"private, {pub.name} → {sub.name}, {handshake}: {len(cells) - len(bad)}/{len(cells)}, "
                    f"first message after {', '.join(f'{ms:.0f}' for ms in first)} ms",
                    time.monotonic() - started,
                )
                for cell in bad:
                    tell(f"    {cell['place']}, {cell['check']}: {cell['why']}")


def barrier(program, name):
    """The ordinary topic of a session without the key."""
    return f"interop/stranger/{program.name}/{name}".replace(" ", "-")


class Try:
    """One publisher, one subscriber, one place, one private topic."""

    def __init__(self, topics, pub, sub, place, handshake):
        self.topics, self.pub, self.sub, self.place, self.handshake = topics, pub, sub, place, handshake
        self.sender, self.receiver = topics.programs[pub.key], topics.programs[sub.key]
        self.topic = f"interop/{pub.key}/{sub.key}/{handshake}/{place.replace(' ', '-')}"
        wanted = FORMATS[place]
        self.format = wanted if wanted in sub.key_formats else "pem"
        self.begun = self.receiver.mark()
        self.ms = []
        # Messages that the session with the key must have got.
        self.sent = 0

    def cells(self):
        """Every check, in order; what the first that fails leaves undone has failed too."""
        found, why = [], None
        works = (self.wrong_key, self.request, self.multicast, self.nobody_else, self.unsubscribed)
        for check, work in zip(CHECKS, works):
            cell = {"publisher": self.pub.key, "subscriber": self.sub.key, "handshake": self.handshake}
            cell |= {"place": self.place, "check": check}
            try:
                if why:
                    raise Failure(f"not tried, because of: {why}")
                work()
                cell["ok"] = True
            except Failure as failure:
                why = why or str(failure)
                cell |= {"ok": False, "why": str(failure)}
            found.append(cell)
        found[0]["ms"] = self.ms
        return found

    def wrong_key(self):
        """A subscriber with another key is found out, and the publisher has nobody to send to."""
        failed = self.topics.devnet.counted(1, "private_failed")
        self.subscribe(f"wrong key, {self.place}", "wrong")
        self.receiver.subscribe(f"no key, {self.place}", PREFIX + self.topic)
        keys = [self.topics.keys.public(self.format, name) for name in ("other", "right")]
        said = {"do": "private_topic", "as": "publisher", "topic": self.topic, "keys": keys}
        said |= {"compatibility": self.handshake}
        self.sender.do("published", **said)
        self.topics.devnet.await_counted(1, "private_failed", failed + 1)
        self.expect(100, "private_request", TEXT)
        if self.pub.multicast_code:
            self.expect(100, "private_multicast", TEXT)

    def request(self):
        """With the right key, requests are answered; how long until the first is, is measured."""
        start = time.monotonic()
        self.subscribe(self.place, "right")
        self.await_first(start)
        for name in ("1 KiB", TEXT):
            mark = self.receiver.mark()
            outcome, sha256 = self.expect(0, "private_request", name)
            if outcome["sha256"] != sha256:
                raise Failure("the answer is not what the subscriber sent")
            if "encrypted" in outcome and outcome["encrypted"] != (self.sub.key == "rust"):
                raise Failure(f"encrypted: {outcome['encrypted']}")
            self.received(mark, "unicast", sha256)

    def multicast(self):
        mark = self.receiver.mark()
        outcome, sha256 = self.send("private_multicast", "1 KiB")
        if self.pub.multicast_code and outcome["code"] != 0:
            raise Failure(f"the publisher got {outcome['code']}: {outcome.get('why', '')}")
        self.received(mark, "multicast", sha256)

    def nobody_else(self):
        """What a session without the right key had got would come before what it gets now."""
        for stranger in STRANGERS:
            name = f"{stranger}, {self.place}"
            self.expect(0, "request", "1 B", topic=barrier(self.receiver, name))
            got = [m for m in self.receiver.since(self.begun, event="message", **{"as": name}) if m["bytes"] != 1]
            if got:
                raise Failure(f"the session with {name} got {got}")
        got = self.receiver.since(self.begun, event="message", topic=self.topic)
        if len(got) != self.sent:
            raise Failure(f"the subscriber got {len(got)} messages, of {self.sent}")

    def unsubscribed(self):
        """Then it gets nothing any more, until it subscribes anew."""
        self.unsubscribe(self.place)
        for _ in range(TRIES - 1):
            start = time.monotonic()
            self.subscribe(self.place, "right")
            self.await_first(start)
            self.unsubscribe(self.place)
        self.unsubscribe(f"wrong key, {self.place}")

    def subscribe(self, name, key):
        said = {"do": "private_subscribe", "as": name, "topic": self.topic, "answer": "echo"}
        said |= {"key": self.topics.keys.private(self.format, key), "compatibility": self.handshake}
        self.receiver.do("subscribed", **said)

    def unsubscribe(self, name):
        """Until the publisher's node knows of it, the other node says that nobody is there."""
        self.receiver.do("unsubscribed", **{"do": "private_unsubscribe", "as": name, "topic": self.topic})
        # The SDK has sent that to its node before this. A Java session leaves what crosses it without any answer.
        self.expect(100, "request", "1 B", topic="interop/nobody", sender=self.receiver, session=name)
        self.poll(100, before=101)

    def await_first(self, start):
        """Sends until one is answered; before, nobody is there."""
        mark = self.receiver.mark()
        sha256 = self.poll(0, before=100)
        self.ms.append((time.monotonic() - start) * 1000)
        self.received(mark, "unicast", sha256)

    def poll(self, code, before):
        """Sends until that comes of it."""
        end = time.monotonic() + LIMIT_SECONDS
        while True:
            outcome, sha256 = self.send("private_request", "1 KiB")
            if outcome["code"] == code:
                return sha256
            if outcome["code"] != before or time.monotonic() > end:
                raise Failure(f"got {outcome['code']} ({outcome.get('why', '')}), not {code}")
            time.sleep(POLL_SECONDS)

    def expect(self, code, do, name, **more):
        outcome, sha256 = self.send(do, name, **more)
        if outcome["code"] != code:
            raise Failure(f"got {outcome['code']} ({outcome.get('why', '')}), not {code}")
        return outcome, sha256

    def send(self, do, name, topic=None, sender=None, session="publisher"):
        self.topics.number += 1
        number = self.topics.number
        sent, sha256 = payload(name, number)
        sender = sender or self.sender
        mark = sender.mark()
        said = {"do": do, "as": session, "id": number, "topic": topic or self.topic}
        sender.send(**said, timeout_ms=LIMIT_SECONDS * 1000, **sent)
        return sender.wait(mark, LIMIT_SECONDS + 5, event="outcome", id=number), sha256

    def received(self, mark, kind, sha256):
        message = self.receiver.wait(mark, LIMIT_SECONDS, **{"event": "message", "as": self.place})
        if message["sha256"] != sha256 or message["topic"] != self.topic:
            raise Failure(f"the subscriber got {message}")
        if self.sub.knows_kind and message["kind"] != kind:
            raise Failure(f"the subscriber took it for a {message['kind']}")
        self.sent += 1
