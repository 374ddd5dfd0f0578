"""'SIGTERM and SIGHUP as DESIGN.md §4 says (all of the file or nothing)': what a leaving relay drops
spends nothing, and what cannot be changed while it runs is said so."""
import os
import re
import signal
import threading
import unittest

import world
from test_deliver import books, send
from world import Hop, Relay

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Leaving(unittest.TestCase):
    STAGES = ("connect", "ehlo", "mail", "rcpt", "data")

    def test_an_attempt_that_sigterm_drops_before_data_spends_nothing(self):
        """DESIGN: 'attempts before DATA are dropped and spend nothing': at every stage before the
        message; the group waits as if it had never been tried, and is delivered once by the next
        process."""
        for stage in self.STAGES:
            with self.subTest(stage=stage):
                self.dropped_at(stage)

    def test_a_signal_at_the_last_moment_is_no_end_of_its_own(self):
        """A SIGHUP or a second SIGTERM between the last word and the exit does not kill it."""
        for number in (signal.SIGHUP, signal.SIGTERM):
            for _ in range(5):
                relay = Relay(self)
                relay.signal(signal.SIGTERM)
                while relay.process.poll() is None:
                    relay.signal(number)
                self.assertEqual(relay.wait_exit(), 0)

    def relay(self, hop, **settings):
        """With an hour of grace: an attempt that is not dropped keeps the process for so long."""
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n', start=False, **settings)
        with open(relay.config_path) as file:
            text = file.read()
        self.assertIn('grace_period = "6s"', text)
        with open(relay.config_path, "w") as file:
            file.write(text.replace('grace_period = "6s"', 'grace_period = "1h"'))
        return relay.start()

    def dropped_at(self, stage):
        reached, is_open = threading.Event(), threading.Event()

        def answer(at, argument, session):
            if at == stage and not is_open.is_set():
                reached.set()
                return "HANG"
            return None
        hop = Hop(self, answer, capabilities=("8BITMIME",))
        relay = self.relay(hop)
        id = send(relay, ["r@x.test", "s@x.test"])
        self.assertTrue(reached.wait(world.PATIENCE))
        world.wait_for(lambda: relay.status()["deliver"]["attempts_running"] == 1, "the attempt")
        mark = relay.log_mark()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait_exit(), 0)
        self.assertEqual(relay.events("deliver.deferred"), [])
        self.assertEqual(relay.events("deliver.destination_backoff"), [])
        self.assertEqual(relay.events("server.possible_duplicates"), [])
        self.assertEqual([e["event"] for e in relay.events(mark=mark)
                          if e["event"].startswith("server.")],
                         ["server.draining", "server.stopping", "server.stopped"])
        # Looked at without a hop: the state on disk.
        relay.write_config(hop=world.free_port())
        relay.start()
        group = world.wait_for(lambda: relay.queue(), "the index")[0]
        self.assertEqual((group["id"], group["attempts"]), (id, 0))
        self.assertEqual((group["last"]["code"], group["last"]["time_ms"]), (0, 0))
        self.assertLessEqual(group["next_attempt_ms"], group["arrival_ms"] + 1000)
        relay.stop()
        is_open.set()
        relay.write_config(hop=hop.port)
        relay.start()
        relay.wait_empty()
        books(self, relay, [hop], ["r@x.test", "s@x.test"])
        world.wait_for(lambda: len(relay.events("deliver.delivered")) >= 2, "both in the log")
        self.assertEqual({e["attempts"] for e in relay.events("deliver.delivered")}, {1})

    def test_what_waits_for_its_turn_spends_nothing_either(self):
        """DESIGN: 'no new lease': messages behind the one connection of their destination."""
        reached = threading.Event()

        def answer(at, argument, session):
            if at == "mail":
                reached.set()
                return "HANG"
            return None
        # A port of ours: once the hop is closed, nobody else may listen there.
        hop = Hop(self, answer, port=world.free_port())
        relay = self.relay(hop, delivery="connections = 1\n")
        recipients = [f"r{i}@x.test" for i in range(20)]
        for recipient in recipients:
            send(relay, [recipient])
        self.assertTrue(reached.wait(world.PATIENCE))
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait_exit(), 0)
        hop.close()
        relay.start()
        world.wait_for(lambda: len(relay.queue()) == 20, "the index")
        self.assertEqual({g["attempts"] for g in relay.queue()}, {0})
        books(self, relay, [hop], recipients)


