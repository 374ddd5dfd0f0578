"""The large runs of the issue: an outage with 20,000 messages, one message to 1,000 recipients
with two kills, 10,000 connections beside 100 good senders."""
import os
import resource
import selectors
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
import unittest

import world
from test_deliver import send
from world import Dns, Hop, Relay, Sink, message

SLOW = world.SANITIZER != "none"


def source(relay, count, to, sessions=20, size=500):
    subprocess.run([world.tool("smtp-source"), "-s", str(sessions), "-m", str(count), "-l",
                    str(size), "-d", "-f", "a@b.test", "-t", to,
                    f"inet:127.0.0.1:{relay.relay_port}"], check=True, timeout=600,
                   stdout=subprocess.DEVNULL)


class Outage(unittest.TestCase):
    def test_20000_messages_wait_for_a_destination_that_refuses(self):
        """Over ten retry rounds: a handful of connection attempts each, no record written for
        the waiting messages, another destination's rate unchanged."""
        count = 2000 if SLOW else 20000
        dead_port = world.free_port()
        sink = Sink(self)
        relay = Relay(self, queue='retry = ["1h"]\n', log_level="info", extra=(
            f'[[route]]\nname = "dead"\nmatch = ["dead.test"]\nhost = "127.0.0.1"\n'
            f'port = {dead_port}\ntls = "off"\n'
            f'[[route]]\nname = "alive"\nmatch = ["alive.test"]\nhost = "127.0.0.1"\n'
            f'port = {sink.port}\ntls = "off"\n'))
        alive = 200 if SLOW else 2000

        def rate():
            started = time.monotonic()
            source(relay, alive, "a@alive.test")
            delivered = relay.status()["deliver"]["recipients_delivered"]
            world.wait_for(lambda: relay.status()["queue"]["groups_leased"] == 0 and
                           relay.status()["deliver"]["recipients_delivered"] >= delivered,
                           "the others")
            return alive / (time.monotonic() - started)
        before = sorted(rate() for _ in range(3))[1]
        source(relay, count, "d@dead.test")
        world.wait_for(lambda: relay.status()["queue"]["groups_waiting"] >= count, "all to wait")
        status = relay.status()
        connections = status["deliver"]["connections_failed"]
        commits = status["queue"]["commits"]
        rounds = 10
        for _ in range(rounds):
            mark = relay.log_mark()
            relay.command("queue", "retry", relay.queue("--limit", "1")[0]["id"])
            world.wait_for(lambda: relay.event("deliver.destination_backoff", mark), "the round")
        status = relay.status()
        # One commit per `retry` command above, and none for the messages that wait.
        self.assertLessEqual(status["queue"]["commits"] - commits, rounds + 2)
        self.assertLessEqual(status["deliver"]["connections_failed"] - connections, 5 * rounds)
        group = relay.queue("--limit", "1")[0]
        self.assertEqual(group["attempts"], 0)
        after = sorted(rate() for _ in range(3))[1]
        print(f"\nother destination: {before:.0f}/s before, {after:.0f}/s during the outage")
        self.assertEqual(relay.status()["queue"]["groups_waiting"], count)


