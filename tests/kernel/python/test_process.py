"""Protocol checklist 62 to 67 and 11: connection files, the kernelspec, signals, the parent's death."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

from direct import DirectKernel, connection, start_and_fail, write_connection_file
from support import HOME, PROGRAM, Client, KernelTest, install_kernelspec


def compilers(kernel_pid):
    """The processes in which a kernel compiles its cells; they are nobody's children but in the kernel's group."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, group = rest.split()[:3]
        if name == "caller compiler" and int(group) == os.getpgid(kernel_pid) and state != "Z":
            found.append(int(entry.name))
    return found


class CompilersCopy(KernelTest):
    def wait_for(self, number, group_of):
        deadline = time.monotonic() + 10
        while len(compilers(group_of)) != number:
            self.assertLess(time.monotonic(), deadline, compilers(group_of))
            time.sleep(0.01)

    @unittest.skipIf(os.environ.get("CALLER_COMPILER_WITHIN") == "OFF", "configured to share LLVM's libraries")
    def test_the_program_has_its_compiler_within(self):
        maps = pathlib.Path(f"/proc/{self.kernel.pid}/maps").read_text()
        self.assertNotRegex(maps, "libLLVM|libclang-cpp", "cmake says what is missing: The compiler within caller: OFF")

    def test_the_compiler_ends_with_a_kernel_that_was_killed_and_holds_no_port(self):
        self.run_ok("int kept = 1;")
        (pid,) = compilers(self.kernel.pid)
        try:
            files = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            self.assertEqual(len([name for name in files if name != "/dev/null"]), 1, files)
        except PermissionError:
            pass  # only root may look
        # A program that a cell has forked, without replacing itself, holds copies of all that the kernel has open.
        self.run_ok("#include <unistd.h>\nint other = fork(); if (other == 0) { for (;;) pause(); }")
        other = int(self.run_ok("other").result)
        os.kill(self.kernel.pid, signal.SIGKILL)
        self.assertIsNotNone(self.kernel.wait_for_exit())
        deadline = time.monotonic() + 10
        while pathlib.Path(f"/proc/{pid}").exists() and not self.is_zombie(pid):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        os.kill(other, signal.SIGKILL)

    @staticmethod
    def is_zombie(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def test_good_cells_are_compiled_in_one_process_and_an_error_needs_another(self):
        self.run_ok("int kept = 1;")
        first = compilers(self.kernel.pid)
        self.assertEqual(len(first), 1)
        for _ in range(20):
            self.run_ok("++kept")
        self.assertEqual(compilers(self.kernel.pid), first)
        self.run_error("no_such_thing")
        self.assertEqual(self.run_ok("kept").result, "21")
        self.wait_for(1, self.kernel.pid)
        self.assertNotEqual(compilers(self.kernel.pid), first)

    def test_a_compiler_that_somebody_ends_is_replaced_and_knows_all_cells(self):
        self.run_ok("int kept = 1;")
        for signal_number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            os.kill(compilers(self.kernel.pid)[0], signal_number)
            self.wait_for(0, self.kernel.pid)
            self.run_ok("++kept")
        self.assertEqual(self.run_ok("kept").result, "4")
        os.kill(compilers(self.kernel.pid)[0], signal.SIGINT)  # of a terminal: it is meant for the kernel
        self.assertEqual(self.run_ok("++kept").result, "5")


class Files(unittest.TestCase):
    def assert_refused(self, path, *mentioned):
        code, text, seconds = start_and_fail("-f", str(path))
        self.assertGreater(code, 0, "an exit code, not a signal")
        self.assertLess(seconds, 10)
        for part in mentioned:
            self.assertIn(part, text)
        self.assertLessEqual(len(text.strip().splitlines()), 2, text)

    def test_63_a_missing_connection_file(self):
        self.assert_refused(HOME / "nowhere.json", "nowhere.json")
        self.assert_refused(HOME, str(HOME))

    def test_63_a_malformed_connection_file(self):
        deep = '{"ip": ' + "[" * 200000 + "]" * 200000 + "}"
        for text in ("", "{", "[]", "null", "\x00\x01", '{"shell_port": 1', deep):
            with self.subTest(text=text[:20]):
                path = write_connection_file(text)
                self.assert_refused(path, str(path))

    def test_63_a_connection_file_with_a_wrong_field(self):
        for field, value in (
            ("shell_port", None), ("shell_port", "x"), ("shell_port", 70000), ("iopub_port", -1), ("hb_port", 1.5),
            ("transport", "carrier-pigeon"), ("key", 7), ("signature_scheme", "rot13"), ("ip", 3),
        ):  # fmt: skip
            with self.subTest(field=field, value=value):
                path = write_connection_file(connection(**{field: value}))
                self.assert_refused(path, str(path), field)

    def test_63_a_port_in_use(self):
        info = connection()
        first = DirectKernel(info)
        self.addCleanup(first.stop)
        first.client()
        self.assert_refused(write_connection_file(info), str(info["shell_port"]), "another program listens there")
        self.assertIsNone(first.process.poll())

    def test_63_ipc(self):
        directory = tempfile.mkdtemp(dir=HOME)
        ports = dict(shell_port=1, control_port=2, stdin_port=3, iopub_port=4, hb_port=5)
        kernel = DirectKernel(connection(transport="ipc", ip=f"{directory}/kernel", **ports))
        self.addCleanup(kernel.stop)
        client = kernel.client()
        self.assertEqual(client.run("6 * 7").result, "42")
        self.assertLess(client.beat(), 1)
        client.request("control", "shutdown_request", {"restart": False})
        self.assertEqual(kernel.wait_for_exit(), 0)

    def test_63_only_loopback_is_listened_on(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        kernel.client()
        listening = pathlib.Path(f"/proc/{kernel.process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        ports = {kernel.info[name] for name in kernel.info if name.endswith("_port")}
        addresses = {line.split()[1].split(":")[0] for line in listening if int(line.split()[1].split(":")[1], 16) in ports}
        self.assertEqual(addresses, {"0100007F"})

    def test_64_kernel_json(self):
        install_kernelspec("--name", "spec-test")
        directory = HOME / "jupyter_data_dir/kernels/spec-test"
        spec = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
        self.assertEqual(spec["interrupt_mode"], "message")
        self.assertEqual(spec["kernel_protocol_version"], "5.5")
        self.assertEqual(spec["display_name"], "C++20 (Caller)")
        self.assertIn("{connection_file}", spec["argv"])
        self.assertTrue(spec["language"])
        self.assertEqual(
            {path.name for path in directory.iterdir()}, {"kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}
        )

    def test_cxxflags_reach_the_cells(self):
        install_kernelspec("--name", "flags", "--cxxflags", "-DFROM_FLAGS='\"a b\"'")
        spec = json.loads((HOME / "jupyter_data_dir/kernels/flags/kernel.json").read_text(encoding="utf-8"))
        info = connection()
        path = write_connection_file(info)
        argv = [part.replace("{connection_file}", str(path)) for part in spec["argv"]]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            client = Client(info)
            try:
                self.assertEqual(client.run("FROM_FLAGS").result, '"a b"')
            finally:
                client.close()
                process.kill()


class Process(KernelTest):
    def test_65_sigint_of_the_terminal_is_ignored(self):
        cell = self.client.execute('std::cout << "in" << std::flush; co_await caller::sleep_for(500ms); 5')
        cell.wait_text("in")
        os.kill(self.kernel.pid, signal.SIGINT)
        self.assertEqual(cell.wait().result, "5")
        os.kill(self.kernel.pid, signal.SIGINT)
        self.assert_usable()

    def test_67_no_death_by_sigpipe(self):
        self.run_ok("#include <unistd.h>\nint ends[2]; pipe(ends); close(ends[0]); write(ends[1], \"x\", 1);")
        self.assert_usable()

    def test_clients_may_vanish(self):
        for _ in range(5):
            client = self.kernel.client()
            client.execute("for (int i = 0; i < 1000; ++i) std::cout << i << std::endl;")
            client.close()
        self.assert_usable()

    def test_sigterm_ends_the_process(self):
        os.kill(self.kernel.pid, signal.SIGTERM)
        self.assertIsNotNone(self.kernel.wait_for_exit(10))

    def test_children_do_not_inherit_the_sockets(self):
        ports = {self.kernel.info[name] for name in self.kernel.info if name.endswith("_port")}
        inherited = self.run_ok('#include <cstdlib>\nstd::system("ls -l /proc/self/fd | grep -c socket; true");').text()
        self.assertEqual(inherited.strip(), "0", ports)


class Parent(unittest.TestCase):
    def test_66_exits_when_its_parent_dies(self):
        info = connection()
        path = write_connection_file(info)
        script = (
            "import os, subprocess, sys, time\n"
            "environment = {**os.environ, 'JPY_PARENT_PID': str(os.getpid())}\n"
            "kernel = subprocess.Popen([*sys.argv[1:]], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)\n"
            "print(kernel.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, PROGRAM, "kernel", "start", "-f", str(path)], stdout=subprocess.PIPE, text=True
        ) as parent:
            try:
                pid = int(parent.stdout.readline())
                client = Client(info)
                client.run("1 + 1")
                client.close()
            finally:
                parent.kill()
        for _ in range(150):
            if not running(pid):
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        self.fail("the kernel outlived its parent")

    def test_11_starting_is_sent_once_and_first(self):
        """A subscriber that waits on the port before the kernel starts gets `starting` as the first status."""
        for _ in range(20):  # the kernel may be quicker than the subscriber
            starting = self.starting()
            if starting:
                return
        self.fail("nobody was told that a kernel starts")

    def starting(self):
        """Whether a subscriber that was there first has seen it. Then it was the first status, and the only one of that kind."""
        info = connection()
        client = Client(info, await_welcome=False, reconnect=1)
        kernel = DirectKernel(info)
        try:
            client.wait(lambda m: m["msg_type"] == "iopub_welcome")
            client.request("control", "kernel_info_request")
            statuses = [m for m in client.messages if m["msg_type"] == "status"]
            starting = [m for m in statuses if m["content"] == {"execution_state": "starting"}]
            if starting:
                self.assertEqual(starting, statuses[:1])
                self.assertEqual(starting[0]["frames"][2], b"{}")
            return bool(starting)
        finally:
            client.close()
            kernel.stop()

    def test_the_connection_file_stays_private(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        kernel.client()
        before = kernel.file.read_text(encoding="utf-8")
        self.assertEqual(json.loads(before)["shell_port"], kernel.info["shell_port"])
        self.assertTrue(stat.S_ISREG(kernel.file.stat().st_mode))

    def test_start_without_arguments_is_wrong_usage(self):
        code, text, _ = start_and_fail()
        self.assertGreater(code, 0)
        self.assertIn("connection-file", text)


def running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return state.rsplit(")", 1)[1].split()[0] != "Z"
