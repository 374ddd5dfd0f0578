"""smtpd destination list|show|suspend|resume|flush, as operators type them; and the pace in explain."""
import json
import os
import signal
import unittest

import world
from test_deliver import send
from test_hold import exposition
from world import Dns, Hop, Relay, wait_for

# Two domains behind hosts of one provider, one behind the first host too, one of its own.
ZONES = {"test": "a MX 10 customer-a.prov\nb MX 10 customer-b.prov\nc MX 10 customer-a.prov\nd MX 10 mx.d\n"
                 "customer-a.prov A 127.0.0.21\ncustomer-b.prov A 127.0.0.21\nmx.d A 127.0.0.21\n"}
BLOCK = '[[destination]]\nname = "provider"\nmatch = "*.prov.test"\nmessage_rate = "600/m"\nconnections = 7\n'
REACTION = ('[[reaction]]\ntext = "go away"\naction = "suspend"\nfor = "1h"\n')


class Destinations(unittest.TestCase):
    queue = 'retry = ["1h"]\n'

    def setUp(self):
        self.words = None
        self.hop = Hop(self, lambda stage, *_: self.words if stage == "rcpt" else None, host="127.0.0.21")
        self.relay = Relay(self, dns=Dns(self, ZONES), delivery=f"port = {self.hop.port}\n", queue=self.queue,
                           extra=BLOCK + REACTION, log_level="info")

    def destination(self, *words, code=0):
        return self.relay.command("destination", *words, code=code)

    def told(self, *words, code=0):
        return json.loads(self.destination(*words, "--json", code=code))

    def got(self):
        return {recipient.split("@")[1] for recipient in self.hop.delivered()}

    def wait_got(self, *domains):
        wait_for(lambda: self.got() == set(domains), f"{domains}, not {self.got()}")

    def why(self, domain):
        return wait_for(lambda: next((self.relay.command("queue", "why", group["id"]) for group in self.relay.queue()
                                      if group["recipients"][0].endswith("@" + domain)), None), "its group")

    def wait_suspended(self, domain):
        return wait_for(lambda: (lambda text: "suspended" in text and text)(self.why(domain)), "a suspension")


