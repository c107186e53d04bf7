"""Protocol checklist 57 to 61: input."""

import time

from support import KernelTest, parent_id


class Stdin(KernelTest):
    def asked(self, client, start=0):
        return client.wait(lambda m: m["channel"] == "stdin" and m["msg_type"] == "input_request", start=start)

    def answer(self, client, request, value):
        message = client.message("input_reply", {"value": value, "status": "ok"}, parent=request["header"])
        client.session.send(client.sockets["stdin"], message)

    def ask(self, code, client=None, **options):
        client = client or self.client
        start = len(client.messages)
        cell = client.execute(code, allow_stdin=True, **options)
        return cell, self.asked(client, start)

    def test_57_input_goes_to_the_asking_client(self):
        other = self.kernel.client()
        cell, request = self.ask('caller::input("Your name: ")')
        self.assertEqual(request["content"], {"prompt": "Your name: ", "password": False})
        self.assertEqual(parent_id(request), cell.id)
        self.answer(self.client, request, "Ada \u00e4")
        self.assertEqual(cell.wait().result, '"Ada \u00e4"')
        other.pump(0.1)
        self.assertEqual([m for m in other.messages if m["channel"] == "stdin"], [])

    def test_57_passwords_are_marked(self):
        cell, request = self.ask('caller::input("Secret: ", true)')
        self.assertEqual(request["content"], {"prompt": "Secret: ", "password": True})
        self.answer(self.client, request, "x")
        self.assertEqual(cell.wait().reply["status"], "ok")

    def test_57_getline_and_cin(self):
        cell, request = self.ask("std::string line; std::getline(std::cin, line); line")
        self.answer(self.client, request, "two words")
        self.assertEqual(cell.wait().result, '"two words"')
        cell, request = self.ask("int a = 0, b = 0; std::cin >> a >> b; a + b")
        self.answer(self.client, request, "3 4")
        self.assertEqual(cell.wait().result, "7")
        self.assertEqual(self.run_ok("1 + 1").result, "2")

    def test_57_two_lines_are_two_questions(self):
        code = "std::string p, q; std::getline(std::cin, p); std::getline(std::cin, q); p + q"
        cell, request = self.ask(code)
        start = len(self.client.messages)
        self.answer(self.client, request, "a")
        self.answer(self.client, self.asked(self.client, start), "b")
        self.assertEqual(cell.wait().result, '"ab"')

    def test_57_the_input_of_c(self):
        cell, request = self.ask('#include <cstdio>\nint n = 0; char word[20] = ""; std::scanf("%d %19s%*c", &n, word); std::string(word) + std::to_string(n)')
        self.assertEqual(request["content"], {"prompt": "", "password": False})
        self.answer(self.client, request, "7 seven")
        self.assertEqual(cell.wait().result, '"seven7"')
        cell, request = self.ask("char line[20] = \"\"; std::fgets(line, sizeof line, stdin); std::string(line)")
        self.answer(self.client, request, "two words")
        self.assertEqual(cell.wait().result, '"two words\\n"')

    def test_58_the_input_of_c_fails_where_none_is_allowed_and_works_again(self):
        self.run_ok("#include <cstdio>\nint n = 0;")
        self.assertEqual(self.run_ok('std::scanf("%d", &n) == EOF && std::ferror(stdin)', allow_stdin=False).result, "true")
        self.assertEqual(self.run_ok("std::ferror(stdin)").result, "0")
        cell, request = self.ask('std::scanf("%d", &n); n')
        self.answer(self.client, request, "5")
        self.assertEqual(cell.wait().result, "5")

    def test_58_not_allowed_is_an_error_at_once(self):
        for code in ('caller::input("?");', "std::string l; std::getline(std::cin, l);", "int i = 0; std::cin >> i;"):
            begin = time.monotonic()
            cell = self.client.run(code + ' std::cout << "went on";', allow_stdin=False)
            self.assertLess(time.monotonic() - begin, 5)
            self.assertEqual(cell.reply["status"], "error", code)
            self.assertIn("allow_stdin", cell.reply["evalue"], code)
            self.assertEqual(cell.text(), "", code)
        self.assertEqual([m for m in self.client.messages if m["channel"] == "stdin"], [])
        self.assert_usable()

    def test_59_two_shells_may_wait(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        first, first_request = self.ask('caller::input("one")')
        second, second_request = self.ask('caller::input("two")', subshell=subshell)
        self.assertEqual(parent_id(second_request), second.id)
        self.answer(self.client, second_request, "2")
        self.assertEqual(second.wait().result, '"2"')
        self.answer(self.client, first_request, "1")
        self.assertEqual(first.wait().result, '"1"')

    def test_59_two_clients_may_wait(self):
        other = self.kernel.client()
        first, first_request = self.ask('// task\ncaller::input("one")')
        second, second_request = self.ask('// task\ncaller::input("two")', client=other)
        self.answer(other, second_request, "2")
        self.assertEqual(second.wait().result, '"2"')
        self.answer(self.client, first_request, "1")
        self.assertEqual(first.wait().result, '"1"')

    def test_60_interrupt_cancels_a_wait(self):
        cell, request = self.ask('caller::input("?")')
        begin = time.monotonic()
        self.client.interrupt()
        self.assertEqual(cell.wait(5).reply["status"], "error")
        self.assertLess(time.monotonic() - begin, 2)
        self.answer(self.client, request, "too late")
        self.assert_usable()
        cell, request = self.ask('caller::input("again")')
        self.answer(self.client, request, "fresh")
        self.assertEqual(cell.wait().result, '"fresh"')

    def test_61_a_wait_in_scanf_holds_up_no_other_thread(self):
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.run_ok("#include <cstdio>\nint n = 0;")
        reading, request = self.ask('std::scanf("%d", &n); n')
        for options in ({"subshell": subshell}, {"metadata": {"tags": ["thread"]}}, {"metadata": {"tags": ["task"]}}):
            self.assertEqual(self.run_ok("1 + 2", timeout=10, **options).result, "3", options)
        self.answer(self.client, request, "12")
        self.assertEqual(reading.wait().result, "12")

    def test_61_others_are_served_meanwhile(self):
        cell, request = self.ask('caller::input("?")')
        for channel in ("shell", "control"):
            begin = time.monotonic()
            self.client.request(channel, "kernel_info_request")
            self.assertLess(time.monotonic() - begin, 1)
        self.assertTrue(self.client.request("shell", "complete_request", {"code": "std::str", "cursor_pos": 8})["matches"])
        self.answer(self.client, request, "x")
        cell.wait()

    def test_an_answer_nobody_waits_for_is_dropped(self):
        self.client.send("stdin", "input_reply", {"value": "nobody asked"})
        self.client.send("stdin", "input_reply", {})
        self.client.send("stdin", "no_such_type", {"value": 3})
        self.assert_usable()
