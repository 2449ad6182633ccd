"""A devnet with traffic: real processes of the program."""

import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 120


class Network:
    """Nodes, in a line unless said, and clients that come and go. Everything ends with it."""

    def __init__(self, program, nodes, *how):
        self.program = program
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="amop-web-net-"))
        self.started = []
        try:
            self._start(nodes, *how)
        except BaseException:
            self.close()
            raise

    def _start(self, nodes, *how):
        at = self.dir / "net"
        self.run("devnet", "--base-port", "0", "--nodes", str(nodes), "--no-demo", "--dir", str(at), *how)
        announcement, deadline = at / "devnet.json", time.monotonic() + PATIENCE
        while not announcement.exists():
            if time.monotonic() > deadline or self.started[0].poll() is not None:
                raise RuntimeError(f"no devnet: {self.log()}")
            time.sleep(0.1)
        self.nodes = json.loads(announcement.read_text())["nodes"]

    def log(self):
        return (self.dir / "log").read_text()[-600:]

    def admin(self, node=0):
        return f"http://{self.nodes[node]['admin']}/"

    def token(self, node=0):
        return (self.dir / "net" / self.nodes[node]["name"] / "admin.token").read_text().strip()

    def run(self, *arguments):
        """Starts the program; it goes on until `stop`, or the end."""
        with open(self.dir / "log", "a") as log:
            process = subprocess.Popen([self.program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def client(self, command, node, *arguments):
        """A client of a node."""
        certs = self.dir / "net" / "clients" / f"app-{node + 1}"
        return self.run(command, "--node", self.nodes[node]["channel"], "--certs", str(certs), *arguments)

    def close(self):
        # Clients first, then the devnet, which stops its nodes.
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
