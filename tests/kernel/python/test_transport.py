"""What reaches the kernel's sockets: tcp, ipc, CURVE, and nothing beyond the given address."""

import json
import os
import pathlib
import socket
import stat
import tempfile
import time

import zmq

from direct import PORTS, connection, start_and_fail, write_connection_file
from support import HOME, Client
from transport_support import TransportTest


def curve(**changes):
    """A connection with fresh CURVE keys."""
    public, secret = zmq.curve_keypair()
    return connection(**{"curve_publickey": public.decode(), "curve_secretkey": secret.decode(), **changes})


def listening(pid):
    """The addresses (hexadecimal IP, port) of the process's listening TCP and UDP sockets."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(fd))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and (fields[3] == "0A" or table.startswith("udp")):
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
    return found


class Curve(TransportTest):
    def test_every_channel_works_encrypted(self):
        self.assert_works(self.start(curve()).client())

    def test_over_ipc_too(self):
        directory = tempfile.mkdtemp(dir=HOME)
        ports = dict(zip(PORTS, (1, 2, 3, 4, 5)))
        self.assert_works(self.start(curve(transport="ipc", ip=f"{directory}/k", **ports)).client())

    def test_a_client_without_keys_hears_nothing(self):
        info = curve()
        kernel = self.start(info)
        plain = {name: value for name, value in info.items() if not name.startswith("curve")}
        stranger = self.assert_hears_nothing(kernel, plain)
        with self.assertRaises(AssertionError):
            stranger.beat(timeout=1)

    def test_a_client_that_takes_another_for_the_kernel_hears_nothing(self):
        info = curve()
        other = curve()
        kernel = self.start(info)
        wrong = {**info, "curve_publickey": other["curve_publickey"], "curve_secretkey": other["curve_secretkey"]}
        self.assert_hears_nothing(kernel, wrong)

    def test_the_sockets_offer_no_other_mechanism(self):
        info = curve()
        kernel = self.start(info)
        kernel.client()
        for port in PORTS:
            with socket.create_connection(("127.0.0.1", info[port]), timeout=10) as raw:
                raw.sendall(b"\xff" + b"\x00" * 8 + b"\x7f\x03")  # as a peer of ZMTP 3 that has not said its mechanism
                greeting = b""
                while len(greeting) < 64:
                    part = raw.recv(64 - len(greeting))
                    self.assertTrue(part, "the greeting ended early")
                    greeting += part
            self.assertEqual(greeting[12:32].rstrip(b"\x00"), b"CURVE")

    def test_keys_that_cannot_be_used_end_the_start(self):
        public, secret = (key.decode() for key in zmq.curve_keypair())
        other = zmq.curve_keypair()[0].decode()
        for publickey, secretkey in ((public, None), (None, secret), (public, "x"), (other, secret), (public, " " * 40), (7, secret)):
            with self.subTest(publickey=publickey):
                path = write_connection_file(connection(curve_publickey=publickey, curve_secretkey=secretkey))
                code, text, _ = start_and_fail("-f", str(path))
                self.assertGreater(code, 0)
                self.assertIn("curve_", text)
                self.assertNotIn(secret, text)


class Ipc(TransportTest):
    def test_every_channel_works_and_no_tcp_socket_is_open(self):
        directory = tempfile.mkdtemp(dir=HOME)
        kernel = self.start(connection(transport="ipc", ip=f"{directory}/k", **dict(zip(PORTS, (1, 2, 3, 4, 5)))))
        self.assert_works(kernel.client())
        self.assertEqual(listening(kernel.process.pid), [])

    def test_the_sockets_are_their_owners_alone(self):
        directory = pathlib.Path(tempfile.mkdtemp(dir=HOME))
        kernel = self.start(connection(transport="ipc", ip=f"{directory}/k", **dict(zip(PORTS, (1, 2, 3, 4, 5)))), umask=0)
        kernel.client()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        self.assertEqual(modes, {f"k-{n}": 0o600 for n in (1, 2, 3, 4, 5)})

    def test_ports_of_zero_are_chosen_and_written_back(self):
        directory = pathlib.Path(tempfile.mkdtemp(dir=HOME))
        (directory / "k-2").write_text("taken")
        kernel = self.start(connection(transport="ipc", ip=f"{directory}/k", **dict.fromkeys(PORTS, 0)))
        written = wait_for_ports(kernel.file)
        self.assertEqual(sorted(written[p] for p in PORTS), [1, 3, 4, 5, 6])
        client = Client(written)
        self.addCleanup(client.close)
        self.assertEqual(client.run("1 + 1").result, "2")


class Tcp(TransportTest):
    def test_nothing_listens_beyond_the_given_address(self):
        info = connection()
        kernel = self.start(info)
        kernel.client().run("1 + 1")
        self.assertEqual(sorted(listening(kernel.process.pid)), sorted(("0100007F", info[p]) for p in PORTS))

    def test_another_address_is_the_only_one(self):
        info = connection(ip="127.0.0.2")
        kernel = self.start(info)
        kernel.client().run("1 + 1")
        self.assertEqual({address for address, _ in listening(kernel.process.pid)}, {"0200007F"})

    def test_a_file_the_kernel_writes_is_its_owners_alone(self):
        info = connection(**dict.fromkeys(PORTS, 0))
        kernel = self.start(info, umask=0)
        written = wait_for_ports(kernel.file)
        self.assertEqual(stat.S_IMODE(kernel.file.stat().st_mode), 0o600)
        client = Client(written)
        self.addCleanup(client.close)
        self.assertEqual(client.run("1 + 1").result, "2")

    def test_a_file_that_others_can_read_is_warned_of(self):
        kernel = self.start(connection(), mode=0o644)
        kernel.client()
        self.assertIn("whoever reads it", kernel.log_text())
        private = self.start(connection(), mode=0o600)
        private.client()
        self.assertNotIn("whoever reads it", private.log_text())


def wait_for_ports(path):
    """The connection file once the kernel has filled in its ports."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["hb_port"] and content["shell_port"]:
            return content
        time.sleep(0.01)
    raise AssertionError("no ports were written")
