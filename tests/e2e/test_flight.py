"""Several transactions on one connection: every refusal at every place, and each recipient once."""
import threading
import unittest

from world import Case, Hop, PATIENCE, Relay, Sink, main, message, wait_for

CHUNKING = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000", "DSN", "ENHANCEDSTATUSCODES",
            "CHUNKING")
COUNT = 12


class Flight(Case):
    def relay(self, hop, delivery="connections = 1"):
        return Relay(self, hop=hop.port, delivery=delivery,
                     queue='retry = ["1s"]\nexpire = "1h"')

    def burst(self, relay, count=COUNT, body="text"):
        with relay.client() as client:
            for at in range(count):
                client.sendmail("app@example.test", [f"r{at}@far.test"],
                                message(f"r{at}@far.test", subject=f"n{at}", body=body))

    def hop(self, answer=None, capabilities=CHUNKING):
        """Greets when all messages wait."""
        gate = threading.Event()

        def gated(stage, argument, session):
            if stage == "connect":
                gate.wait(PATIENCE)
            return answer(stage, argument, session) if answer else None
        hop = Hop(self, gated, capabilities=capabilities)
        hop.gate = gate
        return hop

    def run_burst(self, hop, body="text"):
        relay = self.relay(hop)
        self.burst(relay, body=body)
        hop.gate.set()
        relay.wait_empty()
        return relay

    def expect_each_once(self, hop, relay, doubtful=False):
        counts = hop.delivered()
        self.assertEqual(set(counts), {f"r{at}@far.test" for at in range(COUNT)})
        lost = {e["recipient"] for e in relay.events("deliver.deferred")
                if e["reply"]["enhanced"] == "4.4.2"}
        for recipient, times in counts.items():
            self.assertLessEqual(times, 2 if doubtful and recipient in lost else 1, recipient)
        told = [e["recipient"] for e in relay.events("deliver.delivered")]
        self.assertEqual(sorted(told), sorted(set(told)))
        self.assertEqual(len(told), COUNT)

    def test_whole_messages_go_back_to_back(self):
        hop = self.hop()
        relay = self.run_burst(hop)
        self.expect_each_once(hop, relay)
        chunks = [line for _, line in hop.commands if line.startswith("BDAT")]
        self.assertGreater(len(chunks), COUNT // 2)
        self.assertEqual(hop.connections, 1)
        self.assertTrue(all(b"Subject: n" in m["data"] for m in hop.messages))

    def refuse(self, stage, reply, nth, capabilities=CHUNKING):
        seen = {"n": 0}

        def answer(at, argument, session):
            if at == stage and argument != "MAIL FROM:<>":
                seen["n"] += 1
                if seen["n"] == nth:
                    return reply
            return None
        hop = self.hop(answer, capabilities)
        relay = self.run_burst(hop)
        self.expect_each_once(hop, relay, doubtful=reply == "DROP")
        self.assertEqual(relay.events("deliver.lock_step"), [])

    def test_a_refusal_at_each_place_is_about_its_message_only(self):
        for stage in ("mail", "rcpt", "bdat"):
            for nth in (1, 2, 4, 7):
                with self.subTest(stage=stage, nth=nth):
                    self.refuse(stage, "450 4.2.1 later", nth)

    def test_a_421_or_a_drop_at_each_place_loses_nobody(self):
        for reply in ("421 4.3.2 leaving", "DROP"):
            for stage in ("mail", "rcpt", "bdat"):
                with self.subTest(stage=stage, reply=reply):
                    self.refuse(stage, reply, 5)

    def test_by_data_alone_it_is_the_same(self):
        plain = tuple(word for word in CHUNKING if word != "CHUNKING")
        for stage in ("mail", "rcpt", "data", "dot"):
            with self.subTest(stage=stage):
                self.refuse(stage, "450 4.2.1 later", 4, plain)

    def test_a_host_that_reads_refused_chunks_as_commands_gets_no_message_by_them(self):
        """The smuggled message would be one of the attacker's own making."""
        smuggled = "MAIL FROM:<evil@far.test>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\nX: y\r\n"
        hop = self.hop(lambda stage, argument, session:
                       "550 5.1.1 unknown" if stage == "rcpt" and "<r5@" in argument else None)
        hop.reads_refused = True
        relay = self.run_burst(hop, body=smuggled)
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
        self.assertEqual(len(relay.events("deliver.delivered")), 50)
        self.assertEqual(relay.events("deliver.lock_step"), [])


if __name__ == "__main__":
    main()
