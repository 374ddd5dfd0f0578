"""'Large messages (50 MB) stream: memory per session stays bounded whatever the message size.' Many
sessions at once give and get messages of 50 MB; RssAnon of the relay is read all the while."""
import os
import re
import subprocess
import threading
import unittest

import world
from world import Relay, Sink

MIB = 1 << 20
# What may be held (docs/queue.md): the pages of one transaction, and as many bytes that wait for the
# next; of each session its share of a draft, 256 KiB, its input, and the allocator's holes. One
# message that is held in memory is more than all of it together.
BUDGETS = 2 * 8 * MIB
A_SESSION = MIB
SIZE = 50_000_000


class Watch:
    """The highest RssAnon of the relay, looked at every 5 ms."""

    def __init__(self, relay):
        self.path = f"/proc/{relay.process.pid}/status"
        self.rest = self.peak = self.read()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def read(self):
        with open(self.path) as file:
            return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1]) * 1024

    def run(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self.read())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def above_rest(self):
        return self.peak - self.rest


@unittest.skipIf(world.SANITIZER == "tsan", "its shadow of all memory would be measured")
class Large(unittest.TestCase):
    def setUp(self):
        self.sessions = 12 if world.SANITIZER == "none" else 4
        self.sink = Sink(self)
        env = {}
        if world.SANITIZER == "asan":  # it would keep 256 MiB of what was freed
            env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        self.relay = Relay(self, hop=self.sink.port, log_level="info", limits='message_size = "60MB"\n',
                           env=env)

    def send(self, size):
        subprocess.run([world.tool("smtp-source"), "-s", str(self.sessions), "-m",
                        str(self.sessions), "-l", str(size), "-d", "-f", "a@b.test", "-t",
                        "x@hop.test", f"inet:127.0.0.1:{self.relay.relay_port}"], check=True,
                       timeout=600, stdout=subprocess.DEVNULL)

    def test_memory_does_not_follow_the_size_of_messages(self):
        self.send(1000)
        self.relay.wait_empty()
        bound = BUDGETS + self.sessions * A_SESSION
        if world.SANITIZER == "asan":
            bound += BUDGETS // 2  # a page has its red zones, and takes 5 KiB
        self.assertGreater(SIZE, bound)
        with Watch(self.relay) as coming:
            self.send(SIZE)
        with Watch(self.relay) as leaving:
            self.relay.wait_empty(300)
        status = self.relay.status()
        done = status["deliver"]["recipients_delivered"]
        self.assertGreater(status["receive"]["bytes_accepted"], self.sessions * SIZE)
        print(f"\n{self.sessions} sessions of 50 MB: {coming.rest / MIB:.0f} MiB at rest, {coming.above_rest() / MIB:.0f} MiB above rest "
              f"while they came, {leaving.above_rest() / MIB:.0f} MiB more while they left, "
              f"of {bound / MIB:.0f} allowed")
        self.assertEqual(done, 2 * self.sessions)
        self.assertLess(coming.above_rest(), bound)
        self.assertLess(coming.above_rest() + leaving.above_rest(), bound)


if __name__ == "__main__":
    world.main()
