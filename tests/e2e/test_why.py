"""'smtpd queue why ID complete (also in queue show): one line per group that names what holds it
now, and when that clears; the same reasons as a gauge.'"""
import re
import unittest

import world
from test_deliver import send
from test_hold import exposition
from world import Hop, Relay


class Why(unittest.TestCase):
    def expect(self, relay, id, kind, text, until=r"in \d+[smhd]"):
        """The line of `why`, and that of `show`, is the same."""
        pattern = rf"^{id}/0 +\S+ +{kind}, {until}: .*{text}"

        def said():
            line = relay.command("queue", "why", id)
            return re.search(pattern, line, re.M) and line
        line = world.wait_for(lambda: said(), f"{kind}: {text}; it says {relay.command('queue', 'why', id)}")
        self.assertEqual(len([row for row in line.splitlines() if row.startswith(id)]), 1)
        self.assertRegex(relay.command("queue", "show", id), re.compile(pattern, re.M))

    def gauge(self, relay, reason, count):
        line = f'smtpd_queue_waiting_groups{{reason="{reason}"}} {count}\n'
        world.wait_for(lambda: line in exposition(relay), line)

    def test_an_answer_about_the_message_is_a_schedule(self):
        hop = Hop(self, lambda stage, *_: "451 4.2.2 mailbox full" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        id = send(relay, ["a@x.test"])
        self.expect(relay, id, "scheduled", "the last answer was: 451 4.2.2 mailbox full", r"in 5\dm|in 6\dm")
        self.gauge(relay, "scheduled", 1)

    def test_a_destination_rests_with_its_fault_in_words(self):
        relay = Relay(self, hop=world.free_port())
        id = send(relay, ["a@x.test"])
        self.expect(relay, id, "destination", "refused")
        self.gauge(relay, "destination", 1)
        send(relay, ["b@x.test"])  # it comes to what rests
        self.gauge(relay, "destination", 2)

    def test_tls_that_is_required_and_fails_is_named(self):
        hop = Hop(self)  # offers no STARTTLS
        relay = Relay(self, extra=f'[[route]]\nmatch = "*"\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "required"\n')
        id = send(relay, ["a@x.test"])
        self.expect(relay, id, "destination", "TLS|STARTTLS")

    def test_a_look_up_that_fails_is_named(self):
        relay = Relay(self)  # nobody answers at its name server
        id = send(relay, ["a@x.test"])
        self.expect(relay, id, "dns", "")
        self.gauge(relay, "dns", 1)

    def test_an_attempt_says_at_which_step_it_is_and_who_waits_behind_it(self):
        hop = Hop(self, lambda stage, *_: "HANG" if stage == "dot" else None)
        relay = Relay(self, hop=hop.port, delivery="connections = 1\n")
        first = send(relay, ["a@x.test"])
        self.expect(relay, first, "active", "at 127.0.0.1: the whole message was sent: the answer is awaited",
                    "no set time")
        second, third = send(relay, ["b@x.test"]), send(relay, ["c@x.test"])
        self.expect(relay, second, "connections", "all 1 connections to the destination are busy; place 1 of 2",
                    "no set time")
        self.expect(relay, third, "connections", "place 2 of 2", "no set time")

    def test_a_hold_says_until_when(self):
        relay = Relay(self, hop=world.free_port())
        id = send(relay, ["a@x.test"])
        world.wait_for(lambda: relay.event("deliver.destination_backoff"), "a rest")
        relay.command("queue", "hold", id, "--until", "3h")
        self.expect(relay, id, "held", "held by an operator", r"in (2|3)h|in 179m")
        self.gauge(relay, "held", 1)
        self.gauge(relay, "destination", 0)

    def test_all_reasons_together_are_all_that_waits(self):
        hop = Hop(self, lambda stage, *_: "451 4.2.2 mailbox full" if stage == "rcpt" else None)
        relay = Relay(self, queue='retry = ["1h"]\n', extra=(
            f'[[route]]\nname = "full"\nmatch = "full.test"\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "off"\n'
            f'[[route]]\nname = "down"\nmatch = "down.test"\nhost = "127.0.0.1"\nport = {world.free_port()}\ntls = "off"\n'))
        for i, domain in enumerate(("full.test", "full.test", "full.test", "down.test", "down.test")):
            send(relay, [f"r{i}@{domain}"])
        self.gauge(relay, "scheduled", 3)
        self.gauge(relay, "destination", 2)
        relay.command("queue", "hold", "--recipient", "r0@full.test")
        self.gauge(relay, "held", 1)
        text = exposition(relay)
        reasons = re.findall(r'^smtpd_queue_waiting_groups\{reason="(\w+)"\} (\d+)$', text, re.M)
        self.assertEqual(sum(int(count) for _, count in reasons), 5)
        self.assertEqual({reason for reason, _ in reasons},
                         {"scheduled", "held", "dns", "destination", "connections", "suspended", "source", "warm_up", "ready_full", "no_room",
                          "draining", "overflow"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
