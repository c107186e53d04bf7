"""The debugger: breakpoints, steps, stacks and variables of cells, asked for as JupyterLab does."""

import os
import shutil
import signal
import time
import unittest

from support import HOME, Kernel, KernelTest, parent_id, plain

ADAPTER = next(filter(None, map(shutil.which, ("lldb-dap-19", "lldb-dap", "lldb-vscode"))), None)
LIMIT = 60  # seconds; lldb starts, reads symbols, compiles expressions

SQUARES = """int square(int n) {
  int r = n * n;
  std::vector<int> v{n, r};
  return r + 1;
}
int total = 0;
for (int i = 0; i < 3; ++i) {
  total += square(i);
}
total"""


def murmur2(data, seed):
    """The hash as JupyterLab computes it, written from its description."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (seed ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@unittest.skipUnless(ADAPTER, "lldb-dap is not installed")
class DebuggerTest(KernelTest):
    """A kernel with a client that debugs."""

    def setUp(self):
        super().setUp()
        self.seq = 0
        self.seen = 0  # events looked at

    def ask(self, command, arguments=None, client=None):
        """The response to a debug request, whatever it is."""
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments or {}}
        reply = (client or self.client).request("control", "debug_request", content, timeout=LIMIT)
        self.assertEqual((reply["type"], reply["command"], reply["request_seq"]), ("response", command, self.seq))
        return reply

    def body(self, command, arguments=None):
        """The body of a response that must say success."""
        reply = self.ask(command, arguments)
        self.assertTrue(reply["success"], reply)
        return reply.get("body")

    def attach(self):
        self.body(
            "initialize",
            {
                "clientID": "jupyterlab",
                "clientName": "JupyterLab",
                "adapterID": "caller",
                "pathFormat": "path",
                "linesStartAt1": True,
                "columnsStartAt1": True,
                "supportsVariableType": True,
                "supportsVariablePaging": True,
                "supportsRunInTerminalRequest": True,
                "locale": "en",
            },
        )
        self.body("attach")

    def set_breakpoints(self, code, *lines):
        """Lines, or dictionaries with a condition; returns the path of the cell."""
        path = self.body("dumpCell", {"code": code})["sourcePath"]
        points = [line if isinstance(line, dict) else {"line": line} for line in lines]
        found = self.body("setBreakpoints", {"source": {"path": path}, "breakpoints": points, "sourceModified": False})
        self.assertEqual([b["verified"] for b in found["breakpoints"]], [True] * len(points))
        self.body("configurationDone")
        return path

    def event(self, name, timeout=LIMIT):
        """The next event of that name that was not looked at."""
        message = self.client.wait(
            lambda m: m["msg_type"] == "debug_event" and m["content"]["event"] == name, timeout, start=self.seen
        )
        self.seen = self.client.messages.index(message) + 1
        return message["content"].get("body")

    def stopped(self, reason="breakpoint"):
        """Waits for a stop; its thread and frames."""
        body = self.event("stopped")
        self.assertEqual(body["reason"], reason, body)
        frames = self.body("stackTrace", {"threadId": body["threadId"]})["stackFrames"]
        return body["threadId"], frames

    def go(self, command, thread):
        self.body(command, {"threadId": thread})

    def variables(self, frame, scope="Locals"):
        scopes = {s["name"]: s for s in self.body("scopes", {"frameId": frame["id"]})["scopes"]}
        reference = scopes[scope]["variablesReference"]
        return {v["name"]: v for v in self.body("variables", {"variablesReference": reference})["variables"]}

    def values(self, frame, scope="Locals"):
        return {name: v["value"] for name, v in self.variables(frame, scope).items()}

    def assert_answers(self):
        """Control and heartbeat answer within a second."""
        begin = time.monotonic()
        self.assertEqual(self.client.request("control", "kernel_info_request")["status"], "ok")
        self.client.beat()
        self.assertLess(time.monotonic() - begin, 1)

    def adapters(self):
        """The kernel's children that are lldb-dap, zombies included."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                    name, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if int(rest.split()[1]) == self.kernel.pid and name.startswith("lldb"):
                found.append(int(pid))
        return found

    def assert_no_adapter(self):
        deadline = time.monotonic() + 20
        while self.adapters() and time.monotonic() < deadline:
            self.client.pump(0.05)
        self.assertEqual(self.adapters(), [])


