"""`caller runner`, `caller task` and `caller config` as a user calls them.

Usage: task_test.py PROGRAM PLUGIN CLIENT LIBRARY. The library has no tasks.
"""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import unittest

from environment import bare

PROGRAM = PLUGIN = CLIENT = LIBRARY = ""
ROOT = pathlib.Path(__file__).resolve().parents[3]


class Tasks(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.folder = pathlib.Path(self._directory.name)
        self.environment = bare(HOME=self.folder)
        self.database = str(self.folder / "tasks.db")

    def call(self, *arguments, program=None, **environment):
        return subprocess.run(
            [program or PROGRAM, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def output(self, *arguments, **options):
        answer = self.call(*arguments, **options)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""), arguments)
        return answer.stdout

    def error(self, *arguments, **options):
        """What a command that fails says: one sentence, on standard error."""
        answer = self.call(*arguments, **options)
        self.assertNotEqual(answer.returncode, 0, arguments)
        self.assertEqual(answer.stdout, "")
        self.assertEqual(answer.stderr.count("\n"), 1, answer.stderr)
        return answer.stderr

    def client(self, *arguments):
        return self.call(
            PLUGIN, *arguments, program=CLIENT, CALLER__STORE="sqlite", CALLER__SQLITE__PATH=self.database
        )

    def started(self, task):
        answer = self.client("start", task)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        return answer.stdout.strip()

    def runner(self, *arguments, **environment):
        """A runner that takes invocations; it ends with the test."""
        process = subprocess.Popen(
            [PROGRAM, "runner", "start", "--sqlite", self.database, "--app", PLUGIN, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertRegex(process.stdout.readline(), r"\ARunner \S+ executes tasks of application caller from .*\n\Z")
        return process

    def wait_for(self, invocation, status):
        while self.shown(invocation)["status"] != status:
            pass

    def shown(self, invocation):
        return json.loads(self.output("task", "show", invocation, "--sqlite", self.database, "--json"))

    def listed(self, *arguments):
        return json.loads(self.output("task", "list", "--sqlite", self.database, "--json", *arguments))

    def test_statuses_have_colours_on_a_terminal_only_and_stand_in_their_column(self):
        invocation = self.started("demo.endless")
        self.output("task", "cancel", invocation, "--sqlite", self.database)
        plain = self.output("task", "list", "--sqlite", self.database)
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as screen:
            subprocess.run(
                [PROGRAM, "task", "list", "--sqlite", self.database], env={**self.environment, "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=theirs,
                timeout=60, check=True,
            )  # fmt: skip
            shown = screen.read(10_000).decode().replace("\r\n", "\n")
            os.close(theirs)
        self.assertIn("\x1b[90mCANCELLED\x1b[0m", shown)
        self.assertEqual(re.sub(r"\x1b\[\d+m", "", shown), plain)

    def test_what_is_stored_and_goes_too_deep_to_be_shown_is_said_so(self):
        invocation = self.started("demo.endless")
        self.output("task", "cancel", invocation, "--sqlite", self.database)
        for deep in (b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 200_000, b"\xff[[1]]\n{}"):
            with sqlite3.connect(self.database, timeout=10) as database:
                database.execute("UPDATE content SET args = ?", (deep,))
            database.close()
            self.assertEqual(self.shown(invocation)["arguments"], "(cannot be read)")
            self.assertIn("(cannot be read)", self.output("task", "show", invocation, "--sqlite", self.database))
            self.assertIn(self.listed()[0]["arguments"], ("(cannot be read)", "(large)"))

    def test_a_runner_executes_calls_of_another_process_and_a_signal_ends_it(self):
        runner = self.runner("--slots", "2")
        answer = self.client("add", "1", "2")
        self.assertEqual(answer.stderr, "")
        invocation, result = answer.stdout.split()
        self.assertEqual(result, "3")
        shown = self.shown(invocation)
        self.assertEqual((shown["status"], shown["result"], shown["arguments"]), ("SUCCESS", 3, {"x": 1, "y": 2}))
        self.assertEqual([h["status"] for h in shown["history"]], ["REGISTERED", "PENDING", "RUNNING", "SUCCESS"])
        (living,) = json.loads(self.output("runner", "list", "--sqlite", self.database, "--json"))
        self.assertIn("thread runner of process", living["description"])
        self.assertIn(living["id"], self.output("runner", "list", "--sqlite", self.database))
        answer = self.client("fail", "no luck")
        self.assertEqual((answer.returncode, answer.stderr), (1, "no luck\n"))
        failed = answer.stdout.strip()
        self.assertEqual(self.shown(failed)["exception"], {"type": "std::runtime_error", "message": "no luck"})
        self.assertIn("no luck", self.output("task", "show", failed, "--sqlite", self.database))
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(30), 0)
        self.assertIn("No runner", self.output("runner", "list", "--sqlite", self.database))

    def test_each_kind_of_runner_executes_and_a_crash_is_the_end_of_one_invocation(self):
        for kind, name in (("process", "process"), ("persistent_process", "persistent process"), ("multi_thread", "multi-thread")):
            with self.subTest(kind):
                runner = self.runner("--runner", kind, "--slots", "2")
                (living,) = json.loads(self.output("runner", "list", "--sqlite", self.database, "--json"))
                self.assertIn(f"{name} runner of process {runner.pid}", living["description"])
                crashed = self.started("demo.crash")
                self.wait_for(crashed, "FAILED")
                self.assertEqual(self.shown(crashed)["exception"]["type"], "WorkerCrashedError")
                self.assertEqual(self.client("add", "1", "2").stdout.split()[1], "3")
                waiting = self.started("demo.endless")
                self.wait_for(waiting, "RUNNING")
                runner.send_signal(signal.SIGINT)
                runner.send_signal(signal.SIGTERM)
                self.assertEqual(runner.wait(60), 1)
                self.assertIn("handed back to the queue", runner.stderr.read())
                self.output("task", "cancel", waiting, "--sqlite", self.database)
                self.assertIn("No runner", self.output("runner", "list", "--sqlite", self.database))

    def test_what_is_deaf_ends_with_its_process_at_the_second_signal(self):
        runner = self.runner("--runner", "process", CALLER__RUNNER__GRACE="10ms")
        deaf = self.started("demo.stubborn")
        self.wait_for(deaf, "RUNNING")
        runner.send_signal(signal.SIGINT)
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(60), 1)
        self.assertIn("handed back to the queue", runner.stderr.read())
        self.assertEqual(self.shown(deaf)["status"], "REROUTED")

    def test_settings_choose_the_runner_and_its_processes_have_them(self):
        (self.folder / "caller.toml").write_text('runner = "process"\n[process_runner]\nslots = 1\nslotz = 2\n[task."demo.add"]\npriority = 7\n')
        runner = self.runner()
        self.assertEqual(self.client("add", "1", "2").stdout.split()[1], "3")
        runner.send_signal(signal.SIGINT)
        self.assertEqual(runner.wait(60), 0)
        warnings = [line for line in runner.stderr.read().splitlines() if "slotz" in line]
        self.assertEqual(len(warnings), 1, "its processes do not tell it again")

    def test_a_second_signal_hands_back_what_is_at_work(self):
        runner = self.runner()
        invocation = self.started("demo.endless")
        self.wait_for(invocation, "RUNNING")
        runner.send_signal(signal.SIGINT)
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(30), 1)
        self.assertIn("handed back to the queue", runner.stderr.read())
        self.assertEqual(self.shown(invocation)["status"], "REROUTED")

    def test_a_second_signal_ends_what_does_not_want_to(self):
        runner = self.runner(CALLER__RUNNER__GRACE="10ms")
        self.wait_for(self.started("demo.stubborn"), "RUNNING")
        runner.send_signal(signal.SIGINT)  # two of the same may arrive as one
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(30), 1)
        self.assertIn("did not end when it was asked to", runner.stderr.read())

    def test_invocations_are_listed_repeated_cancelled_and_forgotten(self):
        first, second = self.started("demo.endless"), self.started("demo.stubborn")
        self.assertEqual([i["id"] for i in self.listed()], [second, first])
        self.assertEqual([i["id"] for i in self.listed("--limit", "1")], [second])
        self.assertEqual([i["id"] for i in self.listed("--limit", "1", "--offset", "1")], [first])
        self.assertEqual([i["id"] for i in self.listed("--task", "demo.endless")], [first])
        text = self.output("task", "list", "--sqlite", self.database)
        self.assertIn("demo.stubborn", text)
        self.assertIn("In all: 2 REGISTERED", text)
        self.assertIn("has not ended, it is REGISTERED; cancel it first", self.error("task", "retry", first, "--sqlite", self.database))
        self.output("task", "cancel", first, "--sqlite", self.database)
        self.assertEqual([i["id"] for i in self.listed("--status", "cancelled")], [first])
        self.assertIn("has ended already", self.error("task", "cancel", first, "--sqlite", self.database))
        again = self.output("task", "retry", first, "--sqlite", self.database).strip()
        self.assertEqual((self.shown(again)["status"], self.shown(again)["task"]), ("REGISTERED", "demo.endless"))
        self.assertIn("forget all of 3 invocations of application caller; add --yes", self.error("task", "purge", "--sqlite", self.database))
        self.assertEqual(len(self.listed()), 3)
        self.output("task", "purge", "--older-than", "1h", "--yes", "--sqlite", self.database)
        self.assertEqual(len(self.listed()), 3)
        self.assertEqual(self.output("task", "purge", "--yes", "--sqlite", self.database), "Forgot 3 invocations.\n")
        self.assertEqual(self.listed(), [])

    def test_only_the_named_queues_are_served(self):
        runner = self.runner("--queue", "other", "--queue", "default")
        self.assertEqual(self.client("add", "2", "2").stdout.split()[1], "4")
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(30), 0)
        runner = self.runner("--queue", "other")
        invocation = self.started("demo.endless")
        runner.send_signal(signal.SIGTERM)
        self.assertEqual(runner.wait(30), 0)
        self.assertEqual(self.shown(invocation)["status"], "REGISTERED")

    def test_an_application_sees_its_own_invocations_alone(self):
        (self.folder / "caller.toml").write_text(f'app_id = "mine"\nstore = "sqlite"\n[sqlite]\npath = "{self.database}"\n')
        self.started("demo.endless")
        self.assertEqual(json.loads(self.output("task", "list", "--json"))[0]["task"], "demo.endless")

    def test_settings_are_shown_with_the_place_they_come_from(self):
        (self.folder / "caller.toml").write_text('app_id = "demo"\n[runner]\nslots = 3\n[task."demo.add"]\nmax_retries = 2\n')
        text = self.output("config", "show", "--app", PLUGIN, "--sqlite", "x.db", CALLER__LEASE="2s")
        lines = [" ".join(line.split()) for line in text.splitlines()]
        for line in (
            "app.app_id = demo (caller.toml:1)",
            "app.lease = 2s (CALLER__LEASE)",
            "app.max_pending = 5s (default)",
            "thread_runner.slots = 3 (caller.toml:3)",
            "sqlite.path = x.db (assigned)",
            "task.demo.add.max_retries = 2 (caller.toml:5)",
            "task.demo.words.max_retries = 0 (default)",
        ):
            self.assertIn(line, lines)
        values = {v["name"]: v for v in json.loads(self.output("config", "show", "--json", "runner"))}
        self.assertEqual(
            values["runner.slots"],
            {"name": "runner.slots", "value": "3", "source": "file in the working directory", "where": "caller.toml:3"},
        )
        self.assertNotIn("app.app_id", values)
        self.assertIn("there is no section \"runer\"", self.error("config", "show", "runer"))

    def test_an_unknown_setting_is_told_and_a_wrong_one_refused(self):
        (self.folder / "caller.toml").write_text("[runner]\nslotz = 3\n")
        answer = self.call("config", "show", "app")
        self.assertEqual(answer.returncode, 0)
        self.assertEqual(answer.stderr, 'caller: warning: caller.toml:2: unknown setting of [runner] "slotz"; the nearest is slots\n')
        (self.folder / "caller.toml").write_text("[runner]\nslots = 'many'\n")
        wrong = self.error("config", "show", "app")
        self.assertIn('caller: runner.slots: expected a whole number of at least 0, found "many" (caller.toml:2)\n', wrong)

    def test_mistakes_of_newcomers_are_answered_by_one_sentence(self):
        start = ("runner", "start", "--sqlite", self.database)
        self.assertIn("say where they are: --sqlite FILE", self.error("runner", "start", "--app", PLUGIN))
        self.assertIn("give a library of them: --app", self.error(*start))
        self.assertIn("none.so cannot be loaded: there is no such file; a library of tasks", self.error(*start, "--app", "none.so"))
        (self.folder / "text.so").write_text("no library")
        self.assertIn("text.so cannot be loaded: ./text.so: ", self.error(*start, "--app", "text.so"))
        self.assertIn("has no tasks: it needs a function CALLER_TASKS", self.error(*start, "--app", LIBRARY))
        self.assertIn("a DummyRunner executes nothing", self.error(*start, "--app", PLUGIN, "--runner", "dummy"))
        self.assertIn("executes the calls of its own process alone", self.error(*start, "--app", PLUGIN, "--runner", "sync"))
        self.assertIn("a runner of another application", self.error(*start, "--app", PLUGIN, "--caller-task-worker=other"))
        wrong = self.error(*start, "--app", PLUGIN, "--runner", "thred")
        self.assertIn('there is no runner "thred"; the nearest is thread; known are ', wrong)
        self.assertIn('--slots: expected a whole number of at least 0, found "few"', self.error(*start, "--app", PLUGIN, "--slots", "few"))
        self.assertIn(
            "start redis-server there or correct the address",
            self.error("task", "list", "--url", f"unix://{self.folder}/none.sock"),
        )
        self.assertIn(
            "start redis-server there or correct the address",
            self.error("runner", "start", "--app", PLUGIN, "--url", f"unix://{self.folder}/none.sock"),
        )
        self.assertIn("begins neither with redis://", self.error("task", "list", "--url", "http://x"))
        none = str(self.folder / "none.db")
        self.assertIn(f"there is no file {none}", self.error("task", "list", "--sqlite", none))
        self.assertFalse(os.path.exists(none))
        self.assertIn("No such file", self.error("task", "list", "--config", "none.toml"))
        self.assertIn(f"there is no folder {self.folder}/no for the file ", self.error(*start[:3], str(self.folder / "no" / "t.db"), "--app", PLUGIN))
        self.started("demo.endless")
        self.assertIn('there is no status "DONE"; there are REGISTERED', self.error("task", "list", "--status", "done", "--sqlite", self.database))
        self.assertIn("nobody", self.error("task", "show", "nobody", "--sqlite", self.database))
        self.assertIn('--limit: expected a whole number of at least 0, found "-5"', self.error("task", "list", "--limit", "-5", "--sqlite", self.database))
        for arguments in (["runner"], ["task"], ["task", "show"], ["task", "show", "one", "two"], ["runner", "start", "--no-such"], ["config"]):
            answer = self.call(*arguments)
            self.assertEqual(answer.returncode, 2, arguments)
            self.assertNotEqual(answer.stderr, "")

    def test_functions_of_notebooks_need_the_kernel_and_a_runner_of_threads(self):
        start = ("runner", "start", "--sqlite", self.database, "--jit")
        if "kernel" not in self.help_words(commands=True):
            self.assertIn("--jit compiles functions of notebooks, and this program was built without the kernel", self.error(*start))
            return
        for kind in ("process", "persistent_process", "multi_thread"):
            self.assertIn(f'needs the thread runner, and not "{kind}"; give --runner thread', self.error(*start, "--runner", kind))
        (self.folder / "caller.toml").write_text("runner = 'process'\n")
        self.assertIn("give --runner thread", self.error(*start))
        # What a library has is executed beside them.
        runner = self.runner("--jit", "--runner", "thread", "--slots", "1")
        self.assertEqual(self.client("add", "1", "2").stdout.split()[1], "3")
        runner.send_signal(signal.SIGINT)
        self.assertEqual(runner.wait(30), 0)

    def test_completion_knows_every_command_and_option(self):
        bash = shutil.which("bash")
        completion = ROOT / "share" / "completions" / "caller"

        def completed(*words):
            line = " ".join(f"'{w}'" for w in ("caller", *words))
            script = f"source {completion}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _caller; echo ${{COMPREPLY[@]}}"
            answer = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=20, check=True)
            return set(answer.stdout.split())

        for group in ("runner", "task", "config"):
            self.assertIn(group, (ROOT / "share" / "man" / "caller.1").read_text(encoding="utf-8"))
            commands = self.help_words(group, commands=True)
            self.assertLessEqual(commands, completed(group, ""), group)
            for command in commands:
                self.assertLessEqual(self.help_words(group, command), completed(group, command, "-"), (group, command))
        self.assertLessEqual({"runner", "task", "config"}, completed(""))

    def help_words(self, *arguments, commands=False):
        lines = self.output(*arguments, "--help").splitlines()
        if commands:
            return {line.split()[0] for line in lines[lines.index("Subcommands:") + 1 :] if line.startswith("  ") and line[2] != " "}
        return {word.rstrip(",") for line in lines for word in line.split()[:1] if word.startswith("--")}


if __name__ == "__main__":
    LIBRARY = sys.argv.pop()
    CLIENT = sys.argv.pop()
    PLUGIN = sys.argv.pop()
    PROGRAM = sys.argv.pop()
    unittest.main(verbosity=2)
