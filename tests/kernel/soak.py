"""A soak of the kernel: everything at once, at random, for as long as it is told; every answer is the right one, nothing
stays unanswered, memory, threads and descriptors level off.

Usage: soak.py [SECONDS] [SEED]; CALLER_SOAK and CALLER_SOAK_SEED say the same. The program is named by CALLER_PROGRAM.
"""

import os
import pathlib
import random
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent / "python"))
os.environ["CALLER_KERNEL_TEST_COMMS"] = "1"

from support import Client, Kernel, parent_id, plain  # noqa: E402  pylint: disable=wrong-import-position

PATIENCE = 60  # seconds until a request that was not answered is a failure
# What a cell is, and how it ends: None for well, else the name of its error.
CELLS = (
    ("{n} + 1", None),
    ("int variable_{k} = {n};", None),
    ("struct Type_{k} {{ int a = {n}; int get() const {{ return a; }} }};\nType_{k}{{}}.get()", None),
    ("std::vector<int> list_{k}(100, {n});\nlist_{k}.size()", None),
    ("for (int i = 0; i < 200; ++i) std::cout << i << std::endl;", None),
    ('printf("%d\\n", {n}); std::cerr << "error {n}";', None),
    ("co_await caller::sleep_for({ms}ms);", None),
    ("auto awaited_{k} = co_await caller::Caller::current().to_thread([] {{ return {n}; }});\nawaited_{k}", None),
    ("// task\nco_await caller::sleep_for({ms}ms); std::cout << {n};", None),
    ("// thread\nstd::this_thread::sleep_for({ms}ms); std::cout << {n};", None),
    ('throw std::runtime_error("{n}");', "std::runtime_error"),
    ("no_such_name_{n}", "CompileError"),
    ("int broken( {{", "CompileError"),
    ("std::this_thread::sleep_for({ms}ms);", None),
    ("caller::Caller::current().call_later({ms}ms, [] {{ std::cout << {n} << std::endl; }});", None),
    ("%who", None),
    ("%history -l 3", None),
    ("!echo {n}", None),
    ("caller::display(caller::html{{\"<b>{n}</b>\"}});", None),
)
# What may happen to any cell here: an interrupt, an earlier cell's failure, the end of its subshell.
FATES = ("Interrupted", "ExecutionAborted", "ShellStopped", "SubshellError")
ENDLESS = ("for (;;) {{}}", "co_await caller::sleep_for(1h);", "std::this_thread::sleep_for(1h);", "while (true) std::vector<int>(100);")


