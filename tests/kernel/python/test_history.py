"""Protocol checklist 27: history."""

import contextlib
import sqlite3
import time

from support import HOME, TIMEOUT, Kernel, KernelTest, parent_id


class History(KernelTest):
    def history(self, **content):
        request = {"output": False, "raw": True, "hist_access_type": "tail", **content}
        return self.client.request("shell", "history_request", request)["history"]

    def test_27_tail(self):
        for code in ("10", "11;", "std::cout << 12;"):
            self.run_ok(code)
        entries = self.history(n=2)
        self.assertEqual([entry[2] for entry in entries], ["11;", "std::cout << 12;"])
        for entry in entries:
            self.assertIsInstance(entry[0], int)
            self.assertIsInstance(entry[1], int)
        self.assertEqual([entry[1] for entry in entries], [2, 3])
        self.assertEqual(self.history(n=0), [])

    def test_27_range(self):
        for number in range(1, 6):
            self.run_ok(f"{number};")
        session = self.history(n=1)[0][0]
        entries = self.history(hist_access_type="range", session=session, start=2, stop=4)
        self.assertEqual(entries, [[session, 2, "2;"], [session, 3, "3;"]])
        self.assertEqual(self.history(hist_access_type="range", session=0, start=2, stop=4), entries, "0 is this session")

    def test_27_search(self):
        for code in ("int apple = 1;", "int pear = 2;", "int apple_tree = 3;", "int pear_b = 4;", "apple;", "apple;"):
            self.run_ok(code)
        found = [entry[2] for entry in self.history(hist_access_type="search", pattern="*apple*")]
        self.assertEqual(found, ["int apple = 1;", "int apple_tree = 3;", "apple;", "apple;"])
        unique = [entry[2] for entry in self.history(hist_access_type="search", pattern="*apple*", unique=True)]
        self.assertEqual(unique, ["int apple = 1;", "int apple_tree = 3;", "apple;"])
        self.run_ok("int apple = 1;")  # the newest of equal ones counts, also for the place and the number
        unique = self.history(hist_access_type="search", pattern="*apple*", unique=True)
        self.assertEqual([entry[1:] for entry in unique], [[3, "int apple_tree = 3;"], [6, "apple;"], [7, "int apple = 1;"]])
        self.assertEqual(self.history(hist_access_type="search", pattern="*apple*", unique=True, n=2), unique[-2:])
        last = [entry[2] for entry in self.history(hist_access_type="search", pattern="int *", n=2)]
        self.assertEqual(last, ["int pear_b = 4;", "int apple = 1;"])
        self.assertEqual(self.history(hist_access_type="search", pattern="pea?"), [])

    def test_27_output(self):
        self.run_ok("6 * 7")
        self.run_ok("1;")
        entries = self.history(n=2, output=True)
        self.assertEqual(entries[0][2], ["6 * 7", "42"])
        self.assertEqual(entries[1][2], ["1;", None])

    def test_27_a_later_kernel_remembers(self):
        self.run_ok("int remembered = 1;")
        first = self.history(n=1)[0][0]
        self.kernel.client().request("control", "shutdown_request", {"restart": False})
        self.assertIsNotNone(self.kernel.wait_for_exit())
        other = Kernel()
        self.addCleanup(other.stop)
        self.client = other.client()
        entries = self.history(n=5)
        self.assertEqual(entries[-1][2], "int remembered = 1;")
        self.run_ok("2;")
        self.assertNotEqual(self.history(n=1)[0][0], first)
        self.assertEqual(self.history(hist_access_type="range", session=-1, start=1, stop=2)[0][2], "int remembered = 1;")
        self.assertEqual(self.history(hist_access_type="range", session=first, start=1, stop=2), [[first, 1, "int remembered = 1;"]])
        self.assertEqual(self.history(hist_access_type="range", session=first + 1000, start=1, stop=2), [])

    def test_an_interrupt_while_another_kernel_writes(self):
        """The cell's thread waits inside of SQLite then, with its locks."""
        self.run_ok("1;")
        file = HOME / "jupyter_data_dir/caller/history.sqlite"
        self.assertTrue(file.exists())
        with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=TIMEOUT)) as other:
            for code, patience in (("for (;;) {}", 0.05), ("for (;;) {}", 0.15), ("std::this_thread::sleep_for(60s);", 0.4)):
                other.execute("BEGIN IMMEDIATE")
                cell = self.client.execute(code)
                self.client.wait(lambda m, c=cell: parent_id(m) == c.id and m["content"].get("execution_state") == "busy")
                time.sleep(patience)
                self.client.interrupt()
                time.sleep(0.3)  # what computes between two cells is asked a little later
                other.execute("ROLLBACK")
                self.assertEqual(cell.wait().reply["ename"], "Interrupted")
                self.assertIn("1;", [entry[2] for entry in self.history(n=100)])
                self.client.request("control", "usage_request")
                self.assertEqual(self.run_ok("6 * 7").result, "42")
            self.assertEqual(self.history(n=1, output=True)[0][2], ["6 * 7", "42"])
            # The result is stored, too: by the cell itself.
            cell = self.client.execute('#include <filesystem>\nstd::cout << "on" << std::flush; while (!std::filesystem::exists("go")) std::this_thread::sleep_for(1ms);\n1 + 2')
            cell.wait_text("on")
            other.execute("BEGIN IMMEDIATE")
            (HOME / "go").touch()
            time.sleep(0.15)
            self.client.interrupt()
            other.execute("ROLLBACK")
            cell.wait()  # whichever was first
            self.assertEqual(self.run_ok("6 * 7").result, "42")
        self.assertIn("1 + 2", self.history(n=2)[0][2])
        self.assertEqual(self.client.request("control", "shutdown_request", {"restart": False})["status"], "ok")
        self.assertIsNotNone(self.kernel.wait_for_exit())

    def test_nonsense_gets_an_answer(self):
        for content in ({"hist_access_type": "dance"}, {"hist_access_type": "range", "start": 5, "stop": 1}, {"n": -4}, {"n": None}, {}):
            reply = self.client.request("shell", "history_request", content)
            self.assertIn(reply["status"], ("ok", "error"))
            self.assertIsInstance(reply["history"] if reply["status"] == "ok" else reply["traceback"], list)
