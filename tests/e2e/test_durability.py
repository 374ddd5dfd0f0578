"""'Crash: killed with -9 at random under load at least 50 times, every 250 accounted for.'
'Sync: a preload shim delays, then fails, the store's syncs; no 250 leaves before the second sync
of its commit has returned, a failed one answers 451, and the same test run against a build
without syncs fails.'"""
import itertools
import os
import random
import smtplib
import threading
import time
import unittest

import world
from world import Hop, Relay, message

ROUNDS = 50


class Crash(unittest.TestCase):
    def test_every_250_is_accounted_for_over_50_kills(self):
        chooser = random.Random(os.environ.get("SMTPD_SEED", "20261124"))
        turns = itertools.count()
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 later" if stage == "rcpt" and next(turns) % 7 == 0 else None)
        relay = Relay(self, hop=hop.port, queue='retry = ["1s", "1s", "2s"]\n', log_level="info")
        accepted, attempted, lock = set(), [0], threading.Lock()
        stop = threading.Event()

        def sender(number):
            while not stop.is_set():
                try:
                    with smtplib.SMTP("127.0.0.1", relay.relay_port, timeout=20) as client:
                        for _ in range(50):
                            with lock:
                                attempted[0] += 1
                                name = f"m{attempted[0]}"
                            size = chooser.choice((100, 2000, 20000, 400000))
                            client.sendmail("s@b.test", [f"{name}@x.test"],
                                            message(subject=name, body="y" * 70 + "\r\n" +
                                                    ("x" * 76 + "\r\n") * (size // 78)))
                            with lock:
                                accepted.add(f"{name}@x.test")
                            if stop.is_set():
                                return
                except (OSError, smtplib.SMTPException):
                    time.sleep(0.02)
        threads = [threading.Thread(target=sender, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(ROUNDS):
            time.sleep(chooser.uniform(0.05, 0.6) * (1 if world.SANITIZER == "none" else 2))
            relay.kill()
            relay.start()
        stop.set()
        for thread in threads:
            thread.join(30)
        self.assertGreater(len(accepted), ROUNDS)

        def missing():
            return accepted - set(hop.delivered())
        world.wait_for(lambda: not missing(), f"{len(missing())} of {len(accepted)} messages",
                       6 * world.PATIENCE)
        relay.wait_empty()
        # Whole: every copy is what was sent.
        for m in hop.messages:
            name = m["recipients"][0].split("@")[0]
            self.assertIn(f"Subject: {name}\r\n".encode(), m["data"])
            self.assertTrue(m["data"].endswith(b"x\r\n") or m["data"].endswith(b"y\r\n") or
                            m["data"].rstrip().endswith((b"x", b"y")), m["data"][-20:])
        # Twice only where an attempt stood behind the final dot at a kill.
        doubles = [r for r, count in hop.delivered().items() if count > 1]
        self.assertLessEqual(len(doubles), ROUNDS * 20)


class Sync(unittest.TestCase):
    def setUp(self):
        preload, folder = world.preload(self, "shim.c")
        self.plan, self.log = os.path.join(folder, "plan"), os.path.join(folder, "log")
        self.set_plan(0)
        self.env = {"LD_PRELOAD": preload, "SHIM_FILE": self.plan, "SHIM_LOG": self.log}

    def relay(self, binary=None):
        return Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n', env=self.env,
                     binary=binary)

    def set_plan(self, delay_ms, fail=0):
        with open(self.plan, "w") as file:
            file.write(f"{delay_ms} {fail}")

    def syncs(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            return [(line.split()[0], int(line.split()[1])) for line in file]

    def commit_is_behind_two_syncs(self, relay):
        """Sends one message with each sync 300 ms late; true when the 250 came behind both."""
        self.set_plan(300)
        time.sleep(0.5)  # a commit that was on its way ends
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<s@x.test>", "DATA"):
                raw.say(line)
            before = len(self.syncs())
            raw.send("Subject: s\r\n\r\nx\r\n.\r\n")
            reply = raw.reply()
            answered = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            behind = [(what, when) for what, when in self.syncs()[before:] if when <= answered]
        self.set_plan(0)
        self.assertTrue(reply.startswith(b"250"), reply)
        kinds = [what for what, _ in behind]
        return "sync" in kinds and "meta" in kinds

    def test_no_250_leaves_before_the_second_sync_has_returned(self):
        self.assertTrue(self.commit_is_behind_two_syncs(self.relay()))

    def test_a_failed_sync_answers_451(self):
        for fail in (1, 2):
            relay = self.relay()
            with relay.raw() as raw:
                for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<s@x.test>", "DATA"):
                    raw.say(line)
                self.set_plan(0, fail)
                raw.send("Subject: s\r\n\r\nx\r\n.\r\n")
                self.assertTrue(raw.reply().startswith(b"451 4.3.0"))
            # The store cannot be trusted any more: the process ends for its supervisor.
            code = relay.wait_exit()
            self.assertEqual(code, 1)
            self.assertTrue(relay.events("server.store_failed"))
            self.set_plan(0)
            relay.start()
            self.assertEqual(relay.queue(), [])
            relay.stop()

    def test_the_test_notices_a_build_without_syncs(self):
        binary = os.environ.get("SMTPD_NO_SYNC_BINARY")
        if not binary or not os.path.exists(binary):
            self.skipTest("smtpd_no_sync is built in the release preset only")
        self.assertFalse(self.commit_is_behind_two_syncs(self.relay(binary)))


if __name__ == "__main__":
    world.main()
