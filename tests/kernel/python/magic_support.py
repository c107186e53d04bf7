"""What tests of magics share."""

import pathlib
import tempfile

from support import HOME, KernelTest


def added(number):
    """A cell that shows the machine code of a function of its own, which adds a number to itself by way of two variables."""
    return (
        f"#include <cstdio>\nint added_{number}(int a) {{ int b = a; int c = b; return c + b; }}\n"
        f"for (int i = 0; i < 24; ++i) std::printf(\"%02x\", reinterpret_cast<const unsigned char*>(&added_{number})[i]);"
    )


def is_optimised(code):
    """Of what `added` shows: unoptimised, variables are written to the stack; else one instruction does it all: lea (%rdi,%rdi,1), %eax."""
    assert len(code) == 48, code
    return code.startswith("8d043fc3")


class MagicTest(KernelTest):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=HOME))

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def asked(self, start=0):
        return self.client.wait(lambda m: m["channel"] == "stdin" and m["msg_type"] == "input_request", start=start)

    def answer(self, request, value):
        message = self.client.message("input_reply", {"value": value, "status": "ok"}, parent=request["header"])
        self.client.session.send(self.client.sockets["stdin"], message)

    def assert_usage(self, code, *parts):
        """The cell fails as a magic used wrongly; the text holds the parts."""
        cell = self.run_error(code)
        for part in parts:
            self.assertIn(part, cell.reply["evalue"])
        self.assertTrue(cell.reply["traceback"])
        return cell
