"""'every reply with its enhanced code from one table': each row of the table as the binary prints
it (`smtpd document verbs`, that is docs/verbs.md) is provoked at the running server, and what it
says is the row: code, enhanced code and words."""
import base64
import os
import re
import signal
import subprocess
import unittest

import world
from world import PASSWORD, USER, Raw, Relay

LABEL_TOO_LONG = "x" * 64 + ".test"


def read_table():
    """Name -> the reply; what the server fills in is '...'."""
    page = subprocess.run([world.BINARY, "document", "verbs"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return dict(re.findall(r"(?m)^\| ([a-z0-9-]+) \| `(.*)` \|$", page[page.index("## Replies"):]))


def plain(user=USER, password=PASSWORD):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


# Replies of a subject that has a file of its own.
SEEN_ELSEWHERE = {"signing-failed": "test_signing.py",
                  "greeting-busy-network": "test_abuse.py", "greeting-too-often": "test_abuse.py",
                  "greeting-too-often-network": "test_abuse.py",
                  "sender-denied": "test_users.py", "header-sender-denied": "test_users.py",
                  "logged-out": "test_users.py", "locked-out": "test_lockout.py",
                  "bad-tenant": "test_fairness.py", "suppressed": "test_suppression.py",
                  "limit-reached": "test_limits.py",
                  "greeting-memory": "test_pressure.py", "short-of-memory": "test_pressure.py",
                  "greeting-barred": "test_abuse.py", "early-talker": "test_abuse.py",
                  "too-many-unknown": "test_abuse.py", "bad-helo": "test_abuse.py",
                  "listed": "test_dnsbl.py", "no-name": "test_dnsbl.py",
                  "name-unknown": "test_dnsbl.py"}


class Replies(unittest.TestCase):
    """One test provokes a few rows; the last one sees that no row was left out."""
    table = read_table()
    provoked = set()

    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.provoked.clear()
        cls.relay = Relay(cls.case, hop=world.free_port(), queue='retry = ["1h"]\n', limits=(
            'message_size = "512KiB"\nrecipients_per_message = 100\nreceived_hops = 10\n'))

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def is_row(self, name, reply):
        pattern = re.escape(self.table[name]).replace(re.escape("..."), r"\S.*")
        self.assertRegex(reply.decode(), rf"\A{pattern}\Z")
        self.provoked.add(name)

    def said(self, raw, *rows):
        """Each row: a line to say, and the name of the reply to it."""
        for line, name in rows:
            with self.subTest(line=line[:60], name=name):
                self.is_row(name, raw.say(line))

    def open(self, port=None, *lines):
        raw = Raw(port or self.relay.relay_port)
        self.addCleanup(raw.close)
        for line in ("EHLO client.test", *lines):
            self.assertEqual(raw.say(line)[:1], b"2", line)
        return raw

    def secured(self, *lines):
        raw = self.open(self.relay.submission)
        raw.starttls(self.relay.tls_context())
        for line in ("EHLO client.test", *lines):
            self.assertEqual(raw.say(line)[:1], b"2", line)
        return raw

    def after_data(self, text, relay=None):
        raw = self.open((relay or self.relay).relay_port, "MAIL FROM:<a@b.test>",
                        "RCPT TO:<r@x.test>")
        self.is_row("start-data", raw.say("DATA"))
        raw.send(text)
        return raw.reply()

    def changed(self, relay, *changes):
        """The relay with another file, started."""
        with open(relay.config_path) as file:
            text = file.read()
        for old, new in changes:
            self.assertRegex(text, old)
            text = re.sub(old, new, text)
        with open(relay.config_path, "w") as file:
            file.write(text)
        return relay.start()

    # ---- the rows ----

    def test_the_plain_way(self):
        """'every reply with its enhanced code from one table': of a message that goes well."""
        raw = Raw(self.relay.relay_port)
        self.addCleanup(raw.close)
        self.is_row("greeting", raw.greeting)
        self.said(raw, ("HELO client.test", "hello"), ("HELP", "help"), ("NOOP", "ok"),
                  ("VRFY root", "cannot-vrfy"), ("MAIL FROM:<a@b.test>", "sender-ok"),
                  ("RCPT TO:<r@x.test>", "recipient-ok"), ("BDAT 5\r\nA:b", "chunk-ok"),
                  ("BDAT 2 LAST\r\n", "queued"), ("QUIT", "closing"))

    def test_commands_that_cannot_be(self):
        """'What bad input gets: A clear SMTP error ...: over-long lines, NUL, wrong order, absurd
        parameters'."""
        raw = self.open()
        self.said(raw, ("FROB", "unknown-command"), ("EXPN list", "not-implemented"),
                  ("NOOP " + "x" * 3000, "line-too-long"), (b"NOOP \0", "bad-line"),
                  ("RSET now", "syntax"), ("MAIL FROM:a b", "syntax"),
                  ("MAIL FROM:<a@b.test> FOO=1", "parameter-unknown"), ("DATA", "sequence"),
                  (f"MAIL FROM:<a@{LABEL_TOO_LONG}>", "bad-sender"),
                  ("MAIL FROM:<ä@b.test>".encode(), "needs-smtputf8"),
                  ("MAIL FROM:<a@b.test> SIZE=600000", "too-large"),
                  ("AUTH PLAIN", "auth-needs-tls"))
        raw = self.open(None, "MAIL FROM:<a@b.test>")
        self.said(raw, (f"RCPT TO:<a@{LABEL_TOO_LONG}>", "bad-recipient"),
                  ("RCPT TO:<ä@b.test>".encode(), "needs-smtputf8"),
                  ("RCPT TO:<nobody@local.test>", "unknown-recipient"),
                  ("DATA", "no-recipients"))

    def test_too_many_errors_end_the_session(self):
        """'every reply with its enhanced code from one table': the end of a client's chances."""
        raw = self.open()
        for _ in range(19):
            self.is_row("unknown-command", raw.say("FROB"))
        self.is_row("too-many-errors", raw.say("FROB"))
        self.assertEqual(raw.reply(), b"")

    def test_tls_and_log_in(self):
        """'STARTTLS, AUTH PLAIN and LOGIN', 'AUTH only under TLS': their replies."""
        raw = self.open(self.relay.submission)
        self.said(raw, ("MAIL FROM:<a@b.test>", "tls-required"))
        self.is_row("ready-for-tls", raw.say("STARTTLS"))
        raw.close()
        raw = self.secured()
        self.said(raw, ("STARTTLS", "tls-already"), ("MAIL FROM:<a@b.test>", "auth-required"),
                  ("AUTH CRAM-MD5", "auth-unknown-mechanism"), ("AUTH PLAIN !", "auth-bad-base64"),
                  (plain(password="wrong"), "auth-failed"), ("AUTH LOGIN", "auth-continue"),
                  ("*", "auth-cancelled"), ("AUTH LOGIN", "auth-continue"),
                  ("A" * 13000, "auth-too-long"))
        raw.send(plain() + "\r\nNOOP\r\n")
        self.is_row("pipelined", raw.reply())
        self.is_row("ok", raw.reply())
        self.said(raw, (plain(), "auth-ok"), (plain(), "auth-already"))

    def test_what_is_wrong_in_a_message(self):
        """'a bare CR or LF never ends a line or a message', 'A `Received` loop is caught'."""
        for text, name in (
                (b"Received: by a\r\n" * 11 + b"\r\nx\r\n.\r\n", "loop"),
                (b"A: b\r\n\r\na\rb\r\n.\r\n", "bare-line-end"),
                (b"A: b\r\n\r\na\nb\r\n.\r\n", "bare-line-end"),
                (b"A: b\r\n\r\na\0b\r\n.\r\n", "has-nul"),
                (b"A: b\r\n" + (b" " + b"y" * 900 + b"\r\n") * 300 + b"\r\nz\r\n.\r\n",
                 "header-too-large"),
                (b"A: b\r\n\r\n" + (b"y" * 900 + b"\r\n") * 600 + b".\r\n", "too-large"),
                (b"A: b\r\n\r\nfine\r\n.\r\n", "queued")):
            with self.subTest(name=name):
                self.is_row(name, self.after_data(text))

    def test_too_many_recipients_and_too_long_ones(self):
        """'A clear SMTP error and an unharmed server': more recipients than can be kept."""
        raw = self.open(None, "MAIL FROM:<a@b.test>",
                        *(f"RCPT TO:<r{i}@x.test>" for i in range(100)))
        self.is_row("too-many-recipients", raw.say("RCPT TO:<one.more@x.test>"))
        # A megabyte a session is what one transaction may keep in memory.
        relay = Relay(self, limits="recipients_per_message = 100000\n", log_level="notice")
        raw = self.open(relay.relay_port, "MAIL FROM:<a@b.test>")
        domain = ".".join(["d" * 60] * 4)
        lines = [f"RCPT TO:<{'u' * 50}{i}@{domain}> ORCPT=rfc822;{'o' * 480}" for i in range(1500)]
        raw.socket.sendall("".join(line + "\r\n" for line in lines[:1000]).encode())
        replies = [raw.reply() for _ in range(1000)]
        raw.socket.sendall("".join(line + "\r\n" for line in lines[1000:]).encode())
        replies += [raw.reply() for _ in range(500)]
        self.is_row("recipient-ok", replies[0])
        self.is_row("out-of-memory", replies[-1])
        self.said(raw, ("RSET", "ok"))  # and nothing was harmed

    def test_who_may_not(self):
        """'Nobody relays without logging in, or from trusted_networks on a relay listener.'"""
        relay = self.changed(Relay(self, start=False),
                             (r'"127\.0\.0\.0/8", "::1"', '"192.0.2.0/24"'))
        raw = self.open(relay.relay_port, "MAIL FROM:<a@b.test>")
        self.said(raw, ("RCPT TO:<r@x.test>", "relay-denied"))

    def test_a_listener_without_tls_and_without_users(self):
        """'Listeners for STARTTLS ... and plain relay (25)': what a plain one lacks."""
        relay = Relay(self, start=False)
        self.changed(relay, (r"(?m)^users_file.*\n", ""),
                     (r"(?s)\[\[listen\]\].*?(?=\[\[listen\]\]\naddress = \S+\nmode)", ""),
                     (r'(?m)^mode = "relay"$', 'mode = "relay"\ntls = "none"'))
        raw = self.open(relay.relay_port)
        self.said(raw, ("STARTTLS", "tls-not-available"), ("AUTH PLAIN", "auth-not-offered"))

    def test_limits_of_connections_and_patience(self):
        """'a client that sends one byte a minute (idle limit), more connections than allowed
        (421)', and 'SIGTERM'."""
        relay = Relay(self, limits="connections = 3\nconnections_per_address = 2\n")
        kept = [Raw(relay.relay_port) for _ in range(2)]
        with Raw(relay.relay_port) as raw:
            self.is_row("greeting-busy-address", raw.greeting)
        kept.append(Raw(relay.relay_port, source="127.0.0.2"))
        with Raw(relay.relay_port, source="127.0.0.3") as raw:
            self.is_row("greeting-busy", raw.greeting)
        relay.signal(signal.SIGTERM)
        for raw in kept:
            self.is_row("shutting-down", raw.reply())
            raw.close()
        self.assertEqual(relay.wait_exit(), 0)
        relay.write_config(limits='idle_timeout = "1s"\n')
        relay.start()
        with Raw(relay.relay_port) as raw:
            self.is_row("idle", raw.reply())
            self.assertEqual(raw.reply(), b"")

    def test_tls_and_passwords_that_are_busy(self):
        """DESIGN: 'password (two, nice 10, 64 waiting, then 454 4.7.0)'; a cap on handshakes."""
        port = world.free_port()
        relay = Relay(self, start=False, log_level="notice", limits="handshakes_per_address = 1\n")
        self.changed(relay, (r"\[auth\]", "[auth]\nallow_clear_on_loopback = true"),
                     (r"\[\[local\]\]", f'[[listen]]\naddress = "127.0.0.1:{port}"\n'
                                        'tls = "none"\n[[local]]'))
        begun = self.open(relay.submission)
        self.is_row("ready-for-tls", begun.say("STARTTLS"))  # and says nothing more
        other = self.open(relay.submission)
        self.is_row("tls-failed", other.say("STARTTLS"))
        self.said(other, ("NOOP", "ok"))
        begun.close()

        def is_free():
            return other.say("STARTTLS").startswith(b"220")
        world.wait_for(is_free, "the handshake's place to be free again")
        # Two log-ins are computed at once and 64 wait; these all come in a few milliseconds.
        guessers = [self.open(port) for _ in range(150)]
        for number, raw in enumerate(guessers):
            raw.send(plain(user=f"u{number}", password="guess") + "\r\n")
        replies = [raw.reply() for raw in guessers]
        self.is_row("auth-failed", replies[0])
        busy = [reply for reply in replies if not reply.startswith(b"535")]
        self.assertTrue(busy)
        for reply in busy:
            self.is_row("auth-busy", reply)

    def test_no_room_and_a_disk_that_fails(self):
        """'A full disk or a full map answers 452 4.3.1'; 'a failed one [sync] answers 451'."""
        relay = Relay(self, start=False)
        self.changed(relay, (r'min_free_space = "1MiB"', 'min_free_space = "1024GiB"'))
        raw = self.open(relay.relay_port)
        self.said(raw, ("MAIL FROM:<a@b.test>", "no-space"), ("NOOP", "ok"))
        preload, folder = world.preload(self, "shim.c")
        plan = os.path.join(folder, "plan")
        with open(plan, "w") as file:
            file.write("0 0")
        relay = Relay(self, hop=world.free_port(), env={"LD_PRELOAD": preload, "SHIM_FILE": plan})
        raw = self.open(relay.relay_port, "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>")
        self.is_row("start-data", raw.say("DATA"))
        with open(plan, "w") as file:
            file.write("0 1")
        raw.send("A: b\r\n\r\nx\r\n.\r\n")
        self.is_row("queue-failed", raw.reply())
        self.assertEqual(relay.wait_exit(), 1)

    def test_zz_no_row_was_left_out(self):
        """'every reply ... from one table'; and its enhanced code is of the class of its code
        (RFC 2034 4: none with a greeting, HELO and 3xx)."""
        for name, test in SEEN_ELSEWHERE.items():
            with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), test)) as file:
                self.assertIn(self.table[name].split()[1], file.read())
        self.assertEqual(self.provoked | set(SEEN_ELSEWHERE), set(self.table))
        for name, words in self.table.items():
            code, enhanced = re.match(r"(\d)\d\d(?: (\d)\.\d+\.\d+ )?", words).groups()
            with self.subTest(name=name):
                self.assertEqual(enhanced, None if code == "3" or name in ("greeting", "hello")
                                 else code)


if __name__ == "__main__":
    world.main()
