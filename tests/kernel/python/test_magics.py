"""The magics, each through the real process."""

import json
import os
import shutil
import subprocess
import time

from magic_support import MagicTest, added, is_optimised
from support import HOME, plain


class Help(MagicTest):
    def test_lsmagic_lists_every_magic_with_a_line_of_help(self):
        text = self.run_ok("%lsmagic").text()
        names = [line.split()[0] for line in text.splitlines()]
        for name in (
            "! ? ?? %%bash %callers %cd %connect_info %cxxflags %env %history %include_path %interrupts %lib %load %lsmagic %opt %%opt "
            "%pkg_config %pwd %queue %reset %run %save %subshell %task %%task %thread %time %%time %timeit %%timeit %%tube %who %%writefile"
        ).split():
            self.assertIn(name, names)
        for line in text.splitlines():
            self.assertGreater(len(line.split()), 1, "a magic without help: " + line)

    def test_a_question_mark_shows_the_help_of_a_magic(self):
        for code in ("%history?", "?%history", "%history??", "  %history?"):
            payload = self.run_ok(code).reply["payload"]
            self.assertEqual([p["source"] for p in payload], ["page"])
            self.assertIn("-g", payload[0]["data"]["text/plain"])
        self.assert_usage("%no_such_magic?", "there is no magic")

    def test_a_question_mark_after_a_name_shows_what_is_known_of_it(self):
        self.run_ok("/// Twice its argument.\nint twice_of(int x) { return 2 * x; }")
        for code in ("twice_of?", "?twice_of", "std::vector?"):
            payload = self.run_ok(code).reply["payload"]
            self.assertIn(code.strip("?").rpartition("::")[2], payload[0]["data"]["text/plain"])
        self.assertIn("return 2 * x", self.run_ok("twice_of??").reply["payload"][0]["data"]["text/plain"])
        # A conditional expression is still C++.
        self.run_ok("bool flag = true;")
        self.assertEqual(self.run_ok("flag ?\n1 : 2").result, "1")

    def test_inspection_and_completion_know_magics(self):
        reply = self.client.request("shell", "inspect_request", {"code": "%save x.cpp 1-2", "cursor_pos": 8, "detail_level": 0})
        self.assertTrue(reply["found"])
        self.assertIn("%save [-f]", reply["data"]["text/plain"])
        reply = self.client.request("shell", "complete_request", {"code": "%pk", "cursor_pos": 3})
        self.assertEqual(reply["matches"], ["%pkg_config"])
        reply = self.client.request("shell", "complete_request", {"code": "%%w", "cursor_pos": 3})
        self.assertEqual(reply["matches"], ["%%writefile"])
        every = self.client.request("shell", "complete_request", {"code": "%", "cursor_pos": 1})["matches"]
        self.assertIn("%interrupts", every)

    def test_the_magics_of_the_first_line_are_known_and_run_the_cell_as_they_say(self):
        pages = {code: self.run_ok(code).reply["payload"][0]["data"]["text/plain"] for code in ("%thread?", "%task?", "%%task?", "?%queue")}
        self.assertTrue(pages["%thread?"].startswith("%thread [name=X]"), pages)
        self.assertTrue(pages["%task?"].startswith("%task\n"), pages)
        self.assertTrue(pages["%%task?"].startswith("%%task [--runner"), pages)
        self.assertTrue(pages["?%queue"].startswith("%queue\n"), pages)
        reply = self.client.request("shell", "complete_request", {"code": "%th", "cursor_pos": 3})
        self.assertEqual(reply["matches"], ["%thread"])
        reply = self.client.request("shell", "inspect_request", {"code": "%task\n1", "cursor_pos": 3, "detail_level": 0})
        self.assertTrue(reply["data"]["text/plain"].startswith("%task\n"), reply)
        self.run_ok("const auto main_thread = std::this_thread::get_id();")
        for line, same in (("%queue", "true"), ("%task", "true"), ("%thread", "false"), ("%thread name=w", "false")):
            self.assertEqual(self.run_ok(line + "\nstd::this_thread::get_id() == main_thread").result, same, line)
        # Anywhere else they say where they belong.
        for code in ("// first\n%thread\n1", "%thread fast\n1", "%pwd\n%task\n1"):
            self.assert_usage(code, "the cell's first line")

    def test_a_cell_of_a_notebook_that_is_run_runs_here_whatever_its_first_line_says(self):
        cells = [{"cell_type": "code", "source": "%thread\nconst bool ran_here = std::this_thread::get_id() == main_thread;", "metadata": {}, "outputs": []}]
        path = self.write("modes.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
        self.run_ok("const auto main_thread = std::this_thread::get_id();")
        self.run_ok(f"%run {path}")
        self.assertEqual(self.run_ok("ran_here").result, "true")

    def test_line_magics_stand_above_the_code(self):
        cell = self.run_ok("// a comment\n%pwd\n\n%env CALLER_TEST_ABOVE=1\nint above = 7;\nabove\n  % 4")
        self.assertEqual(cell.result, "3")
        self.assertEqual(self.run_ok("%env CALLER_TEST_ABOVE").text(), "1\n")
        self.run_error("int below = 1;\n%pwd")

    def test_an_unknown_magic_names_the_nearest_and_an_unknown_option_the_help(self):
        self.assert_usage("%hisotry", "%history")
        self.assert_usage("%history -z", "-z", "%history?")
        self.assert_usage("%reset everything", "%reset")
        self.assert_usage("%history 'open", "quote")


class Names(MagicTest):
    def test_who_shows_readable_types_also_of_awaited_variables(self):
        self.run_ok(
            "auto text = co_await caller::Caller::current().call_soon([] { return std::string(\"x\"); });\n"
            "auto list = co_await caller::Caller::current().call_soon([] { return std::vector<int>{1}; });\n"
            "auto number = 1 + co_await caller::Caller::current().call_soon([] { return 1.5; });\n"
            "int plain_one = 3; std::string word; int add(int a, double b) { return a; }"
        )
        rows = {line.split()[0]: line for line in self.run_ok("%who").text().splitlines()}
        for hidden in ("decltype", "detail", "__"):
            for line in rows.values():
                self.assertNotIn(hidden, line)
        self.assertIn("string", rows["text"])
        self.assertIn("vector<int", rows["list"])
        self.assertIn("double", rows["number"])
        self.assertIn("int (int, double)", rows["add"])

    def test_reset_forgets_names_and_macros_and_counts_on(self):
        self.run_ok(
            "#define TWICE(x) (2 * (x))\n#include <bitset>\nint number = TWICE(2); int f() { return 1; }\nstruct S { int a; };\n"
            "template <class T> T same(T x) { return x; }\nenum Colour { red };\nauto awaited = co_await caller::Caller::current().call_soon([] { return 1; });"
        )
        cell = self.run_ok("%reset -f")
        self.assertEqual(cell.reply["execution_count"], 2)
        self.assertIn("Nothing is defined", self.run_ok("%who").text())
        for name in ("number", "f()", "S{}", "same(1)", "red", "awaited", "TWICE(1)"):
            with self.subTest(name=name):
                self.run_error(name)
        # What was included is still there, and the names are free for anything.
        self.assertEqual(self.run_ok("std::bitset<8>(3).count()").result, "2")
        self.assertEqual(self.run_ok("std::string number = \"new\"; int S = 4; int f = 5; number").result, '"new"')
        self.assertEqual(self.run_ok("S + f").reply["execution_count"], 13)

    def test_reset_asks_where_the_client_can_be_asked(self):
        self.run_ok("int kept = 5;")
        start = len(self.client.messages)
        cell = self.client.execute("%reset", allow_stdin=True)
        request = self.asked(start)
        self.assertIn("Proceed", request["content"]["prompt"])
        self.answer(request, "n")
        self.assertEqual(cell.wait().text(), "Nothing done.\n")
        self.assertEqual(self.run_ok("kept").result, "5")
        start = len(self.client.messages)
        cell = self.client.execute("%reset", allow_stdin=True)
        self.answer(self.asked(start), "y")
        self.assertEqual(cell.wait().reply["status"], "ok")
        self.run_error("kept")
        self.run_ok("int kept = 6;")
        self.run_ok("%reset", allow_stdin=False)
        self.run_error("kept")

    def test_objects_outlive_a_reset(self):
        self.run_ok(
            'struct Loud { ~Loud() { std::cout << "gone" << std::endl; } int value = 7; };\nLoud loud;\n'
            "auto late = caller::Caller::current().call_later(300ms, [] { std::cout << loud.value << std::endl; });"
        )
        cell = self.run_ok("%reset -f")
        first = self.client.wait(lambda m: m["msg_type"] == "stream" and "7" in m["content"]["text"])
        self.assertNotIn("gone", first["content"]["text"] + cell.text())


class History(MagicTest):
    def test_history_shows_cells_numbers_and_results(self):
        self.run_ok("int a = 1;")
        self.run_ok("a + 1")
        self.run_ok("int b = 2;\nb;")
        self.assertEqual(self.run_ok("%history").text(), "int a = 1;\na + 1\nint b = 2;\nb;\n")
        self.assertEqual(self.run_ok("%history -n -o 1-2").text(), "   1: int a = 1;\n   2: a + 1\n2\n")
        self.assertEqual(self.run_ok("%history 2:3 1").text(), "a + 1\nint a = 1;\n")
        self.assertEqual(self.run_ok("%history -n 3").text(), "   3: \nint b = 2;\nb;\n")
        self.assertEqual(self.run_ok("%history -l 2").text(), "%history 2:3 1\n%history -n 3\n")
        self.assert_usage("%history 1..2", "range")
        self.assert_usage("%history -l x", "number")

    def test_ranges_reach_over_the_sessions_that_there_are(self):
        self.run_ok("int a = 1;")
        session = self.client.request("shell", "history_request", {"hist_access_type": "tail", "n": 1, "raw": True, "output": False})["history"][0][0]
        for words in (f"{session}/1-2000000000/1", f"1/1-{session + 1}/1", f"~2000000000/1-{session}/1", "1-2147483647"):
            self.assertTrue(self.run_ok(f"%history {words}").text().startswith("int a = 1;\n"), words)
        path = self.folder / "saved.cpp"
        self.run_ok(f"%save {path} {session}/1-2000000000/1")
        self.assertTrue(path.read_text(encoding="utf-8").startswith("int a = 1;\n"))

    def test_history_searches_all_sessions_by_pattern(self):
        self.run_ok("int apple = 1;")
        self.run_ok("int pear = 2;")
        self.run_ok("int apple = 1;")
        text = self.run_ok("%history -u -g apple").text()
        self.assertEqual(text, "   3: int apple = 1;\n")
        self.assertEqual(len(self.run_ok("%history -g int *=*").text().splitlines()), 3)
        self.kernel.stop()
        self.kernel = type(self.kernel)()
        self.client = self.kernel.client()
        self.assertEqual(self.run_ok("%history ~1/1-2").text(), "int apple = 1;\nint pear = 2;\n")
        found = self.run_ok("%history -g pear").text()
        self.assertRegex(found, r"^ *\d+/2: int pear = 2;\n")

    def test_history_of_a_subshell_is_its_own(self):
        self.run_ok("int in_main = 1;")
        subshell = self.client.request("control", "create_subshell_request")["subshell_id"]
        self.run_ok("int in_subshell = 1;", subshell=subshell)
        self.assertEqual(self.run_ok("%history", subshell=subshell).text(), "int in_subshell = 1;\n")
        self.assertEqual(self.run_ok("%history").text(), "int in_main = 1;\n")

    def test_save_writes_cells_and_asks_before_it_overwrites(self):
        self.run_ok("int a = 1;")
        self.run_ok("int b = 2;")
        path = self.folder / "saved"
        self.run_ok(f"%save {path} 1-2")
        self.assertEqual(path.with_suffix(".cpp").read_text(), "int a = 1;\nint b = 2;\n")
        start = len(self.client.messages)
        cell = self.client.execute(f"%save {path} 1", allow_stdin=True)
        self.answer(self.asked(start), "n")
        self.assertEqual(cell.wait().text(), "Nothing done.\n")
        self.assertEqual(path.with_suffix(".cpp").read_text(), "int a = 1;\nint b = 2;\n")
        self.run_ok(f"%save -f {path}.cpp 2")
        self.assertEqual(path.with_suffix(".cpp").read_text(), "int b = 2;\n")
        self.run_ok(f"%save -a {path} 1")
        self.assertEqual(path.with_suffix(".cpp").read_text(), "int b = 2;\nint a = 1;\n")
        self.assert_usage(f"%save {path} 900", "no cell")
        self.assert_usage("%save /no/such/folder/x 1", "cannot be written")
        self.assert_usage("%save", "needs")


class Files(MagicTest):
    def test_writefile_writes_appends_and_says_so(self):
        path = self.folder / "a file.txt"
        text = "first\n  second \u00e4\n%not_a_magic\n"
        self.assertEqual(self.run_ok(f"%%writefile '{path}'\n{text}").text(), f"Writing {path}\n")
        self.assertEqual(path.read_text(encoding="utf-8"), text)
        self.assertEqual(self.run_ok(f"%%writefile -a '{path}'\nmore\n").text(), f"Appending to {path}\n")
        self.assertEqual(path.read_text(encoding="utf-8"), text + "more\n")
        self.assertEqual(self.run_ok(f"%%writefile '{path}'\nnew").text(), f"Overwriting {path}\n")
        self.assertEqual(path.read_text(encoding="utf-8"), "new")
        self.assert_usage("%%writefile /no/such/folder/x\nx", "No such file")
        self.assert_usage("%%writefile\nx", "needs")

    def test_run_runs_a_file_in_the_session(self):
        self.write("helper.hpp", "inline int helper() { return 20; }\n")
        path = self.write("part.cpp", '#include "helper.hpp"\nint from_file = helper() + 1;\nstd::cout << "ran" << std::endl;\nfrom_file')
        cell = self.run_ok(f"%run {path}\nfrom_file * 2")
        self.assertEqual(cell.text(), "ran\n")
        self.assertEqual(cell.result, "42")
        self.assertEqual(self.run_ok("from_file").result, "21")

    def test_run_calls_the_main_of_a_program(self):
        path = self.write(
            "program.cpp",
            '#include <iostream>\nint main(int argc, char** argv) {\n  for (int i = 1; i < argc; ++i) std::cout << argv[i] << ";";\n  return argc - 3;\n}\n',
        )
        self.assertEqual(self.run_ok(f"%run {path} one 'two \u00e4\"'").text(), 'one;two \u00e4";')
        self.assertIn("main returned -2", self.run_error(f"%run {path}").reply["evalue"])
        self.write("plain.cpp", 'int main() { std::cout << "plain"; }')
        self.assertEqual(self.run_ok(f"%run {self.folder}/plain.cpp").text(), "plain")

    def test_run_names_the_file_of_an_error(self):
        path = self.write("wrong.cpp", "int a = 1;\nint b = no_such_name;\n")
        cell = self.run_error(f"%run {path}")
        text = plain(cell.reply["traceback"])
        self.assertIn(f"while running {path}", text)
        self.assertIn("line 2", text)
        self.assert_usage("%run /no/such/file.cpp", "/no/such/file.cpp", "cannot be read")
        self.assert_usage("%run", "needs")

    def test_run_runs_the_cells_of_a_notebook_with_their_magics(self):
        cells = [
            {"cell_type": "markdown", "source": "# not code"},
            {"cell_type": "code", "source": ["int first = 1;\n", "int second = 2;"]},
            {"cell_type": "code", "source": "%pwd\nstd::cout << first + second;"},
        ]
        path = self.write("book.ipynb", json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
        cell = self.run_ok(f"%run {path}")
        self.assertTrue(cell.text().endswith("\n3"), cell.text())
        self.assertEqual(self.run_ok("first + second").result, "3")
        cells.insert(1, {"cell_type": "code", "source": "throw std::runtime_error(\"stop\");"})
        path.write_text(json.dumps({"cells": cells}))
        cell = self.run_error(f"%run {path}")
        self.assertEqual(cell.reply["evalue"], "stop")
        self.assertIn("code cell 1", plain(cell.reply["traceback"]))
        self.assert_usage(f"%run {self.write('no.ipynb', '{}')}", "not a notebook")

    def test_a_notebook_that_runs_itself_ends_in_an_error(self):
        path = self.folder / "self.ipynb"
        self.write("self.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": f"%run {path}"}]}))
        self.assertIn("deep", self.run_error(f"%run {path}").reply["evalue"])
        self.assert_usable()

    def test_load_puts_a_file_into_the_cell(self):
        path = self.write("loaded.cpp", "int loaded = 1;\n")
        payload = self.run_ok(f"%load {path}").reply["payload"]
        self.assertEqual(payload[0]["source"], "set_next_input")
        self.assertIn("int loaded = 1;", payload[0]["text"])
        self.assert_usage("%load /no/such/file", "cannot be read")


