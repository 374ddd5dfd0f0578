"""Several transactions on one connection: every refusal at every place, and each recipient once."""
import os
import re
import socket
import sys
import threading
import time
import unittest

from world import Case, Hop, PATIENCE, Relay, Sink, main, message, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
import peers  # noqa: E402
from peers.postfix import Postfix  # noqa: E402

PLAIN = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000", "DSN", "ENHANCEDSTATUSCODES")
CHUNKING = (*PLAIN, "CHUNKING")
COUNT = 12


def name_of(text):
    """The local part of an address that a test made, as "n3-7" or "n3-7b"."""
    at = text.find("n")
    return text[at:text.index("@", at)]


class Windows(Case):
    """Rounds of messages over one connection. In each the hop says nothing more from one message on
    until those behind it have arrived too: they are one window. Then it refuses one of them."""

    window = 4
    earning = 6     # messages before: the window of a connection begins with two
    capabilities = CHUNKING
    end = b"BDAT "  # what the hop has of a message whose turn has come

    def setUp(self):
        self.refusals = {}   # (stage, name) -> reply: once
        self.refused = set()
        self.rounds_sent = 0
        self.held = set()
        self.problems = []
        self.sent = {}       # recipient -> subject
        self.hop = Hop(self, self.answer, capabilities=self.capabilities)
        self.relay = Relay(self, hop=self.hop.port, delivery="connections = 1",
                           queue='retry = ["1s"]\nexpire = "1h"', log_level="info")

    def answer(self, stage, argument, session):
        if stage == "connect":  # or each of several small answers waits for the ACK of the one before
            session.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if argument == "MAIL FROM:<>":  # the probe
            return None
        if stage in ("bdat", "dot"):
            name = name_of(argument["sender"])
        elif stage in ("mail", "rcpt"):
            name = session.name = name_of(argument)
        elif stage == "data":
            name = session.name.rstrip("ab")
        else:
            return None
        self.hold(stage, name, session)
        reply = self.refusals.pop((stage, name), None)
        if reply:
            self.refused.add(name)
        return reply

    def hold(self, stage, name, session):
        number, at = name[1:].rstrip("ab").split("-")
        if stage == "mail" and at == "0":
            wait_for(lambda: self.rounds_sent > int(number), "all of a round to be sent")
        if stage != self.stage_held or int(at) != self.earning or name in self.held:
            return
        self.held.add(name)
        end = time.monotonic() + PATIENCE
        while session.unread().count(self.end) < self.window:
            if time.monotonic() > end:
                self.problems.append(f"{name}: {session.unread()!r}")
                return
            time.sleep(0.002)

    stage_held = "mail"

    def round(self, number, refusals):
        """`refusals`: (stage, place in the window, suffix of the recipient) -> reply."""
        for (stage, place, suffix), reply in refusals.items():
            self.refusals[stage, f"n{number}-{self.earning + place}{suffix}"] = reply
        with self.relay.client() as client:
            for at in range(self.earning + self.window + 1):
                name = f"n{number}-{at}"
                recipients = [f"{name}{suffix}@far.test" for suffix in "ab"]
                client.sendmail(f"{name}@example.test", recipients,
                                message(recipients[0], subject=name, body=f"body of {name}"))
                self.sent.update((recipient, name) for recipient in recipients)
        self.rounds_sent = number + 1
        wait_for(lambda: not self.refusals, f"the refusals of round {number}: {refusals}")

    def finish(self, is_doubtful=False):
        """`is_doubtful`: an answer may be lost on its way; then it was said so."""
        self.relay.wait_empty()
        wait_for(lambda: len(self.relay.events("deliver.delivered")) >= len(self.sent), "all in the log")
        self.assertEqual(self.problems, [])
        counts = self.hop.delivered()
        self.assertEqual(set(counts), set(self.sent))
        lost = {e["recipient"] for e in self.relay.events("deliver.deferred")
                if e["reply"]["enhanced"] == "4.4.2"} if is_doubtful else set()
        self.assertEqual([name for name, count in counts.items()
                          if count != 1 and name_of(name).rstrip("ab") not in
                          {name_of(one).rstrip("ab") for one in lost}], [])
        self.assertLessEqual(max(counts.values()), 2)
        told = sorted(e["recipient"] for e in self.relay.events("deliver.delivered"))
        self.assertEqual(told, sorted(self.sent))
        for one in self.hop.messages:
            name = name_of(one["sender"])
            self.assertEqual({self.sent[r] for r in one["recipients"]}, {name})
            self.assertTrue(one["data"].endswith(f"\r\n\r\nbody of {name}\r\n".encode()), name)
        self.assertEqual(self.relay.events("deliver.lock_step"), [])
        return [name_of(e["recipient"]).rstrip("ab") for e in self.relay.events("deliver.deferred")]


