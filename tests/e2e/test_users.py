"""Issue 3, 2: 'Per user in the users file: allowed sender addresses and domains (envelope and
From:), allowed networks, size, recipients per message', with clients that others wrote."""
import base64
import json
import os
import signal
import smtplib
import subprocess
import unittest

import world
from world import USER, Raw, Relay, message, tool

LOCAL = "alice@local.test"


class Commands(unittest.TestCase):
    """smtpd user add|set|show|list|remove, in text and JSON."""

    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case, start=False)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def test_a_users_life(self):
        user = lambda *words, **more: self.relay.command("user", *words, **more)
        said = user("add", "carol", "senders=@carol.test", "size=1MiB", stdin="secret\n")
        self.assertIn("added carol", said)
        user("set", "carol", "networks=192.0.2.0/24,2001:db8::/32", "messages=10/m,1000/h",
             "recipient_rate=5000/d", "recipients=50")
        self.assertEqual(json.loads(user("show", "carol", "--json")), {
            "name": "carol", "senders": ["@carol.test"], "size": "1MiB", "recipients": "50",
            "networks": ["192.0.2.0/24", "2001:db8::/32"], "messages": ["10/m", "1000/h"],
            "recipient_rate": ["5000/d"]})
        shown = user("show", "carol")
        for line in ("senders         @carol.test", "networks        192.0.2.0/24,2001:db8::/32",
                     "messages        10/m,1000/h"):
            self.assertIn(line, shown)
        head, *rows = user("list").splitlines()
        self.assertEqual(head.split(), ["user", "senders", "networks", "size", "recipients",
                                        "messages", "recipient_rate"])
        self.assertEqual([row.split()[:2] for row in rows], [[USER, "-"], ["carol", "@carol.test"]])
        listed = json.loads(user("list", "--json"))
        self.assertEqual([one["name"] for one in listed], [USER, "carol"])
        user("set", "carol", "networks=", "size=2MiB")
        shown = json.loads(user("show", "carol", "--json"))
        self.assertNotIn("networks", shown)
        self.assertEqual(shown["size"], "2MiB")
        # A new password keeps the rights.
        user("add", "carol", stdin="another\n")
        self.assertEqual(json.loads(user("show", "carol", "--json")), shown)
        user("remove", "carol")
        self.assertIn("there is no user carol", user("show", "carol", code=1))
        self.assertIn("there is no user carol", user("set", "carol", "size=1MiB", code=1))

    def test_mistakes_are_named(self):
        user = lambda *words, **more: self.relay.command("user", *words, **more)
        with open(self.relay.users) as file:
            before = file.read()
        self.assertIn('did you mean "senders"?', user("set", USER, "sender=@a.test", code=1))
        self.assertIn("64KiB to 1GiB", user("set", USER, "size=1KiB", code=1))
        self.assertIn("at most 4 windows", user("set", USER, "messages=10", code=1))
        self.assertIn("no blanks", user("set", USER, "senders=@a.test @b.test", code=1))
        user("set", USER, code=2)
        user("show", code=2)
        user("paint", USER, code=2)
        with open(self.relay.users) as file:
            self.assertEqual(file.read(), before)
        with open(self.relay.users, "a") as file:
            file.write("dave:$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA:massages=10/m\n")
        try:
            said = self.relay.command("check", self.relay.config_path, code=1)
            self.assertIn(f'{self.relay.users}, line 2: unknown key "massages"; did you mean '
                          '"messages"?', said)
        finally:
            with open(self.relay.users, "w") as file:
                file.write(before)

    def test_the_help_and_the_manual_name_every_key(self):
        said = self.relay.command("user", "--help")
        manual = self.relay.command("document", "manual")
        for key in ("senders", "networks", "size", "recipients", "messages", "recipient_rate"):
            self.assertIn(f"  {key} ", said)
            self.assertIn(f"| `{key}` |", manual)


