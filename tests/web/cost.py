#!/usr/bin/env python3
"""What a refresh of the web page costs a node: tests/web/cost.py PROGRAM [--nodes N] [--topics N] [--refreshes N].

All nodes are real, linked to the first one, which is asked; its client has the topics. Prints processor time
and bytes of a refresh. Give it a release build, and a machine that is otherwise quiet.
"""

import argparse
import os
import pathlib
import time
import urllib.request

from network import Network


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("program", type=pathlib.Path)
    arguments.add_argument("--nodes", type=int, default=100)
    arguments.add_argument("--topics", type=int, default=10_000)
    arguments.add_argument("--refreshes", type=int, default=200)
    given = arguments.parse_args()
    network = Network(given.program.resolve(), given.nodes, "--topology", "star")
    try:
        network.client("subscribe", 0, *(f"topic/{at:05}" for at in range(given.topics)))
        at, pid = network.admin() + "v1/overview", network.nodes[0]["pid"]
        ask = lambda: urllib.request.urlopen(at, timeout=30).read()
        while f'"topics_found":{given.topics}'.encode() not in ask():
            time.sleep(0.5)
        size = len(ask())
        idle_from, began = processor_seconds(pid), time.monotonic()
        time.sleep(10)
        idle = (processor_seconds(pid) - idle_from) / (time.monotonic() - began)
        before, began = processor_seconds(pid), time.monotonic()
        for _ in range(given.refreshes):
            ask()
        took = time.monotonic() - began
        busy = processor_seconds(pid) - before - idle * took
        print(f"{given.nodes} nodes, {given.topics} topics: {size} bytes, {1000 * busy / given.refreshes:.2f} ms of processor time and "
              f"{1000 * took / given.refreshes:.1f} ms for a refresh; idle, the node takes {100 * idle:.1f} % of a core")
    finally:
        network.close()


main()
