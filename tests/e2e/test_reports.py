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