class Compiler(MagicTest):
    def test_cxxflags_change_later_cells(self):
        self.write("from_flag.hpp", "#define FROM_HEADER 30\n")
        self.assertIn("No flags", self.run_ok("%cxxflags").text())
        self.run_ok(f"%cxxflags -DANSWER=12 -DFLAG -I{self.folder} -Wno-unused-value")
        self.assertEqual(self.run_ok("#include <from_flag.hpp>\n#ifdef FLAG\nANSWER + FROM_HEADER\n#endif").result, "42")
        self.assertIn("-DANSWER=12", self.run_ok("%cxxflags").text())
        self.run_ok("%reset -f")
        self.assertEqual(self.run_ok("ANSWER").result, "12", "a flag is not a declaration of a cell")
        self.run_ok("%cxxflags -UANSWER")
        self.run_error("ANSWER")

    def test_cxxflags_switch_warnings(self):
        code = "int narrow_{}(long x) {{ if (x = 1) return 2; return 3; }}"
        self.assertIn("warning", plain(self.run_ok(code.format(1)).text("stderr")))
        self.run_ok("%cxxflags -Wno-parentheses")
        self.assertEqual(self.run_ok(code.format(2)).text("stderr"), "")
        self.run_ok("%cxxflags -Wparentheses -Werror=parentheses")
        self.assertEqual(self.run_error(code.format(3)).reply["ename"], "CompileError")

    def test_a_flag_that_cannot_change_is_refused_and_nothing_is_taken(self):
        self.assert_usage_error("%cxxflags -DTAKEN=1 -std=c++17", "-std=c++17", "--cxxflags")
        self.run_error("TAKEN")
        self.assert_usage_error("%cxxflags -Wno-such-warning-at-all", "there is no warning")
        self.assert_usage_error("%cxxflags -I/no/such/folder", "/no/such/folder")

    def assert_usage_error(self, code, *parts):
        cell = self.run_error(code)
        for part in parts:
            self.assertIn(part, cell.reply["evalue"])

    def test_pkg_config_makes_a_library_usable(self):
        """A library of the test's own, so that nothing need be installed."""
        compiler = shutil.which("g++") or shutil.which("clang++-19")
        self.write("gift.hpp", 'extern "C" int gift_value();\n')
        self.write("gift.cpp", '#include "gift.hpp"\nextern "C" int gift_value() { return GIFT; }\n')
        subprocess.run([compiler, "-shared", "-fPIC", "-DGIFT=41", "-o", self.folder / "libgift.so", self.folder / "gift.cpp"], check=True)
        self.write(
            "gift.pc",
            f"Name: gift\nDescription: a library\nVersion: 1\nCflags: -I{self.folder} -DGIFT_EXTRA=1 -fno-gnu-unique\n"
            f"Libs: -L{self.folder} -lgift -pthread\n",
        )
        self.run_ok(f"%env PKG_CONFIG_PATH={self.folder}")
        text = self.run_ok("%pkg_config gift").text()
        self.assertIn("-lgift", text)
        self.assertIn("not applied: -fno-gnu-unique", text)
        self.assertEqual(self.run_ok("#include <gift.hpp>\ngift_value() + GIFT_EXTRA").result, "42")

    def test_pkg_config_of_an_unknown_name_says_where_it_looked(self):
        self.run_ok(f"%env PKG_CONFIG_PATH={self.folder}")
        self.assert_usage("%pkg_config no-such-package-at-all", "no-such-package-at-all", str(self.folder), "pkgconfig")
        self.assert_usage("%pkg_config", "needs")
        self.assert_usage("%pkg_config $(touch${IFS}owned)", "")
        self.assertFalse((HOME / "owned").exists(), "a name is no shell text")

    def test_lib_of_an_unknown_name_says_where_it_looked(self):
        cell = self.run_error("%lib no_such_library_at_all")
        self.assertIn("no_such_library_at_all", cell.reply["evalue"])
        self.assertIn("/usr/lib", cell.reply["evalue"])
        self.run_ok("%lib m")  # a linker script, where the development files are
        self.run_ok("%lib z") if os.path.exists("/usr/lib/x86_64-linux-gnu/libz.so.1") else None


