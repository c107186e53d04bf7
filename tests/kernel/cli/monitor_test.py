"""`caller monitor` as a user calls it. Usage: monitor_test.py PROGRAM"""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

PROGRAM = ""
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never through a proxy


def ask(address, path, data=None, **headers):
    """(status, answer) of a request."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address + path, None if data is None else json.dumps(data).encode(), names)
    try:
        with OPENER.open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Monitor(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.database = str(pathlib.Path(folder.name) / "tasks.db")
        pathlib.Path(self.database).touch()

    def start(self, *arguments, cwd=None):
        self.program = subprocess.Popen(  # pylint: disable=consider-using-with
            [PROGRAM, "monitor", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
        )
        self.addCleanup(self.end)
        url = self.program.stdout.readline().strip()
        self.assertTrue(url.startswith("http://"), url)
        return url.split("#")

    def end(self, which=signal.SIGTERM):
        """(exit code, standard error)"""
        if self.program.poll() is None:
            self.program.send_signal(which)
        if not self.program.stdout.closed:
            self.said = self.program.communicate(timeout=30)[1]
        return self.program.returncode, self.said

    def fails(self, *arguments):
        answer = subprocess.run([PROGRAM, "monitor", *arguments], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(answer.stdout, "")
        return answer.returncode, answer.stderr

    def test_a_file_of_sqlite_is_shown_until_a_signal_ends_it(self):
        for which in (signal.SIGINT, signal.SIGTERM):
            (address,) = self.start("--sqlite", self.database, "--app-id", "shown")
            self.assertIn("<!DOCTYPE html>", ask(address, "")[1])
            self.assertEqual(json.loads(ask(address, "api/info")[1])["title"], "shown")
            self.assertEqual(json.loads(ask(address, "api/state")[1])["total"], 0)
            self.assertEqual(ask(address, "api/purge", {"everything": True}, Content_Type="application/json")[0], 403)
            self.assertEqual(self.end(which)[0], 0)

    def test_the_settings_of_the_folder_say_what_is_shown(self):
        folder = pathlib.Path(self.database).parent
        (folder / "caller.toml").write_text('app_id = "settled"\nstore = "sqlite"\n[sqlite]\npath = "tasks.db"\n')
        (address,) = self.start(cwd=folder)
        self.assertEqual(json.loads(ask(address, "api/info")[1])["title"], "settled")
        self.assertEqual(json.loads(ask(address, "api/state")[1])["total"], 0)

    def test_what_changes_needs_the_token_of_the_address(self):
        address, token = self.start("--sqlite", self.database, "--allow-write")
        self.assertTrue(token.startswith("token="))
        kind = {"Content_Type": "application/json"}
        self.assertEqual(ask(address, "api/purge", {"everything": True}, **kind)[0], 403)
        status, answer = ask(address, "api/purge", {"everything": True}, X_Caller_Token=token[6:], **kind)
        self.assertEqual((status, json.loads(answer)), (200, {"purged": 0}))

    def test_a_server_that_is_not_there_is_shown_as_such(self):
        (address,) = self.start("--url", "unix:///nonexistent/redis.sock")
        status, answer = ask(address, "api/state")
        self.assertEqual(status, 503)
        self.assertIn("Redis", json.loads(answer)["error"]["message"])
        self.assertEqual(ask(address, "")[0], 200)

    def test_other_machines_are_served_only_when_that_is_said_and_warned_of(self):
        status, said = self.fails("--sqlite", self.database, "--address", "0.0.0.0")
        self.assertEqual(status, 1)
        self.assertIn("other machines", said)
        self.assertIn("--allow-remote", said)
        (address,) = self.start("--sqlite", self.database, "--address", "0.0.0.0", "--allow-remote", "--host-name", "build.example")
        address = address.replace("0.0.0.0", "127.0.0.1")
        self.assertEqual(ask(address, "api/info")[0], 200)
        self.assertEqual(ask(address, "api/info", Host="build.example")[0], 200)
        self.assertEqual(ask(address, "api/info", Host="other.example")[0], 421)
        self.assertIn("warning", self.end()[1])

    def test_a_port_that_is_taken_is_one_sentence_that_says_what_to_do(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            status, said = self.fails("--sqlite", self.database, "--port", str(taken.getsockname()[1]))
        self.assertEqual((status, said.count("\n")), (1, 1))
        self.assertIn("choose another port; 0 is one that is free", said)
        self.assertIn("in use", said)

    def test_a_store_is_named_once_and_exists(self):
        for code, wrong in ((1, []), (2, ["--sqlite", self.database, "--url", "redis://localhost"]), (1, ["--sqlite", self.database + ".other"])):
            status, said = self.fails(*wrong)
            self.assertEqual((status, said.count("\n")), (code, 1), said)
        self.assertFalse(pathlib.Path(self.database + ".other").exists())


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
