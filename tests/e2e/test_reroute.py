"""'smtpd queue ... reroute by domain, sender, tenant, source or age, live and durable across restarts'."""
import json
import signal
import unittest

import world
from test_hold import Held
from world import Hop


class Rerouting(Held):
    """The hop of all mail refuses for now; another one, of a route that matches nothing, takes it."""

    def setUp(self):
        super().setUp()
        self.other = Hop(self)
        self.route = f'''[[route]]
name = "other"
match = "never.test"
host = "127.0.0.1"
port = {self.other.port}
tls = "off"
'''
        self.reload(self.route)

    def reload(self, extra):
        mark = self.relay.log_mark()
        self.relay.write_config(extra=extra)
        self.relay.signal(signal.SIGHUP)
        world.wait_for(lambda: self.relay.event("server.reloaded", mark), "the reload")

    def test_a_selection_goes_another_way_at_once(self):
        self.fill("a@x.test", "b@y.test", "c@x.test", sender="ann@from.test")
        said = self.relay.command("queue", "reroute", "--recipient", "a@x.test", "--to", "other", "--dry-run")
        self.assertIn("1 group to reroute (dry run: nothing is changed)", said)
        self.assertEqual(self.other.delivered(), {})
        counts = self.change("reroute", "--recipient", "a@x.test", "--to", "other")
        self.assertEqual((counts["matched"], counts["changed"]), (1, 1))
        world.wait_for(lambda: self.other.delivered() == {"a@x.test": 1}, "the rerouted one")
        event = self.relay.wait_event("queue.rerouted")
        self.assertEqual((event["recipient"], event["to"]), ("a@x.test", "route:other"))
        world.wait_for(lambda: {g["recipients"][0] for g in self.relay.queue()} == {"b@y.test", "c@x.test"},
                       "its end")  # the next hop has it a moment before
        self.assertEqual(self.hop.delivered(), {})

    def test_it_lasts_over_a_kill_and_own_takes_it_back(self):
        self.other.close()
        [id] = self.fill("a@x.test")
        self.assertEqual(self.change("reroute", "--all", "--to", "other")["changed"], 1)
        self.relay.kill()
        self.relay.start()
        world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "the index")
        self.assertEqual(self.relay.queue()[0]["lane"], "route:other")
        self.is_open = True

        def again():  # an attempt may be in the way
            said = self.relay.command("queue", "reroute", id, "--to", "other")
            self.assertIn("0 done", said)
            return "1 left as they were: they go that way already" in said
        world.wait_for(again, "no attempt in the way")
        self.assertEqual(self.change("reroute", "--all", "--to", "own")["changed"], 1)
        world.wait_for(lambda: self.hop.delivered() == {"a@x.test": 1}, "its own way")
        self.relay.wait_empty()

    def test_a_removed_route_gives_its_mail_back_to_its_own_way(self):
        self.other.close()
        self.fill("a@x.test")
        self.change("reroute", "--all", "--to", "other")
        self.is_open = True
        self.reload("")
        world.wait_for(lambda: self.relay.command("queue", "retry", "--all") and self.hop.delivered() == {"a@x.test": 1},
                       "its own way")

    def test_what_is_held_is_rerouted_and_stays_held(self):
        self.fill("a@x.test")
        self.change("hold", "--all")
        self.assertEqual(self.change("reroute", "--all", "--to", "other")["changed"], 1)
        self.assertEqual(self.states(), {"a@x.test": "held"})
        self.assertEqual(self.other.delivered(), {})
        self.change("release", "--all")
        world.wait_for(lambda: self.other.delivered() == {"a@x.test": 1}, "the released one")

    def test_many_are_rerouted(self):
        """More than a batch."""
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            for i in range(1050):
                raw.send(f"MAIL FROM:<s@x.test>\r\nRCPT TO:<r{i}@x{i % 3}.test>\r\nDATA\r\n")
                self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250", b"250", b"354"])
                raw.send(b"Subject: x\r\n\r\n.\r\n")
                self.assertEqual(raw.reply()[:3], b"250")
        left = 1050
        while left:
            counts = json.loads(self.relay.command("queue", "reroute", "--all", "--to", "other", "--json"))
            left -= counts["changed"]
        world.wait_for(lambda: len(self.other.delivered()) == 1050, "all of them")
        self.assertEqual(set(self.other.delivered().values()), {1})
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {})

    def test_words_that_do_not_fit(self):
        [id] = self.fill("a@x.test")
        self.assertIn("route is the name of a [[route]], or null", self.relay.command("queue", "reroute", id, "--to", "nowhere", code=1))
        self.assertIn("reroute needs --to", self.relay.command("queue", "reroute", id, code=2))
        self.assertIn("reroute needs --to", self.relay.command("queue", "retry", id, "--to", "other", code=2))


del Held  # a base class, not a case


if __name__ == "__main__":
    unittest.main(verbosity=2)
