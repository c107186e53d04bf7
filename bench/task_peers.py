#!/usr/bin/python3
"""Times other task queues as caller_task_bench times this one: a no-op add(x, y) with its result kept.

    bench/task_peers.py [TASKS] [celery|rq]...

Redis listens on a socket of its own; a peer that is not installed has no rows. Run it in turns with caller_task_bench:
what they print has the same names.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time

TASKS_OF = {
    "celery": """
from celery import Celery
app = Celery("peer", broker="redis+socket://{socket}", backend="redis+socket://{socket}")
app.conf.broker_connection_retry_on_startup = True
@app.task
def add(x, y):
    return x + y
""",
    "rq": """
def add(x, y):
    return x + y
""",
}


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


class Celery:
    def __init__(self, folder, socket):
        import peer_celery

        self.add = peer_celery.add
        self.worker = [sys.executable, "-m", "celery", "-A", "peer_celery", "worker", "--pool=prefork", "--concurrency=1",
                       "--loglevel=ERROR", "--without-gossip", "--without-mingle"]

        self.kept = []  # one that goes asks the server, which may be gone

    def submit(self, i):
        self.kept.append(self.add.delay(i, 1))
        return self.kept[-1]

    def result(self, job):
        return job.get(timeout=60)


class Rq:
    def __init__(self, folder, socket):
        import peer_rq
        import redis
        import rq

        self.add = peer_rq.add
        self.queue = rq.Queue(connection=redis.Redis(unix_socket_path=socket))
        # Its usual worker forks for each task; this one does not, and is its fastest.
        self.worker = ["rq", "worker", "--url", f"unix://{socket}", "--worker-class", "rq.SimpleWorker", "--quiet"]

    def submit(self, i):
        return self.queue.enqueue(self.add, i, 1)

    def result(self, job):
        while True:  # it has nothing to wait with
            if job.get_status() == "finished":
                return job.result
            time.sleep(0.0005)


def row(name, text):
    print(f"{name:<46}{text}", flush=True)


def measure(name, peer, folder, tasks):
    begin = time.monotonic()
    for i in range(tasks):
        peer.submit(i)
    row(f"{name}, no worker: submitted singly", f"{tasks / (time.monotonic() - begin):9.0f}")
    for count in (1, 2):
        workers = [subprocess.Popen(peer.worker, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for _ in range(count)]
        try:
            peer.result(peer.submit(0))  # behind all that waited
            begin = time.monotonic()
            jobs = [peer.submit(i) for i in range(tasks)]
            if any(peer.result(job) != i + 1 for i, job in enumerate(jobs)):
                sys.exit(f"{name}: a wrong result")
            words = "worker" if count == 1 else "workers"
            row(f"{name}, {count} {words}: submitted singly", f"{tasks / (time.monotonic() - begin):9.0f}")
            if count == 1:
                times = []
                for i in range(min(tasks, 500)):
                    begin = time.monotonic()
                    peer.result(peer.submit(i))
                    times.append((time.monotonic() - begin) * 1e6)
                row(f"{name}, 1 worker: latency", f"{quantile(times, 0.5):9.1f} us p50 {quantile(times, 0.99):9.1f} us p99")
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()


def main():
    tasks, wanted = 2000, []
    for word in sys.argv[1:]:
        if word in TASKS_OF:
            wanted.append(word)
        elif word.isdigit() and int(word) > 0:
            tasks = int(word)
        else:
            sys.exit(__doc__)
    peers = []
    for name in wanted or TASKS_OF:
        if not importlib.util.find_spec(name):
            row(name, "is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            socket = os.path.join(folder, "redis.sock")
            server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""],
                                      stdout=subprocess.DEVNULL)
            try:
                while not os.path.exists(socket):
                    time.sleep(0.01)
                with open(os.path.join(folder, f"peer_{name}.py"), "w", encoding="utf-8") as out:
                    out.write(TASKS_OF[name].format(socket=socket))
                sys.path.insert(0, folder)
                peer = {"celery": Celery, "rq": Rq}[name](folder, socket)
                peers.append(peer)
                measure(name, peer, folder, tasks)
            finally:
                server.terminate()
                server.wait()
    sys.stdout.flush()
    os._exit(0)  # no results that go


if __name__ == "__main__":
    main()