class ManyRecipients(unittest.TestCase):
    def test_1000_recipients_at_300_domains_with_two_kills(self):
        """Each recipient delivered once or bounced, at most three reports per domain, at most
        ten times the message plus 1 KB per recipient written to disk."""
        port = world.free_port()
        hosts = 10
        zone = "".join(f"d{i} MX 10 mx{i % hosts}\n" for i in range(280))
        zone += "".join(f"d{i} MX 0 .\n" for i in range(280, 290))      # null MX
        zone += "".join(f"mx{i} A 127.0.1.{i + 1}\n" for i in range(hosts))
        dns = Dns(self, {"test": zone})                                 # d290..d299: NXDOMAIN
        state = {}
        lock = threading.Lock()
        flows = threading.Event()
        flows.set()
        self.addCleanup(flows.set)

        def answer(stage, argument, session):
            if stage == "dot":
                flows.wait(world.PATIENCE)
            if stage != "rcpt":
                return None
            user = argument[argument.index("<") + 1:argument.index("@")]
            number = int(user[1:])
            if number % 10 == 3:
                return "550 5.1.1 unknown"
            if number % 10 == 5:
                with lock:
                    state[user] = state.get(user, 0) + 1
                    return "450 4.2.1 busy" if state[user] == 1 else None
            time.sleep(0.002)
            return None
        hops = [Hop(self, answer, host=f"127.0.1.{i + 1}", port=port) for i in range(hosts)]
        preload, folder = world.preload(self, "count_writes.c")
        self.sum = os.path.join(folder, "sum")
        with open(self.sum, "wb") as file:
            file.write(bytes(8))
        relay = Relay(self, dns=dns, delivery=f"port = {port}\nconnections = 2\n",
                      env={"LD_PRELOAD": preload, "COUNT_FILE": self.sum}, log_level="info",
                      queue='retry = ["1s", "1s"]\n', limits="recipients_per_message = 1000\n")
        recipients = [f"u{i}@d{i % 300}.test" for i in range(1000)]
        body = ("x" * 76 + "\r\n") * 1280  # 100 KB
        before = self.written()
        send(relay, recipients, sender="alice@local.test", body=body)
        for _ in range(2):
            target = sum(len(h.messages) for h in hops) + 60
            world.wait_for(lambda: sum(len(h.messages) for h in hops) >= target or
                           not relay.queue("--limit", "1"), "progress")
            flows.clear()  # what was answered before is committed with this one, however slow the disk is
            with relay.relay_client() as client:
                client.sendmail("a@b.test", ["bob@local.test"], message("bob@local.test"))
            relay.kill()
            flows.set()
            relay.start()
            relay.wait_index()
        relay.wait_empty(6 * world.PATIENCE)
        written = self.written() - before
        # By the reports: a kill may take lines of the log along.
        reports, failed = {}, set()
        for report in relay.maildir("alice"):
            for line in report.split(b"\n"):
                if line.startswith(b"Final-Recipient:"):
                    reports.setdefault(line.split(b"@")[1], set()).add(report)
                    failed.add(line.split(b";")[1].strip().decode())
        delivered = {}
        for hop in hops:
            for recipient, count in hop.delivered().items():
                delivered[recipient] = delivered.get(recipient, 0) + count
        for recipient in recipients:
            number = int(recipient[1:recipient.index("@")])
            if number % 10 == 3 or number % 300 >= 280:
                self.assertIn(recipient, failed)
                self.assertNotIn(recipient, delivered)
            else:
                self.assertNotIn(recipient, failed)
                self.assertGreaterEqual(delivered.get(recipient, 0), 1, recipient)
                self.assertLessEqual(delivered[recipient], 3)
        # Twice only where an attempt stood behind the final dot at a kill: 2 connections a host.
        doubles = sum(1 for count in delivered.values() if count > 1)
        self.assertLessEqual(doubles, 2 * 2 * hosts * 4)
        self.assertTrue(reports)
        self.assertLessEqual(max(len(r) for r in reports.values()), 3)
        limit = 10 * (len(body) + 1000 * 1024)
        print(f"\nwritten to disk, beside the log: {written} bytes, at most {limit}")
        self.assertGreater(written, len(body))
        self.assertLessEqual(written, limit)

    def written(self):
        with open(self.sum, "rb") as file:
            return int.from_bytes(file.read(), sys.byteorder)


class ManyConnections(unittest.TestCase):
    def test_10000_connections_while_100_good_senders_keep_90_percent(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        asked = min(10000, hard - 1500)
        if SLOW:
            asked = min(asked, 2000)
        sink = Sink(self)
        relay = Relay(self, hop=sink.port, log_level="notice", limits=(
            "connections = 20000\nconnections_per_address = 20000\n"))
        count = 2000 if SLOW else 20000
        source(relay, count // 4, "warm@x.test", sessions=100)

        def rate():
            started = time.monotonic()
            source(relay, count, "a@x.test", sessions=100)
            return count / (time.monotonic() - started)
        held = []

        def close_all():
            for one in held:
                one.close()
            held.clear()
        self.addCleanup(close_all)

        def open_all():
            for i in range(asked):
                one = socket.socket()
                one.bind((f"127.0.0.{2 + i % 200}", 0))
                one.connect(("127.0.0.1", relay.relay_port))
                held.append(one)
        ratios = []
        for _ in range(3):
            alone = rate()
            open_all()
            world.wait_for(lambda: relay.status()["receive"]["connections_open"] >= asked,
                           f"{asked} connections")
            ratios.append(rate() / alone)
            close_all()
            world.wait_for(lambda: relay.status()["receive"]["connections_open"] < asked // 10,
                           "them to be gone")
        ratios.sort()
        print(f"\n{asked} connections held: good senders at {ratios[1]:.2f} of their rate "
              f"({ratios[0]:.2f} to {ratios[2]:.2f})")
        # No timed assertion here: bench/connections measures and judges the ratio. What must
        # hold is that every good sender was served while the connections were held.
        self.assertEqual(relay.status()["receive"]["connections_refused"], 0)
        relay.wait_empty(4 * world.PATIENCE)
        self.assertEqual(relay.status()["receive"]["messages_accepted"],
                         count // 4 + 6 * count)


if __name__ == "__main__":
    world.main()
