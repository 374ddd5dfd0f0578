"""'A roll-out test: a relay with 20,000 queued messages under load is terminated and restarted on
the same volume ten times, with and without SIGKILL at the end of a short grace period: nothing
lost; duplicates at most the attempts that stood behind their final dot at a kill, and equal to what
smtpd_possible_duplicates_total says where the grace period was enough to count.'

The messages at the start come from smtp-source, each to a recipient of its own; the load beside
them keeps books of every 250. The next hop says for every message in which round its final dot came,
so that a second copy tells which restart caused it. The full size: SMTPD_ROLLOUT=full."""
import os
import random
import re
import signal
import smtplib
import subprocess
import threading
import time
import unittest

import world
from test_hold import exposition
from world import Hop, Relay

IS_FULL = os.environ.get("SMTPD_ROLLOUT") == "full"
QUEUED = 20000 if IS_FULL else 1000
CONNECTIONS = 20
CLIENTS = 4

# How a process leaves. Its grace period is that of the file at its start.
ENOUGH, CUT, KILLED = "grace enough", "cut and counted", "killed"
ROUNDS = [ENOUGH, CUT, KILLED, ENOUGH, KILLED, CUT, ENOUGH, KILLED, CUT, ENOUGH] if IS_FULL else \
    [ENOUGH, CUT, KILLED, CUT, KILLED, ENOUGH]
GRACE = {ENOUGH: "60s", CUT: "2s", KILLED: "60s"}


class SlowHop:
    """Takes every message at its final dot, and says so a little later, or not before it is let go."""

    def __init__(self, case):
        self.changed = threading.Condition()
        self.round = 0
        self.is_stuck = True
        self.passes = 0             # answers that are let through all the same
        self.behind_dot = 0         # taken, and not answered yet
        self.copies = {}            # recipient -> rounds of its copies
        self.hop = Hop(case, self.answer)

    def answer(self, stage, argument, session):
        if stage != "dot":
            return None
        with self.changed:
            for recipient in argument["recipients"]:
                self.copies.setdefault(recipient, []).append(self.round)
            self.behind_dot += 1
            number = self.round
            self.changed.notify_all()
        time.sleep(0.01)
        with self.changed:  # one that is stuck waits for the end of its round
            self.changed.wait_for(lambda: not self.is_stuck or self.passes > 0 or self.round != number or
                                  not self.hop.is_open)
            if self.is_stuck and self.passes > 0:
                self.passes -= 1
            self.behind_dot -= 1
            self.changed.notify_all()
        return None

    def stick(self):
        """Until every connection stands behind a final dot: no answer is on its way then. The sender opens as
        many connections as it has learned; each answer that is let through teaches it one more."""
        end = time.monotonic() + 4 * world.PATIENCE
        with self.changed:
            self.is_stuck = True
            while not self.changed.wait_for(lambda: self.passes == 0 and self.behind_dot == CONNECTIONS, 0.2):
                assert time.monotonic() < end, self.behind_dot
                self.passes = self.passes or min(self.behind_dot, 8)
                self.changed.notify_all()
            return self.behind_dot

    def let_go(self):
        with self.changed:
            self.is_stuck = False
            self.changed.notify_all()

    def next_round(self):
        """Whatever was not answered belongs to a process that is gone."""
        with self.changed:
            self.round += 1
            self.passes = 0
            self.is_stuck = False
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.behind_dot == 0, world.PATIENCE), self.behind_dot

    def doubles(self):
        """Round -> how many of its copies were not the last one of their message."""
        counts = {number: 0 for number in range(self.round + 1)}
        with self.changed:
            for rounds in self.copies.values():
                for number in rounds[:-1]:
                    counts[number] += 1
        return counts


class Load:
    """Clients that go on over every restart, and note what got its 250."""

    def __init__(self, relay):
        self.relay = relay
        self.accepted = set()
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.number = 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def name(self):
        with self.lock:
            self.number += 1
            return f"load{self.number}@x.test"

    def run(self):
        while not self.stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.relay.relay_port, timeout=world.PATIENCE) as client:
                    while not self.stop.is_set():
                        name = self.name()
                        client.sendmail("load@b.test", [name], b"Subject: load\r\n\r\nx\r\n")
                        with self.lock:
                            self.accepted.add(name)
                        time.sleep(0.02)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(2 * world.PATIENCE)
        return self.accepted


