"""What an SDK needs besides messages, and the known traps, each with the real SDKs."""

import itertools
import shutil
import time

import certificates
from files import one_frame
from harness import Failure, Node, Program, await_text

NON_ASCII = "тема/主题"
QUIET_SECONDS = 12
# Java looks for a lost node every 20 s, Go every 5 s. Java may miss a first answer that comes at once, notices after
# 10 s, and looks again.
RECONNECT_SECONDS = 90
SILENT = {"silent": True}


def scenarios(devnet, programs, sdks, keys, tell):
    """Runs all that apply. The names and what each shows stand in docs/interop.md."""
    results = []
    stage = Stage(devnet, programs, sdks, keys)
    for name, scenario in ALL.items():
        for sdk, work in prepared(scenario, stage):
            started = time.monotonic()
            result = {"profile": devnet.profile, "scenario": name, "sdk": sdk, "ok": True}
            try:
                work()
            except Failure as failure:
                result |= {"ok": False, "why": str(failure)}
            results.append(result)
            tell(f"{name}, {sdk}: {'ok' if result['ok'] else result['why']}", time.monotonic() - started)
    return results


def prepared(scenario, stage):
    """What the scenario yields; a preparation that fails is one more that fails, not the end of the run."""
    try:
        yield from scenario(stage)
    except Failure as failure:

        def again(failure=failure):
            raise failure

        yield "preparing", again


class Stage:
    """What scenarios play with: every SDK has a connection "publisher" at the first node."""

    def __init__(self, devnet, programs, sdks, keys):
        self.devnet, self.programs, self.sdks, self.keys = devnet, programs, sdks, keys
        self.numbers = itertools.count(1_000_000)

    def send(self, sdk, topic, do="request", name="publisher", limit=15):
        """Sends a short text, and gives what waits for the outcome."""
        program, number = self.programs[sdk.key], next(self.numbers)
        mark = program.mark()
        said = {"do": do, "as": name, "id": number, "topic": topic, "text": f"message {number}"}
        program.send(**said, timeout_ms=limit * 1000)
        return lambda: program.wait(mark, limit + 10, event="outcome", id=number)

    def expect(self, sdk, topic, code, **more):
        self.check(self.send(sdk, topic, **more)(), code)

    @staticmethod
    def check(outcome, code):
        if outcome["code"] != code:
            raise Failure(f"got {outcome['code']} ({outcome.get('why', '')}), not {code}")

    def subscribe(self, sdk, topic, node, name, answer="echo"):
        program = self.programs[sdk.key]
        program.connect(name, *self.devnet.at(node))
        program.subscribe(name, topic, answer)
        self.devnet.await_topic(topic)


def nobody_subscribed(stage):
    """100, at once, for a unicast and for a multicast."""
    for sdk in stage.sdks:
        yield sdk.key, lambda sdk=sdk: stage.expect(sdk, "interop/nobody", 100)
        if sdk.multicast_code:
            yield f"{sdk.key}, multicast", lambda sdk=sdk: stage.expect(sdk, "interop/nobody", 100, do="multicast")


def block_notify(stage):
    """Publishing to the topics that every SDK subscribes to for blocks is refused, and harms nobody."""

    def work(sdk):
        stage.expect(sdk, "_block_notify_1", 100)
        outcome = stage.send(sdk, "_block_notify_1", do="multicast")()
        if sdk.multicast_code:
            stage.check(outcome, 100)
        for other in stage.sdks:
            if stage.programs[other.key].process.poll() is not None:
                raise Failure(f"{other.name} has ended")
        stage.expect(sdk, "interop/nobody", 100)

    for sdk in stage.sdks:
        yield sdk.key, lambda sdk=sdk: work(sdk)


