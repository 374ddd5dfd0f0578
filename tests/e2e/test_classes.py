"""Issue 5 point 7, first sentence: every failure has its class, by rules that operators may change
while it runs: in the log, the metrics, the report, queue show; and what smtpd classify says."""
import json
import os
import signal
import unittest

import world
from test_deliver import send
from test_metrics import Scrape
from test_reports import report_of
from world import Hop, Relay, free_port

GMAIL = ("550-5.1.1 The email account that you tried to reach does not exist.\r\n"
         "550 5.1.1 https://support.google.com/mail/?p=NoSuchUser a1-20020 - gsmtp")
BLOCKED = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"


def refuse(stage, argument, session):
    if stage == "rcpt" and "<gone" in argument:
        return GMAIL
    if stage == "rcpt" and "<full" in argument:
        return "452 4.2.2 The email account that you tried to reach is over quota."
    if stage == "rcpt" and "<odd" in argument:
        return "550 5.0.0 Today's word is PELICAN for you"
    return None


class Classes(unittest.TestCase):
    def test_a_class_stands_in_the_log_the_report_the_metrics_and_the_queue(self):
        port = free_port()
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port, extra=f'[admin]\nlisten = "127.0.0.1:{port}"\n')
        send(relay, ["gone@x.test"], sender="alice@local.test")
        self.assertEqual(relay.wait_event("deliver.bounced")["class"], "bad-mailbox")
        _, parsed, _ = report_of(relay)
        _, recipient = parsed.get_payload()[1].get_payload()
        self.assertEqual(recipient["X-Smtpd-Class"], "bad-mailbox")
        send(relay, ["full@x.test"], sender="bob@local.test")
        deferred = relay.wait_event("deliver.deferred")
        self.assertEqual(deferred["class"], "quota")

        def last():  # the log tells of it before the commit
            shown = json.loads(relay.command("queue", "show", deferred["id"], "--json"))
            return shown[0]["last"] if shown[0]["last"]["code"] else None
        self.assertEqual(world.wait_for(last, "the answer in the queue")["class"], "quota")
        self.assertIn("(quota): 452 4.2.2", relay.command("queue", "show", deferred["id"]))
        scrape = Scrape(port)
        self.assertEqual(scrape("recipients_not_delivered_total", result="failed",
                                **{"class": "bad-mailbox"}), 1)
        self.assertEqual(scrape("recipients_not_delivered_total", result="deferred",
                                **{"class": "quota"}), 1)

    def test_a_destination_backs_off_with_the_class_of_its_greeting(self):
        port = free_port()
        hop = Hop(self, lambda stage, argument, session: BLOCKED if stage == "connect" else None)
        relay = Relay(self, hop=hop.port, extra=f'[admin]\nlisten = "127.0.0.1:{port}"\n')
        send(relay, ["a@x.test"], sender="alice@local.test")
        self.assertEqual(relay.wait_event("deliver.destination_backoff")["class"], "reputation")
        self.assertEqual(Scrape(port)("destination_backoffs_total", **{"class": "reputation"}), 1)

    def test_a_connection_that_is_refused_needs_no_rule(self):
        relay = Relay(self, hop=free_port())
        send(relay, ["a@x.test"], sender="alice@local.test")
        self.assertEqual(relay.wait_event("deliver.destination_backoff")["class"], "connection")

    def test_rules_change_at_a_reload_all_or_nothing(self):
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port)
        rules = os.path.join(relay.folder, "classes.toml")

        def next_class():
            mark = relay.log_mark()
            send(relay, ["odd@x.test"], sender="alice@local.test")
            return relay.wait_event("deliver.bounced", mark)["class"]

        def reload(event):
            mark = relay.log_mark()
            relay.signal(signal.SIGHUP)
            return relay.wait_event(event, mark)
        self.assertEqual(next_class(), "other")
        relay.write_config(extra='[[class]]\nclass = "content"\ntext = "word is * for"\n')
        reload("server.reloaded")
        self.assertEqual(next_class(), "content")
        with open(rules, "w") as file:
            file.write('class = [\n  { class = "greylisted", text = "pelican" },\n]\n')
        relay.write_config(extra="", delivery=f'classes_file = "{rules}"\n')
        reload("server.reloaded")
        self.assertEqual(next_class(), "greylisted")
        with open(rules, "w") as file:
            file.write('class = [\n  { class = "greylisted", code = "pelican" },\n]\n')
        reload("server.reload_failed")
        self.assertEqual(next_class(), "greylisted")
        self.assertIn(f"{rules}:2:34: ", relay.command("check", relay.config_path, code=1))
        problem = json.loads(relay.command("check", relay.config_path, "--json", code=1))[0]
        self.assertEqual((problem["file"], problem["line"], problem["column"]), (rules, 2, 34))


class Command(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(self, start=False,
                           extra='[[class]]\nclass = "rate"\nhost = "*.slow.test"\ncode = "4xx"\n')

    def test_a_reply_of_the_command_line(self):
        said = self.relay.command("classify", "550", "5.1.1", "User unknown")
        self.assertRegex(said, r"^bad-mailbox  classes\.toml:\d+  550 5\.1\.1 User unknown\n$")
        said = self.relay.command("classify", GMAIL)
        self.assertIn("does not exist. https://", said)
        self.assertIn("no rule fits", self.relay.command("classify", "550 pelican"))

    def test_rules_of_the_configuration_and_the_host(self):
        line = self.relay_line("[[class]]")
        said = self.relay.command("classify", "--host", "MX.slow.test", "450 4.2.2 later")
        self.assertTrue(said.startswith(f"rate  {self.relay.config_path}:{line}  450"), said)
        self.assertTrue(self.relay.command("classify", "450 4.2.2 later").startswith("quota"))
        self.assertIn("--host", self.relay.command("classify", "--host", code=2))
        self.assertIn("usage", self.relay.command("classify", "--what", "550 x", code=2))

    def relay_line(self, text):
        with open(self.relay.config_path) as file:
            return file.read().splitlines().index(text) + 1

    def test_standard_input_as_json(self):
        said = self.relay.command("classify", "--json", stdin=(
            "550 5.1.1 no\r\n\r\n421-4.7.28 Gmail has detected an unusual rate of\r\n"
            "421 4.7.28 unsolicited mail\n550 pelican\n550-5.2.2 mailbox full"))
        found = [json.loads(line) for line in said.splitlines()]
        self.assertEqual([f["class"] for f in found], ["bad-mailbox", "rate", "other", "quota"])
        self.assertEqual((found[0]["file"], found[2]["file"], found[2]["line"]),
                         ("classes.toml", None, None))
        self.assertEqual(found[1]["reply"], "421 4.7.28 Gmail has detected an unusual rate of "
                                            "unsolicited mail")

    def test_what_is_no_reply_is_told_with_its_line(self):
        said = self.relay.command("classify", stdin="550 5.1.1 no\nhello\n550 5.2.2 no\n", code=1)
        self.assertIn("line 2 is no reply", said)
        self.assertIn("quota", said)

    def test_a_configuration_with_errors_is_told(self):
        self.relay.write_config(extra='[[class]]\nclass = "spam"\ntext = "x"\n')
        self.assertIn("is none of bad-mailbox|", self.relay.command("classify", "550 x", code=1))


if __name__ == "__main__":
    world.main()