class ByChunks(Windows):
    def places(self):
        return range(self.window + 1)

    def test_a_refusal_at_each_place_is_about_what_was_refused_alone(self):
        later = "450 4.2.1 later"
        expected = []
        number = 0
        for place in self.places():
            for refused in ("mail", "a", "b", "ab", "bdat"):
                stage = refused if refused in ("mail", "bdat") else "rcpt"
                suffixes = ("",) if stage != "rcpt" else refused
                self.round(number, {(stage, place, suffix): later for suffix in suffixes})
                expected.append(f"n{number}-{self.earning + place}")  # one event a group
                number += 1
        self.assertEqual(sorted(self.finish()), sorted(expected))
        self.assertEqual(self.hop.connections, 1)

    def test_several_refusals_beside_each_other(self):
        later = "450 4.2.1 later"
        number = 0
        for first in ("mail", "rcpt", "bdat"):
            for second in ("mail", "rcpt", "bdat"):
                self.round(number, {(stage, place, suffix): later
                                    for place, stage in ((1, first), (2, second), (4, first))
                                    for suffix in ("ab" if stage == "rcpt" else ("",))})
                number += 1
        self.assertEqual(len(self.finish()), number * 3)
        self.assertEqual(self.hop.connections, 1)

    def ends(self, reply, is_doubtful=False):
        number = 0
        for place in self.places():
            for stage, suffix in (("mail", ""), ("rcpt", "a"), ("rcpt", "b"), ("bdat", "")):
                self.round(number, {(stage, place, suffix): reply})
                number += 1
        deferred = self.finish(is_doubtful)
        self.assertGreater(self.hop.connections, number)
        return deferred

    def test_behind_a_421_that_ends_it_nobody_was_tried(self):
        self.hop.leaves_at_421 = True
        deferred = self.ends("421 4.3.2 leaving")
        self.assertEqual(set(deferred) - self.bare(), set())

    def test_who_goes_on_behind_a_421_is_heard(self):
        deferred = self.ends("421 4.3.2 leaving, later")
        self.assertEqual(set(deferred) - self.bare(), set())

    def bare(self):
        return {name.rstrip("ab") for name in self.refused}

    def test_a_drop_at_each_place_loses_nobody(self):
        self.ends("DROP", is_doubtful=True)


class ByData(Windows):
    """Without CHUNKING the next transaction's commands come behind the dot, no more than these."""

    window = 1
    earning = 3
    capabilities = PLAIN
    end = b"DATA\r\n"
    stage_held = "dot"

    def rounds(self, reply):
        number = 0
        for stage, place, suffix in (("dot", 0, ""), ("mail", 1, ""), ("rcpt", 1, "a"),
                                     ("rcpt", 1, "b"), ("data", 1, ""), ("dot", 1, "")):
            self.round(number, {(stage, place, suffix): reply})
            number += 1
        return self.finish(is_doubtful=reply == "DROP")

    def test_a_refusal_at_each_place_is_about_what_was_refused_alone(self):
        self.assertEqual(len(self.rounds("450 4.2.1 later")), 6)

    def test_behind_a_421_at_each_place_nobody_is_lost(self):
        self.hop.leaves_at_421 = True
        self.rounds("421 4.3.2 leaving")

    def test_a_drop_at_each_place_loses_nobody(self):
        self.rounds("DROP")


class Refusing(Postfix):
    """A whole Postfix, which refuses at every place and discards what it took. After twenty refusals in
    one session it says 421."""

    def main_cf(self):
        return super().main_cf() + """
relayhost =
default_transport = discard:
smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access regexp:/etc/postfix/senders
smtpd_recipient_restrictions = check_recipient_access regexp:/etc/postfix/recipients, permit_mynetworks, reject
smtpd_relay_restrictions =
header_checks = regexp:/etc/postfix/headers
smtpd_error_sleep_time = 0
"""

    def prepare(self):
        self.write("etc/postfix/senders", "/^mail/ 550 5.7.1 no\n")
        self.write("etc/postfix/recipients", "/^rcpt.*a@/ 550 5.1.1 no\n/^none/ 550 5.1.1 no\n")
        self.write("etc/postfix/headers", "/^Subject: bdat/ REJECT no\n")
        return super().prepare()


