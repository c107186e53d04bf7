"""What tests of transports share."""

import unittest

from direct import DirectKernel
from support import Client


class TransportTest(unittest.TestCase):
    def start(self, info, **options):
        kernel = DirectKernel(info, **options)
        self.addCleanup(kernel.stop)
        return kernel

    def assert_works(self, client):
        cell = client.run("std::cout << 1 << std::endl; 6 * 7")
        self.assertEqual((cell.text(), cell.result), ("1\n", "42"))
        self.assertEqual(client.request("control", "kernel_info_request")["status"], "ok")
        client.beat()
        start = len(client.messages)
        cell = client.execute('caller::input("?")', allow_stdin=True)
        question = client.wait(lambda m: m["msg_type"] == "input_request", start=start)
        client.session.send(client.sockets["stdin"], client.message("input_reply", {"value": "x"}, parent=question["header"]))
        self.assertEqual(cell.wait().result, '"x"')

    def assert_hears_nothing(self, kernel, info):
        """A client with these keys: no welcome, no answer; others are served meanwhile."""
        stranger = Client(info, await_welcome=False)
        self.addCleanup(stranger.close)
        for channel in ("shell", "control"):
            stranger.send(channel, "kernel_info_request")
        friend = kernel.client()
        self.assertEqual(friend.run("1 + 1").result, "2")
        stranger.never(lambda m: True, 1)
        return stranger