class StoppingTest(DebuggerTest):
    """What a cell at a breakpoint shows, and how it goes on."""

    def test_a_breakpoint_in_a_function_of_a_cell_shows_stack_and_variables(self):
        self.attach()
        path = self.set_breakpoints(SQUARES, 4)
        cell = self.client.execute(SQUARES)
        thread, frames = self.stopped()
        self.assertEqual([(f["name"], f["line"], f["source"]["path"]) for f in frames], [("square(int)", 4, path), ("<cell>", 8, path)])
        self.assert_answers()
        local = self.variables(frames[0])
        self.assertEqual({n: (v["type"], v["value"]) for n, v in local.items() if n != "v"}, {"n": ("int", "0"), "r": ("int", "0")})
        children = self.body("variables", {"variablesReference": local["v"]["variablesReference"]})["variables"]
        self.assertEqual([c["value"] for c in children if c["name"].startswith("[")][:2], ["0", "0"])
        self.assertEqual(self.values(frames[0], "Globals")["total"], "0")
        self.assertEqual(self.values(frames[1])["i"], "0")
        self.go("continue", thread)
        thread, frames = self.stopped()
        self.assertEqual(self.values(frames[0])["n"], "1")
        self.go("continue", thread)
        thread, frames = self.stopped()
        self.assertEqual((self.values(frames[0])["n"], self.values(frames[0], "Globals")["total"]), ("2", "3"))
        self.go("continue", thread)
        self.assertEqual(cell.wait().result, "8")

    def test_steps_over_into_and_out_of_functions(self):
        self.attach()
        self.set_breakpoints(SQUARES, 8)
        cell = self.client.execute(SQUARES)
        thread, frames = self.stopped()
        self.assertEqual((frames[0]["name"], frames[0]["line"]), ("<cell>", 8))
        self.go("stepIn", thread)
        thread, frames = self.stopped("step")
        self.assertEqual((frames[0]["name"], frames[0]["line"]), ("square(int)", 2))
        self.go("next", thread)
        thread, frames = self.stopped("step")
        self.assertEqual((frames[0]["line"], self.values(frames[0])["r"]), (3, "0"))
        self.go("next", thread)
        thread, frames = self.stopped("step")
        self.assertEqual(frames[0]["line"], 4)
        self.go("stepOut", thread)
        thread, frames = self.stopped("step")
        self.assertEqual((frames[0]["name"], frames[0]["line"]), ("<cell>", 8))
        self.body("setBreakpoints", {"source": frames[0]["source"], "breakpoints": []})
        self.go("continue", thread)
        self.assertEqual(cell.wait().result, "8")

    def test_a_condition_decides_whether_a_breakpoint_stops(self):
        self.attach()
        self.set_breakpoints(SQUARES, {"line": 4, "condition": "n == 2"})
        cell = self.client.execute(SQUARES)
        thread, frames = self.stopped()
        self.assertEqual(self.values(frames[0])["n"], "2")
        self.go("continue", thread)
        self.assertEqual(cell.wait().result, "8")

    def test_expressions_are_evaluated_in_a_frame_and_may_call_and_assign(self):
        self.run_ok("int old = 40; std::string greeting = \"hello\";")
        self.attach()
        self.set_breakpoints(SQUARES, 4)
        cell = self.client.execute(SQUARES)
        thread, frames = self.stopped()

        def value(expression, frame=frames[0], context="watch"):
            return self.body("evaluate", {"expression": expression, "frameId": frame["id"], "context": context})["result"]

        self.assertEqual(value("n + r + 5"), "5")
        self.assertEqual(value("square(6)"), "37")  # the breakpoint inside does not get in the way
        self.assertEqual(value("i", frames[1]), "0")
        self.assertEqual(value("greeting"), '"hello"')  # compiled before the debugger came
        value("r = 100")
        self.assertFalse(self.ask("evaluate", {"expression": "no_such_thing", "frameId": frames[0]["id"]})["success"])
        self.body("setBreakpoints", {"source": frames[0]["source"], "breakpoints": []})
        self.go("continue", thread)
        self.assertEqual(cell.wait().result, "108")

    def test_breakpoints_in_several_cells_and_ten_times_in_a_loop(self):
        first = "int twice(int n) {\n  return 2 * n;\n}"
        second = "int sum = 0;\nfor (int i = 0; i < 10; ++i) {\n  sum += twice(i);\n}\nsum"
        self.attach()
        paths = {self.set_breakpoints(first, 2): 2, self.set_breakpoints(second, 3): 3}
        self.assertEqual(len(paths), 2)
        kept = self.body("debugInfo")["breakpoints"]
        self.assertEqual({b["source"]: b["breakpoints"][0]["line"] for b in kept}, paths)
        self.run_ok(first)
        cell = self.client.execute(second)
        for i in range(10):
            thread, frames = self.stopped()
            self.assertEqual((frames[0]["line"], self.values(frames[0])["i"]), (3, str(i)))
            self.go("continue", thread)
            thread, frames = self.stopped()
            self.assertEqual((frames[0]["name"], frames[0]["line"]), ("twice(int)", 2))
            self.assertEqual(self.values(frames[0])["n"], str(i))
            self.go("continue", thread)
        self.assertEqual(cell.wait().result, "90")

    def test_a_cell_on_a_thread_stops_while_others_run(self):
        code = "// thread name=Worker\nint far = 1;\nfar += 41;\nfar"
        self.attach()
        self.set_breakpoints(code, 3)
        cell = self.client.execute(code)
        thread, frames = self.stopped()
        self.assertEqual(frames[0]["line"], 3)
        self.assertEqual(self.run_ok("20 + 22").result, "42")  # the main shell runs on
        self.assertIn("main", self.client.request("shell", "complete_request", {"code": "caller::main", "cursor_pos": 12})["matches"][0])
        self.go("continue", thread)
        self.assertEqual(cell.wait().result, "42")

    def test_a_cell_that_awaits_stops_before_and_behind_its_await(self):
        code = (
            "int before = 1;\n"
            "before += 1;\n"
            "co_await caller::sleep_for(std::chrono::milliseconds(5));\n"
            "before += 40;\n"
            "before"
        )
        self.attach()
        self.set_breakpoints(code, 2, 4)
        cell = self.client.execute(code)
        for line in (2, 4):
            thread, frames = self.stopped()
            self.assertEqual(frames[0]["line"], line)
            self.go("continue", thread)
        self.assertEqual(cell.wait().result, "42")

    def test_two_cells_at_breakpoints_are_shown_one_after_the_other(self):
        worker = "// thread name=Worker\nint a = 1;\na += 1;\na"
        main = "int b = 2;\nb += 2;\nb"
        self.attach()
        self.set_breakpoints(worker, 3)
        self.set_breakpoints(main, 2)
        cells = [self.client.execute(worker), self.client.execute(main)]
        first, frames = self.stopped()
        self.assert_answers()
        lines = [frames[0]["line"]]
        self.go("continue", first)
        second, frames = self.stopped()
        lines.append(frames[0]["line"])
        self.assertNotEqual(first, second)
        self.go("continue", second)
        self.assertEqual(sorted(lines), [2, 3])
        self.assertEqual([c.wait().result for c in cells], ["2", "4"])