class RealPostfix(Case):
    kinds = ("good", "mail", "rcpt", "none", "good", "bdat", "mail", "none", "bdat", "bdat", "rcpt")
    rounds = 6
    taken = {"good": "ab", "rcpt": "b"}

    def test_what_it_refuses_in_a_window_it_refuses_alone(self):
        try:
            postfix = Refusing(peers.Wishes(9))
        except peers.Missing as missing:
            self.skipTest(f"Postfix: {missing}")
        self.addCleanup(postfix.close)
        # A process of Postfix that hangs before its greeting is left for another one.
        relay = Relay(self, hop=postfix.port, queue='retry = ["1s"]',
                      delivery='connections = 1\ngreeting_timeout = "10s"\n')
        expected = {}
        relay.command("destination", "suspend", "route:hop", "--for", "1h")  # all of it waits
        with relay.client() as client:
            for at in range(self.rounds * len(self.kinds)):
                kind = self.kinds[at % len(self.kinds)]
                recipients = [f"{kind}{at}{suffix}@far.test" for suffix in "ab"]
                client.sendmail(f"{kind}{at}@example.test", recipients,
                                message(recipients[0], subject=f"{kind}{at}"),
                                rcpt_options=["NOTIFY=NEVER"])
                for recipient, suffix in zip(recipients, "ab"):
                    expected[recipient] = suffix in self.taken.get(kind, "")
        relay.command("destination", "resume", "route:hop")
        relay.wait_empty(120)

        def told():
            return {e["recipient"]: e["event"] == "deliver.delivered"
                    for name in ("deliver.delivered", "deliver.bounced") for e in relay.events(name)}
        wait_for(lambda: len(told()) >= len(expected), "all in the log")
        self.assertEqual(told(), expected)
        self.assertEqual(relay.events("deliver.lock_step"), [])
        wait_for(lambda: postfix.waiting() == 0, "Postfix to be done")
        with open(postfix.path("log")) as log:
            lines = log.read().splitlines()
        sent = [re.search("to=<([^>]*)>", line).group(1) for line in lines
                if "postfix/discard" in line and "status=sent" in line]
        self.assertEqual(sorted(sent), sorted(r for r, is_taken in expected.items() if is_taken))
        counts = {family["name"]: family for family in relay.status()["metrics"]}
        in_flight = counts["smtpd_delivery_messages_in_flight_total"]["samples"][0]["value"]
        self.assertGreater(in_flight, 10)  # else nothing was seen here


class Flight(Case):
    def burst(self, relay, count=COUNT, body="text"):
        with relay.client() as client:
            for at in range(count):
                client.sendmail("app@example.test", [f"r{at}@far.test"],
                                message(f"r{at}@far.test", subject=f"n{at}", body=body))

    def test_a_host_that_reads_refused_chunks_as_commands_gets_no_message_by_them(self):
        """The smuggled message would be one of the attacker's own making."""
        smuggled = "MAIL FROM:<evil@far.test>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\nX: y\r\n"
        gate = threading.Event()

        def answer(stage, argument, session):
            if stage == "connect":
                gate.wait(PATIENCE)
            return "550 5.1.1 unknown" if stage == "rcpt" and "<r5@" in argument else None
        hop = Hop(self, answer, capabilities=CHUNKING)
        hop.reads_refused = True
        relay = Relay(self, hop=hop.port, delivery="connections = 1",
                      queue='retry = ["1s"]\nexpire = "1h"')
        self.burst(relay, body=smuggled)
        gate.set()
        relay.wait_empty()
        self.assertNotIn("victim@far.test", hop.delivered())
        self.assertFalse([line for _, line in hop.commands if line == "MAIL FROM:<evil@far.test>"])
        event = relay.wait_event("deliver.lock_step")
        self.assertIn("221", event["message"])
        counts = hop.delivered()
        self.assertEqual(counts.pop("app@example.test"), 1)  # the report about r5
        self.assertEqual(len(counts), COUNT - 1)
        self.assertEqual(set(counts.values()), {1})

    def test_postfix_takes_messages_that_ride(self):
        sink = Sink(self)
        relay = Relay(self, hop=sink.port, delivery="connections = 1")
        self.burst(relay, 50)
        relay.wait_empty()
        wait_for(lambda: len(relay.events("deliver.delivered")) >= 50, "all in the log")
        self.assertEqual(len(relay.events("deliver.delivered")), 50)
        self.assertEqual(relay.events("deliver.lock_step"), [])


if __name__ == "__main__":
    main()
