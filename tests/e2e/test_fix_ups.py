"""'Submission fix-ups (RFC 6409 8): Date and Message-ID added when missing, Bcc removed,
Return-Path removed, header add/remove rules per listener and user, hide-the-client option for
Received; every other byte passes untouched.'"""
import re
import subprocess
import unittest

import world
from world import Hop, Relay

ODD = (b"from : \"A  B\" <a@b.test>\r\nTO:\tx@y.test,\r\n  \tz@y.test \r\nX-Odd:   kept \r\n"
       b"Subject: =?utf-8?q?=C3=A9?= caf\xc3\xa9\r\nX-Empty:\r\n")
BODY = b"\r\n..dots\r\n.\r\n \r\n\ttab\r\ntrailing  \r\n" + bytes(range(128, 256)) + b"\r\n\r\n"


class FixUps(unittest.TestCase):
    def submit(self, relay, data, client=None):
        own = client or relay.client()
        own.ehlo()
        own.mail("a@b.test", ["BODY=8BITMIME"])
        own.rcpt("r@x.test")
        own.docmd("DATA")
        stuffed = re.sub(rb"(?m)^\.", b"..", data)
        own.send(stuffed + b".\r\n")
        code, text = own.getreply()
        self.assertEqual(code, 250, text)
        own.quit()
        hop = self.hop
        count = self.sent = getattr(self, "sent", 0) + 1
        world.wait_for(lambda: len(hop.messages) >= count, "the delivery")
        got = hop.messages[-1]["data"]
        head, rest = re.match(rb"(?s)(Received: .*?\r\n)(?![ \t])(.*)", got).groups()
        return head, rest

    def relay(self, **options):
        self.hop = Hop(self)
        return Relay(self, hop=self.hop.port, **options)

    def test_every_other_byte_passes_untouched(self):
        """'every other byte passes untouched': odd but legal fields, dots, 8-bit, blanks."""
        relay = self.relay()
        data = ODD + b"date: then\r\nMESSAGE-id: <m@b.test>\r\n" + BODY
        _, rest = self.submit(relay, data)
        self.assertEqual(rest, data)

    def test_what_is_missing_is_added(self):
        """'Date and Message-ID added when missing', behind the fields that are there."""
        relay = self.relay()
        _, rest = self.submit(relay, ODD + BODY)
        self.assertRegex(rest, rb"(?s)\A" + re.escape(ODD) + rb"Date: \w{3}, .*\r\n"
                         rb"Message-ID: <[^<>@\s]+@relay\.test>\r\n" + re.escape(BODY) + rb"\Z")
        # Not for what others relay through us.
        _, rest = self.submit(relay, ODD + BODY, relay.relay_client())
        self.assertEqual(rest, ODD + BODY)

    def test_bcc_and_return_path_are_removed(self):
        """'Bcc removed, Return-Path removed': with their folded lines, by swaks too."""
        relay = self.relay()
        dated = b"Date: then\r\nMessage-ID: <m@b.test>\r\n"
        _, rest = self.submit(relay, b"Return-Path: <z@b.test>\r\nbcc: one@b.test,\r\n\ttwo@b.test\r\n"
                              + ODD + b"RESENT-BCC: three@b.test\r\n" + dated + BODY)
        self.assertEqual(rest, ODD + dated + BODY)
        done = subprocess.run(
            ["swaks", "--server", "127.0.0.1", "--port", str(relay.submission), "--tls", "--auth",
             "PLAIN", "--auth-user", world.USER, "--auth-password", world.PASSWORD, "--from",
             "a@b.test", "--to", "r@x.test", "--header", "Bcc: hidden@b.test"], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("Bcc: hidden@b.test", done.stdout)
        world.wait_for(lambda: len(self.hop.messages) == 2, "the delivery")
        self.assertNotIn(b"hidden@b.test", self.hop.messages[1]["data"])

    def test_fix_ups_can_be_switched_off(self):
        """The options of [submission] are obeyed; Return-Path goes all the same."""
        relay = self.relay(extra="[submission]\nadd_missing_headers = false\nremove_bcc = false\n")
        data = ODD + b"Bcc: one@b.test\r\n" + BODY
        _, rest = self.submit(relay, b"Return-Path: <z@b.test>\r\n" + data)
        self.assertEqual(rest, data)

    def test_header_rules_by_listener_and_user(self):
        """'header add/remove rules per listener and user', applied anew at a reload."""
        relay = self.relay()
        rules = (f'[[header_rule]]\nlistener = "127.0.0.1:{relay.submission}"\n'
                 'remove = ["x-odd", "X-Empty"]\n'
                 f'[[header_rule]]\nuser = "{world.USER}"\nadd = ["X-Tag: a  b", "X-Tag: c"]\n'
                 '[[header_rule]]\nuser = "somebody-else"\nremove = "Subject"\n')
        relay.write_config(extra=rules)
        mark = relay.log_mark()
        relay.signal(1)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
        dated = b"Date: then\r\nMessage-ID: <m@b.test>\r\n"
        _, rest = self.submit(relay, ODD + dated + BODY)
        left = ODD.replace(b"X-Odd:   kept \r\n", b"").replace(b"X-Empty:\r\n", b"")
        self.assertEqual(rest, left + dated + b"X-Tag: a  b\r\nX-Tag: c\r\n" + BODY)
        _, rest = self.submit(relay, ODD + dated + BODY, relay.relay_client())
        self.assertEqual(rest, ODD + dated + BODY)

    def test_the_client_can_be_hidden(self):
        """'hide-the-client option for Received': who logged in; the log still has it."""
        relay = self.relay(extra="[submission]\nhide_client = true\n")
        head, _ = self.submit(relay, ODD + BODY)
        self.assertTrue(head.startswith(b"Received: by relay.test ("), head)
        self.assertNotIn(b"127.0.0.1", head)
        self.assertNotIn(b"client.test", head)
        self.assertEqual(relay.wait_event("receive.accepted")["peer"], "127.0.0.1")
        head, _ = self.submit(relay, ODD + BODY, relay.relay_client())
        self.assertTrue(head.startswith(b"Received: from client.test ([127.0.0.1])"), head)


if __name__ == "__main__":
    world.main()
