"""Times: from the SDK's construction to the first answer, and round trips through two nodes, interleaved."""

import statistics

from harness import Failure, Program

ROUNDS = 30
PER_ROUND = 20
STARTS = 3
SIZE = 64


def figures(devnet, programs, sdks, target, tell):
    """Both figures for each SDK. The subscriber of the round trips is the Rust one, and each SDK's own."""
    current = [sdk for sdk in sdks if not sdk.old]
    if not any(sdk.key == "rust" for sdk in current):
        return {}
    topic = "interop/figures/{}".format
    for sdk in current:
        programs[sdk.key].connect("figures", *devnet.at(2))
        programs[sdk.key].subscribe("figures", topic(sdk.key))
        devnet.await_topic(topic(sdk.key))
    found = {sdk.key: {"first_ms": first_answer(devnet, sdk, topic("rust"), target)} for sdk in current}
    times = {(sdk.key, other): [] for sdk in current for other in ("rust", sdk.key)}
    # The first round warms up, the JVM above all.
    for number in range(ROUNDS + 1):
        for sdk, subscriber in times:
            some = round_trips(programs[sdk], topic(subscriber), 400 if number == 0 else PER_ROUND)
            times[sdk, subscriber] += some if number else []
    for sdk in current:
        found[sdk.key]["round_trip_p50_ms"] = round(statistics.median(times[sdk.key, "rust"]), 3)
        found[sdk.key]["round_trip_own_p50_ms"] = round(statistics.median(times[sdk.key, sdk.key]), 3)
        tell(f"{sdk.name}: {found[sdk.key]}")
    return found


def first_answer(devnet, sdk, topic, target):
    """The median of a few fresh processes: construction, then one request and its answer."""
    found = []
    for number in range(STARTS):
        program = Program(sdk.name, sdk.argv(devnet.profile), target / f"{devnet.profile}-{sdk.key}-start-{number}.log")
        try:
            connected = program.connect("publisher", *devnet.at(1))["ms"]
            found.append(connected + round_trips(program, topic, 1)[0])
        finally:
            program.stop()
    return round(statistics.median(found), 1)


def round_trips(program, topic, count):
    mark = program.mark()
    said = {"do": "request", "as": "publisher", "id": 1, "topic": topic, "size": SIZE, "count": count}
    program.send(**said, timeout_ms=10_000)
    outcome = program.wait(mark, 60, event="outcome", id=1)
    if outcome["code"] != 0:
        raise Failure(f"{program.name}: a round trip ended with {outcome['code']}")
    return outcome["ms"]