class Telling(Destinations):
    def test_what_a_destination_does_and_what_failed_last(self):
        self.assertIn("none", self.destination("list"))
        send(self.relay, ["x@a.test"])
        self.wait_got("a.test")
        self.relay.wait_empty()
        self.words = "550 5.1.1 no such user here"
        send(self.relay, ["y@c.test"])
        self.relay.wait_empty()
        self.words = "451 4.3.0 later"
        send(self.relay, ["z@c.test"])
        send(self.relay, ["z@d.test"])
        wait_for(lambda: {g["attempts"] for g in self.relay.queue()} == {1}, "a first try")
        answer = self.told("list")
        # Our own mailbox, which gets the report, is known too, and is no destination of SMTP.
        self.assertEqual((answer["known"], answer["matched"], answer["suspensions"]), (3, 2, []))
        one = next(d for d in answer["destinations"] if d["name"] == "customer-a.prov.test")
        self.assertEqual((one["scope"], one["rule"], one["waiting"], one["lanes"]), ("rule:provider", "provider", 1, 1))
        self.assertEqual((one["failed_class"], one["failed_text"]), ("connection", "451 4.3.0 later"))
        pace = one["paces"][0]
        self.assertEqual((pace["ceiling"], pace["message_rate"], pace["permille"]), (7, "600/m", 1000))
        self.assertLessEqual(pace["window"], 7)
        self.assertEqual([d["name"] for d in self.told("list", "--match", "prov.test")["destinations"]],
                         ["customer-a.prov.test"])
        self.assertEqual(self.told("list", "--limit", "1")["matched"], 2)
        self.assertEqual(len(self.told("list", "--limit", "1")["destinations"]), 1)
        self.assertEqual(self.told("list", "--suspended")["destinations"], [])
        text = self.destination("list")
        self.assertRegex(text, r"DESTINATION +SCOPE +WAITING +RUNNING +CONNS +WINDOW +RATE +LAST FAILURE")
        self.assertRegex(text, r"customer-a\.prov\.test +rule:provider +1 +0 +\d+ +\d/7 +600/m +connection \d+s ago: 451 4\.3\.0 later")
        text = self.destination("show", "provider")
        self.assertRegex(text, r"scope +rule:provider\n")
        self.assertRegex(text, r"pace +\d of 7 connections allowed now, \d in use; messages 600/m; new connections without a limit")
        self.assertIn('settings     of [[destination]] "provider"', text)
        self.assertIn("last failure connection", text)
        for name in ("customer-a.prov.test", "c.test"):
            self.assertEqual([d["name"] for d in self.told("show", name)["destinations"]], ["customer-a.prov.test"])
        self.assertEqual(self.told("show", "nobody.test")["destinations"], [])
        self.assertIn("no mail went there since the start", self.destination("show", "nobody.test"))

    def test_words_that_are_not_understood(self):
        for words in ((), ("list", "x"), ("show",), ("suspend", "a.test"), ("suspend", "a.test", "--for", "soon"),
                      ("resume", "a.test", "--for", "1h"), ("list", "--limit", "0"), ("stop", "a.test")):
            self.destination(*words, code=2)
        self.assertIn("usage: smtpd destination list", self.destination("--help"))
        self.assertIn("as is one of", self.destination("show", "a.test", "--as", "host", code=1))
        self.assertIn("no [[destination]] block has this name", self.destination("resume", "rule:none", code=1))
        self.assertIn("within a year", self.destination("suspend", "a.test", "--for", "500d", code=1))
        self.assertIn("it is no name of", self.destination("suspend", "a b", "--for", "1h", code=1))


