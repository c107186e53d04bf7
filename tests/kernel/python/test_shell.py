"""Protocol checklist 16 to 22 and 28 to 32: execution, information, payloads."""

import time

from support import KernelTest, parent_id


class Execute(KernelTest):
    def test_16_defaults_of_execute_request(self):
        """Only the code is given: not silent, stored in the history, an error aborts what waits."""
        cell = self.run_ok("41")
        self.assertIn("execute_input", cell.types())
        self.assertEqual(cell.reply["execution_count"], 1)
        self.assertEqual(self.run_ok("42").reply["execution_count"], 2)
        sleeping = self.client.execute('co_await caller::sleep_for(300ms); throw std::runtime_error("stop");')
        waiting = self.client.execute("43")
        self.assertEqual(sleeping.wait().reply["status"], "error")
        self.assertEqual(waiting.wait().reply["status"], "error")

    def test_17_execution_count_is_in_every_reply(self):
        self.assertEqual(self.run_ok("1").reply["execution_count"], 1)
        self.assertEqual(self.run_error("no_such_name").reply["execution_count"], 2)
        self.assertEqual(self.run_error("throw 1;").reply["execution_count"], 3)
        self.assertIsInstance(self.run_ok("1;", silent=True).reply["execution_count"], int)
        self.assertEqual(self.run_ok("").reply["status"], "ok")
        self.assertIsInstance(self.run_ok("").reply["execution_count"], int)

    def test_18_silent_shows_nothing(self):
        self.run_ok("int silent_value = 1;")
        cell = self.run_ok("silent_value = 5; silent_value", silent=True)
        self.assertEqual(set(cell.types()), {"status"})
        self.assertEqual(cell.reply["execution_count"], 1)
        shown = self.run_ok("silent_value")
        self.assertEqual(shown.result, "5")
        self.assertEqual(shown.reply["execution_count"], 2)
        history = self.client.request("shell", "history_request", {"hist_access_type": "tail", "n": 10, "raw": True, "output": False})
        self.assertNotIn("silent_value = 5; silent_value", [entry[2] for entry in history["history"]])

    def test_18_silent_wins_over_store_history(self):
        cell = self.run_ok("1 + 1", silent=True, store_history=True)
        self.assertEqual(set(cell.types()), {"status"})
        self.assertEqual(self.run_ok("1").reply["execution_count"], 1)

    def test_19_the_count_rises_only_with_store_history(self):
        self.assertEqual(self.run_ok("1").reply["execution_count"], 1)
        unstored = self.run_ok("2", store_history=False)
        self.assertIn("execute_input", unstored.types())
        self.assertEqual(unstored.result, "2")
        self.assertEqual(self.run_ok("3").reply["execution_count"], 2)

    def test_20_the_error_on_iopub_equals_the_reply(self):
        for code in ("no_such_name", 'throw std::runtime_error("text");', "throw 7;", "int x = ;"):
            cell = self.run_error(code)
            for field in ("ename", "evalue", "traceback"):
                self.assertEqual(cell.error[field], cell.reply[field], code)

    def test_21_an_error_aborts_what_was_received_before_it(self):
        failing = self.client.execute('co_await caller::sleep_for(400ms); throw std::runtime_error("x");')
        waiting = [self.client.execute(f"std::cout << {i};") for i in range(3)]
        info = self.client.send("shell", "comm_info_request")
        failing.wait()
        for cell in waiting:
            cell.wait()
            self.assertEqual(cell.reply["status"], "error")
            self.assertEqual(cell.text(), "")
        self.assertEqual(self.client.reply(info)["content"]["status"], "ok")
        later = self.run_ok("std::cout << 9;")
        self.assertEqual(later.text(), "9")

    def test_21_stop_on_error_false_aborts_nothing(self):
        failing = self.client.execute('co_await caller::sleep_for(300ms); throw std::runtime_error("x");', stop_on_error=False)
        waiting = self.client.execute("std::cout << 1;")
        self.assertEqual(failing.wait().reply["status"], "error")
        self.assertEqual(waiting.wait().reply["status"], "ok")
        self.assertEqual(waiting.text(), "1")

    def test_21_the_tag_decides_over_the_request(self):
        failing = self.client.execute(
            'co_await caller::sleep_for(300ms); throw std::runtime_error("x");', metadata={"tags": ["stop-on-error=false"]}
        )
        waiting = self.client.execute("std::cout << 1;")
        failing.wait()
        self.assertEqual(waiting.wait().reply["status"], "ok")

    def test_21_raises_exception_aborts_nothing(self):
        failing = self.client.execute(
            'co_await caller::sleep_for(300ms); throw std::runtime_error("x");', metadata={"tags": ["raises-exception"]}
        )
        waiting = self.client.execute("std::cout << 1;")
        failing.wait()
        self.assertEqual(waiting.wait().reply["status"], "ok")

    def test_21_what_waits_behind_a_cell_that_goes_on_is_refused_at_once(self):
        running = self.client.execute("co_await caller::sleep_for(60s);").wait_started()
        waiting = [self.client.execute(f"std::cout << {i};") for i in range(3)]
        self.client.request("shell", "comm_info_request")  # the kernel has them
        failing = self.client.execute('// task\nthrow std::runtime_error("x");').wait()
        self.assertEqual(failing.reply["ename"], "std::runtime_error")
        for cell in waiting:
            self.assertEqual(cell.wait(10).reply["ename"], "ExecutionAborted")
            self.assertEqual(cell.types(), ["status", "status"])
        self.assertEqual(self.client.of(running.id, "shell"), [], "it still runs")
        later = self.client.execute("6 * 7")
        self.client.request("shell", "comm_info_request")
        self.client.interrupt()
        self.assertEqual(running.wait(10).reply["ename"], "Interrupted")
        self.assertEqual(later.wait(10).reply["ename"], "ExecutionAborted")
        self.assert_usable()

    def test_21_a_failing_silent_request_aborts_nothing(self):
        self.run_ok("bool over = false;")
        running = self.client.execute('std::cout << "ready" << std::flush; while (!over) co_await caller::sleep_for(1ms);\n1')
        running.wait_text("ready")
        waiting = self.client.execute("2")
        silent = self.run_error('throw std::runtime_error("x");', silent=True)
        self.assertEqual(silent.contents("execute_input"), [])
        self.run_ok("// task\nover = true;")
        self.assertEqual([cell.wait().result for cell in (running, waiting)], ["1", "2"])

    def test_the_timeout_tag_ends_a_cell_with_an_error(self):
        begin = time.monotonic()
        cell = self.run_error("co_await caller::sleep_for(60s);", metadata={"tags": ["timeout=0.5"]})
        self.assertLess(time.monotonic() - begin, 5)
        self.assertIn("0.5", cell.reply["evalue"])
        self.assert_usable()

    def test_22_user_expressions_are_evaluated_after_the_cell(self):
        cell = self.run_ok("int u = 1; u = 5;", user_expressions={"value": "u + 1", "wrong": "no_such_name", "after": "u"})
        values = cell.reply["user_expressions"]
        self.assertEqual(values["value"]["status"], "ok")
        self.assertEqual(values["value"]["data"]["text/plain"], "6")
        self.assertEqual(values["wrong"]["status"], "error")
        self.assertTrue(values["wrong"]["ename"])
        self.assertEqual(values["after"]["data"]["text/plain"], "5")
        self.assertIsNone(cell.result)
        self.assertEqual(self.run_error("no_such_name", user_expressions={"a": "1"}).reply.get("user_expressions", {}), {})

    def test_an_empty_cell_is_fine(self):
        for code in ("", " ", "\n\n", "// only a comment", "/* one\n two */", ";"):
            self.assertIsNone(self.run_ok(code).result)


