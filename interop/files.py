"""Files in one payload, the official Java demo's way: Java programs that do as it does, and `amop` at the terminal."""

import functools
import hashlib
import itertools
import json
import pathlib
import shutil
import subprocess

from harness import Failure, Program
from matrix import KINDS, PATTERN, pairs, pattern
from sdks import rust_binary

PLACES = {"same node": 1, "relayed": 3}
SIZES = (0, 1, 64 << 10, 5 << 20)
USUAL = 64 << 10
ATTACK = "../../x-{}"
# What is sent, and what a careful receiver writes.
NAMES = {"report-{}.txt": "report-{}.txt", "年度报告-{}.txt": "年度报告-{}.txt", ATTACK: "___.._x-{}"}
# What the demo answers; its sender fails on an empty answer.
RECEIVED = "Yes, I received!"
LIMIT_SECONDS = 30


def one_frame(stage):
    """The demo's files from Java to Java, from Java to `amop receive-file`, and from `amop send-file --one-frame` to both."""
    sdks = [sdk for sdk in stage.sdks if sdk.key == "rust" or sdk.key.startswith("java")]
    post = Post(stage)
    try:
        for (pub, sub), place, kind in itertools.product(pairs(sdks), PLACES, KINDS):
            yield f"{pub.key} to {sub.key}, {place}, {kind}", functools.partial(post.work, pub, sub, place, kind)
    finally:
        post.stop()


class Post:
    """Senders at the first node, and receivers, each started when something is first sent to it."""

    def __init__(self, stage):
        self.stage = stage
        self.numbers = itertools.count(1)
        self.dir = stage.devnet.dir.with_name(f"files-{stage.devnet.profile}")
        shutil.rmtree(self.dir, ignore_errors=True)
        self.receivers = {}

    def work(self, pub, sub, place, kind):
        receiver = self.receiver(sub, place)
        for name, size in [*((next(iter(NAMES)), size) for size in SIZES), *((name, USUAL) for name in list(NAMES)[1:])]:
            number = next(self.numbers)
            seed = number % len(PATTERN)
            content = pattern(seed, size)
            mark = receiver.mark()
            if pub.key == "rust":
                sent = self.send_rust(receiver.topic, kind, name.format(number), content)
            else:
                sent = self.send_java(pub, receiver.topic, kind, name.format(number), seed, size)
            wanted = receiver.wanted(sent, NAMES[name].format(number), content)
            if (got := receiver.next(mark)) != wanted:
                raise Failure(f"{sent!r} with {size} bytes came as {got}, not {wanted}")

    def receiver(self, sub, place):
        if (sub.key, place) not in self.receivers:
            topic = f"interop/files/{sub.key}/{PLACES[place]}"
            if sub.key == "rust":
                receiver = RustReceiver(self.stage.devnet.at(PLACES[place]), topic, self.dir / f"at-{PLACES[place]}")
            else:
                receiver = JavaReceiver(self.stage.programs[sub.key], topic, place)
            self.receivers[sub.key, place] = receiver
            self.stage.devnet.await_topic(topic)
        return self.receivers[sub.key, place]

    def send_java(self, pub, topic, kind, name, seed, size):
        """Name and content as the demo has them; gives the length that it writes, and the name."""
        program, outcome = self.stage.programs[pub.key], next(self.stage.numbers)
        mark = program.mark()
        program.send(**{
            "do": "request" if kind == "unicast" else "multicast",
            "as": "publisher",
            "id": outcome,
            "topic": topic,
            "file": name,
            "size": size,
            "seed": seed,
            "timeout_ms": LIMIT_SECONDS * 1000,
        })
        outcome = program.wait(mark, LIMIT_SECONDS + 5, event="outcome", id=outcome)
        if kind == "unicast":
            self.stage.check(outcome, 0)
            if outcome["sha256"] != hashlib.sha256(RECEIVED.encode()).hexdigest():
                raise Failure(f"the sender was answered otherwise than by the demo: {outcome}")
        return len(name.encode("utf-16-le")) // 2, name

    def send_rust(self, topic, kind, path, content):
        """A real file, by its path; gives the length of its name as it is written, and the name: never directories."""
        outbox = self.dir / "outbox/a/b"
        outbox.mkdir(parents=True, exist_ok=True)
        (outbox / path).write_bytes(content)
        node, certs = self.stage.devnet.at(1)
        argv = [str(rust_binary("amop")), "send-file", "--node", node, "--certs", str(certs), "--json", "--one-frame"]
        argv += ["--multicast"] * (kind == "multicast") + [topic, str(outbox / path)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"amop send-file has not ended within {LIMIT_SECONDS} s") from None
        if done.returncode != 0:
            raise Failure(f"amop send-file ended with {done.returncode}: {done.stdout}{done.stderr}")
        said = [json.loads(line) for line in done.stdout.splitlines()]
        if not any(event["event"] == "sent_whole" and event["size"] == len(content) for event in said):
            raise Failure(f"amop send-file said {said}")
        name = pathlib.Path(path).name
        return len(name.encode()), name

    def stop(self):
        for receiver in self.receivers.values():
            receiver.stop()


class JavaReceiver:
    """A subscription of the Java program, which reads files as the demo does and writes none."""

    def __init__(self, program, topic, place):
        self.program, self.topic = program, topic
        program.subscribe(place, topic, {"text": RECEIVED})

    def mark(self):
        return self.program.mark()

    def next(self, mark):
        message = self.program.wait(mark, LIMIT_SECONDS, event="message", topic=self.topic)
        if "file" not in message:
            raise Failure(f"Java has not taken it for a file: {message}")
        return tuple(message["file"][member] for member in ("name", "bytes", "sha256"))

    @staticmethod
    def wanted(sent, _, content):
        """What the demo makes of it: of a name that is not ASCII something else, and its end before the content."""
        length, name = sent
        name = name.encode()
        read = name[:length].decode(errors="replace")
        return described(read, name[len(read):] + content)

    def stop(self):
        pass


class RustReceiver:
    """`amop receive-file`, with two directories above the one that it may write to."""

    def __init__(self, at, topic, directory):
        self.topic, self.directory, self.into = topic, directory, directory / "a/b"
        self.into.mkdir(parents=True, exist_ok=True)
        node, certs = at
        argv = [str(rust_binary("amop")), "receive-file", "--node", node, "--certs", str(certs), "--json"]
        log = directory.with_suffix(".log")
        self.program = Program("amop receive-file", argv + ["--into", str(self.into), topic], log)
        try:
            self.program.wait(0, LIMIT_SECONDS, event="ready")
        except Failure:
            self.program.stop()
            raise

    def mark(self):
        return self.program.mark()

    def next(self, mark):
        path = pathlib.Path(self.program.wait(mark, LIMIT_SECONDS, event="received")["path"])
        outside = [str(path) for path in self.directory.rglob("*") if path.is_file() and self.into not in path.parents]
        if path.parent.resolve() != self.into.resolve() or outside:
            raise Failure(f"amop receive-file wrote {path} and, outside of its directory, {outside}")
        return described(path.name, path.read_bytes())

    @staticmethod
    def wanted(sent, safe, content):
        """All of the content. A name that was sent without directories is safe as it is."""
        _, name = sent
        return described(safe if "/" in name else name, content)

    def stop(self):
        self.program.stop()


def described(name, content):
    return name, len(content), hashlib.sha256(content).hexdigest()