class EndingTest(DebuggerTest):
    """However debugging ends, the cell goes on and the kernel is whole."""

    def stop_in(self, code=SQUARES, line=4):
        self.attach()
        self.set_breakpoints(code, line)
        cell = self.client.execute(code)
        self.stopped()
        return cell

    def test_disconnecting_lets_a_stopped_cell_go_on(self):
        cell = self.stop_in()
        self.body("disconnect", {"restart": False, "terminateDebuggee": False})
        self.assertEqual(cell.wait().result, "8")
        self.assertFalse(self.body("debugInfo")["isStarted"])
        self.assert_no_adapter()
        self.assertEqual(self.run_ok("square(4)").result, "17")  # no breakpoint is left

    def test_the_debugger_starts_again_after_its_end(self):
        self.stop_in()
        self.body("disconnect")
        cell = self.stop_in()
        self.body("disconnect")
        self.assertEqual(cell.wait().result, "8")

    def test_an_interrupt_ends_a_cell_that_stands_at_a_breakpoint(self):
        code = "for (int i = 0; i < 1000000000; ++i) {\n  if (i % 10 == 9)\n    std::this_thread::yield();\n}"
        cell = self.stop_in(code, 3)
        begin = time.monotonic()
        self.client.interrupt()
        cell.wait()
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(cell.reply["ename"], "Interrupted", plain(cell.reply["traceback"]))
        self.event("continued")
        self.assert_usable()
        again = self.client.execute(code)  # breakpoints hold for the next cell
        self.stopped()
        self.client.interrupt()
        self.assertEqual(again.wait().reply["ename"], "Interrupted")

    def test_a_stopped_cell_goes_on_when_lldb_is_killed(self):
        cell = self.stop_in()
        (adapter,) = self.adapters()
        os.kill(adapter, signal.SIGKILL)
        self.assertEqual(cell.wait().result, "8")
        self.event("terminated")
        self.assert_no_adapter()
        self.assertFalse(self.body("debugInfo")["isStarted"])
        self.assert_usable()

    def test_a_shutdown_ends_a_kernel_with_a_stopped_cell(self):
        self.stop_in()
        (adapter,) = self.adapters()
        self.client.send("control", "shutdown_request", {"restart": False})
        self.assertEqual(self.kernel.wait_for_exit(), 0)
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{adapter}") and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(f"/proc/{adapter}"))


