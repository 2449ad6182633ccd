"""A headless Chromium, driven over the DevTools protocol: standard library only."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from urllib.parse import urlparse

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# A browser's answers take milliseconds; a machine that builds beside it may take long.
PATIENCE = 60


class Failure(Exception):
    """Something is not as it should be."""


class WebSocket:
    """Text messages, one after the other."""

    def __init__(self, url):
        at = urlparse(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode())
        self.read = b""
        while b"\r\n\r\n" not in self.read:
            self._more()
        head, self.read = self.read.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Failure(f"no websocket: {head!r}")

    def send(self, text, opcode=1):
        data = text if isinstance(text, bytes) else text.encode()
        mask = os.urandom(4)
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def receive(self, timeout):
        """The next message; `None` if none comes in time."""
        message, deadline = b"", time.monotonic() + timeout
        while True:
            frame = self._frame(deadline)
            if frame is None:
                return None
            is_last, opcode, data = frame
            if opcode == 9:
                self.send(data, opcode=10)
            elif opcode == 8:
                raise Failure("the browser has closed the connection")
            elif opcode in (0, 1, 2):
                message += data
                if is_last:
                    return message.decode()

    def _frame(self, deadline):
        while (size := self._size()) is None or len(self.read) < sum(size):
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                self._more()
            except TimeoutError:
                return None
        head, length = size
        first, data = self.read[0], self.read[head:head + length]
        self.read = self.read[head + length:]
        return bool(first & 0x80), first & 0x0F, data

    def _size(self):
        if len(self.read) < 2:
            return None
        length = self.read[1] & 0x7F
        head = {126: 4, 127: 10}.get(length, 2)
        if len(self.read) < head:
            return None
        return head, int.from_bytes(self.read[2:head], "big") if head > 2 else length

    def _more(self):
        more = self.socket.recv(1 << 16)
        if not more:
            raise Failure("the browser is gone")
        self.read += more


class Browser:
    """The process, and the connection to it."""

    def __init__(self):
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            raise Failure("there is no chromium; install it: apt-get install -y --no-install-recommends chromium")
        self.profile = tempfile.mkdtemp(prefix="amop-web-")
        # As root, in a container, there is no sandbox; it sees nothing but our own nodes.
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--no-first-run", "--disable-background-networking", "--disable-extensions", "--force-color-profile=srgb",
             "--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self.socket = WebSocket(self._address())
        except BaseException:
            self.close()
            raise
        self.sent, self.events = 0, []

    def _address(self):
        for line in self.process.stderr:
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                return found[1]
        raise Failure("the browser did not start")

    def call(self, method, params=None, session=None):
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.take(deadline - time.monotonic())
            if answer and answer.get("id") == self.sent:
                if "error" in answer:
                    raise Failure(f"{method}: {answer['error']}")
                return answer["result"]
        raise Failure(f"{method}: no answer")

    def take(self, timeout):
        text = self.socket.receive(timeout)
        if text is None:
            return None
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def page(self, **arguments):
        return Page(self, **arguments)

    def close(self):
        # Its children are in its process group.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """A tab, of a size and colour scheme."""

    def __init__(self, browser, width=1280, height=900, scheme="light", mobile=False):
        self.browser = browser
        self.target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = browser.call("Target.attachToTarget", {"targetId": self.target, "flatten": True})
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")
        self.shape(width, height, scheme, mobile)

    def call(self, method, **params):
        return self.browser.call(method, params, self.session)

    def shape(self, width, height, scheme, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script):
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise Failure(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def until(self, what, script, timeout=PATIENCE):
        """Waits until an expression is true; gives its value."""
        deadline = time.monotonic() + timeout
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise Failure(f"waited {timeout} s in vain until {what}: {script}")
            self.browser.take(0.05)
        return value

    def press(self, key, code, modifiers=0):
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers, **text)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def troubles(self):
        """What the console, the log and the policy complain of."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def forget(self):
        """Forgets what was complained of."""
        self.browser.events = [event for event in self.browser.events if event.get("sessionId") != self.session]

    def picture(self, path, whole=False):
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(taken["data"]))

    def close(self):
        self.browser.call("Target.closeTarget", {"targetId": self.target})
