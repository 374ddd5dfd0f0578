"""Issue sentence 'Local mailboxes': Maildir, unknown users at RCPT, no repeat after a crash."""
import os
import unittest

import world
from test_deliver import send
from world import Relay, message


class Local(unittest.TestCase):
    def test_a_message_arrives_in_the_maildir(self):
        relay = Relay(self)
        send(relay, ["alice@local.test", "bob@LOCAL.test"], sender="x@y.test", text=message(
            subject="local", body="one\r\n.two"))
        relay.wait_empty()
        for user in ("alice", "bob"):
            messages = relay.maildir(user)
            self.assertEqual(len(messages), 1)
            self.assertTrue(messages[0].startswith(b"Return-Path: <x@y.test>\n"))
            self.assertIn(b"\nReceived: from client.test", messages[0])
            self.assertTrue(messages[0].endswith(b"\n\none\n.two\n"))
            self.assertNotIn(b"\r", messages[0])
        folder = os.path.join(relay.folder, "mail", "local.test", "alice")
        self.assertEqual(os.listdir(os.path.join(folder, "tmp")), [])
        self.assertTrue(os.path.isdir(os.path.join(folder, "cur")))

    def test_unknown_users_are_refused_at_rcpt(self):
        relay = Relay(self)
        with relay.raw() as raw:
            raw.say("EHLO c.test")
            raw.say("MAIL FROM:<x@y.test>")
            for name in ("nobody", "..", "alice/../bob", '"al ice"'):
                self.assertTrue(raw.say(f"RCPT TO:<{name}@local.test>").startswith(b"5"), name)
            self.assertTrue(raw.say("RCPT TO:<ALICE@local.test>").startswith(b"250"))

    def test_mail_for_an_unlisted_postmaster_goes_to_the_one_of_the_file(self):
        relay = Relay(self, extra='[[local]]\ndomain = "second.test"\n'
                      'maildir = "/nowhere/{user}"\nusers = ["carol"]\n')
        send(relay, ["postmaster@second.test"])
        relay.wait_empty()
        self.assertEqual(len(relay.maildir("postmaster")), 1)

    def test_a_mailbox_that_cannot_be_written_defers(self):
        relay = Relay(self)
        os.makedirs(os.path.join(relay.folder, "mail", "local.test"))
        with open(os.path.join(relay.folder, "mail", "local.test", "bob"), "w") as file:
            file.write("a file where a folder should be")
        send(relay, ["bob@local.test"])
        world.wait_for(lambda: [g for g in relay.queue() if g["attempts"] == 1], "the deferral")
        os.unlink(os.path.join(relay.folder, "mail", "local.test", "bob"))
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(len(relay.maildir("bob")), 1)

    def test_a_repeat_after_a_crash_is_not_stored_twice(self):
        """Killed over and over while it delivers: each message once in the mailbox."""
        relay = Relay(self)
        sent = 0
        for round_number in range(6):
            with relay.relay_client() as client:
                for _ in range(10):
                    client.sendmail("x@y.test", ["alice@local.test"],
                                    message(subject=f"m{sent}", body=f"m{sent}"))
                    sent += 1
            relay.kill()
            relay.start()
        relay.wait_empty()
        subjects = sorted(line for m in relay.maildir("alice") for line in m.split(b"\n")
                          if line.startswith(b"Subject: "))
        self.assertEqual(len(subjects), len(set(subjects)))
        self.assertEqual(len(subjects), sent)


if __name__ == "__main__":
    world.main()
