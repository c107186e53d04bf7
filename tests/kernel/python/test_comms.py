"""Protocol checklist 10 and 33 to 36: comms, with a target `echo` that the kernel has for tests."""

import os
import time
import uuid

os.environ["CALLER_KERNEL_TEST_COMMS"] = "1"

from support import KernelTest, parent_id  # noqa: E402  pylint: disable=wrong-import-position


class Comms(KernelTest):
    def open(self, data=None, target="echo", **options):
        comm_id = uuid.uuid4().hex
        msg_id = self.client.send("shell", "comm_open", {"comm_id": comm_id, "target_name": target, "data": data or {}}, **options)
        self.client.idle(msg_id)
        return comm_id, msg_id

    def echoed(self, msg_id, timeout=10):
        return self.client.wait(lambda m: m["msg_type"] == "comm_msg" and parent_id(m) == msg_id, timeout)

    def test_10_buffers_come_back_byte_for_byte(self):
        comm_id, _ = self.open()
        buffers = [bytes(range(256)), b"", b"\x00" * 1_000_000, b"<IDS|MSG>", "ä".encode()]
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"n": len(buffers)}}, buffers=buffers)
        echo = self.echoed(msg_id)
        self.assertEqual([bytes(b) for b in echo["buffers"]], buffers)

    def test_33_open_message_close_with_metadata(self):
        comm_id, _ = self.open({"initial": [1, None, "ä"]})
        self.assertEqual(
            self.client.request("shell", "comm_info_request")["comms"], {comm_id: {"target_name": "echo"}}
        )
        self.assertEqual(self.client.request("shell", "comm_info_request", {"target_name": "other"})["comms"], {})
        data = {"nested": {"list": [1, 2.5, True, None, "text"]}}
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": data}, metadata={"version": "1", "x": {"y": 1}})
        echo = self.echoed(msg_id)
        self.assertEqual(echo["content"]["data"], data)
        self.assertEqual(echo["content"]["comm_id"], comm_id)
        self.assertEqual(echo["metadata"], {"version": "1", "x": {"y": 1}})
        self.client.idle(self.client.send("shell", "comm_close", {"comm_id": comm_id, "data": {}}))
        self.assertEqual(self.client.request("shell", "comm_info_request")["comms"], {})

    def test_34_an_unknown_target_is_closed_at_once(self):
        comm_id, msg_id = self.open(target="no-such-target")
        closed = self.client.of(msg_id, "iopub", "comm_close")
        self.assertEqual([m["content"]["comm_id"] for m in closed], [comm_id])
        self.assertEqual(self.client.request("shell", "comm_info_request")["comms"], {})

    def test_35_an_unknown_comm_is_survived(self):
        for msg_type in ("comm_msg", "comm_close"):
            for content in ({"comm_id": "unknown", "data": {}}, {"comm_id": "unknown"}, {}, {"comm_id": None, "data": None}):
                msg_id = self.client.send("shell", msg_type, content)
                self.client.idle(msg_id)
                self.assertEqual({m["msg_type"] for m in self.client.of(msg_id)}, {"status"})
        self.assert_usable()

    def test_33_a_message_that_waits_when_an_interrupt_comes_is_not_lost(self):
        comm_id, _ = self.open()
        self.run_ok('(void)caller::Caller::current().call_later(50ms, [] { std::cout << "blocked" << std::flush; for (const auto end = '
                    "std::chrono::steady_clock::now() + 1s; std::chrono::steady_clock::now() < end;) {} });").wait_text("blocked")
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"n": 1}})
        cell = self.client.execute("for (;;) {}")
        self.client.request("control", "usage_request")
        self.client.interrupt()
        self.assertEqual(self.echoed(msg_id)["content"]["data"], {"n": 1})
        self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")

    def test_36_served_while_a_cell_awaits(self):
        comm_id, _ = self.open()
        cell = self.client.execute('std::cout << "on" << std::flush; co_await caller::sleep_for(2s);')
        cell.wait_text("on")
        begin = time.monotonic()
        echo = self.echoed(self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"a": 1}}))
        self.assertLess(echo["arrived"] - begin, 1)
        self.assertEqual(self.client.of(cell.id, "shell"), [])
        self.client.interrupt()
        cell.wait()

    def test_36_served_on_a_subshell_while_a_cell_spins(self):
        comm_id, _ = self.open()
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        cell = self.client.execute('std::cout << "on" << std::flush; for (;;) {}')
        cell.wait_text("on")
        for _ in range(20):
            begin = time.monotonic()
            echo = self.echoed(self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {}}, subshell=subshell))
            self.assertLess(echo["arrived"] - begin, 0.5)
            self.assertEqual(echo["parent_header"]["subshell_id"], subshell)
        self.client.interrupt()
        cell.wait(5)

    def test_messages_of_a_comm_stay_in_order(self):
        comm_id, _ = self.open()
        ids = [self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {"n": n}}) for n in range(300)]
        self.echoed(ids[-1])
        echoes = [m["content"]["data"]["n"] for m in self.client.messages if m["msg_type"] == "comm_msg"]
        self.assertEqual(echoes, list(range(300)))


