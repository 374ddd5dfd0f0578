"""A log output that takes nothing: what ends recipients waits for it, and the relay lives."""
import os
import signal
import subprocess
import threading
import unittest

import world
from world import BINARY, Hop, Relay

MESSAGES, RECIPIENTS = 6, 10000
TAIL = "a" * 52    # long addresses: the lines of all of them are more than the log ever holds


class BlockedLog(unittest.TestCase):
    def setUp(self):
        self.reading = None
        self.lines = []

    def address(self, message, number):
        return f"r{message}-{number:05}-{TAIL}@x.test"

    def send(self, relay, message):
        with relay.raw(port=relay.relay_port) as raw:
            raw.say("EHLO c.test")
            self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"250"))
            for first in range(0, RECIPIENTS, 100):
                batch = range(first, min(first + 100, RECIPIENTS))
                raw.send("".join(f"RCPT TO:<{self.address(message, i)}>\r\n"
                                 for i in batch).encode())
                for _ in batch:
                    reply = raw.reply()
                    self.assertTrue(reply.startswith(b"250"), reply)
            self.assertTrue(raw.say("DATA").startswith(b"354"))
            raw.send(b"Subject: s\r\n\r\nx\r\n.\r\n")
            reply = raw.reply()
            self.assertTrue(reply.startswith(b"250"), reply)

    def block(self, relay):
        """From now on the log goes into a pipe that nobody reads."""
        fifo = os.path.join(relay.folder, "fifo")
        os.mkfifo(fifo)
        self.pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(lambda: os.close(self.pipe))
        file, relay.log_path = relay.log_path, fifo
        relay.write_config()
        relay.log_path = file
        reloads = relay.status()["reloads"]
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.status()["reloads"] > reloads, "the reload")

    def read(self):
        """Until the test ends."""
        self.over = threading.Event()

        def run():
            text = b""
            os.set_blocking(self.pipe, False)
            while not self.over.wait(0.002):
                try:
                    text += os.read(self.pipe, 1 << 20)
                except BlockingIOError:
                    continue
                *lines, text = text.split(b"\n")
                self.lines += lines

        self.reading = threading.Thread(target=run)
        self.reading.start()
        self.addCleanup(self.reading.join)
        self.addCleanup(self.over.set)

    def count(self, event):
        text = f'"event":"{event}"'.encode()
        return sum(text in line for line in self.lines)

    def test_a_removal_waits_for_the_log_and_the_relay_lives(self):
        relay = Relay(self, hop=world.free_port(), log_level="notice",
                      limits=f"recipients_per_message = {RECIPIENTS}\n",
                      queue='retry = ["1h"]\n')
        for i in range(MESSAGES):
            self.send(relay, i)
        relay.command("queue", "hold", "--all")
        groups = relay.status()["queue"]["groups_held"]
        self.assertGreater(groups, 1000)
        self.block(relay)
        removal = subprocess.Popen([BINARY, "queue", "remove", "--all", "--config",
                                    relay.config_path], stdout=subprocess.PIPE, text=True)
        # The log takes no final lines: the removal stands.
        world.wait_for(lambda: "the log" in relay.command("health", "--ready", code=None),
                       "the log to be full")
        with self.assertRaises(subprocess.TimeoutExpired):
            removal.wait(2)
        self.assertIsNone(relay.process.poll())
        with relay.raw() as raw:
            self.assertTrue(raw.say("EHLO c.test").startswith(b"250"))
            self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"452"))
        self.assertGreater(relay.status()["queue"]["groups_held"], 0)

        self.read()
        said, _ = removal.communicate(timeout=4 * world.PATIENCE)
        self.assertEqual(removal.returncode, 0)
        self.assertIn(f"{groups} done", said)
        self.assertEqual(relay.queue(), [])
        world.wait_for(lambda: self.count("queue.removed") == MESSAGES * RECIPIENTS,
                       "the line of each recipient")
        self.assertEqual(relay.status()["log_final_lost"], 0)
        relay.stop()


if __name__ == "__main__":
    world.main()
