"""Issue sentences of 'The SMTP server' and of 'What bad input gets'."""
import base64
import re
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import world
from world import PASSWORD, USER, Raw, Relay, message


def plain(user=USER, password=PASSWORD):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class Submission(unittest.TestCase):
    """Listeners for STARTTLS, implicit TLS and plain relay, IPv4 and IPv6; AUTH; extensions."""

    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.hop = world.Hop(cls.case)
        cls.relay = Relay(cls.case, hop=cls.hop.port, limits='message_size = "1MiB"\n'
                          'recipients_per_message = 100\nreceived_hops = 10\n')

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def secure(self):
        raw = Raw(self.relay.submission)
        raw.say("EHLO client.test")
        raw.starttls(self.relay.tls_context())
        self.addCleanup(raw.close)
        return raw

    def logged_in(self):
        raw = self.secure()
        raw.say("EHLO client.test")
        self.assertTrue(raw.say("AUTH PLAIN " + plain()).startswith(b"235 2.7.0"))
        return raw

    def test_the_extensions_are_offered(self):
        raw = Raw(self.relay.submission)
        offered = raw.say("EHLO client.test").decode()
        for keyword in ("PIPELINING", "SIZE 1048576", "8BITMIME", "SMTPUTF8",
                        "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "STARTTLS"):
            self.assertRegex(offered, rf"(?m)^250[- ]{keyword}$")
        self.assertNotIn("AUTH", offered)  # only under TLS
        raw.starttls(self.relay.tls_context())
        offered = raw.say("EHLO client.test").decode()
        self.assertRegex(offered, r"(?m)^250[- ]AUTH PLAIN LOGIN$")
        self.assertNotIn("STARTTLS", offered)

    def say_with_openssl(self, *words):
        done = subprocess.run(
            ["openssl", "s_client", "-starttls", "smtp", "-crlf", "-nocommands", "-ign_eof", "-connect",
             f"127.0.0.1:{self.relay.submission}", *words], input="EHLO x.test\nQUIT\n", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertIn("221", done.stdout, done.stderr)
        return done.stdout

    def test_a_session_is_resumed_with_tls_1_2_and_1_3(self):
        with tempfile.TemporaryDirectory() as folder:
            for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
                ticket = f"{folder}/{name}"
                self.assertIn(f"New, {name}",
                              self.say_with_openssl(version, "-sess_out", ticket))
                self.assertIn(f"Reused, {name}",
                              self.say_with_openssl(version, "-sess_in", ticket))

    def test_a_handshake_by_either_group(self):
        for group, seen in (("X25519", "X25519"), ("P-256", "ECDH, prime256v1")):
            for version in ("-tls1_2", "-tls1_3"):
                groups = ["-groups", "X25519:P-256" if group == "X25519" else group]
                self.assertIn(f"Temp Key: {seen}",
                              self.say_with_openssl(version, *groups))

    def test_tls_1_2_and_1_3_with_openssl(self):
        for version in ("-tls1_2", "-tls1_3"):
            done = subprocess.run(
                ["openssl", "s_client", version, "-starttls", "smtp", "-crlf", "-quiet", "-connect",
                 f"127.0.0.1:{self.relay.submission}"], input="EHLO x.test\nQUIT\n", text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            self.assertIn("250", done.stdout, done.stderr)
        old = subprocess.run(
            ["openssl", "s_client", "-tls1_1", "-starttls", "smtp", "-connect",
             f"127.0.0.1:{self.relay.submission}"], input="QUIT\n", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertNotIn("Cipher is TLS_", old.stdout)

    def test_implicit_tls_and_ipv6(self):
        with smtplib.SMTP_SSL("127.0.0.1", self.relay.smtps, timeout=world.PATIENCE,
                              context=self.relay.tls_context()) as client:
            client.login(USER, PASSWORD)
            client.sendmail("app@example.test", ["a@x.test"], message(subject="implicit"))
        with smtplib.SMTP("::1", self.relay.submission, timeout=world.PATIENCE) as client:
            client.starttls(context=self.relay.tls_context())
            client.login(USER, PASSWORD)
            client.sendmail("app@example.test", ["b@x.test"], message(subject="six"))
        world.wait_for(lambda: len(self.hop.delivered().keys() & {"a@x.test", "b@x.test"}) == 2,
                       "both messages")

    def test_auth_needs_tls_and_a_good_password(self):
        raw = Raw(self.relay.submission)
        raw.say("EHLO client.test")
        self.assertTrue(raw.say("AUTH PLAIN " + plain()).startswith(b"538 5.7.11"))
        self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"530 5.7.0"))
        raw.close()
        raw = self.secure()
        raw.say("EHLO client.test")
        self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"530 5.7.0"))
        self.assertTrue(raw.say("AUTH PLAIN " + plain(password="no")).startswith(b"535 5.7.8"))
        self.assertTrue(raw.say("AUTH PLAIN " + plain(user="nobody")).startswith(b"535 5.7.8"))
        self.assertTrue(raw.say("AUTH CRAM-MD5").startswith(b"504 5.5.4"))
        self.assertTrue(raw.say("AUTH PLAIN !!!").startswith(b"501 5.5.2"))
        self.assertTrue(raw.say("AUTH PLAIN").startswith(b"334"))
        self.assertTrue(raw.say("*").startswith(b"501"))
        self.assertTrue(raw.say("AUTH LOGIN").startswith(b"334 VXNlcm5hbWU6"))
        self.assertTrue(raw.say(base64.b64encode(USER.encode())).startswith(b"334 UGFzc3dvcmQ6"))
        self.assertTrue(raw.say(base64.b64encode(PASSWORD.encode())).startswith(b"235 2.7.0"))
        self.assertTrue(raw.say("AUTH PLAIN " + plain()).startswith(b"503 5.5.1"))

    def test_starttls_drops_whatever_was_pipelined_behind_it(self):
        raw = Raw(self.relay.submission)
        raw.say("EHLO client.test")
        raw.send("STARTTLS\r\nMAIL FROM:<evil@x.test>\r\nNOOP\r\n")
        self.assertTrue(raw.reply().startswith(b"220"))
        raw.socket = self.relay.tls_context().wrap_socket(raw.socket, server_hostname="relay.test")
        raw.file = raw.socket.makefile("rb")
        raw.send("NOOP\r\n")
        self.assertTrue(raw.reply().startswith(b"250"))  # of this NOOP, not of the injected lines
        raw.socket.settimeout(0.5)
        with self.assertRaises((socket.timeout, TimeoutError)):
            raw.reply()

    def test_the_state_before_starttls_is_forgotten(self):
        raw = self.secure()
        self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"5"))

    def test_pipelining(self):
        raw = self.logged_in()
        raw.send("MAIL FROM:<p@b.test>\r\nRCPT TO:<p1@x.test>\r\nRCPT TO:<p2@x.test>\r\nDATA\r\n")
        codes = [raw.reply()[:3] for _ in range(4)]
        self.assertEqual(codes, [b"250", b"250", b"250", b"354"])
        raw.send(message(subject="pipelined").encode() + b".\r\nNOOP\r\n")
        self.assertRegex(raw.reply(), rb"^250 2\.0\.0 .*queued as [a-z2-7]{13}")
        self.assertTrue(raw.reply().startswith(b"250"))

    def test_chunking(self):
        raw = self.logged_in()
        raw.say("MAIL FROM:<c@b.test>")
        raw.say("RCPT TO:<chunk@x.test>")
        first = b"Subject: chunks\r\n\r\n.dot\r\n"
        raw.send(b"BDAT %d\r\n" % len(first) + first)
        self.assertTrue(raw.reply().startswith(b"250 2.0.0"))
        second = b"..two\r\nend without a line end"
        raw.send(b"BDAT %d LAST\r\n" % len(second) + second)
        self.assertIn(b"queued as", raw.reply())
        got = world.wait_for(lambda: [m for m in self.hop.messages
                                      if m["recipients"] == ["chunk@x.test"]], "the chunks")
        self.assertTrue(got[0]["data"].endswith(b"\r\n.dot\r\n..two\r\nend without a line end\r\n"))

    def test_size_is_judged_at_mail_and_at_the_end(self):
        raw = self.logged_in()
        self.assertTrue(raw.say("MAIL FROM:<a@b.test> SIZE=2000000").startswith(b"552 5.3.4"))
        self.assertTrue(raw.say("MAIL FROM:<a@b.test> SIZE=10").startswith(b"250"))
        raw.say("RCPT TO:<a@x.test>")
        raw.say("DATA")
        raw.send(b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 15000 + b".\r\n")
        self.assertTrue(raw.reply().startswith(b"552 5.3.4"))
        self.assertTrue(raw.say("NOOP").startswith(b"250"))

    def test_smtputf8(self):
        raw = self.logged_in()
        self.assertTrue(raw.say("MAIL FROM:<dörte@b.test>".encode()).startswith(b"553 5.6.7"))
        self.assertTrue(raw.say("MAIL FROM:<dörte@b.test> SMTPUTF8".encode()).startswith(b"250"))
        self.assertTrue(raw.say("RCPT TO:<用户@例え.test>".encode()).startswith(b"250"))
        raw.say("DATA")
        raw.send("Subject: grüße\r\n\r\nhallo\r\n.\r\n".encode())
        self.assertIn(b"queued as", raw.reply())
        world.wait_for(lambda: [m for m in self.hop.messages if "SMTPUTF8" in m["mail"]], "it")

    def test_nobody_relays_without_logging_in(self):
        # The relay listener takes foreign recipients from trusted networks only: here loopback
        # is trusted, so another relay that trusts nobody is asked.
        closed = Relay(self, extra="")
        closed.stop()
        with open(closed.config_path) as file:
            text = file.read().replace('trusted_networks = ["127.0.0.0/8", "::1"]',
                                       'trusted_networks = ["192.0.2.0/24"]')
        with open(closed.config_path, "w") as file:
            file.write(text)
        closed.start()
        with closed.raw() as raw:
            raw.say("EHLO client.test")
            raw.say("MAIL FROM:<a@b.test>")
            self.assertTrue(raw.say("RCPT TO:<a@elsewhere.test>").startswith(b"550 5.7.1"))
            self.assertTrue(raw.say("RCPT TO:<alice@local.test>").startswith(b"250"))

    def test_postmaster_is_always_accepted_for_our_own_domains(self):
        with self.relay.raw() as raw:
            raw.say("EHLO client.test")
            raw.say("MAIL FROM:<>")
            self.assertTrue(raw.say("RCPT TO:<Postmaster@local.test>").startswith(b"250"))
            self.assertTrue(raw.say("RCPT TO:<postmaster>").startswith(b"250"))
            self.assertTrue(raw.say("RCPT TO:<nobody@local.test>").startswith(b"550 5.1.1"))

    def test_wrong_order_and_absurd_parameters(self):
        raw = self.logged_in()
        for line, code in (("RCPT TO:<a@x.test>", b"503 5.5.1"), ("DATA", b"503 5.5.1"),
                           ("MAIL TO:<a@b.test>", b"501"),
                           ("MAIL FROM:<a@b.test> SIZE=99999999999999999999", b"5"),
                           ("MAIL FROM:<a@b.test> BODY=9BIT", b"501"),
                           ("MAIL FROM:<a@b.test> FROB=1", b"555 5.5.4"),
                           ("MAIL FROM:<a b@c.test>", b"5"), ("FROBNICATE", b"500 5.5.2"),
                           ("VRFY root", b"252 2.5.0"), ("EXPN all", b"502"),
                           ("HELP", b"214"), ("NOOP with words", b"250"), ("RSET", b"250 2.0.0")):
            self.assertTrue(raw.say(line).startswith(code), line)

    def test_an_absurd_chunk_is_refused_and_ends_the_session(self):
        """What follows such a BDAT cannot be told from data any more."""
        for line in ("BDAT x", "BDAT 99999999999999999999", "BDAT"):
            raw = self.logged_in()
            self.assertTrue(raw.say(line).startswith(b"5"), line)
            self.assertEqual(raw.reply(), b"")

    def test_over_long_lines_and_nul(self):
        raw = self.logged_in()
        raw.send(b"NOOP " + b"x" * 100000 + b"\r\n")
        self.assertTrue(raw.reply().startswith(b"500 5.5.2"))
        self.assertTrue(raw.say(b"NOOP \0\0").startswith(b"500 5.5.2"))
        self.assertTrue(raw.say("NOOP").startswith(b"250"))

    def test_a_bare_cr_or_lf_never_ends_a_line_or_a_message(self):
        raw = self.logged_in()
        self.assertTrue(raw.say(b"NOOP\nRSET").startswith(b"500 5.5.2"))
        for end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\r\n.\r\r\n"):
            raw.say("MAIL FROM:<smuggler@b.test>")
            raw.say("RCPT TO:<victim@x.test>")
            raw.say("DATA")
            raw.send(b"Subject: a\r\n\r\nb" + end + b"MAIL FROM:<evil@b.test>\r\n.\r\n")
            self.assertTrue(raw.reply().startswith(b"550 5.5.2"), end)
            self.assertTrue(raw.say("NOOP").startswith(b"250"), end)
        self.assertFalse([m for m in self.hop.messages if m["sender"].endswith("evil@b.test")])

    def test_too_many_recipients(self):
        raw = self.logged_in()
        raw.say("MAIL FROM:<a@b.test>")
        raw.send("".join(f"RCPT TO:<r{i}@x.test>\r\n" for i in range(101)))
        replies = [raw.reply() for _ in range(101)]
        self.assertTrue(all(r.startswith(b"250 2.1.5") for r in replies[:100]))
        self.assertTrue(replies[100].startswith(b"452 4.5.3"))

    def test_a_received_loop_is_caught(self):
        raw = self.logged_in()
        raw.say("MAIL FROM:<a@b.test>")
        raw.say("RCPT TO:<a@x.test>")
        raw.say("DATA")
        raw.send("Received: from a by b; now\r\n" * 11 + "Subject: round\r\n\r\nx\r\n.\r\n")
        self.assertTrue(raw.reply().startswith(b"554 5.4.6"))

    def test_a_client_that_closes_its_side_behind_the_dot_gets_its_250(self):
        mail = (b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\n"
                b"Subject: half\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n")
        with self.relay.raw() as raw:
            raw.send(mail)
            raw.socket.shutdown(socket.SHUT_WR)
            replies = raw.file.read().splitlines()
        self.assertRegex(replies[-1], rb"^250 2\.0\.0 OK: queued as ")

    def test_a_client_that_vanishes_in_mid_data_leaves_no_trace(self):
        before = self.relay.status()["queue"]["messages_committed"]
        raw = self.logged_in()
        raw.say("MAIL FROM:<gone@b.test>")
        raw.say("RCPT TO:<gone@x.test>")
        raw.say("DATA")
        raw.send(b"Subject: gone\r\n\r\n" + (b"x" * 76 + b"\r\n") * 8000)
        raw.socket.close()
        raw.file.close()
        world.wait_for(lambda: self.relay.status()["queue"]["drafts"] == 0, "no draft left")
        self.assertEqual(self.relay.status()["queue"]["messages_committed"], before)
        self.assertNotIn("gone@x.test", self.hop.delivered())

    def test_submitted_messages_are_mended(self):
        """Date and Message-ID added when missing, Bcc removed, one Received line in front."""
        raw = self.logged_in()
        raw.say("MAIL FROM:<m@b.test>")
        raw.say("RCPT TO:<mended@x.test>")
        raw.say("DATA")
        raw.send("From: m@b.test\r\nBcc: secret@x.test\r\n folded@x.test\r\nSubject: s\r\n\r\n"
                 "body\r\n.\r\n")
        self.assertIn(b"queued as", raw.reply())
        got = world.wait_for(lambda: [m for m in self.hop.messages
                                      if m["recipients"] == ["mended@x.test"]], "it")[0]["data"]
        header = got.split(b"\r\n\r\n")[0]
        self.assertRegex(header, rb"\AReceived: from client\.test")
        self.assertRegex(header, rb"with ESMTPSA")
        self.assertRegex(header, rb"(?m)^Date: ")
        self.assertRegex(header, rb"(?m)^Message-ID: <.+@relay\.test>")
        self.assertNotIn(b"secret", got)
        self.assertNotIn(b"folded", got)
        self.assertTrue(got.endswith(b"\r\n\r\nbody\r\n"))

    def test_no_secret_and_no_text_in_the_log(self):
        raw = self.logged_in()
        raw.say("MAIL FROM:<l@b.test>")
        raw.say("RCPT TO:<l@x.test>")
        raw.say("DATA")
        raw.send("Subject: a-very-private-subject\r\n\r\na-very-private-text\r\n.\r\n")
        self.assertIn(b"queued as", raw.reply())
        with open(self.relay.log_path) as file:
            log = file.read()
        for secret in (PASSWORD, plain(), "a-very-private-text", "a-very-private-subject"):
            self.assertNotIn(secret, log)

    def test_events_have_their_fields(self):
        with self.relay.client() as client:
            client.sendmail("ev@b.test", ["ev@x.test"], message(subject="ev"))
        event = world.wait_for(lambda: [e for e in self.relay.events("receive.accepted")
                                        if e.get("sender") == "ev@b.test"], "the event")[0]
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual((event["node"], event["user"]), ("relay.test", USER))
        self.assertRegex(event["id"], r"^[a-z2-7]{13}$")
        self.assertTrue(event["session"])
        self.assertIn(event["tls"]["version"], ("TLSv1.3", "TLSv1.2"))
        sent = world.wait_for(lambda: [e for e in self.relay.events("deliver.delivered")
                                       if e.get("recipient") == "ev@x.test"], "delivery")[0]
        self.assertEqual((sent["id"], sent["reply"]["code"]), (event["id"], 250))
        self.assertTrue({"queue", "connect", "transfer"} <= set(sent["delays"]))