class Rights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def user(self, *words, **more):
        """Changes the users file; SIGHUP, so that nobody waits for the ten seconds."""
        mark = self.relay.log_mark()
        self.relay.command("user", *words, **more)
        self.relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: self.relay.event("policy.users_loaded", mark), "the users file")

    def grant(self, name, *rights):
        self.user("add", name, *rights, stdin=name + " secret\n")

    def client(self, name):
        client = smtplib.SMTP("127.0.0.1", self.relay.submission, timeout=world.PATIENCE,
                              local_hostname="client.test")
        self.addCleanup(client.close)
        client.starttls(context=self.relay.tls_context())
        client.login(name, name + " secret")
        return client

    def test_the_envelopes_sender(self):
        self.grant("ann", "senders=ann@a.test,@b.test,@*.c.test")
        client = self.client("ann")
        for sender in ("ann@a.test", "Ann@A.test", "any@b.test", "x@deep.c.test", ""):
            self.assertEqual(client.mail(sender)[0], 250, sender)
            client.rset()
        for sender in ("bob@a.test", "x@sub.b.test", "x@c.test", "x@bb.test"):
            code, text = client.mail(sender)
            self.assertEqual((code, text[:5]), (553, b"5.7.1"), sender)
        client.quit()
        refused = world.wait_for(
            lambda: [e for e in self.relay.events("receive.rejected") if e["user"] == "ann"],
            "the log")
        self.assertEqual(refused[0]["reply"]["code"], 553)

    def test_from_and_sender_of_the_header(self):
        """The verdict comes behind the data, and names the address."""
        self.grant("bea", "senders=@b.test")
        client = self.client("bea")

        def send(*fields):
            client.mail("bea@b.test")
            client.rcpt(LOCAL)
            code, text = client.data("\r\n".join(fields) + "\r\nSubject: x\r\n\r\ntext\r\n")
            return code, text.decode()
        self.assertEqual(send("From: Bea <bea@b.test>, other@b.test")[0], 250)
        self.assertEqual(send('From: "boss@bank.test" <bea@b.test>')[0], 250)
        self.assertEqual(send("From: bea@b.test", "Sender: bea@b.test")[0], 250)
        for fields in (["From: boss@bank.test"], ["From: bea@b.test, boss@bank.test"],
                       ["From: team: bea@b.test, boss@bank.test;"],
                       ["From: bea@b.test", "From: boss@bank.test"],
                       ["from: bea@b.test", "sENDER: boss@bank.test"],
                       ["From: bea@b.test,\r\n boss@bank.test"]):
            code, text = send(*fields)
            self.assertEqual((code, text[:5]), (550, "5.7.1"), fields)
            self.assertIn("You may not send as <boss@bank.test>, which stands in", text)
        code, text = send("From: boss@bank.test <bea@b.test>")
        self.assertEqual(code, 550)
        self.assertIn("no list of addresses", text)
        client.quit()

    def test_without_senders_anything_goes(self):
        client = self.relay.client()
        client.sendmail("x@anywhere.test", [LOCAL], message(to=LOCAL, sender="boss@bank.test"))
        client.quit()

    def test_swaks_and_curl_see_the_refusal(self):
        self.grant("cat", "senders=@c.test")

        def swaks(sender):
            return subprocess.run(
                [tool("swaks"), "--server", f"127.0.0.1:{self.relay.submission}", "--tls",
                 "--auth", "PLAIN", "--auth-user", "cat", "--auth-password", "cat secret",
                 "--from", sender, "--to", LOCAL, "--helo", "client.test"], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(swaks("cat@c.test").returncode, 0)
        refused = swaks("cat@d.test")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("553 5.7.1", refused.stdout)

        path = os.path.join(self.relay.folder, "curl.eml")
        with open(path, "w") as file:
            file.write(message(to=LOCAL, sender="cat@d.test"))
        done = subprocess.run(
            [tool("curl"), "-sv", "--ssl-reqd", "--cacert", self.relay.certificate, "--resolve",
             f"relay.test:{self.relay.submission}:127.0.0.1", "--user", "cat:cat secret",
             f"smtp://relay.test:{self.relay.submission}", "--mail-from", "cat@c.test", "--mail-rcpt",
             LOCAL, "--upload-file", path], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("550 5.7.1 You may not send as <cat@d.test>", done.stdout)

    def test_size_by_mail_while_streaming_and_in_ehlo(self):
        self.grant("dan", "size=70KiB")
        self.grant("eve", "size=60MiB")  # the server's own is 50MiB
        client = self.client("dan")
        client.ehlo()  # the one before the log-in said what everybody may
        self.assertEqual(client.esmtp_features["size"], "71680")
        self.assertEqual(client.mail("d@d.test", ["SIZE=71681"])[0], 552)
        self.assertEqual(client.mail("d@d.test")[0], 250)
        client.rcpt(LOCAL)
        self.assertEqual(client.data("Subject: x\r\n\r\n" + "0123456789\r\n" * 7000)[0], 552)
        client.sendmail("d@d.test", [LOCAL], "Subject: x\r\n\r\n" + "0123456789\r\n" * 5000)
        client.quit()
        client = self.client("eve")
        client.ehlo()
        self.assertEqual(client.esmtp_features["size"], str(60 << 20))
        client.quit()

    def test_recipients_of_a_message(self):
        self.grant("fay", "recipients=3")
        client = self.client("fay")
        client.mail("f@f.test")
        codes = [client.rcpt(f"r{i}@example.test") for i in range(5)]
        self.assertEqual([code for code, _ in codes], [250, 250, 250, 452, 452])
        self.assertTrue(codes[3][1].startswith(b"4.5.3"))
        client.rset()
        client.quit()

    def test_networks_look_like_a_wrong_password(self):
        self.grant("gil", "networks=127.0.0.2,::1")
        login = "AUTH PLAIN " + base64.b64encode(b"\0gil\0gil secret").decode()
        wrong = "AUTH PLAIN " + base64.b64encode(b"\0gil\0wrong").decode()

        def ask(line, source, host="127.0.0.1"):
            with Raw(self.relay.submission, source=source, host=host) as raw:
                raw.say("EHLO c.test")
                raw.starttls(self.relay.tls_context())
                raw.say("EHLO c.test")
                return raw.say(line)
        self.assertTrue(ask(login, "127.0.0.2").startswith(b"235"))
        self.assertTrue(ask(login, None, "::1").startswith(b"235"))
        refused = ask(login, "127.0.0.3")
        self.assertEqual(refused, ask(wrong, "127.0.0.3"))
        self.assertTrue(refused.startswith(b"535 5.7.8"))
        events = world.wait_for(lambda: self.relay.events("receive.auth_failed")[1:] and
                                self.relay.events("receive.auth_failed"), "the log")
        self.assertEqual([event["reason"] for event in events if event["user"] == "gil"],
                         ["network", "password"])

    def test_a_change_holds_from_the_next_message_on(self):
        """'users ... without dropping a session': open sessions follow the file."""
        self.grant("hal")
        client = self.client("hal")
        self.assertEqual(client.mail("x@any.test")[0], 250)
        client.rset()
        self.grant("hal", "senders=@h.test")
        # The password was written again: another hash, and the old log-in holds no more.
        code, text = client.mail("x@h.test")
        self.assertEqual((code, text[:5]), (421, b"4.7.0"))
        client = self.client("hal")
        self.user("set", "hal", "senders=@i.test")
        self.assertEqual(client.mail("x@h.test")[0], 553)
        self.assertEqual(client.mail("x@i.test")[0], 250)
        client.rset()
        self.user("remove", "hal")
        self.assertEqual(client.mail("x@i.test")[0], 421)


if __name__ == "__main__":
    world.main()