class SessionTest(DebuggerTest):
    """What is answered without a stop."""

    def test_the_debugger_is_advertised(self):
        info = self.client.request("control", "kernel_info_request")
        self.assertTrue(info["debugger"])
        self.assertIn("debugger", info["supported_features"])
        self.assertTrue(self.kernel.manager.kernel_spec.metadata["debugger"])

    def test_cells_are_files_named_by_their_hash(self):
        info = self.body("debugInfo")
        self.assertEqual((info["isStarted"], info["hashMethod"]), (False, "Murmur2"))
        for code in ("", "a", "ab", "abc", "abcd", "int ä = 1;\nä", SQUARES):
            path = self.body("dumpCell", {"code": code})["sourcePath"]
            name = info["tmpFilePrefix"] + str(murmur2(code.encode(), info["hashSeed"])) + info["tmpFileSuffix"]
            self.assertEqual(path, name)
            self.assertEqual(self.body("source", {"source": {"path": path}})["content"], code)
        self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o777, 0o700)
        self.assertFalse(self.ask("source", {"source": {"path": "/nowhere"}})["success"])

    def test_variables_of_the_session_are_listed_with_their_values(self):
        self.run_ok('int answer = 42; std::string name = "x"; std::vector<int> three{1, 2, 3};\nint f() { return 1; }')
        found = {v["name"]: (v["type"], v["value"]) for v in self.body("inspectVariables")["variables"]}
        self.assertEqual(found, {"answer": ("int", "42"), "name": ("std::string", '"x"'), "three": ("std::vector<int>", "{1, 2, 3}")})
        rich = self.body("richInspectVariables", {"variableName": "three"})
        self.assertEqual(rich["data"]["text/plain"], "{1, 2, 3}")
        self.assertFalse(self.ask("richInspectVariables", {"variableName": "f()"})["success"])

    def test_only_what_works_is_offered(self):
        can = self.body("initialize", {"clientID": "x", "adapterID": "caller", "linesStartAt1": True, "columnsStartAt1": True})
        self.assertEqual(can["exceptionBreakpointFilters"], [])
        self.assertTrue(can["supportsConditionalBreakpoints"])
        self.assertFalse(can["supportTerminateDebuggee"])
        self.body("attach")
        self.assertIn("cannot be paused", self.ask("pause", {"threadId": 1})["message"])

    def test_what_needs_a_started_debugger_says_so(self):
        for command in ("setBreakpoints", "stackTrace", "next", "attach", "disconnect"):
            reply = self.ask(command)
            self.assertFalse(reply["success"])
            self.assertIn("not started", reply["message"])

    def test_cells_without_breakpoints_behave_as_ever_while_a_client_debugs(self):
        self.attach()
        self.assertEqual(self.run_ok("int x = 6;\nx * 7").result, "42")
        error = self.run_error("int y = ;").error
        self.assertIn("Cell [2], line 1", plain(error["traceback"]))
        self.assertEqual(self.run_error('throw std::runtime_error("no");').error["evalue"], "no")
        self.assertEqual(self.run_ok("x").result, "6")


@unittest.skipUnless(ADAPTER, "lldb-dap is not installed")
class WithoutAdapterTest(unittest.TestCase):
    """A machine without lldb-dap."""

    def test_without_lldb_nothing_is_advertised_and_requests_are_unknown(self):
        path = HOME / "bin"
        path.mkdir()
        before = os.environ["PATH"]
        os.environ["PATH"] = str(path)
        try:
            kernel = Kernel()
        finally:
            os.environ["PATH"] = before
        self.addCleanup(kernel.stop)
        client = kernel.client()
        info = client.request("control", "kernel_info_request")
        self.assertFalse(info["debugger"])
        self.assertNotIn("debugger", info["supported_features"])
        asked = client.send("control", "debug_request", {"type": "request", "seq": 1, "command": "debugInfo"})
        client.idle(asked)
        client.request("control", "kernel_info_request")
        self.assertEqual([m for m in client.messages if parent_id(m) == asked and m["channel"] == "control"], [])
