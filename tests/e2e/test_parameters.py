"""'DSN', '8BITMIME' and 'NOTIFY, RET, ENVID, ORCPT honoured and passed on', said by curl and swaks:
the parameters are in the queue (a relay that was killed and started again has them from nowhere
else) and arrive at the next hop."""
import os
import subprocess
import unittest

import world
from test_deliver import books
from world import PASSWORD, USER, Hop, Relay, message

# Neither program has options for these. Both put an address between "<" and ">" as it is, so that
# what stands behind a ">" in it is read by the server as parameters. The last one gets the ">" that
# they add: it is a good character of xtext (RFC 3461 4), and must come through like any other.
SENDER = "a@b.test> BODY=8BITMIME RET={ret} ENVID={envid}"
RECIPIENT = "{to}> NOTIFY={notify} ORCPT=rfc822;first+2B{to}"


class Parameters(unittest.TestCase):
    def setUp(self):
        self.is_open = False
        self.hop = Hop(self, lambda stage, argument, session:
                       None if self.is_open else "DROP" if stage == "connect" else None)
        self.relay = Relay(self, hop=self.hop.port, queue='retry = ["1h"]\n')

    def run_tool(self, *command, code=0):
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode == 0, code == 0, done.stdout)
        return done.stdout

    def letter(self, text):
        path = os.path.join(self.relay.folder, "letter")
        with open(path, "wb") as file:
            file.write(text.encode())
        return path

    def curl(self, sender, recipients, text, code=0):
        rcpts = [word for r in recipients for word in ("--mail-rcpt", r)]
        return self.run_tool("curl", "-sS", "-v", "--ssl-reqd", "--insecure", "--user",
                             f"{USER}:{PASSWORD}", "--mail-from", sender, *rcpts, "--upload-file",
                             self.letter(text), f"smtp://127.0.0.1:{self.relay.submission}",
                             code=code)

    def swaks(self, sender, recipient, text, *more, code=0):
        return self.run_tool("swaks", "--server", f"127.0.0.1:{self.relay.submission}", "--tls",
                             "--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD,
                             "--from", sender, "--to", recipient, "--data",
                             "@" + self.letter(text), *more, code=code)

    def through_the_queue(self, recipients):
        """The relay dies, comes again, and only now the hop takes mail: lines MAIL and RCPT."""
        world.wait_for(lambda: sum(len(g["recipients"]) for g in self.relay.queue()) ==
                       len(recipients), "the queue to hold them")
        self.relay.kill()
        self.relay.start()
        self.is_open = True
        # Nothing left is fine too: a slow machine may be at their next attempt by now.
        world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "the index")
        self.relay.command("queue", "retry", "--all")
        self.relay.wait_empty()
        books(self, self.relay, [self.hop], recipients)
        return {r: (m["mail"], line) for m in self.hop.messages
                for r, line in zip(m["recipients"], m["rcpts"])}

    def parameters(self, line):
        return set(line.split(">", 1)[1].split())

    def test_of_curl(self):
        """'ESMTP with ... 8BITMIME, ... DSN' and '`NOTIFY`, `RET`, `ENVID`, `ORCPT` honoured and
        passed on': of curl, two recipients with their own."""
        self.curl(SENDER.format(ret="HDRS", envid="curl+2B1"),
                  [RECIPIENT.format(to="one@x.test", notify="SUCCESS,FAILURE"),
                   RECIPIENT.format(to="two@x.test", notify="DELAY")],
                  message(body="grüße"))
        lines = self.through_the_queue(["one@x.test", "two@x.test"])
        for to, notify in (("one@x.test", "SUCCESS,FAILURE"), ("two@x.test", "DELAY")):
            mail, rcpt = lines[to]
            self.assertLessEqual({"BODY=8BITMIME", "RET=HDRS", "ENVID=curl+2B1>"},
                                 self.parameters(mail))
            self.assertEqual(self.parameters(rcpt),
                             {f"NOTIFY={notify}", f"ORCPT=rfc822;first+2B{to}>"})
        self.assertIn("grüße".encode(), self.hop.messages[0]["data"])

    def test_of_swaks(self):
        """'`NOTIFY`, `RET`, `ENVID`, `ORCPT` honoured and passed on', and 'PIPELINING': of swaks."""
        for to, more in (("plain@x.test", ()), ("piped@x.test", ("--pipeline",))):
            self.swaks(SENDER.format(ret="FULL", envid=f"swaks-{to}"),
                       RECIPIENT.format(to=to, notify="NEVER"), message(body="grüße"), *more)
        lines = self.through_the_queue(["plain@x.test", "piped@x.test"])
        for to, (mail, rcpt) in lines.items():
            self.assertLessEqual({"BODY=8BITMIME", "RET=FULL", f"ENVID=swaks-{to}>"},
                                 self.parameters(mail))
            self.assertEqual(self.parameters(rcpt),
                             {"NOTIFY=NEVER", f"ORCPT=rfc822;first+2B{to}>"})

    def test_without_parameters_none_are_made_up(self):
        """'NOTIFY, RET, ENVID, ORCPT ... passed on': what nobody said is not said; and a body of
        seven bits needs no BODY."""
        self.curl("a@b.test", ["curl@x.test"], message())
        self.swaks("a@b.test", "swaks@x.test", message())
        for mail, rcpt in self.through_the_queue(["curl@x.test", "swaks@x.test"]).values():
            self.assertRegex(mail, r"\AMAIL FROM:<a@b\.test> SIZE=\d+\Z")
            self.assertRegex(rcpt, r"\ARCPT TO:<\w+@x\.test>\Z")

    def test_absurd_ones_are_refused_to_both(self):
        """'What bad input gets: A clear SMTP error ...: absurd parameters'."""
        for sender, recipient, answer in (
                ("a@b.test> BODY=9BIT X=", "r@x.test", "501 5.5.4 BODY is 7BIT or 8BITMIME"),
                ("a@b.test> RET=ALL X=", "r@x.test", "501 5.5.4 RET is FULL or HDRS"),
                ("a@b.test> ENVID=a+zz", "r@x.test", "501 5.5.4 ENVID takes xtext"),
                ("a@b.test", "r@x.test> NOTIFY=OFTEN", "501 5.5.4 NOTIFY is NEVER"),
                ("a@b.test", "r@x.test> ORCPT=x", "501 5.5.4 ORCPT takes"),
                ("a@b.test", "r@x.test> FOO=1", "555 5.5.4 parameter FOO")):
            with self.subTest(sender=sender, recipient=recipient):
                self.assertIn(answer, self.curl(sender, [recipient], message(), code=1))
                self.assertIn(answer, self.swaks(sender, recipient, message(), code=1))
        self.assertEqual(self.relay.queue(), [])


if __name__ == "__main__":
    world.main()
