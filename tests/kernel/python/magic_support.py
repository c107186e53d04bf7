"""What tests of magics share."""

import pathlib
import tempfile

from support import HOME, KernelTest


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