class Soak:
    def __init__(self, seconds, seed):
        self.random = random.Random(seed)
        self.end = time.monotonic() + seconds
        self.kernel = Kernel()
        self.clients = [self.kernel.client() for _ in range(3)]
        self.open = {}  # id of a request: (client, when, what, whether it is replied to)
        self.subshells = []
        self.comms = []
        self.counts = {}
        self.memory = []
        self.threads = []
        self.descriptors = []

    def resident(self):
        with open(f"/proc/{self.kernel.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def take_stock(self):
        process = pathlib.Path(f"/proc/{self.kernel.pid}")
        self.memory.append(self.resident())
        self.threads.append(sum(1 for _ in (process / "task").iterdir()))
        self.descriptors.append(sum(1 for _ in (process / "fd").iterdir()))

    def ask(self, client, channel, msg_type, content, reply=True, error=None, **options):
        """error: what the reply must be; None for a good one."""
        msg_id = client.send(channel, msg_type, content, **options)
        self.open[msg_id] = [client, time.monotonic(), f"{msg_type} {str(content)[:120]}", reply, False, error]
        return msg_id

    def check(self, what, error, content):
        """The reply is the one that the request must get, or tells of what may happen to any cell."""
        found = content.get("ename") if content.get("status") == "error" else None
        if found != error and not (what.startswith("execute_request") and found in FATES):
            raise AssertionError(f"{what}: {error or 'ok'} was expected, not {plain(str(content))[:1000]}")

    # ---- what may happen

    def cell(self, client):
        code, error = self.random.choice(CELLS)
        code = code.format(n=self.random.randrange(1000), k=self.random.randrange(20), ms=self.random.randrange(30))
        subshell = self.random.choice([None, None, *self.subshells])
        self.ask(client, "shell", "execute_request", {"code": code, "stop_on_error": self.random.random() < 0.2}, subshell=subshell, error=error)

    def endless(self, client):
        self.ask(client, "shell", "execute_request", {"code": self.random.choice(ENDLESS).format(), "stop_on_error": False}, error="Interrupted")
        self.interrupt(client)

    def interrupt(self, client):
        self.ask(client, "control", "interrupt_request", {})

    def completion(self, client):
        code = self.random.choice(["std::vec", "variable_", "int x = 1;\nstd::string s; s.app", "%hi", "#include <vec"])
        self.ask(client, "shell", "complete_request", {"code": code, "cursor_pos": self.random.randrange(len(code) + 1)})

    def inspection(self, client):
        self.ask(client, "shell", "inspect_request", {"code": "std::vector", "cursor_pos": self.random.randrange(12), "detail_level": 0})

    def completeness(self, client):
        self.ask(client, "shell", "is_complete_request", {"code": self.random.choice(["int x = 1;", "if (1) {", ")", "%%bash"])})

    def control(self, client):
        kind = self.random.choice(["kernel_info", "usage", "history", "comm_info", "connect", "list_subshell"])
        self.ask(client, "control", kind + "_request", {"hist_access_type": "tail", "n": 5})

    def new_subshell(self, client):
        if len(self.subshells) < 4:
            reply = client.request("control", "create_subshell_request", timeout=PATIENCE)
            self.subshells.append(reply["subshell_id"])

    def delete_subshell(self, client):
        if self.subshells:
            subshell = self.subshells.pop(self.random.randrange(len(self.subshells)))
            self.ask(client, "control", "delete_subshell_request", {"subshell_id": subshell})

    def comm(self, client):
        what = self.random.random()
        subshell = self.random.choice([None, *self.subshells])
        if what < 0.3 or not self.comms:
            comm_id = uuid.uuid4().hex
            self.comms.append(comm_id)
            self.ask(client, "shell", "comm_open", {"comm_id": comm_id, "target_name": "echo", "data": {}}, reply=False, subshell=subshell)
        elif what < 0.8:
            content = {"comm_id": self.random.choice(self.comms), "data": {"n": 1}}
            self.ask(client, "shell", "comm_msg", content, reply=False, subshell=subshell, buffers=[b"x" * 100])
        else:
            comm_id = self.comms.pop(self.random.randrange(len(self.comms)))
            self.ask(client, "shell", "comm_close", {"comm_id": comm_id, "data": {}}, reply=False, subshell=subshell)

    def new_client(self, _):
        if len(self.clients) < 8:
            self.clients.append(self.kernel.client())

    def vanish(self, _):
        """A client goes away in the middle of whatever it asked for."""
        if len(self.clients) > 2:
            client = self.clients.pop(self.random.randrange(1, len(self.clients)))
            client.close()
            self.kernel.clients.remove(client)
            self.open = {i: entry for i, entry in self.open.items() if entry[0] is not client}

    def passer_by(self, _):
        """Connects, asks, and leaves without waiting."""
        client = Client(self.kernel.info, await_welcome=False)
        client.send("shell", "execute_request", {"code": "1 + 1"})
        client.close()

    # ---- taking stock

    def take_in(self, seconds):
        for client in self.clients:
            client.pump(seconds / len(self.clients))
            for message in client.messages:
                entry = self.open.get(parent_id(message))
                if entry is None or entry[0] is not client:
                    continue
                if message["channel"] in ("shell", "control"):
                    self.check(entry[2], entry[5], message["content"])
                    entry[3] = False
                if message["content"].get("execution_state") == "idle":
                    entry[4] = True
                if not entry[3] and entry[4]:
                    del self.open[parent_id(message)]
            client.messages.clear()

    def assert_answered(self):
        now = time.monotonic()
        for client, since, what, reply, idle, _ in self.open.values():
            if now - since > PATIENCE:
                raise AssertionError(f"after {now - since:.0f} s: {what}: {'no reply' if reply else ''} {'' if idle else 'no idle'}")
        if not self.kernel.alive():
            raise AssertionError(f"the kernel ended with {self.kernel.wait_for_exit()}")

    def settle(self):
        """Ends what runs, and waits until all is answered."""
        deadline = time.monotonic() + PATIENCE
        while self.open and time.monotonic() < deadline:
            self.interrupt(self.clients[0])
            for _ in range(10):
                self.take_in(0.1)
                if not self.open:
                    break
        for _, since, what, reply, idle, _ in self.open.values():
            raise AssertionError(f"never answered: {what} (asked {time.monotonic() - since:.0f} s ago; reply wanted {reply}, idle {idle})")

    def run(self):
        deeds = [
            (self.cell, 40), (self.endless, 2), (self.interrupt, 2), (self.completion, 8), (self.inspection, 3), (self.completeness, 4),
            (self.control, 10), (self.new_subshell, 2), (self.delete_subshell, 2), (self.comm, 20), (self.new_client, 2), (self.vanish, 2),
            (self.passer_by, 1),
        ]  # fmt: skip
        functions, weights = zip(*deeds)
        next_stock = time.monotonic() + 20
        while time.monotonic() < self.end:
            deed = self.random.choices(functions, weights)[0]
            self.counts[deed.__name__] = self.counts.get(deed.__name__, 0) + 1
            deed(self.random.choice(self.clients))
            self.take_in(0.005)
            again = time.monotonic() + 5
            while len(self.open) > 40:
                self.take_in(0.05)
                self.assert_answered()
                if time.monotonic() > again:  # an endless cell may have begun after the interrupt that was meant for it
                    self.interrupt(self.clients[0])
                    again = time.monotonic() + 5
            self.assert_answered()
            if time.monotonic() > next_stock:
                self.settle()
                self.take_stock()
                cells = self.counts.get("cell", 0)
                print(f"{cells} cells, {sum(self.counts.values())} deeds, {self.memory[-1]:.0f} MiB, {self.threads[-1]} threads, "
                      f"{self.descriptors[-1]} descriptors", flush=True)
                next_stock = time.monotonic() + 20
        self.settle()
        cell = self.clients[0].run("20 + 22")
        if cell.result != "42":
            raise AssertionError(plain(str(cell.reply)))
        self.take_stock()

    def assert_threads_and_descriptors_level_off(self):
        """Clients and subshells come and go, and have some of their own; what stays of each deed would be more."""
        for what, counts in (("threads", self.threads), ("descriptors", self.descriptors)):
            middle = (len(counts) + 1) // 2
            print(f"{what}: {counts}")
            if max(counts[middle:], default=0) > max(counts[:middle]) + 60:
                raise AssertionError(f"{what} grow: {counts}")

    def assert_memory_levels_off(self):
        """Cells' code stays (they can be called for ever), so a cell may cost something; more than that may not grow."""
        if len(self.memory) < 6:
            print("too short to judge the memory by")
            return
        cells = self.counts["cell"] + self.counts.get("endless", 0)
        middle = len(self.memory) // 2
        grown = self.memory[-1] - self.memory[middle]
        cells_since = cells * (len(self.memory) - 1 - middle) / len(self.memory)
        per_cell = grown * 1024 / max(cells_since, 1)
        print(f"memory: {grown:.1f} MiB in the second half, {per_cell:.0f} KiB a cell")
        if per_cell > 30:  # about 10 in an hour of them
            raise AssertionError("memory grows by more than the code of the cells")


def main():
    seconds = float(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CALLER_SOAK", "3600"))
    seed = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("CALLER_SOAK_SEED", random.SystemRandom().randrange(10**9)))
    print(f"soak of {seconds:.0f} s, seed {seed}", flush=True)
    soak = Soak(seconds, seed)
    try:
        soak.run()
        soak.assert_threads_and_descriptors_level_off()
        soak.assert_memory_levels_off()
    except BaseException:
        print(f"seed {seed} failed; the kernel wrote:\n{soak.kernel.log_text()[-3000:]}", flush=True)
        raise
    finally:
        soak.kernel.stop()
    print("ok:", soak.counts)


if __name__ == "__main__":
    main()
