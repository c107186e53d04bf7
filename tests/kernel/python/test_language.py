"""Protocol checklist 23 to 26: inspection, completion, cursor positions, is_complete."""

from support import KernelTest, plain

EMOJI = "\N{GRINNING FACE}"  # one code point, two UTF-16 units, four bytes


class Language(KernelTest):
    def settle(self):
        """While the compiler is behind, on a busy machine, it offers nothing; `%who` waits for it."""
        self.run_ok("%who", store_history=False)

    def inspect(self, code, cursor=None, detail=0):
        self.settle()
        return self.client.request(
            "shell", "inspect_request", {"code": code, "cursor_pos": len(code) if cursor is None else cursor, "detail_level": detail}
        )

    def complete(self, code, cursor=None):
        """The reply, and the texts the code would become."""
        self.settle()
        reply = self.client.request("shell", "complete_request", {"code": code, "cursor_pos": len(code) if cursor is None else cursor})
        self.assertEqual(reply["status"], "ok")
        start, end = reply["cursor_start"], reply["cursor_end"]
        return reply, [code[:start] + match + code[end:] for match in reply["matches"]]

    def test_23_inspect_a_symbol_of_the_library(self):
        reply = self.inspect("std::string")
        self.assertEqual((reply["status"], reply["found"]), ("ok", True))
        self.assertIn("basic_string", plain(reply["data"]["text/plain"]))

    def test_23_inspect_a_symbol_of_the_user(self):
        self.run_ok("/// Doubles its argument.\nint twice(int number) { return 2 * number; }\nint answer = 42;")
        reply = self.inspect("twice(1)", 3)
        text = plain(reply["data"]["text/plain"])
        self.assertIn("int twice(int number)", text)
        self.assertIn("Doubles its argument.", text)
        self.assertIn("42", plain(self.inspect("answer")["data"]["text/plain"]))
        self.assertIn("return 2 * number", plain(self.inspect("twice", detail=1)["data"]["text/plain"]))

    def test_23_inspect_nothing(self):
        for code, cursor in (("no_such_name", 5), ("", 0), ("   ", 1), ("1 + 1", 3)):
            reply = self.inspect(code, cursor)
            self.assertEqual((reply["status"], reply["found"]), ("ok", False), code)
            self.assertEqual(reply["data"], {})

    def test_24_complete_names_and_members(self):
        self.run_ok("struct Point { int horizontal; int vertical; int length() const { return 0; } };\nPoint point_here;\nint point_count;")
        self.assertTrue({"point_here", "point_count"} <= set(self.complete("point_")[1]))
        members = self.complete("point_here.")[1]
        for name in ("horizontal", "vertical"):
            self.assertIn(f"point_here.{name}", members)
        self.assertTrue(any(text.startswith("point_here.length") for text in members))
        self.assertTrue(any(text.startswith("std::vector") for text in self.complete("std::vec")[1]))

    def test_24_complete_inside_an_expression(self):
        self.run_ok("std::vector<int> numbers{1, 2};")
        _, texts = self.complete("numbers.push_")
        self.assertTrue(any(text.startswith("numbers.push_back") for text in texts))
        code = "int sum = 0;\nfor (int n : numbers) sum += n + numbers.si"
        _, texts = self.complete(code)
        self.assertTrue(any(text.startswith(code[:-2] + "size") for text in texts))

    def test_24_complete_a_local_of_the_same_cell(self):
        code = "{\n  int local_value = 1;\n  return local_v"
        _, texts = self.complete(code)
        self.assertTrue(any(text.endswith("local_value") for text in texts), texts)

    def test_24_complete_includes_and_magics(self):
        self.assertTrue(any("<vector" in text for text in self.complete("#include <vect")[1]))
        self.assertTrue(any("%callers" in text for text in self.complete("%call")[1]))

    def test_24_types_of_the_matches(self):
        self.run_ok("int typed_function(double) { return 1; }")
        reply, _ = self.complete("typed_func")
        types = reply["metadata"]["_jupyter_types_experimental"]
        self.assertEqual(len(types), len(reply["matches"]))
        self.assertEqual(types[0]["type"], "function")
        self.assertIn("double", types[0]["signature"])

    def test_24_the_documentation_of_the_matches(self):
        self.run_ok("/// Doubles its argument.\n///\n/// In all of the detail that nobody reads here.\nint documented_twice(int n) { return 2 * n; }\n"
                    "int documented_not(int n) { return n; }\nstruct Bowl {\n  /** @brief How much is in it. */\n  int contents = 0;\n};\nBowl bowl;")
        for code, match, text in (
            ("documented_", "documented_twice", "Doubles its argument."),
            ("documented_", "documented_not", None),
            ("bowl.cont", "contents", "How much is in it."),
        ):
            reply, _ = self.complete(code)
            entries = [e for e in reply["metadata"]["_jupyter_types_experimental"] if e["text"] == match]
            self.assertEqual([e.get("documentation") for e in entries], [text], (code, match))
        magic = self.complete("%hist")[0]["metadata"]["_jupyter_types_experimental"][0]
        self.assertIn("show earlier cells", magic["documentation"])

    def test_24_always_an_answer(self):
        for code, cursor in (("", 0), ("}{)(", 4), ("abc", 99), ("abc", -3), ('"unfinished', 5), ("std::", 5), ("a" * 100000, 100000)):
            reply, _ = self.complete(code, cursor)
            self.assertLessEqual(0, reply["cursor_start"])
            self.assertLessEqual(reply["cursor_start"], reply["cursor_end"])
            self.assertLessEqual(reply["cursor_end"], len(code))

    def test_25_the_cursor_counts_code_points(self):
        self.run_ok("int emoji_target = 3;")
        code = f'// {EMOJI}{EMOJI} ä\nauto text = "{EMOJI}"; emoji_tar'
        reply, texts = self.complete(code)
        self.assertEqual(reply["cursor_end"], len(code))
        self.assertEqual(reply["cursor_start"], len(code) - len("emoji_tar"))
        self.assertEqual(texts, [code + "get"])
        code = f'/* {EMOJI} */ emoji_target'
        self.assertTrue(self.inspect(code, code.index("target"))["found"])

    def test_25_in_the_middle_of_a_cell_of_many_lines(self):
        self.run_ok("int middle_name = 3;")
        code = f"int a = 1; // {EMOJI}\nint b = middle_n;\nint c = 2;"
        cursor = code.index("middle_n") + len("middle_n")
        _, texts = self.complete(code, cursor)
        self.assertIn(code.replace("middle_n;", "middle_name;"), texts)

    def test_26_is_complete(self):
        samples = {
            "complete": ["1 + 1", "int x = 1;", "void f() { }", "", "// comment", "int f(int a) {\n  return a;\n}", "%callers", "x.y", "co_await caller::sleep_for(1s);"],
            "incomplete": ["void f() {", "int x =", "f(1,", "/* open", "std::vector<int> v{1,", "if (true) {", "#define A \\", 'R"(open'],
            "invalid": ["int x = );", "}", '"never closed', "int f() { return ]; }"],
        }
        for status, codes in samples.items():
            for code in codes:
                with self.subTest(code=code):
                    reply = self.client.request("shell", "is_complete_request", {"code": code})
                    self.assertEqual(reply["status"], status)
                    if status == "incomplete":
                        self.assertRegex(reply["indent"], r"^ *$")
        self.assertEqual(self.client.request("shell", "is_complete_request", {"code": "void f() {"})["indent"], "    ")

    def test_completion_and_inspection_leave_no_trace(self):
        self.complete("int trace_left = 1; trace_")
        self.inspect("int trace_left = 1; trace_left")
        self.assertIn("trace_left", plain(self.run_error("trace_left").reply["evalue"]))