class CellComms(KernelTest):
    """caller::Comm: comms that cells open, and comms that pages open to cells."""

    def open(self, target, data=None, **options):
        comm_id = uuid.uuid4().hex
        msg_id = self.client.send("shell", "comm_open", {"comm_id": comm_id, "target_name": target, "data": data or {}}, **options)
        self.client.idle(msg_id)
        return comm_id, msg_id

    def send(self, comm_id, data, **options):
        """Sends a message and waits until it is served."""
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": data}, **options)
        self.client.idle(msg_id)
        return msg_id

    def text(self, msg_id, name="stdout"):
        return "".join(m["content"]["text"] for m in self.client.of(msg_id, "iopub", "stream") if m["content"]["name"] == name)

    def sent(self, msg_id, msg_type="comm_msg"):
        return self.client.of(msg_id, "iopub", msg_type)

    def comms(self):
        return self.client.request("shell", "comm_info_request")["comms"]

    ALL_BYTES = r'std::string all; for (int i = 0; i < 256; ++i) all += char(i);'

    def test_a_cell_opens_sends_and_closes_with_buffers_byte_for_byte(self):
        cell = self.run_ok(
            self.ALL_BYTES + 'caller::Comm comm("page", {.message = {R"({"n": [1, null]})", R"({"m": 1})", {all, ""}}});\n'
            'std::cout << comm.send({R"("text")", R"({"k": 2})", {all + all}}) << comm.is_open() << std::flush;\n'
            'std::cout << comm.close({"{}"}) << comm.is_open() << comm.close() << comm.send("1") << std::flush;'
        )
        messages = [m for m in cell.iopub if m["msg_type"].startswith("comm_")]
        self.assertEqual([m["msg_type"] for m in messages], ["comm_open", "comm_msg", "comm_close"])
        opened, message, closed = messages
        self.assertEqual(opened["content"]["target_name"], "page")
        self.assertEqual((opened["content"]["data"], opened["metadata"]), ({"n": [1, None]}, {"m": 1}))
        self.assertEqual([bytes(b) for b in opened["buffers"]], [bytes(range(256)), b""])
        self.assertEqual((message["content"]["data"], message["metadata"]), ("text", {"k": 2}))
        self.assertEqual([bytes(b) for b in message["buffers"]], [bytes(range(256)) * 2])
        self.assertEqual({m["content"]["comm_id"] for m in messages}, {opened["content"]["comm_id"]})
        self.assertEqual(closed["content"]["data"], {})
        self.assertEqual(cell.text(), "111000")

    def test_what_the_page_answers_reaches_the_handler_and_its_output_the_message(self):
        self.run_ok(
            'caller::Comm comm("page", {.on_message = [](const caller::CommMessage& m) {\n'
            '  std::cout << m.data << m.metadata << m.buffers.size() << m.buffers.at(0).size();\n'
            '  caller::display(caller::html{"shown"}); comm.send({m.data, m.metadata, m.buffers});\n'
            '}, .on_close = [](const caller::CommMessage& m) { std::cout << "closed " << m.data; }});'
        )
        (comm_id,) = self.comms()
        buffers = [bytes(range(256)), b"", b"\x00" * 100_000]
        msg_id = self.send(comm_id, {"a": "ä"}, buffers=buffers, metadata={"x": 1})
        self.assertEqual(self.text(msg_id), '{"a":"ä"}{"x":1}3256')
        self.assertEqual(self.client.of(msg_id, "iopub", "display_data")[0]["content"]["data"]["text/html"], "shown")
        (echo,) = self.sent(msg_id)
        self.assertEqual((echo["content"]["data"], echo["metadata"], [bytes(b) for b in echo["buffers"]]), ({"a": "ä"}, {"x": 1}, buffers))
        self.run_ok("comm.on_message([] { std::cout << \"replaced\"; });")
        self.assertEqual(self.text(self.send(comm_id, {})), "replaced")
        msg_id = self.client.send("shell", "comm_close", {"comm_id": comm_id, "data": {"why": 1}})
        self.client.idle(msg_id)
        self.assertEqual(self.text(msg_id), 'closed {"why":1}')
        self.assertEqual(self.sent(msg_id, "comm_close"), [])
        self.assertEqual(self.run_ok("comm.is_open()").result, "false")
        self.assertEqual(self.comms(), {})

    def test_a_page_opens_a_comm_to_a_target_of_a_cell(self):
        self.run_ok(
            "std::vector<caller::Comm> opened;\n"
            'caller::comm_target("cells", [](caller::Comm comm, const caller::CommMessage& m) {\n'
            '  std::cout << "opened " << m.data; opened.push_back(comm);\n'
            "  comm.on_message([comm](const caller::CommMessage& m) { comm.send(m); });\n});"
        )
        comm_id, msg_id = self.open("cells", {"first": True})
        self.assertEqual(self.text(msg_id), 'opened {"first":true}')
        self.assertEqual(self.comms(), {comm_id: {"target_name": "cells"}})
        self.assertEqual(self.sent(self.send(comm_id, {"n": 5}))[0]["content"]["data"], {"n": 5})
        self.assertEqual(self.run_ok("opened.at(0).id()").result, f'"{comm_id}"')
        cell = self.run_ok("opened.at(0).close();")
        self.assertEqual(cell.contents("comm_close")[0]["comm_id"], comm_id)
        self.assertEqual(self.sent(self.send(comm_id, {})), [])  # closed: nobody answers
        self.assertEqual(self.run_ok('caller::remove_comm_target("cells") && !caller::remove_comm_target("cells")').result, "true")
        comm_id, msg_id = self.open("cells")
        self.assertEqual([m["content"]["comm_id"] for m in self.sent(msg_id, "comm_close")], [comm_id])

    def test_a_handler_that_awaits_holds_up_its_own_comm_only(self):
        self.run_ok(
            "caller::Pending<void> event; int order = 0;\n"
            'caller::Comm a("a", {.on_message = [](const caller::CommMessage& m) -> caller::Coro<void> {\n'
            '  co_await event; std::cout << "a" << m.data << ++order; }});\n'
            'caller::Comm b("b", {.on_message = [] { std::cout << "b" << ++order; event.set_result(); }});'
        )
        ids = {info["target_name"]: comm_id for comm_id, info in self.comms().items()}
        cell = self.client.execute("co_await event; co_await caller::sleep_for(50ms);")  # and a cell that awaits holds up none
        cell.wait_started()
        first = self.client.send("shell", "comm_msg", {"comm_id": ids["a"], "data": 1})
        second = self.client.send("shell", "comm_msg", {"comm_id": ids["a"], "data": 2})
        third = self.send(ids["b"], {})
        self.client.idle(second)
        self.assertEqual([self.text(i) for i in (first, second, third)], ["a12", "a23", "b1"])
        cell.wait()

    def test_an_interrupt_ends_a_handler_and_the_comm_stays(self):
        self.run_ok('caller::Comm comm("c", {.on_message = [](const caller::CommMessage& m) -> caller::Coro<void> {\n'
                    '  if (m.data == "1") { std::cout << "on" << std::flush; co_await caller::sleep_for(100s); }\n'
                    '  if (m.data == "2") { std::cout << "on" << std::flush; for (;;) {} }\n'
                    '  std::cout << "served"; }});')  # fmt: skip
        (comm_id,) = self.comms()
        for data in (1, 2):
            msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": data})
            self.client.wait(lambda m, i=msg_id: m["msg_type"] == "stream" and parent_id(m) == i)
            self.client.interrupt()
            self.client.idle(msg_id, 5)
        self.assertEqual(self.text(self.send(comm_id, 3)), "served")

    def test_a_fault_in_a_handler_ends_the_handler_only(self):
        self.run_ok("#include <cstdlib>\n"
                    'caller::Comm comm("c", {.on_message = [](const caller::CommMessage& m) {\n'
                    '  if (m.data == "1") *(volatile int*)nullptr = 1;\n'
                    '  if (m.data == "2") std::exit(3);\n'
                    '  if (m.data == "3") std::abort();\n'
                    '  if (m.data == "4") { std::cout << "on" << std::flush; struct Endless { ~Endless() { for (volatile bool on = true; on;) {} } } endless; }\n'
                    '  std::cout << "served"; }});')  # fmt: skip
        (comm_id,) = self.comms()
        for data, error in ((1, "SegmentationFault"), (2, "SystemExit"), (3, "AbortCalled")):
            self.assertIn(error, self.text(self.send(comm_id, data), "stderr"))
            self.assertEqual(self.text(self.send(comm_id, 0)), "served")
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": 4})
        self.client.wait(lambda m: m["msg_type"] == "stream" and parent_id(m) == msg_id)
        self.client.interrupt()
        self.client.idle(msg_id, 5)
        for code in ("co_await caller::sleep_for(60s);", "for (;;) {}"):
            self.assertEqual(self.text(self.send(comm_id, 0)), "served")
            cell = self.client.execute("std::cout << 'r' << std::flush; " + code).wait_text("r")
            self.client.interrupt()
            self.assertEqual(cell.wait(10).reply["ename"], "Interrupted")
        self.assert_usable()

    def test_what_a_handler_throws_is_an_error_text_of_its_message(self):
        self.run_ok(
            'caller::Comm comm("c", {.on_message = [] { throw std::runtime_error("oh"); }});\n'
            'caller::comm_target("thrower", [](caller::Comm, const caller::CommMessage&) { throw std::logic_error("no"); });\n'
            'caller::comm_target("awaiter", [](caller::Comm, const caller::CommMessage&) -> caller::Coro<void> {\n'
            '  co_await caller::sleep_for(1ms); throw std::logic_error("later"); });'
        )
        (comm_id,) = self.comms()
        self.assertEqual(self.text(self.send(comm_id, {}), "stderr"), "std::runtime_error: oh\n")
        self.assertIn(comm_id, self.comms())
        for target, text in (("thrower", "no"), ("awaiter", "later")):
            opened, msg_id = self.open(target)
            self.assertEqual(self.text(msg_id, "stderr"), f"std::logic_error: {text}\n")
            self.assertEqual([m["content"]["comm_id"] for m in self.sent(msg_id, "comm_close")], [opened])
            self.assertNotIn(opened, self.comms())

    def test_what_is_no_message_is_refused(self):
        for code, text in (
            ('caller::Comm("c", {.message = {"{"}})', "comm: the data is no JSON: {"),
            ('caller::Comm("c", {.message = {"{}", "[]"}})', "comm: the metadata is no JSON object: []"),
            ('caller::Comm("c", {.id = std::string(56, \'x\')})', "too long"),
        ):
            error = self.run_error(code).error
            self.assertEqual(error["ename"], "std::invalid_argument")
            self.assertIn(text, error["evalue"])
        self.assertEqual(self.comms(), {})
        self.run_ok('caller::Comm one("c", {.id = "same"});')
        self.assertIn("there is one of the id same", self.run_error('caller::Comm("c", {.id = "same"});').error["evalue"])
        self.run_ok('caller::comm_target("t", [](auto, auto&) {});')
        msg_id = self.client.send("shell", "comm_open", {"comm_id": "y" * 56, "target_name": "t", "data": {}})
        self.client.idle(msg_id)
        self.assertEqual(len(self.sent(msg_id, "comm_close")), 1)
        self.assertEqual(list(self.comms()), ["same"])

    def test_threads_open_use_and_close_comms_while_messages_come(self):
        self.run_ok('caller::comm_target("t", [](caller::Comm c, const caller::CommMessage&) { c.on_message([c](auto& m) { c.send(m); }); });')
        comm_id, _ = self.open("t")
        code = 'for (int i = 0; i < 300; ++i) { caller::Comm c("x"); c.on_message([] {}); c.send("1"); if (i % 3) c.close(); }'
        cells = [self.client.execute(f"// thread name=t{n}\n{code}") for n in range(3)]
        ids = [self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": n}) for n in range(200)]
        for cell in cells:
            self.assertEqual(cell.wait().reply["status"], "ok")
        self.client.idle(ids[-1])
        self.assertEqual([self.sent(i)[0]["content"]["data"] for i in ids], list(range(200)))
        self.assertEqual(len(self.comms()), 301)
        self.assertEqual({c["content"]["target_name"] for n in cells for c in self.sent(n.id, "comm_open")}, {"x"})

    def test_xeus_and_ours_share_one_registry(self):
        self.run_ok("#include <xeus/xcomm.hpp>\n#include <xeus/xinterpreter.hpp>", timeout=60)
        self.run_ok(
            "auto& manager = xeus::get_interpreter().comm_manager();\n"
            'manager.register_comm_target("theirs", [](xeus::xcomm&&, xeus::xmessage) {});\n'
            'xeus::xcomm theirs(manager.target("theirs"));\n'
            'theirs.on_message([](xeus::xmessage m) { std::cout << "theirs " << m.content()["data"]; });\n'
            'caller::Comm ours("ours", {.on_message = [](const caller::CommMessage& m) { std::cout << "ours " << m.data; }});'
        )
        ids = {info["target_name"]: comm_id for comm_id, info in self.comms().items()}
        self.assertEqual(set(ids), {"theirs", "ours"})
        self.assertEqual(self.text(self.send(ids["ours"], 1)), "ours 1")
        self.assertEqual(self.text(self.send(ids["theirs"], 2)), "theirs 2")
        self.assertEqual(self.run_ok("manager.comms().size()").result, "2")
        # By the manager's own means ours is reached as well.
        code = 'auto message = [](const char* data) { return xeus::xmessage({}, {{"msg_type", "comm_msg"}}, {}, {}, {{"comm_id", "%s"}, {"data", data}}, {}); };'
        self.run_ok(code % ids["ours"])
        self.assertEqual(self.run_ok('manager.comm_msg(message("by hand"));').text(), 'ours "by hand"')
        self.run_ok('manager.comm_close(message("end"));')
        self.assertEqual(self.run_ok("ours.is_open()").result, "false")
        self.assertEqual(set(self.comms()), {ids["theirs"]})

    def test_a_handler_of_xeus_that_blocks_holds_up_neither_control_nor_our_comms(self):
        self.run_ok("#include <xeus/xcomm.hpp>\n#include <xeus/xinterpreter.hpp>", timeout=60)
        self.run_ok(
            "auto& manager = xeus::get_interpreter().comm_manager();\n"
            'manager.register_comm_target("theirs", [](xeus::xcomm&&, xeus::xmessage) {}); xeus::xcomm theirs(manager.target("theirs"));\n'
            'theirs.on_message([](xeus::xmessage) { std::cout << "on" << std::flush; std::this_thread::sleep_for(30s); });'
        )
        (comm_id,) = self.comms()
        msg_id = self.client.send("shell", "comm_msg", {"comm_id": comm_id, "data": {}})
        self.client.wait(lambda m: m["msg_type"] == "stream" and parent_id(m) == msg_id)
        info = self.client.send("shell", "comm_info_request")
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        cell = self.run_ok('caller::Comm ours("ours"); ours.send("1")', subshell=subshell)
        self.assertEqual(cell.result, "true")
        self.client.request("control", "kernel_info_request")
        self.assertEqual(self.client.of(info, "shell"), [])  # the handler still runs
        self.client.interrupt()
        self.client.idle(msg_id, 10)
        comms = self.client.reply(info)["content"]["comms"]
        self.assertIn({"target_name": "theirs"}, comms.values())
        self.assertEqual({c["target_name"] for c in self.comms().values()}, {"theirs", "ours"})