def topic_names(stage):
    """126 bytes is what the python-sdk can say; 168 and 185 were seen to break others; 254 is the limit."""
    names = {"126 bytes": "t" * 126, "168 bytes": "t" * 168, "185 bytes": "t" * 185, "254 bytes": "t" * 254}
    names["non-ASCII"] = NON_ASCII

    def work(sub, what, name):
        topic = f"{sub.key}/{what}/".ljust(len(name), "t") if name.isascii() else f"{NON_ASCII}/{sub.key}"
        stage.programs[sub.key].subscribe("relayed", topic)
        stage.devnet.await_topic(topic)
        for pub in stage.sdks:
            if len(topic.encode()) <= pub.longest_topic:
                stage.expect(pub, topic, 0)

    for what, name in names.items():
        for sub in stage.sdks:
            if len(name.encode()) <= sub.longest_topic:
                yield f"{sub.key}, {what}", lambda sub=sub, what=what, name=name: work(sub, what, name)


def self_delivery(stage):
    """A request whose only subscriber is the session that sends it: SDKs look at seq before type."""

    def work(sdk):
        topic = f"interop/self/{sdk.key}"
        stage.programs[sdk.key].subscribe("publisher", topic)
        stage.devnet.await_topic(topic)
        stage.expect(sdk, topic, 0)

    for sdk in stage.sdks:
        yield sdk.key, lambda sdk=sdk: work(sdk)


def silent_subscriber(stage):
    """A subscriber that never answers: 102, and in good time; the Go SDK would wait for ever."""
    rust = next((sdk for sdk in stage.sdks if sdk.key == "rust"), None)
    if rust is None:
        return
    stage.subscribe(rust, "interop/silent", 3, "silent", SILENT)
    # All at once, because each takes as long as a push may.
    waiting = {sdk.key: stage.send(sdk, "interop/silent") for sdk in stage.sdks}
    for key, outcome in waiting.items():
        yield key, lambda outcome=outcome: stage.check(outcome(), 102)


def demo_logic(stage):
    """The official AMOP demo: poll getPeers of group 1 until a topic two nodes away shows, then send."""

    def work(sdk):
        topic = f"interop/demo/{sdk.key}"
        stage.programs[sdk.key].subscribe("relayed", topic)
        program, number = stage.programs[sdk.key], next(stage.numbers)
        mark = program.mark()
        program.send(**{"do": "await_topic", "as": "publisher", "id": number, "topic": topic, "timeout_ms": 15_000})
        if not program.wait(mark, 60, event="topic", id=number)["found"]:
            raise Failure("getPeers has not shown the topic")
        stage.expect(sdk, topic, 0)

    for sdk in stage.sdks:
        if sdk.key.startswith("java"):
            yield sdk.key, lambda sdk=sdk: work(sdk)


def version_2_only(stage):
    """amop-client that allows version 2 only, and an SDK of 2.x with the right key: nothing passes, either way."""
    rust = next((sdk for sdk in stage.sdks if sdk.key == "rust"), None)
    if rust is None or stage.devnet.profile != "default":
        return

    def work(pub, sub, counter, more):
        topic, before = f"interop/version-2/{pub.key}/{sub.key}", stage.devnet.counted(1, counter)
        key, trusted = stage.keys.private("pem", "right"), [stage.keys.public("pem", "right")]
        said = {"topic": topic, "compatibility": "version2"}
        stage.programs[sub.key].do("subscribed", **{"do": "private_subscribe", "as": "relayed", "key": key}, **said)
        stage.programs[pub.key].do("published", **{"do": "private_topic", "as": "publisher", "keys": trusted}, **said)
        stage.devnet.await_counted(1, counter, before + more)
        stage.expect(pub, topic, 100, do="private_request")
        stage.programs[sub.key].do("unsubscribed", **{"do": "private_unsubscribe", "as": "relayed"}, **said)

    for sdk in stage.sdks:
        if sdk.key_formats and sdk is not rust:
            yield f"{sdk.key}, subscriber", lambda sdk=sdk: work(rust, sdk, "private_failed", 1)
            # It is not given a signature and says nothing, so it is asked again.
            yield f"{sdk.key}, publisher", lambda sdk=sdk: work(sdk, rust, "private_asked", 2)


