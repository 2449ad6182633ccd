"""Processes the driver starts: the programs of each SDK, and a throwaway consortium. All waits are bounded."""

import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.request


# Past any proxy that the environment names for the downloads.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failure(Exception):
    """Something did not happen, or not as it should; the text says what."""


class Program:
    """One program that reads commands and prints events, both as JSON lines."""

    def __init__(self, name, argv, log, dialling=None):
        self.name = name
        # What the program is told beside address and certificates when it connects.
        self.dialling = dialling or {}
        self.events = []
        self.changed = threading.Condition()
        self.log = open(log, "wb")
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                self.log.write(line)  # an SDK that prints to standard output
                continue
            with self.changed:
                self.events.append(event)
                self.changed.notify_all()

    def send(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def mark(self):
        """A place in the events: what comes later is found from here."""
        return len(self.events)

    def since(self, mark, **wanted):
        """All events from `mark` on that have these members."""
        with self.changed:
            return [event for event in self.events[mark:] if wanted.items() <= event.items()]

    def wait(self, mark, timeout, **wanted):
        """The first event from `mark` on that has these members. A failure of the program ends the wait."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                for event in self.events[mark:]:
                    if wanted.items() <= event.items():
                        return event
                    if event["event"] == "failed" and event.get("as") == wanted.get("as", event.get("as")):
                        raise Failure(f"{self.name}: {event.get('why') or event}")
                left = end - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    what = "has ended" if self.process.poll() is not None else f"said nothing within {timeout} s"
                    raise Failure(f"{self.name} {what}; wanted {wanted}, log {self.log.name}")
                self.changed.wait(min(left, 1))

    def do(self, event, timeout=20, **command):
        """Sends a command about a topic and waits for what the program says of it."""
        mark = self.mark()
        self.send(**command)
        return self.wait(mark, timeout, **{"event": event, "as": command["as"], "topic": command["topic"]})

    def connect(self, name, node, certs, timeout=90):
        mark = self.mark()
        said = {"do": "connect", "as": name, "node": node, "certs": str(certs)}
        self.send(**said | self.dialling)
        return self.wait(mark, timeout, **{"event": "connected", "as": name})

    def subscribe(self, name, topic, answer="echo", timeout=20):
        self.do("subscribed", timeout, **{"do": "subscribe", "as": name, "topic": topic, "answer": answer})

    def stop(self):
        end(self.process)
        self.log.close()


def end(process):
    """Ends one process that the driver started, in order if it will."""
    if process.stdin:
        try:
            process.stdin.close()
        except OSError:
            pass  # it is gone already
    for step, patience in ((lambda: None, 3), (process.terminate, 10), (process.kill, 10)):
        step()
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def free_address():
    """An address on this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return f"127.0.0.1:{bound.getsockname()[1]}"


class Node:
    """One node alone, with the identity of a devnet's first node and another client port."""

    def __init__(self, devnet, directory, certificates):
        self.address = free_address()
        section = devnet.profile.replace("-", "_")
        identity, files = devnet.dir.resolve() / "node-1", pathlib.Path(certificates).resolve()
        config = pathlib.Path(directory) / "amop.toml"
        config.write_text(
            f"[node]\nca = \"{identity}/ca.crt\"\ncert = \"{identity}/node.crt\"\nkey = \"{identity}/node.key\"\n"
            f"[client_port]\nlisten = \"off\"\n"
            f"[{section}]\nlisten = \"{self.address}\"\n"
            f"ca = \"{files}/ca.crt\"\ncert = \"{files}/node.crt\"\nkey = \"{files}/node.key\"\n"
            f"[overlay]\nlisten = \"{free_address()}\"\n[admin]\nlisten = \"{free_address()}\"\n"
            f"[log]\nformat = \"text\"\n"
        )
        self.log = config.with_name("node.log")
        argv = [devnet.amop, "node", "--config", str(config)]
        self.out = open(self.log, "wb")
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.out, stderr=self.out)
        await_text(self.log, " serving ", self)

    def stop(self):
        self.process.terminate()
        end(self.process)
        self.out.close()


