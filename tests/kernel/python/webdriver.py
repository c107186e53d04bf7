"""A headless Chromium, driven over the W3C WebDriver protocol with nothing but the standard library."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1200,1600",
)  # fmt: skip


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="caller-browser-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self.session = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
        options = {"args": [*_FLAGS, f"--user-data-dir={self.profile}"]}
        capabilities = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = self._call("POST", "/session", capabilities)["sessionId"]

    def _call(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never through a proxy
        try:
            with opener.open(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def open(self, url):
        self._call("POST", f"/session/{self.session}/url", {"url": url})

    def script(self, text, *arguments):
        """Runs JavaScript (a function's body) and returns its value."""
        return self._call("POST", f"/session/{self.session}/execute/sync", {"script": text, "args": list(arguments)})

    def element(self, selector):
        """The first element of a CSS selector, scrolled into view."""
        self.script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'});", selector)
        found = self._call("POST", f"/session/{self.session}/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def click(self, selector):
        self._call("POST", f"/session/{self.session}/element/{self.element(selector)}/click")

    def type(self, selector, text):
        """Presses keys in an element."""
        self._call("POST", f"/session/{self.session}/element/{self.element(selector)}/value", {"text": text})

    def wait(self, text, timeout=60):
        """Waits until the JavaScript expression is true, and returns its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = self.script(f"return ({text});")
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {text}\n{self.script('return document.body.innerText')[-2000:]}")
            time.sleep(0.1)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._call("GET", f"/session/{self.session}/screenshot")))

    def close(self):
        try:
            if self.session:
                self._call("DELETE", f"/session/{self.session}")
        except (OSError, AssertionError):
            pass
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.profile, ignore_errors=True)
