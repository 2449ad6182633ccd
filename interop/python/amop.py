#!/usr/bin/env python3
"""Does what JSON lines on standard input ask, and says what happened in JSON lines on standard output.

In the shape of the python-sdk for FISCO BCOS 2.x, with nothing but the standard library: TLS 1.2 with the one group
secp256k1, no handshake frame, getBlockNumber first, then raw 42-byte frames, a heartbeat when idle for three
seconds. The commands are those of every program of this directory; interop/README.md lists them.

Like the python-sdk it takes all it has read, once a frame is complete, for that frame; here that is said and fatal.
"""

import hashlib
import json
import os
import queue
import socket
import ssl
import struct
import sys
import threading
import time
import uuid

HEADER = struct.Struct("!IH32si")
RPC, HEARTBEAT, REQUEST, ANSWER, TOPICS, MULTICAST = 0x12, 0x13, 0x30, 0x31, 0x32, 0x35
# Bytes repeat with a prime period, so that no two pieces of a cut message are alike.
PATTERN = bytes(range(251))
IDLE_SECONDS = 3
LONGEST_TOPIC = 126  # the python-sdk packs the length, itself included, as a signed byte

output = threading.Lock()
links = {}


def say(**event):
    """Prints one line for the driver."""
    with output:
        print(json.dumps(event), flush=True)


def payload(command):
    """The text of the command, or as many bytes of the pattern as it says."""
    if command.get("text") is not None:
        return command["text"].encode()
    seed, size = command.get("seed", 0) % len(PATTERN), command["size"]
    return ((PATTERN[seed:] + PATTERN[:seed]) * (size // len(PATTERN) + 1))[:size]


def described(data):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def with_topic(topic, data):
    name = topic.encode()
    if len(name) > LONGEST_TOPIC:
        raise ValueError(f"a topic has at most {LONGEST_TOPIC} bytes here")
    return struct.pack("!b", len(name) + 1) + name + data


def split_topic(body):
    return body[1 : body[0]].decode(), body[body[0] :]


class Link:
    """One TLS connection to one node."""

    def __init__(self, command):
        self.name = command["as"]
        self.answers, self.pending, self.topics = {}, {}, {}
        self.sending = threading.Lock()
        start = time.monotonic()
        self.sock = self.dial(command)
        self.last_sent = time.monotonic()
        for work in (self.read, self.beat):
            threading.Thread(target=work, daemon=True).start()
        number = json.loads(self.ask(RPC, self.rpc("getBlockNumber", [1]), 60)[1])["result"]
        int(number, 16)
        self.report()
        self.connected_after = (time.monotonic() - start) * 1000

    @staticmethod
    def dial(command):
        directory = command["certs"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.load_verify_locations(os.path.join(directory, "ca.crt"))
        context.load_cert_chain(os.path.join(directory, "sdk.crt"), os.path.join(directory, "sdk.key"))
        context.set_ecdh_curve("secp256k1")
        context.verify_mode = ssl.CERT_REQUIRED
        host, port = command["node"].rsplit(":", 1)
        plain = socket.create_connection((host, int(port)), timeout=10)
        plain.settimeout(None)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain)

    @staticmethod
    def rpc(method, params):
        return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()

    def send(self, kind, seq, body, result=0):
        with self.sending:
            self.sock.sendall(HEADER.pack(HEADER.size + len(body), kind, seq, result) + body)
            self.last_sent = time.monotonic()

    def ask(self, kind, body, timeout):
        seq = uuid.uuid1().hex.encode()
        self.pending[seq] = answered = queue.Queue()
        try:
            self.send(kind, seq, body)
            return answered.get(timeout=timeout)
        finally:
            del self.pending[seq]

    def report(self):
        """A report replaces all topics, so it names the SDK's own one each time."""
        topics = ["_block_notify_1", *self.topics]
        self.send(TOPICS, uuid.uuid1().hex.encode(), json.dumps(topics, ensure_ascii=False).encode())

    def beat(self):
        while True:
            time.sleep(0.2)
            if time.monotonic() - self.last_sent >= IDLE_SECONDS:
                try:
                    self.send(HEARTBEAT, uuid.uuid1().hex.encode(), b"")
                except OSError:
                    return

    def read(self):
        pieces, have = [], 0
        while True:
            try:
                piece = self.sock.recv(10 * 1024 * 1024)
            except OSError as error:
                piece = b""
                say(event="lost", **{"as": self.name}, why=str(error))
            if not piece:
                return
            pieces.append(piece)
            have += len(piece)
            length = struct.unpack_from("!I", pieces[0])[0] if len(pieces[0]) >= 4 else sys.maxsize
            if have < length:
                continue
            if have > length:
                say(event="lost", **{"as": self.name}, why="two frames came in one record")
                return
            self.frame(b"".join(pieces))
            pieces, have = [], 0

    def frame(self, frame):
        _, kind, seq, result = HEADER.unpack_from(frame)
        body = frame[HEADER.size :]
        if seq in self.pending:
            self.pending[seq].put((result, body))
        elif kind in (REQUEST, MULTICAST):
            self.message(kind, seq, body)

    def message(self, kind, seq, body):
        topic, data = split_topic(body)
        name = "unicast" if kind == REQUEST else "multicast"
        say(event="message", **{"as": self.name}, topic=topic, kind=name, **described(data))
        answer = self.topics.get(topic, "echo")
        if kind == REQUEST and answer != {"silent": True}:
            text = data if answer == "echo" else answer["text"].encode()
            self.send(ANSWER, seq, with_topic(topic, text))

    def subscribe(self, command):
        self.topics[command["topic"]] = command.get("answer", "echo")
        self.report()
        say(event="subscribed", **{"as": self.name}, topic=command["topic"])

    def publish(self, command):
        kind = REQUEST if command["do"] == "request" else MULTICAST
        body = with_topic(command["topic"], payload(command))
        times, event = [], {}
        for _ in range(command.get("count", 1)):
            start = time.monotonic()
            try:
                event = self.outcome(kind, body, command)
            except queue.Empty:
                event = {"code": None, "why": "the node has not answered"}
            times.append((time.monotonic() - start) * 1000)
            if event["code"] != 0:
                break
        say(event="outcome", **{"as": self.name}, id=command.get("id", 0), ms=times, **event)

    def outcome(self, kind, body, command):
        result, answer = self.ask(kind, body, command.get("timeout_ms", 10_000) / 1000)
        if result != 0:
            return {"code": result}
        return {"code": 0, **described(split_topic(answer)[1])}

    def close(self):
        self.sock.close()
        say(event="closed", **{"as": self.name})


def run(command):
    name = command.get("as", "")
    try:
        match command["do"]:
            case "connect":
                links[name] = Link(command)
                say(event="connected", **{"as": name}, ms=links[name].connected_after)
            case "subscribe":
                links[name].subscribe(command)
            case "request" | "multicast":
                links[name].publish(command)
            case "close":
                links.pop(name).close()
            case other:
                raise ValueError(f"unknown command {other}")
    except Exception as error:  # whatever it is, the driver is told
        say(event="failed", **{"as": name}, id=command.get("id", 0), why=f"{type(error).__name__}: {error}")


def main():
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        threading.Thread(target=run, args=(command,), daemon=True).start()


if __name__ == "__main__":
    main()