class Limits(unittest.TestCase):
    def test_more_connections_than_allowed_get_421(self):
        relay = Relay(self, limits="connections = 10\nconnections_per_address = 5\n")
        kept = [relay.raw() for _ in range(5)]
        with Raw(relay.relay_port) as refused:
            self.assertTrue(refused.greeting.startswith(b"421 4.7.0"), refused.greeting)
        others = [Raw(relay.relay_port, source="127.0.0.2") for _ in range(5)]
        with Raw(relay.relay_port, source="127.0.0.3") as refused:
            self.assertTrue(refused.greeting.startswith(b"421 4.3.2"), refused.greeting)
        for raw in kept + others:
            self.assertTrue(raw.say("NOOP").startswith(b"250"))
            raw.close()
        world.wait_for(lambda: Raw(relay.relay_port).greeting.startswith(b"220"), "room again")

    def test_the_idle_limit_also_holds_for_one_byte_a_minute(self):
        relay = Relay(self, limits='idle_timeout = "1s"\n')
        with relay.raw() as silent:
            self.assertTrue(silent.reply().startswith(b"421 4.4.2"))
            self.assertEqual(silent.reply(), b"")
        with relay.raw() as slow:
            slow.socket.settimeout(0.3)
            said = b""
            for byte in b"EHLO very.slow.client.test" * 8:
                try:
                    slow.send(bytes([byte]))
                    said += slow.socket.recv(1000)
                except (socket.timeout, TimeoutError):
                    continue
                except OSError:
                    break
                break
            self.assertTrue(said.startswith(b"421 4.4.2"), said)

    def test_a_slow_drip_of_data_is_cut(self):
        relay = Relay(self, limits='idle_timeout = "1s"\n')
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@local.test>", "DATA"):
                raw.say(line)
            raw.socket.settimeout(0.3)
            said = b""
            for _ in range(100):
                try:
                    raw.send(b"x")
                    said += raw.socket.recv(1000)
                except (socket.timeout, TimeoutError):
                    continue
                except OSError:
                    pass
                break
            self.assertTrue(said.startswith(b"421 4.4.2"), said)
        self.assertEqual(relay.maildir("alice"), [])

    def test_many_errors_end_the_session(self):
        relay = Relay(self)
        with relay.raw() as raw:
            replies = []
            for _ in range(60):
                replies.append(raw.say("FROB"))
                if replies[-1].startswith(b"421"):
                    break
            self.assertTrue(replies[-1].startswith(b"421 4.7.0"), replies[-1])

    def test_random_bytes_harm_nobody(self):
        relay = Relay(self)
        import random
        chooser = random.Random(7)
        for port in (relay.submission, relay.smtps, relay.relay_port):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port), 10) as wild:
                    wild.sendall(chooser.randbytes(chooser.randrange(1, 5000)))
        with relay.raw() as raw:
            self.assertTrue(raw.say("NOOP").startswith(b"250"))

    def test_clear_log_in_on_loopback_needs_its_option(self):
        port = world.free_port()
        relay = Relay(self, start=False)
        with open(relay.config_path) as file:
            good = file.read()
        more = f'[[listen]]\naddress = "127.0.0.1:{port}"\ntls = "none"\n'
        with open(relay.config_path, "w") as file:
            file.write(good + more)
        self.assertIn("allow_clear_on_loopback", relay.command("check", relay.config_path, code=1))
        with open(relay.config_path, "w") as file:
            file.write(good.replace("[limits]", "allow_clear_on_loopback = true\n[limits]") + more)
        relay.start()
        with smtplib.SMTP("127.0.0.1", port, timeout=world.PATIENCE) as client:
            client.login(USER, PASSWORD)
            client.sendmail("a@b.test", ["alice@local.test"], message())
        world.wait_for(lambda: relay.maildir("alice"), "the message")

    def test_users_are_read_again_when_the_file_changes(self):
        relay = Relay(self)
        relay.command("user", "add", "second", stdin="a-second-secret\n")
        self.assertEqual(relay.command("user", "list").split(), [USER, "second"])

        def can_log_in():
            with smtplib.SMTP("127.0.0.1", relay.submission, timeout=world.PATIENCE) as client:
                client.starttls(context=relay.tls_context())
                try:
                    client.login("second", "a-second-secret")
                    return True
                except smtplib.SMTPAuthenticationError:
                    return False
        world.wait_for(can_log_in, "the new user")
        relay.command("user", "remove", "second")
        world.wait_for(lambda: not can_log_in(), "the user to go")
        with open(relay.users) as file:
            self.assertIn("$argon2id$", file.read())


if __name__ == "__main__":
    world.main()
