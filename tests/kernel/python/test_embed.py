"""A kernel embedded in a running C++ server (examples/live_server.cpp), attached to by real clients."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
import unittest

from support import HOME, TIMEOUT, Client, plain
from test_clients import Terminal

SERVER = os.environ.get("CALLER_LIVE_SERVER", "")


class Embedded(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        if not SERVER:
            self.skipTest("no live_server was built")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(self._stop)
        line = self.process.stdout.readline()
        self.file = pathlib.Path(line.split()[-1])
        self.client = self.attach()

    def _stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def attach(self):
        client = Client(json.loads(self.file.read_text(encoding="utf-8")))
        self.addCleanup(client.close)
        return client

    def run_ok(self, code, client=None):
        cell = (client or self.client).run(code)
        self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
        return cell

    def say(self):
        """What the server itself prints when it is asked to."""
        self.process.stdin.write("say\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def test_a_tube_of_a_cell_reads_live_objects(self):
        self.run_ok("long served(int call) { return server.served(); }")
        tube = "noob_id: live\nnodes:\n  c: {type: noob.testing.count_source}\n  s: {type: served, depends: [c.index]}\n  r: {type: return, depends: s.value}\n"
        cell = self.client.run("%%tube -n 3 --runner thread\n" + tube)
        if "there is no magic %%tube" in cell.reply.get("evalue", ""):
            self.skipTest("built without tubes")
        self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
        self.assertGreaterEqual(int(cell.result), 0)
        self.assertGreaterEqual(int(self.run_ok("server.served()").result), int(cell.result))

    def test_nodes_in_processes_of_their_own_may_not_use_live_objects(self):
        self.run_ok("long twice(long x) { return 2 * x; }\nlong served(long call) { return server.served() + twice(call); }")
        tube = "noob_id: apart\nnodes:\n  c: {type: noob.testing.count_source}\n  s: {type: TYPE, depends: [c.index]}\n  r: {type: return, depends: s.value}\n"
        cell = self.client.run("%%tube -n 3 --runner cluster\n" + tube.replace("TYPE", "twice"))
        if "there is no magic %%tube" in cell.reply.get("evalue", "") or "without ZeroMQ" in cell.reply.get("evalue", ""):
            self.skipTest("built without tubes on many processes")
        self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
        self.assertEqual(cell.result, "4")
        cell = self.client.run("%%tube -n 3 --runner cluster\n" + tube.replace("TYPE", "served"))
        self.assertEqual(cell.reply["status"], "error")
        self.assertIn('it uses "server", an object that only this process has', cell.reply["evalue"])

    def test_a_console_inspects_and_changes_live_objects(self):
        first = int(self.run_ok("server.served()").result)
        time.sleep(0.05)
        self.assertGreater(int(self.run_ok("server.served()").result), first, "the server serves on")
        self.run_ok('server.set_greeting("Good evening");')
        self.assertEqual(self.run_ok('server.answer("you")').result, '"Good evening, you"')
        self.assertIn("live::Server", self.run_ok("%who").text())
        reply = self.client.request("shell", "complete_request", {"code": "server.set_g", "cursor_pos": 12})
        self.assertIn("set_greeting", "".join(reply["matches"]))

    def test_output_of_cells_reaches_the_console_and_the_servers_own_does_not(self):
        self.assertEqual(self.say(), "the server's own words\n")
        cell = self.run_ok('std::cout << "of a cell" << std::endl; std::cerr << "wrong";')
        self.assertEqual((cell.text(), cell.text("stderr")), ("of a cell\n", "wrong"))
        cell = self.client.execute('std::cout << "on" << std::endl; co_await caller::sleep_for(300ms);')
        cell.wait_text("on")
        self.assertEqual(self.say(), "the server's own words\n")
        cell.wait()
        self.assertEqual(cell.text(), "on\n")
        cell = self.run_ok('printf("to the server\\n"); fflush(stdout);')
        self.assertEqual(cell.text(), "")
        self.assertEqual(self.process.stdout.readline(), "to the server\n")

    def test_detaching_and_a_refused_shutdown_leave_the_server_alone(self):
        self.run_ok("int left_behind = 5;")
        self.client.close()
        again = self.attach()
        self.assertEqual(self.run_ok("left_behind", again).result, "5")
        reply = again.request("control", "shutdown_request", {"restart": False})
        self.assertEqual(reply["status"], "error")
        self.assertEqual(self.run_ok("left_behind", again).result, "5")
        self.assertIsNone(self.process.poll())

    def test_reset_keeps_what_the_server_exposes(self):
        self.run_ok("int mine = 1;")
        self.run_ok("%reset -f")
        self.assertEqual(self.client.run("mine").reply["status"], "error")
        self.assertGreater(int(self.run_ok("server.served()").result), 0)

    def test_an_interrupt_reaches_a_cell_and_not_the_server(self):
        cell = self.client.execute('std::cout << "on" << std::endl; for (;;) {}')
        cell.wait_text("on")
        self.client.interrupt()
        cell.wait()
        self.assertEqual(cell.reply["ename"], "Interrupted")
        self.assertEqual(self.say(), "the server's own words\n")

    def test_an_interrupt_reaches_what_a_cell_runs_on_a_worker(self):
        self.run_ok("std::atomic<int> gone{0}; struct Guard { ~Guard() { ++gone; } };")
        for n, code in enumerate(("for (;;) {}", "std::this_thread::sleep_for(60s);"), 1):
            cell = self.client.execute('co_await caller::Caller::current().to_thread([] { Guard g; std::cout << "on" << std::endl; ' + code + " });")
            cell.wait_text("on")
            self.client.interrupt()
            self.assertEqual(cell.wait().reply["ename"], "Interrupted")
            deadline = time.monotonic() + TIMEOUT
            while (gone := int(self.run_ok("gone.load()").result)) < n:
                self.assertLess(time.monotonic(), deadline, code)
            self.assertEqual(gone, n)
        self.assertEqual(self.say(), "the server's own words\n")

    def test_an_interrupt_reaches_the_loop_of_a_new_subshell_on_which_no_cell_has_run(self):
        """Whether its loop is the kernel's own is asked once, in its first turn."""
        self.run_ok("std::atomic<int> gone{0}; struct Guard { ~Guard() { ++gone; } };\n"
                    "caller::Caller named(const std::string& name) { for (auto& c : caller::Caller::all_callers()) if (c.name() == name) return c; throw std::runtime_error(name); }")
        for n in range(1, 11):
            subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
            cell = self.client.execute(f'(void)named("Subshell {subshell[:8]}").call_soon([] {{ Guard g; std::cout << "on" << std::endl; for (;;) {{}} }});')
            cell.wait_text("on")
            cell.wait()
            self.client.interrupt()
            deadline = time.monotonic() + TIMEOUT
            while int(self.run_ok("gone.load()").result) < n:
                self.assertLess(time.monotonic(), deadline)
        self.assertEqual(self.say(), "the server's own words\n")

    def test_the_servers_signals_are_its_own(self):
        """No handler stands where the program set none: SIGINT ends it as it ends any program."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP):
            self.assertFalse(caught >> (number - 1) & 1, signal.Signals(number).name)
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(TIMEOUT), -signal.SIGINT)

    # Which signals the calling thread takes, of those that can be blocked.
    TAKEN = ("#include <csignal>\nstd::string taken() { sigset_t blocked; pthread_sigmask(SIG_BLOCK, nullptr, &blocked); std::string out;\n"
             "for (int s = 1; s <= SIGRTMAX; ++s) if (s != SIGKILL && s != SIGSTOP && (s < 32 || s >= SIGRTMIN) && !sigismember(&blocked, s)) out += std::to_string(s) + ' ';\n"
             "return out; }\nint takes_sigterm(int call) { return call >= 0 && taken().find(\"15 \") != std::string::npos; }")

    def blocks_sigterm(self, thread):
        status = pathlib.Path(f"/proc/{self.process.pid}/task/{thread}/status").read_text(encoding="ascii")
        blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
        return bool(blocked >> (signal.SIGTERM - 1) & 1)

    def test_no_thread_of_the_kernel_takes_the_servers_signals(self):
        """Only those of faults, and the two that end blocked calls; whatever a cell has run, and wherever."""
        self.run_ok(self.TAKEN)
        faults = (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS)
        own = (signal.SIGRTMIN + 6, signal.SIGRTMIN + 7)
        expected = '"' + "".join(f"{int(s)} " for s in sorted((*faults, *own))) + '"'
        before = set(os.listdir(f"/proc/{self.process.pid}/task"))
        self.assertEqual(self.run_ok("taken()").result, expected)
        self.assertEqual(self.run_ok("co_await caller::Caller::current().to_thread(taken)").result, expected)
        self.assertEqual(self.run_ok("// thread name=beside\ntaken()").result, expected)
        for runner in ("thread", "sync"):
            cell = self.client.run(f"%%task --runner {runner}\ntaken()")
            if "there is no magic %%task" not in cell.reply.get("evalue", ""):
                self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
                self.assertEqual(cell.result, expected, runner)
        tube = "noob_id: taken\nnodes:\n  c: {type: noob.testing.count_source}\n  s: {type: takes_sigterm, depends: [c.index]}\n  r: {type: return, depends: s.value}\n"
        for runner in ("thread", "sync"):
            cell = self.client.run(f"%%tube -n 3 --runner {runner}\n" + tube)
            if "there is no magic %%tube" not in cell.reply.get("evalue", ""):
                self.assertEqual(cell.reply["status"], "ok", plain(cell.reply.get("traceback", [])))
                self.assertEqual(cell.result, "0", runner)
        for thread in set(os.listdir(f"/proc/{self.process.pid}/task")) - before:
            try:
                self.assertTrue(self.blocks_sigterm(thread), thread)
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended

    def test_the_connection_file_is_the_owners_and_goes_with_the_kernel(self):
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(self.file.parent, HOME / "jupyter_runtime_dir")
        self.process.stdin.close()
        self.assertEqual(self.process.wait(TIMEOUT), 0)
        self.assertFalse(self.file.exists())

    def test_the_server_ends_while_cells_run_and_wait(self):
        spinning = self.client.execute('std::cout << "on" << std::endl; for (;;) {}')
        spinning.wait_text("on")
        queued = self.client.execute("1 + 1")
        self.client.reply(self.client.send("shell", "is_complete_request", {"code": "1"}))  # it has come after the cell
        self.process.stdin.close()
        self.assertEqual(self.process.wait(TIMEOUT), 0)
        self.client.reply(spinning.id)
        self.assertEqual(self.client.reply(queued.id)["content"]["status"], "error")

    def test_the_server_ends_while_workers_of_cells_run(self):
        for wait in ("(void)", "co_await "):
            cell = self.client.execute(wait + 'caller::Caller::current().to_thread([] { std::cout << "on" << std::endl; for (;;) {} });')
            cell.wait_text("on")
        self.process.stdin.close()
        self.assertEqual(self.process.wait(TIMEOUT), 0)

    def test_a_busy_console_costs_the_server_little(self):
        """Medians of the server's own requests, without and with a console that computes, prints and compiles."""
        self.run_ok("server.forget();")
        time.sleep(0.5)
        quiet = float(self.run_ok("server.quantile(0.5)").result)
        self.run_ok("server.forget();")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            self.run_ok("std::vector<int> v(1000); std::sort(v.begin(), v.end()); std::cout << v.size() << std::endl;")
        busy = float(self.run_ok("server.quantile(0.5)").result)
        print(f"server's round trip: {quiet:.1f} us alone, {busy:.1f} us beside a busy console", file=sys.stderr)
        # The machine has few processors; what must not be is that the server waits for the compiler (milliseconds).
        self.assertLess(busy, 1000 + 5 * quiet)

    def test_jupyter_console_attaches_and_leaves(self):
        console = Terminal(sys.executable, "-m", "jupyter_console", "--existing", str(self.file), "--simple-prompt")
        self.addCleanup(console.close)
        console.wait_for("]:")
        console.enter('server.set_greeting("From a console"); server.answer("you")')
        console.wait_for("From a console, you")
        console.enter("exit")
        self.assertIsNone(self.process.poll())
        self.assertGreater(int(self.run_ok("server.served()").result), 0)