class Reloading(unittest.TestCase):
    def options(self):
        """Those that the manual says take effect at the next start."""
        with open(os.path.join(ROOT, "docs", "configuration.md")) as file:
            text = file.read()
        found, section = [], ""
        for block in re.split(r"(?m)^(?=##)", text):
            if block.startswith("## "):
                section = block.split("]")[0].strip("# [")
            elif "- takes effect at the next start" in block:
                found.append(section + "." + block.split("`")[1])
        return found

    def reload(self, relay, text):
        with open(relay.config_path, "w") as file:
            file.write(text)
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
        return {e["option"]: e for e in relay.events("server.option_changed", mark)}

    def test_what_needs_a_restart_is_said_at_every_reload_and_changes_nothing(self):
        """'SIGHUP as DESIGN.md §4 says', and the manual's 'takes effect at the next start': each of
        these options is told with a warning until the restart; the file is taken all the same."""
        relay = Relay(self, limits="handshakes = 9\nhandshakes_per_address = 9\n")
        with open(relay.config_path) as file:
            good = file.read()
        changed = good.replace("handshakes = 9", "handshakes = 1").replace(
            "handshakes_per_address = 9", "handshakes_per_address = 1").replace(
            f'data_dir = "{relay.data}"', f'data_dir = "{relay.data}2"\nuser = "nobody"').replace(
            "allow_network_filesystem = true", "allow_network_filesystem = false").replace(
            "[limits]", '[limits]\nmessage_size = "1MiB"')
        fixed = set(self.options())
        self.assertEqual(fixed, {"server.data_dir", "server.user", "limits.handshakes",
                                 "limits.handshakes_per_address", "queue.allow_network_filesystem"})
        told = self.reload(relay, changed)
        self.assertEqual(set(told), fixed | {"limits.message_size"})
        for name, event in told.items():
            self.assertEqual(event["needs_restart"], name in fixed, name)
            self.assertEqual(event["level"], "warning" if name in fixed else "notice", name)
        self.assertEqual((told["limits.handshakes"]["before"],
                          told["limits.handshakes"]["after"]), ("9", "1"))
        # What it says: the folder and the handshakes are the old ones, the size is new.
        self.assertFalse(os.path.exists(relay.data + "2"))
        with open(relay.config_path, "w") as file:
            file.write(good)  # the command line looks for the socket where the file says
        self.handshakes_at_once(relay, 2)
        with relay.raw() as raw:
            self.assertIn(b"SIZE 1048576", raw.say("EHLO c.test"))
        # Again: told again, for it is still so; and the old file needs no restart.
        self.assertEqual(set(self.reload(relay, changed)), fixed)
        self.assertEqual(set(self.reload(relay, good)), {"limits.message_size"})

    def handshakes_at_once(self, relay, count):
        raws = [relay.raw(relay.submission) for _ in range(count)]
        for raw in raws:
            raw.say("EHLO c.test")
            self.assertTrue(raw.say("STARTTLS").startswith(b"220"))
        for raw in raws:
            raw.close()

    def test_it_takes_effect_at_the_next_start(self):
        """The manual: 'takes effect at the next start'."""
        relay = Relay(self, limits="handshakes_per_address = 9\n")
        relay.write_config(limits="handshakes_per_address = 1\n")
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reloaded"), "the reload")
        self.handshakes_at_once(relay, 2)
        relay.stop()
        relay.start()
        with relay.raw(relay.submission) as first, relay.raw(relay.submission) as second:
            first.say("EHLO c.test")
            second.say("EHLO c.test")
            self.assertTrue(first.say("STARTTLS").startswith(b"220"))
            self.assertTrue(second.say("STARTTLS").startswith(b"454"))


if __name__ == "__main__":
    world.main()