class Suspended(Destinations):
    def test_a_domain_waits_over_a_restart_and_a_reload_while_others_of_its_hosts_go(self):
        said = self.destination("suspend", "A.test", "--for", "2h", "--reason", "their wish")
        self.assertRegex(said, r"domain a\.test: suspended until \S+Z \(in 1?\d+m\) by an operator \(domain a\.test\): their wish")
        event = self.relay.wait_event("deliver.suspended")
        self.assertEqual((event["reach"], event["name"], event["message"], event["cause"]),
                         ("domain", "a.test", "their wish", "operator"))
        send(self.relay, ["x@a.test"])
        send(self.relay, ["x@c.test"])
        self.wait_got("c.test")
        self.assertRegex(self.wait_suspended("a.test"), r"by an operator: their wish")
        wait_for(lambda: [g["recipients"] for g in self.relay.queue()] == [["x@a.test"]], "the other's commit")
        self.relay.kill()  # no good-bye: it was on the disk when the answer came
        self.relay.start()
        self.assertIn("their wish", self.wait_suspended("a.test"))
        self.relay.write_config(limits="connections = 500\n")
        mark = self.relay.log_mark()
        self.relay.signal(signal.SIGHUP)
        self.relay.wait_event("server.reloaded", mark)
        send(self.relay, ["y@c.test"])
        wait_for(lambda: "y@c.test" in self.hop.delivered(), "the other domain")
        self.assertEqual(self.got(), {"c.test"})
        self.assertIn("their wish", self.wait_suspended("a.test"))
        self.assertEqual(self.told("show", "a.test")["name"]["suspension"]["reason"], "their wish")
        self.assertIn("Suspended by operators", self.destination("list"))
        self.assertIn("a message waits: suspended", self.relay.command("explain", "new@a.test"))
        # Neither a flush nor a retry ends what an operator wanted.
        self.assertIn("suspended until", self.destination("flush", "a.test"))
        self.relay.command("queue", "retry", "--all")
        self.assertIn("their wish", self.wait_suspended("a.test"))
        self.assertIn("is suspended no more", self.destination("resume", "a.test"))
        self.wait_got("a.test", "c.test")
        self.assertIn("was not suspended", self.destination("resume", "a.test"))
        self.assertEqual(self.hop.delivered(), {"x@a.test": 1, "x@c.test": 1, "y@c.test": 1})
        event = self.relay.wait_event("deliver.resumed")
        self.assertEqual((event["name"], event["cause"]), ("a.test", "operator"))

    def test_a_scope_is_all_its_hosts_and_nothing_else(self):
        self.words = "451 4.3.0 later"
        for domain in ("a.test", "b.test", "d.test"):
            send(self.relay, ["x@" + domain])
        wait_for(lambda: {g["attempts"] for g in self.relay.queue()} == {1}, "a first try")
        self.destination("suspend", "provider", "--for", "1h")
        self.words = None
        self.relay.command("queue", "retry", "--all")
        self.wait_got("d.test")
        for domain in ("a.test", "b.test"):
            self.wait_suspended(domain)
        listed = self.told("list", "--suspended")["destinations"]
        self.assertEqual({d["name"] for d in listed}, {"customer-a.prov.test", "customer-b.prov.test"})
        self.assertEqual({d["suspension"]["name"] for d in listed}, {"rule:provider"})
        self.assertIn('smtpd_suspensions{reach="scope"} 1', exposition(self.relay))
        self.destination("resume", "rule:provider")
        self.wait_got("a.test", "b.test", "d.test")

    def test_a_destination_is_its_hosts_and_its_time_ends_by_itself(self):
        self.destination("suspend", "customer-a.prov.test", "--for", "1h", "--as", "destination")
        for domain in ("a.test", "b.test", "c.test"):
            send(self.relay, ["x@" + domain])
        self.wait_got("b.test")
        self.destination("suspend", "customer-a.prov.test", "--for", "1s", "--as", "destination")
        event = self.relay.wait_event("deliver.resumed")
        self.assertEqual((event["reach"], event["name"], event["cause"]),
                         ("destination", "customer-a.prov.test", "time"))
        self.wait_got("a.test", "b.test", "c.test")
        self.assertEqual(self.told("list")["suspensions"], [])

    def test_a_shorter_one_takes_the_place_of_a_longer_one(self):
        self.destination("suspend", "a.test", "--for", "1d", "--reason", "long")
        send(self.relay, ["x@a.test"])
        self.assertIn("long", self.wait_suspended("a.test"))
        self.destination("suspend", "a.test", "--for", "1s", "--reason", "short")
        self.wait_got("a.test")

    def test_retry_of_one_domain_ends_what_a_reaction_did_to_all(self):
        self.words = "450 4.7.1 go away"
        send(self.relay, ["x@a.test"])
        self.relay.wait_event("deliver.pace_changed")
        wait_for(lambda: "go away" in self.told("show", "provider")["destinations"][0]["paces"][0]["suspended_by"],
                 "the reaction")
        send(self.relay, ["x@b.test"])
        self.assertIn("go away", self.wait_suspended("b.test"))
        self.assertIn("by a reaction to: 450 4.7.1 go away", self.destination("list"))
        self.assertIn("by a reaction to: 450 4.7.1 go away", self.relay.command("explain", "x@b.test"))
        self.words = None
        self.relay.command("queue", "retry", "--domain", "a.test")
        self.wait_got("a.test", "b.test")

    def test_resume_of_a_scope_ends_what_a_reaction_did(self):
        self.words = "450 4.7.1 go away"
        send(self.relay, ["x@a.test"])
        self.relay.wait_event("deliver.pace_changed")
        send(self.relay, ["x@b.test"])
        self.wait_suspended("b.test")
        self.words = None
        self.assertIn("is suspended no more", self.destination("resume", "provider"))
        self.wait_got("b.test")  # that of a.test has its next attempt in an hour
        self.assertIn("1 groups are tried before their time", self.destination("flush", "provider"))
        self.wait_got("a.test", "b.test")
        self.assertEqual(self.relay.wait_event("deliver.flushed")["name"], "rule:provider")