class Interrupts(MagicTest):
    def test_the_table_shows_what_was_reached_and_how_long_it_took(self):
        self.assertIn("No cell was interrupted", self.run_ok("%interrupts").text())
        cell = self.client.execute('std::cout << "on" << std::endl; for (;;) {}')
        cell.wait_text("on")
        self.client.interrupt()
        cell.wait()
        self.client.interrupt()
        text = self.run_ok("%interrupts").text()
        lines = text.splitlines()
        self.assertEqual(lines[0].split(), ["When", "Why", "Reached", "Ended", "after"])
        self.assertRegex(lines[1], r"interrupt\s+Cell \[2\]\s+[0-9.]+ ms")
        self.assertIn("nothing was running", lines[2])
        self.assertIn("Running now: Cell [3]", lines[3])
        cell = self.client.run("co_await caller::sleep_for(30s);", metadata={"tags": ["timeout=0.2"]})
        self.assertEqual(cell.reply["ename"], "TimedOut")
        self.assertRegex(self.run_ok("%interrupts").text(), r"time-out\s+Cell \[4\]\s+[0-9.]+ ms")


class Others(MagicTest):
    def test_env_cd_pwd_and_commands(self):
        self.assertEqual(self.run_ok(f"%cd {self.folder}").text(), f"{self.folder}\n")
        self.assertEqual(self.run_ok("%pwd").text(), f"{self.folder}\n")
        self.run_ok("%env CALLER_TEST_VARIABLE=a b")
        self.assertEqual(self.run_ok("%env CALLER_TEST_VARIABLE").text(), "a b\n")
        self.assertEqual(self.run_ok("!echo $CALLER_TEST_VARIABLE").text(), "a b\n")
        self.assertEqual(self.run_ok("%%bash\nfor i in 1 2; do echo $i; done").text(), "1\n2\n")
        self.assert_usage("!exit 3", "exit code 3")
        self.assert_usage("%cd /no/such/folder", "/no/such/folder")

    def test_time_and_timeit(self):
        self.assertRegex(self.run_ok("%time long timed = 3;").text(), r"CPU time: .* wall time: ")
        self.assertEqual(self.run_ok("timed").result, "3")
        for code in ("%%timeit\ntimed += 1;", "%timeit timed += 1;", "%timeit\ntimed += 1;"):
            self.assertRegex(self.run_ok(code).text(), r"^[0-9.e+-]+ ns per loop \(best of 5 runs, [0-9]+ loops each\)\n$", code)
        self.assertGreater(int(self.run_ok("timed").result), 1000)
        self.assertIn("no_such_name", self.run_error("%timeit no_such_name").reply["evalue"])

    def test_opt_connect_info_subshell_and_callers(self):
        for wrong in ("%opt 7", "%opt", "%%opt 12\n1", "%opt fast"):
            self.assert_usage(wrong, "0 to 3")
        info = json.loads(self.run_ok("%connect_info").text())
        self.assertEqual(info["shell_port"], self.kernel.info["shell_port"])
        self.assertIn("main shell", self.run_ok("%subshell").text())
        lines = self.run_ok("%callers").text().splitlines()
        self.assertEqual(lines[0].split(), ["Name", "Running", "Protected", "Thread", "Caller"])
        self.assertEqual(len([line for line in lines if "\u2190 current" in line]), 1)

    def test_cells_run_optimised_code_unless_they_ask_for_none(self):
        for number, (before, optimised) in enumerate((
            ("", True), ("%%opt 0\n", False), ("%opt 0\n", False), ("%%opt 1\n", True), ("%opt 1\n", True), ("%%opt 2\n", True),
            ("%opt 2\n", True), ("%%opt 3\n", True), ("%opt 3\n", True), ("", True),
        )):  # fmt: skip
            with self.subTest(before=before):
                self.assertEqual(is_optimised(self.run_ok(before + added(number)).text()), optimised)
        self.assertEqual(self.run_ok("added_1(21) + added_3(0)").result, "42")

    def test_an_interrupt_ends_a_command(self):
        cell = self.client.execute("!echo on; sleep 60")
        cell.wait_text("on")
        begin = time.monotonic()
        self.client.interrupt()
        cell.wait()
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(cell.reply["ename"], "Interrupted")