def quiet(stage):
    """Longer than the 10 s after which Java leaves a silent node: nobody connects anew, and all can still send."""
    if stage.devnet.profile != "default":
        return

    def work():
        before = [stage.devnet.sessions(node) for node in (1, 2, 3)]
        time.sleep(QUIET_SECONDS)
        if [stage.devnet.sessions(node) for node in (1, 2, 3)] != before:
            raise Failure("an SDK has connected anew")
        for sdk in stage.sdks:
            stage.expect(sdk, "interop/nobody", 100)

    yield "all", work


def restart(stage):
    """The subscribers' node is killed and started again: they connect again and their topics are back.

    An SDK that cannot connect again, for reasons of its own, is built anew as its application would have to.
    """
    if stage.devnet.profile != "default":
        return
    topic = "interop/restart/{}".format
    for sdk in stage.sdks:
        stage.programs[sdk.key].subscribe("relayed", topic(sdk.key))
        stage.devnet.await_topic(topic(sdk.key))
    stage.devnet.kill(3)
    for sdk in stage.sdks:
        stage.devnet.await_topic(topic(sdk.key), away=True)
    stage.devnet.start(3)

    def work(sdk):
        if not sdk.reconnects:
            stage.subscribe(sdk, topic(sdk.key), 3, "built anew")
        # First at the node itself: for a moment after its return the others may still have its list from before.
        stage.devnet.await_topic(topic(sdk.key), seen_from=3, timeout=RECONNECT_SECONDS)
        stage.devnet.await_topic(topic(sdk.key))
        stage.expect(sdk, topic(sdk.key), 0)

    for sdk in stage.sdks:
        yield sdk.key, lambda sdk=sdk: work(sdk)


def openssl_certificates(stage):
    """Node and SDKs with certificates that the openssl command made, with the official generator's parameters."""
    if stage.devnet.profile == "default":
        return
    directory = stage.devnet.dir.with_name(f"openssl-{stage.devnet.profile}")
    shutil.rmtree(directory, ignore_errors=True)
    made = certificates.make(stage.devnet.profile, directory)
    node = Node(stage.devnet, directory, made / "node")

    def work(sdk):
        program = stage.programs[sdk.key]
        program.connect("openssl", node.address, made / "sdk")
        program.subscribe("openssl", "interop/openssl")
        stage.expect(sdk, "interop/openssl", 0, name="openssl")

    try:
        for sdk in stage.sdks:
            yield sdk.key, lambda sdk=sdk: work(sdk)
    finally:
        node.stop()


def jdk_without_the_curve(stage):
    """Java as it comes, on a JDK without secp256k1: refused, and one line of the node's log says why and what to do."""
    java = next((sdk for sdk in stage.sdks if sdk.key == "java"), None)
    if java is None or stage.devnet.profile != "fisco-ec":
        return

    def work():
        log = stage.devnet.dir / "node-1/node.log"
        before = log.stat().st_size
        plain = Program(java.name, java.argv("default"), stage.devnet.dir.with_name("java-without-the-curve.log"))
        try:
            plain.connect("plain", *stage.devnet.at(1))
        except Failure:
            await_text(log, "without the curve secp256k1", plain, timeout=10, offset=before)
        else:
            raise Failure("it has connected")
        finally:
            plain.stop()

    yield "java", work


ALL = {
    "nobody subscribed": nobody_subscribed,
    "block notify topics": block_notify,
    "topic names": topic_names,
    "self-delivery": self_delivery,
    "silent subscriber": silent_subscriber,
    "demo logic": demo_logic,
    "version 2 only": version_2_only,
    "files in one frame": one_frame,
    "quiet for 12 s": quiet,
    "restart of the subscribers' node": restart,
    "certificates made by openssl": openssl_certificates,
    "JDK without secp256k1 refused": jdk_without_the_curve,
}