def await_text(log, text, started, timeout=60, offset=0):
    """Waits until a log has that text, from a byte on. What was started is stopped if it never has."""
    end_at = time.monotonic() + timeout
    while text.encode() not in log.read_bytes()[offset:]:
        if time.monotonic() > end_at or started.process.poll() is not None:
            started.stop()
            raise Failure(f"{log} has no line with {text!r}:\n{log.read_text()}")
        time.sleep(0.05)


class Devnet:
    """A consortium of three nodes in a line, with one profile of certificates."""

    def __init__(self, amop, profile, directory):
        self.amop, self.profile = amop, profile
        self.dir = pathlib.Path(directory)
        self.restarted = []
        self.log = open(str(self.dir) + ".log", "wb")
        argv = [amop, "devnet", "--nodes", "3", "--dir", str(self.dir), "--base-port", "0", "--no-demo"]
        self.process = subprocess.Popen(argv + ["--profile", profile], stdout=self.log, stderr=self.log)
        await_text(pathlib.Path(self.log.name), "linked and serving", self)
        plan = json.loads((self.dir / "devnet.json").read_text())
        self.nodes = plan["nodes"]
        self.certs = [self.dir / client["dir"] for client in plan["clients"]]

    def at(self, number):
        """Client port and certificates of an application at node `number`, counted from 1."""
        return self.nodes[number - 1]["channel"], self.certs[number - 1]

    def ask(self, number, path):
        with DIRECT.open(f"http://{self.nodes[number - 1]['admin']}{path}", timeout=5) as answer:
            return json.load(answer)

    def await_topic(self, topic, count=1, seen_from=1, timeout=20, away=False):
        """Waits until a node knows `count` subscribers of the topic, or none at all if `away`."""
        end_at = time.monotonic() + timeout
        known = -1
        while time.monotonic() < end_at:
            known = self.subscribers(topic, seen_from)
            if known == 0 if away else known >= count:
                return
            time.sleep(0.02)
        raise Failure(f"node-{seen_from} knows {known} subscribers of {topic} after {timeout} s, not {count}")

    def subscribers(self, topic, seen_from=1):
        for known in self.ask(seen_from, "/v1/topics"):
            if known["topic"] == topic:
                return known["local_sessions"] + sum(node["subscribers"] for node in known["nodes"])
        return 0

    def counted(self, number, name):
        """A counter of a node, without its `amop_` and `_total`."""
        with DIRECT.open(f"http://{self.nodes[number - 1]['admin']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"amop_{name}_total "))

    def await_counted(self, number, name, value, timeout=20):
        """Waits until a counter of a node has got that far."""
        end_at = time.monotonic() + timeout
        while (counted := self.counted(number, name)) < value:
            if time.monotonic() > end_at:
                raise Failure(f"node-{number} counts {counted} of {name} after {timeout} s, not {value}")
            time.sleep(0.01)

    def sessions(self, number):
        """How often a client has connected to a node so far."""
        return (self.dir / f"node-{number}" / "node.log").read_text().count("client connected")

    def kill(self, number):
        """Ends a node without notice, as a power cut would."""
        pid = self.nodes[number - 1]["pid"]
        os.kill(pid, 9)

    def start(self, number, timeout=60):
        """Starts a killed node again, as an operator would, and waits until it can be asked."""
        config = self.dir / self.nodes[number - 1]["config"]
        argv = [self.amop, "node", "--config", str(config)]
        self.restarted.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log))
        end_at = time.monotonic() + timeout
        while True:
            try:
                return self.ask(number, "/v1/topics")
            except OSError as error:
                if time.monotonic() > end_at:
                    raise Failure(f"node-{number} does not answer {timeout} s after its start: {error}") from error
                time.sleep(0.05)

    def stop(self):
        for process in self.restarted:
            end(process)
        self.process.terminate()
        end(self.process)
        self.log.close()