class Information(KernelTest):
    def test_28_comm_info_of_a_kernel_without_comms(self):
        for content in ({}, {"target_name": "x"}, {"target_name": None}):
            reply = self.client.request("shell", "comm_info_request", content)
            self.assertEqual((reply["status"], reply["comms"]), ("ok", {}))

    def test_29_kernel_info_on_shell_and_control(self):
        for channel in ("shell", "control"):
            info = self.client.request(channel, "kernel_info_request")
            self.assertEqual(info["status"], "ok")
            self.assertEqual(info["protocol_version"], "5.5")
            self.assertEqual(info["implementation"], "caller")
            self.assertRegex(info["implementation_version"], r"^\d+\.\d+\.\d+$")
            language = info["language_info"]
            self.assertEqual(language["name"].lower(), "c++")
            self.assertEqual(language["file_extension"], ".cpp")
            self.assertEqual(language["mimetype"], "text/x-c++src")
            self.assertTrue(language["version"])
            self.assertTrue(language["pygments_lexer"])
            self.assertTrue(language["codemirror_mode"])
            self.assertIn("C++20", info["banner"])
            self.assertTrue(info["help_links"])
            for link in info["help_links"]:
                self.assertEqual(set(link), {"text", "url"})
            self.assertIn("kernel subshells", info["supported_features"])
            self.assertEqual(info["debugger"], "debugger" in info["supported_features"])  # test_debugger.py: when

    def test_29_kernel_info_is_answered_while_the_first_cell_runs(self):
        cell = self.client.execute("co_await caller::sleep_for(1s);")
        begin = time.monotonic()
        self.client.request("shell", "kernel_info_request")
        self.assertLess(time.monotonic() - begin, 0.9)
        cell.wait()

    def test_31_connect_request_tells_the_ports(self):
        reply = self.client.request("shell", "connect_request")
        for name in ("shell", "control", "stdin", "iopub", "hb"):
            self.assertEqual(reply[f"{name}_port" if f"{name}_port" in reply else name], self.kernel.info[f"{name}_port"])

    def test_32_a_page_payload(self):
        payload = self.run_ok("?std::string").reply["payload"]
        self.assertEqual([item["source"] for item in payload], ["page"])
        self.assertTrue(payload[0]["data"]["text/plain"])
        self.assertEqual(self.run_ok("1").reply["payload"], [])

    def test_32_set_next_input(self):
        path = f"{self.kernel.manager.connection_file}.loaded.cpp"
        with open(path, "w", encoding="utf-8") as file:
            file.write("int loaded = 5;\n")
        payload = self.run_ok(f"%load {path}").reply["payload"]
        self.assertEqual(payload[0]["source"], "set_next_input")
        self.assertIn("int loaded = 5;", payload[0]["text"])

    def test_no_message_without_a_parent_but_starting_and_welcome(self):
        self.run_ok("1 + 1")
        for message in self.client.messages:
            if parent_id(message) is None:
                self.assertIn(message["msg_type"], ("iopub_welcome", "status"))
