"""Protocol checklist 52 to 56: the iopub channel; and 10, buffers byte for byte."""

import time
import unittest

import zmq

from direct import DirectKernel
from support import KernelTest, parent_id


class FirstListener(unittest.TestCase):
    def test_what_is_asked_before_anybody_listens_waits_for_the_first_listener(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        client = kernel.client(subscribe=False)
        cell = client.execute("std::cout << 42 << std::endl;")
        client.reply(client.send("control", "kernel_info_request"))  # which waits for nobody
        client.pump(0.3)
        self.assertEqual(client.of(cell.id, "shell"), [], "there is nobody to see what it prints")
        client.sockets["iopub"].subscribe(b"")
        cell.wait()
        self.assertEqual(cell.text(), "42\n")
        self.assertEqual([c["execution_state"] for c in cell.contents("status")], ["busy", "idle"])

    def test_a_client_that_never_listens_is_answered(self):
        kernel = DirectKernel()
        self.addCleanup(kernel.stop)
        client = kernel.client(subscribe=False)
        for code in ("int a = 1;", "++a"):
            reply = client.reply(client.execute(code).id)
            self.assertEqual(reply["content"]["status"], "ok")


class Iopub(KernelTest):
    def test_52_a_welcome_per_subscription(self):
        welcomes = [m for m in self.client.messages if m["msg_type"] == "iopub_welcome"]
        self.assertEqual(len(welcomes), 1)
        self.assertEqual(welcomes[0]["content"], {"subscription": ""})
        self.assertEqual(welcomes[0]["frames"][2], b"{}", "jupyter-console dies on a null parent")
        socket = self.client.context.socket(zmq.SUB)
        socket.linger = 0
        socket.subscribe(b"some-topic")
        socket.connect(self.client.endpoint("iopub"))
        self.assertTrue(socket.poll(10_000))
        frames = socket.recv_multipart()
        self.assertEqual(frames[0], b"some-topic")
        idents, rest = self.client.session.feed_identities(frames)
        message = self.client.session.deserialize(rest)
        self.assertEqual(idents, [b"some-topic"])
        self.assertEqual(message["content"], {"subscription": "some-topic"})

    def test_53_streams_in_order_and_none_lost(self):
        count = 200_000
        cell = self.run_ok(f"for (int i = 0; i < {count}; ++i) std::cout << i << '\\n';", timeout=100)
        self.assertEqual(cell.text(), "".join(f"{i}\n" for i in range(count)))
        self.assertLess(len(cell.contents("stream")), 2000, "text is gathered, or Jupyter's server cuts the kernel off")

    def test_53_the_first_text_comes_at_once(self):
        cell = self.client.execute('std::cout << "first" << std::flush; co_await caller::sleep_for(5s);')
        cell.wait_text("first", timeout=4)
        self.assertEqual(self.client.of(cell.id, "shell"), [])
        self.client.interrupt()
        cell.wait()

    def test_53_stdout_and_stderr_keep_their_order(self):
        cell = self.run_ok('for (int i = 0; i < 20; ++i) { std::cout << "o" << i << std::flush; std::cerr << "e" << i << std::flush; }')
        joined = "".join(c["text"] for c in cell.contents("stream"))
        self.assertEqual(joined, "".join(f"o{i}e{i}" for i in range(20)))

    def test_53_streams_that_change_all_the_time_stay_below_a_servers_limit(self):
        begin = time.monotonic()
        cell = self.run_ok('for (int i = 0; i < 100000; ++i) { std::cout << "o" << i << std::flush; std::cerr << "e" << i << std::flush; }', timeout=100)
        seconds = time.monotonic() - begin
        for name, letter in (("stdout", "o"), ("stderr", "e")):
            self.assertEqual(cell.text(name), "".join(f"{letter}{i}" for i in range(100000)))
        self.assertLess(len(cell.contents("stream")), 1000 * max(seconds, 1))

    def test_53_a_character_split_between_writes_arrives_whole(self):
        cell = self.run_ok(r'std::cout << "\xc3" << std::flush; co_await caller::sleep_for(200ms); std::cout << "\xa4|\xff|" << std::flush;')
        self.assertEqual(cell.text(), "\u00e4|\ufffd|")

    def test_54_display_update_and_result(self):
        cell = self.run_ok('caller::display(1, "an-id"); caller::update_display(2, "an-id"); 3')
        kinds = [t for t in cell.types() if t not in ("status", "execute_input")]
        self.assertEqual(kinds, ["display_data", "update_display_data", "execute_result"])
        shown, updated = cell.contents("display_data")[0], cell.contents("update_display_data")[0]
        self.assertEqual(shown["data"]["text/plain"], "1")
        self.assertEqual(updated["data"]["text/plain"], "2")
        for content in (shown, updated):
            self.assertEqual(content["transient"]["display_id"], "an-id")
            self.assertIsInstance(content["metadata"], dict)
        result = cell.contents("execute_result")[0]
        self.assertEqual(result["execution_count"], cell.reply["execution_count"])
        self.assertEqual(result["data"]["text/plain"], "3")

    def test_54_clear_output(self):
        cell = self.run_ok("caller::clear_output(); caller::clear_output(true);")
        self.assertEqual(cell.contents("clear_output"), [{"wait": False}, {"wait": True}])

    def test_55_execute_input_precedes_output(self):
        cell = self.run_ok("std::cout << 1; 2")
        types = cell.types()
        self.assertEqual(types[:2], ["status", "execute_input"])
        self.assertEqual(cell.contents("execute_input")[0], {"code": "std::cout << 1; 2", "execution_count": 1})

    def test_56_late_output_keeps_its_parent(self):
        first = self.run_ok(
            'auto late = caller::Caller::current().call_later(500ms, [] { std::cout << "late" << std::flush; });'
        )
        second = self.run_ok("std::cout << 2;")
        first.wait_text("late")
        self.assertEqual(first.text(), "late")
        self.assertEqual(second.text(), "2")

    def test_text_without_a_context_goes_to_the_newest_cell_that_is_not_silent(self):
        self.run_ok('#include <unistd.h>\nstd::atomic<bool> go{false};\nstd::thread raw([] { while (!go) std::this_thread::yield(); std::cout << "raw"; write(1, "written", 7); });')
        shown = self.run_ok("1;")
        silent = self.run_ok("go = true; raw.join();", silent=True)
        shown.wait_text("raw")
        shown.wait_text("written")
        self.assertEqual(silent.types(), ["status", "status"])

    def test_text_without_a_context_goes_to_the_newest_cell_of_its_threads_shell(self):
        self.run_ok("auto of_main = caller::Caller::current();")
        mine = self.run_ok("1;")
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        other = self.run_ok('of_main.post([] { std::cout << "posted" << std::flush; });', subshell=subshell)
        mine.wait_text("posted")
        self.assertEqual(other.text(), "")

    def test_every_subscriber_sees_every_message(self):
        other = self.kernel.client()
        cell = self.run_ok("std::cout << 1; 2")
        other.idle(cell.id)
        mine = [m["frames"][1] for m in cell.iopub]
        theirs = [m["frames"][1] for m in other.messages if m["channel"] == "iopub" and parent_id(m) == cell.id]
        self.assertEqual(mine, theirs)

    def test_a_subscriber_that_never_reads_stops_nobody(self):
        idle = self.kernel.client()
        cell = self.run_ok('for (int i = 0; i < 3000; ++i) std::cout << std::string(1000, \'x\') << std::endl;', timeout=100)
        self.assertEqual(len(cell.text()), 3000 * 1001)
        idle.close()
        self.assert_usable()