class Shipped(unittest.TestCase):
    """The blocks for large providers that come with the program."""

    def relay(self, **parts):
        self.hop = Hop(self, host="127.0.0.21")
        dns = Dns(self, {"test": "y MX 10 mta5.am0.yahoodns.net.", "yahoodns.net": "mta5.am0 A 127.0.0.21"})
        parts["delivery"] = f"port = {self.hop.port}\n" + parts.get("delivery", "")
        return Relay(self, dns=dns, **parts)

    def explain(self, relay):
        return json.loads(relay.command("explain", "a@y.test", "--json"))

    def test_a_provider_gets_no_more_over_one_connection_than_it_takes(self):
        relay = self.relay()
        said = self.explain(relay)
        self.assertEqual((said["rule"], said["match"]), ("yahoo", ["*.yahoodns.net"]))
        self.assertEqual((said["limits"]["messages_per_connection"], said["limits"]["connections"]), (20, 10))
        with relay.relay_client() as client:
            for i in range(70):
                client.sendmail("app@sender.test", [f"r{i}@y.test"], world.message())
        relay.wait_empty()
        sessions = [message["session"] for message in self.hop.messages]
        self.assertEqual(len(sessions), 70)
        self.assertLessEqual(max(sessions.count(session) for session in sessions), 20)

    def test_the_file_amends_a_block_and_delivery_bounds_them(self):
        relay = self.relay(extra='[[destination]]\nname = "yahoo"\nconnections = 50\n')
        self.assertEqual(self.explain(relay)["limits"]["messages_per_connection"], 20)
        self.assertEqual(self.explain(relay)["limits"]["connections"], 50)
        effective = relay.command("check", "--effective")
        self.assertRegex(effective, r'name = "yahoo" +# \S+smtpd\.toml:\d+')
        self.assertRegex(effective, r'match = \["\*\.yahoodns\.net"\] +# destinations\.toml:\d+')
        self.assertRegex(effective, r'name = "google" +# destinations\.toml:\d+')
        self.assertIn('name = "yahoo"', relay.command("document", "destinations"))
        relay.write_config(extra="", delivery=f"port = {self.hop.port}\nmessages_per_connection = 5\n")
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        self.assertEqual(self.explain(relay)["limits"]["messages_per_connection"], 5)

    def test_they_can_be_left_out(self):
        relay = self.relay(delivery="shipped_destinations = false\n")
        said = self.explain(relay)
        self.assertEqual((said["rule"], said["limits"]["messages_per_connection"]), (None, 1000))


class File(Destinations):
    def test_a_damaged_file_is_put_aside_and_one_that_cannot_be_written_is_told(self):
        path = os.path.join(self.relay.data, "suspensions")
        self.destination("suspend", "a.test", "--for", "2h")
        self.assertTrue(os.path.exists(path))
        self.relay.stop()
        with open(path, "r+b") as file:
            text = file.read().replace(b"a.test", b"b.test")
            file.seek(0)
            file.write(text)
        self.relay.start()
        self.relay.wait_event("deliver.suspensions_unreadable")
        self.assertEqual(self.told("list")["suspensions"], [])
        self.assertTrue(os.path.exists(path + ".damaged"))
        os.mkdir(path + ".new")
        said = self.told("suspend", "a.test", "--for", "2h", code=1)
        self.assertFalse(said["is_kept"])
        self.relay.wait_event("deliver.suspensions_unwritable")
        send(self.relay, ["x@a.test"])
        self.wait_suspended("a.test")  # it holds all the same
        os.rmdir(path + ".new")
        wait_for(lambda: os.path.exists(path), "the file again")
        self.assertEqual(len(self.relay.events("deliver.suspensions_unwritable")), 1)


if __name__ == "__main__":
    world.main()
