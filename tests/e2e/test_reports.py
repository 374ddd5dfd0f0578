"""Issue sentences on reports: RFC 3464, RFC 6533, NOTIFY, RET, ENVID, ORCPT; never to a null
sender; a delay notice."""
import email
import unittest

import world
from test_deliver import send
from world import Hop, Relay, message


def refuse(stage, argument, session):
    if stage == "rcpt" and "<no" in argument:
        return "550 5.1.1 <no such user> here"
    return None


def report_of(relay, user="alice"):
    raw = world.wait_for(lambda: relay.maildir(user), "the report")[0]
    parsed = email.message_from_bytes(raw)
    return raw, parsed, [part for part in parsed.walk() if not part.is_multipart()]


def words_of(parsed):
    """What a person reads, without its line breaks."""
    return " ".join(parsed.get_payload()[0].get_payload().split())


class Reports(unittest.TestCase):
    def test_a_failure_report_has_its_three_parts_and_all_fields(self):
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port)
        send(relay, ["no@x.test"], sender="alice@local.test", options=["RET=HDRS", "ENVID=QQ314+2B1"],
             rcpt_options=["NOTIFY=FAILURE", "ORCPT=rfc822;orig+2Bno@x.test"],
             text="Subject: lost\r\n\r\nthe-body\r\n")
        raw, parsed, _ = report_of(relay)
        self.assertTrue(raw.startswith(b"Return-Path: <>"))
        self.assertEqual(parsed.get_content_type(), "multipart/report")
        self.assertEqual(parsed.get_param("report-type"), "delivery-status")
        self.assertEqual(parsed["Auto-Submitted"], "auto-replied")
        self.assertEqual(parsed["To"], "<alice@local.test>")
        parts = parsed.get_payload()
        self.assertEqual([p.get_content_type() for p in parts],
                         ["text/plain", "message/delivery-status", "text/rfc822-headers"])
        message_fields, recipient = parts[1].get_payload()
        self.assertEqual(message_fields["Original-Envelope-Id"], "QQ314+1")
        self.assertEqual(message_fields["Reporting-MTA"], "dns; relay.test")
        self.assertTrue(message_fields["Arrival-Date"])
        self.assertEqual(recipient["Final-Recipient"], "rfc822; no@x.test")
        self.assertEqual(recipient["Original-Recipient"], "rfc822; orig+no@x.test")
        self.assertEqual((recipient["Action"], recipient["Status"]), ("failed", "5.1.1"))
        self.assertEqual(recipient["Diagnostic-Code"], "smtp; 550 5.1.1 <no such user> here")
        self.assertTrue(recipient["Last-Attempt-Date"])
        self.assertIn("Subject: lost", parts[2].get_payload())
        self.assertNotIn(b"the-body", raw)

    def test_ret_full_returns_the_message(self):
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port)
        send(relay, ["no@x.test"], sender="alice@local.test", options=["RET=FULL"],
             text="Subject: lost\r\n\r\nthe-body\r\n")
        raw, parsed, _ = report_of(relay)
        self.assertEqual(parsed.get_payload()[2].get_content_type(), "message/rfc822")
        self.assertIn(b"the-body", raw)

    def test_notify_never_gets_no_report_and_null_senders_neither(self):
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port)
        send(relay, ["no1@x.test"], sender="alice@local.test", rcpt_options=["NOTIFY=NEVER"])
        send(relay, ["no2@x.test"], sender="alice@local.test", rcpt_options=["NOTIFY=SUCCESS"])
        send(relay, ["no3@x.test"], sender="")
        relay.wait_empty()
        world.wait_for(lambda: len(relay.events("deliver.bounced")) >= 2, "the bounces")
        relay.wait_event("deliver.report_failed")
        self.assertEqual(len(relay.events("deliver.bounced")), 2)
        self.assertEqual(len(relay.events("deliver.report_failed")), 1)
        self.assertEqual(relay.maildir("alice"), [])
        self.assertEqual(relay.status()["deliver"]["reports_queued"], 0)

    def test_success_is_passed_on_or_reported_as_relayed(self):
        hop = Hop(self)  # offers DSN: it is the next hop that reports
        relay = Relay(self, hop=hop.port)
        send(relay, ["yes@x.test"], sender="alice@local.test", options=["ENVID=E1", "RET=HDRS"],
             rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;yes@x.test"])
        relay.wait_empty()
        self.assertIn("RET=HDRS ENVID=E1", hop.messages[0]["mail"])
        self.assertIn("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;yes@x.test", hop.messages[0]["rcpts"][0])
        self.assertEqual(relay.maildir("alice"), [])
        relay.stop()
        plain = Hop(self, capabilities=("PIPELINING",))
        relay = Relay(self, hop=plain.port)
        send(relay, ["yes@x.test"], sender="alice@local.test", rcpt_options=["NOTIFY=SUCCESS"])
        _, parsed, _ = report_of(relay)
        self.assertNotIn("NOTIFY", plain.messages[0]["rcpts"][0])
        self.assertEqual(parsed.get_payload()[1].get_payload()[1]["Action"], "relayed")

    def test_local_delivery_is_reported_as_delivered(self):
        relay = Relay(self)
        send(relay, ["bob@local.test"], sender="alice@local.test", rcpt_options=["NOTIFY=SUCCESS"])
        _, parsed, _ = report_of(relay)
        self.assertEqual(parsed.get_payload()[1].get_payload()[1]["Action"], "delivered")

    def test_one_report_for_a_group(self):
        hop = Hop(self, refuse)
        relay = Relay(self, hop=hop.port)
        send(relay, [f"no{i}@x.test" for i in range(20)], sender="alice@local.test")
        _, parsed, _ = report_of(relay)
        relay.wait_empty()
        self.assertEqual(len(relay.maildir("alice")), 1)
        self.assertEqual(len(parsed.get_payload()[1].get_payload()), 21)

    def test_smtputf8_reports_are_of_rfc_6533(self):
        hop = Hop(self, lambda stage, argument, session:
                  "550 5.1.1 no" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port)
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<alice@local.test> SMTPUTF8",
                         "RCPT TO:<пользователь@x.test>", "DATA"):
                self.assertIn(raw.say(line.encode())[:1], b"23")
            raw.send("Subject: привет\r\n\r\nx\r\n.\r\n".encode())
            self.assertTrue(raw.reply().startswith(b"250"))
        raw, parsed, _ = report_of(relay)
        self.assertEqual(parsed.get_param("report-type"), "global-delivery-status")
        self.assertEqual([p.get_content_type() for p in parsed.get_payload()][1],
                         "message/global-delivery-status")
        self.assertIn("utf-8; пользователь@x.test".encode(), raw)

    def test_a_delay_notice_is_sent_once(self):
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 busy" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port,
                      queue='retry = ["1s"]\nexpire = "1h"\ndelay_notice = "2s"\n')
        send(relay, ["slow@x.test"], sender="alice@local.test")
        _, parsed, _ = report_of(relay)
        fields = parsed.get_payload()[1].get_payload()[1]
        self.assertEqual(fields["Action"], "delayed")
        self.assertTrue(fields["Will-Retry-Until"])
        rounds = len(hop.commands)
        world.wait_for(lambda: len(hop.commands) > rounds + 8, "more attempts", 90)
        self.assertEqual(len(relay.maildir("alice")), 1)

    def test_behind_a_dead_destination_a_delay_notice_is_sent_once_and_nothing_is_spent(self):
        """No attempt at the message itself: the notice comes from the look at what waits behind a
        fault. That a later look went by is seen by a later message that it told of."""
        port = world.free_port()
        relay = Relay(self, queue='retry = ["1h"]\nexpire = "1h"\ndelay_notice = "1s"\n', extra=(
            f'[[route]]\nname = "dead"\nmatch = ["dead.test"]\nhost = "127.0.0.1"\n'
            f'port = {port}\ntls = "off"\n'))

        def told():
            return sorted(text.split(b"Final-Recipient: rfc822; ")[1].split()[0].decode()
                          for text in relay.maildir("alice"))

        def send_and_wait(name):
            send(relay, [f"{name}@dead.test"], sender="alice@local.test")
            world.wait_for(lambda: f"{name}@dead.test" in told(), f"the notice on {name}")
        for number, asked in enumerate(("NOTIFY=NEVER", "NOTIFY=FAILURE", "NOTIFY=SUCCESS,FAILURE")):
            send(relay, [f"quiet{number}@dead.test"], sender="alice@local.test",
                 rcpt_options=[asked])
        send(relay, ["null@dead.test"], sender="")
        send(relay, ["asked@dead.test", "too@dead.test"], sender="alice@local.test",
             rcpt_options=["NOTIFY=DELAY"])
        _, parsed, _ = report_of(relay)
        self.assertEqual(parsed["To"], "<alice@local.test>")
        message_fields, *recipients = parsed.get_payload()[1].get_payload()
        self.assertTrue(message_fields["Arrival-Date"])
        self.assertEqual([r["Final-Recipient"] for r in recipients],
                         ["rfc822; asked@dead.test", "rfc822; too@dead.test"])
        for fields in recipients:
            self.assertEqual((fields["Action"], fields["Status"]), ("delayed", "4.4.1"))
            self.assertTrue(fields["Will-Retry-Until"])
            self.assertIsNone(fields["Diagnostic-Code"])
            self.assertIsNone(fields["Last-Attempt-Date"])
        backoff = relay.events("deliver.destination_backoff")[-1]
        self.assertIn(backoff["message"], words_of(parsed))
        send_and_wait("second")
        relay.stop()
        relay.start()
        for name in ("third", "fourth"):
            send_and_wait(name)
        expected = [f"{name}@dead.test" for name in ("asked", "fourth", "second", "third")]
        self.assertEqual(told(), expected)
        self.assertEqual({group["attempts"] for group in relay.queue()}, {0})
        self.assertEqual(relay.events("deliver.deferred"), [])
        hop = Hop(self, port=port)
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(sum(hop.delivered().values()), 9)
        world.wait_for(lambda: sum(e["recipient"].endswith("@dead.test") for e in
                                   relay.events("deliver.delivered")) >= 9, "their lines in the log")
        self.assertEqual({e["attempts"] for e in relay.events("deliver.delivered")}, {1})
        self.assertEqual(told(), expected)

    def test_a_delay_notice_says_which_fault_the_message_waits_behind(self):
        hop = Hop(self, lambda stage, argument, session:
                  "421 4.3.2 closed today" if stage == "connect" else None)
        relay = Relay(self, queue='retry = ["1h"]\nexpire = "1h"\ndelay_notice = "1s"\n', extra=(
            f'[[route]]\nname = "busy"\nmatch = ["busy.test"]\nhost = "127.0.0.1"\n'
            f'port = {hop.port}\ntls = "off"\n'))  # no name server answers for any other
        send(relay, ["x@busy.test"], sender="alice@local.test")
        send(relay, ["x@nowhere.test"], sender="bob@local.test")
        for user, event, status in (("alice", "deliver.destination_backoff", "4.3.2"),
                                    ("bob", "deliver.dns_backoff", "4.4.3")):
            _, parsed, _ = report_of(relay, user)
            fields = parsed.get_payload()[1].get_payload()[1]
            self.assertEqual((fields["Action"], fields["Status"]), ("delayed", status))
            self.assertIn(relay.events(event)[0]["message"], words_of(parsed))

    def test_hostile_replies_cannot_break_out_of_a_report(self):
        hop = Hop(self, lambda stage, argument, session:
                  b"550-5.1.1 bad\x00\x1b[31m\rAction: delivered\r\n550 5.1.1 --report-x--\r\n"
                  if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port)
        send(relay, ["no@x.test"], sender="alice@local.test")
        raw = world.wait_for(lambda: relay.maildir("alice") or
                             relay.events("deliver.deferred") or
                             relay.events("deliver.destination_backoff"), "an end")[0]
        if isinstance(raw, bytes):
            self.assertNotIn(b"\x1b", raw)
            self.assertEqual(raw.count(b"\nAction: "), 1)

    def test_a_report_that_cannot_be_delivered_ends_in_a_final_line(self):
        hop = Hop(self, lambda stage, argument, session:
                  "550 5.7.1 never" if stage in ("rcpt",) else None)
        relay = Relay(self, hop=hop.port)
        send(relay, ["a@x.test"], sender="b@y.test")
        world.wait_for(lambda: relay.events("deliver.report_failed"), "the line")
        relay.wait_empty()


if __name__ == "__main__":
    world.main()