class RollOut(unittest.TestCase):
    def counter(self):
        return int(re.search(r"^smtpd_possible_duplicates_total (\d+)$", exposition(self.relay), re.M).group(1))

    def start(self, kind):
        self.relay.write_config()
        with open(self.relay.config_path) as file:
            text = file.read()
        with open(self.relay.config_path, "w") as file:
            file.write(text.replace('grace_period = "6s"', f'grace_period = "{GRACE[kind]}"'))
        self.relay.start()

    def fill(self):
        subprocess.run([world.tool("smtp-source"), "-N", "-s", "20", "-m", str(QUEUED), "-l", "1000", "-f", "a@b.test",
                        "-t", "queued@x.test", f"inet:127.0.0.1:{self.relay.relay_port}"],
                       check=True, timeout=600, stdout=subprocess.DEVNULL)
        queue = self.relay.status()["queue"]
        self.assertEqual(queue["groups_waiting"] + queue["groups_leased"], QUEUED)
        names = {r for group in self.relay.queue() for r in group["recipients"]}
        self.assertEqual(len(names), QUEUED)
        return names

    def leave(self, kind):
        """Ends the process; returns how many attempts stood behind their final dot, if that is certain."""
        if kind == ENOUGH:
            self.relay.stop()  # code 0, within its grace period
            return 0
        behind = self.hop.stick()
        if kind == CUT:
            self.relay.stop()
            return behind
        # What was answered before is told to the queue by now; behind this one it is committed too.
        with self.relay.relay_client() as client:
            name = f"barrier{len(self.barriers)}@x.test"
            client.sendmail("load@b.test", [name], b"Subject: barrier\r\n\r\nx\r\n")
            self.barriers.add(name)
        mark = self.relay.log_mark()
        self.relay.signal(signal.SIGTERM)
        world.wait_for(lambda: self.relay.event("server.draining", mark), "the drain")
        self.relay.kill()  # its grace period was longer than what it got
        return behind

    def test_nothing_is_lost_and_what_comes_twice_is_known(self):
        chooser = random.Random(os.environ.get("SMTPD_SEED", "20261125"))
        self.hop = SlowHop(self)
        self.relay = Relay(self, hop=self.hop.hop.port, log_level="notice", start=False,
                           delivery=f"connections = {CONNECTIONS}\n")
        self.start(ROUNDS[0])
        wanted, self.barriers = self.fill(), set()
        load = Load(self.relay)
        behind, counted = [], []
        self.hop.let_go()
        for at, kind in enumerate(ROUNDS):
            time.sleep(chooser.uniform(0.2, 1.0))  # some of the queue goes out
            before = self.counter()
            behind.append(self.leave(kind))
            self.hop.next_round()
            self.start(ROUNDS[at + 1] if at + 1 < len(ROUNDS) else ENOUGH)
            counted.append(self.counter() - before)
        wanted |= load.end() | self.barriers
        self.relay.wait_empty(20 * world.PATIENCE)
        missing = wanted - set(self.hop.copies)
        doubles = self.hop.doubles()
        print(f"{len(wanted)} accepted, {len(missing)} lost, {sum(doubles.values())} twice; by round: " + "; ".join(
            f"{kind}: {behind[at]} behind the dot, {counted[at]} counted, {doubles[at]} twice"
            for at, kind in enumerate(ROUNDS)), flush=True)
        self.assertEqual(missing, set())
        for at, kind in enumerate(ROUNDS):
            self.assertLessEqual(doubles[at], behind[at], (at, kind))
            if kind != KILLED:  # it could count
                self.assertEqual((counted[at], doubles[at]), (behind[at], behind[at]), (at, kind))
        self.assertEqual(doubles[len(ROUNDS)], 0)  # of the process that nobody disturbed
        self.assertGreater(sum(doubles.values()), 0)  # the hop would have seen them


if __name__ == "__main__":
    unittest.main(verbosity=2)
