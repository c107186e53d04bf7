"""Cells use the thread-local variables of libraries: those of the calling thread, which the library uses, too."""

import shutil
import subprocess

from magic_support import MagicTest

HEADER = """#pragma once
#include <string>
extern "C" __thread int lib_plain;
extern thread_local int lib_constant;
extern thread_local std::string lib_text;
namespace lib {
struct Counter { static thread_local long count; };
int add(int n);
}
"""
SOURCE = """#include "lib_threads.hpp"
extern "C" { __thread int lib_plain = 7; int lib_shared = 1; }
thread_local int lib_constant = 8;
thread_local std::string lib_text = std::string(20, 'x') + "!";
thread_local long lib::Counter::count = -1;
int lib::add(int n) { return lib_plain += n; }
"""


class ThreadLocals(MagicTest):
    def test_work_on_other_threads_and_what_is_done_once(self):
        self.run_ok("#include <future>\n#include <mutex>")
        self.assertEqual(self.run_ok("std::async(std::launch::async, [] { return 6 * 7; }).get()").result, "42")
        self.assertEqual(self.run_ok("auto later = std::async(std::launch::async, [](int x) { return x + 1; }, 1); later.get()").result, "2")
        cell = self.run_error('std::async(std::launch::async, [] { throw std::runtime_error("far away"); }).get();')
        self.assertEqual(cell.reply["ename"], "std::runtime_error")
        self.assertIn("far away", cell.reply["evalue"])
        self.run_ok("std::once_flag first, second; std::atomic<int> calls{0};\nvoid once(std::once_flag& flag) { std::call_once(flag, [] { ++calls; }); }")
        self.run_ok("{ std::vector<std::thread> all; for (int i = 0; i < 8; ++i) all.emplace_back([] { once(first); once(second); }); for (auto& t : all) t.join(); }")
        self.assertEqual(self.run_ok("once(first); once(second); calls.load()").result, "2")

    def load_library(self):
        self.write("lib_threads.hpp", HEADER)
        self.write("lib_threads.cpp", SOURCE)
        library = self.folder / "liblib_threads.so"
        compiler = shutil.which("g++") or shutil.which("clang++-19")
        subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", "-pthread", "-o", library, self.folder / "lib_threads.cpp"], check=True)
        self.run_ok(f"%lib {library}")
        self.run_ok(f"%include_path {self.folder}")

    def test_of_a_library_of_the_users_own(self):
        self.load_library()
        self.run_ok("#include <lib_threads.hpp>")
        self.assertEqual(self.run_ok("lib_plain * 100 + lib_constant").result, "708")
        self.assertEqual(self.run_ok("lib::add(5)").result, "12")
        self.assertEqual(self.run_ok("lib_plain").result, "12", "it is the library's own")
        self.run_ok("lib_plain = 20;")
        self.assertEqual(self.run_ok("lib::add(1)").result, "21")
        self.assertEqual(self.run_ok("lib::Counter::count--; lib::Counter::count").result, "-2")
        self.assertEqual(self.run_ok("lib_text").result, '"' + 20 * "x" + '!"', "made when first used")
        # Another thread has its own, from the beginning.
        self.run_ok("long of_another() { long out = 0; std::thread([&] { const int before = lib_plain; lib_plain = 50; "
                    "out = before * 10000 + lib::add(2) * 100 + lib_constant + lib::Counter::count; }).join(); return out; }")
        self.assertEqual(self.run_ok("of_another()").result, str(7 * 10000 + 52 * 100 + 8 - 1))
        self.assertEqual(self.run_ok("lib_plain").result, "21")
        # One that has begun before a cell asks for it.
        self.run_ok("std::atomic<int> wanted{0}, seen{0}; int (*look)() = nullptr;\n"
                    "std::thread early([] { while (wanted == 0) std::this_thread::yield(); seen = look(); });")
        self.run_ok("look = [] { return lib_constant + 100; }; wanted = 1; early.join();")
        self.assertEqual(self.run_ok("seen.load()").result, "108")
        # What is forgotten is found again.
        self.run_ok("%reset -f")
        self.assertEqual(self.run_ok("#include <lib_threads.hpp>\nlib_plain").result, "21")

    def test_what_is_not_there_or_not_thread_local_is_named(self):
        self.load_library()
        self.write("lib_wrong.hpp", 'extern "C" __thread int lib_shared;\n')
        for code, name in (("extern thread_local int nowhere;\nnowhere", "nowhere"), ("#include <lib_wrong.hpp>\nlib_shared", "lib_shared")):
            cell = self.run_error(code)
            self.assertEqual((cell.reply["ename"], cell.reply["evalue"]), ("LinkError", f"undefined symbol: {name}"))
        self.assertEqual(self.run_ok("#include <lib_threads.hpp>\nlib_plain").result, "7")
