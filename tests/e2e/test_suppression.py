"""'A suppression list (per tenant and global, durable, with reason and expiry; filled by hard
bounces when configured, and by command) refuses at RCPT or drops before delivery, as configured.'"""
import json
import os
import subprocess
import threading
import time
import unittest

import world
from test_deliver import send
from test_hold import exposition
from world import PASSWORD, USER, Hop, Relay

OTHER = "newsletter"


def suppression(**options):
    """The section, for Relay(extra=...)."""
    def toml(value):
        return json.dumps(value)
    return "[suppression]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in options.items())


def listed(relay, *words):
    text = relay.command("suppression", "list", *words, "--json")
    return {(e["tenant"], e["address"]): e for e in map(json.loads, text.splitlines())}


class AtRcpt(unittest.TestCase):
    def setUp(self):
        self.hop = Hop(self)
        self.relay = Relay(self, hop=self.hop.port)

    def rcpt(self, address, client=None):
        with client or self.relay.relay_client() as connection:
            connection.ehlo_or_helo_if_needed()
            self.assertEqual(connection.mail("app@sender.test")[0], 250)
            code, text = connection.rcpt(address)
            return code, text.decode()

    def test_an_entry_of_all_is_refused_for_all(self):
        said = self.relay.command("suppression", "add", "Bob@Example.test", "--reason", "asked by mail")
        self.assertIn("is suppressed", said)
        for client in (None, self.relay.client()):
            code, text = self.rcpt("bob@EXAMPLE.test", client)
            self.assertEqual(code, 550)
            self.assertRegex(text, r"^5\.7\.1 This address is on the suppression list since "
                             + time.strftime("%Y-%m-", time.gmtime()) + r"\d\d$")
            self.assertNotIn("asked", text)  # the reason is not the client's
        self.assertEqual(self.rcpt("ann@example.test")[0], 250)
        refused = self.relay.wait_event("receive.rejected")
        self.assertEqual((refused["rule"], refused["recipient"]), ("suppression", "bob@EXAMPLE.test"))
        self.assertIn('smtpd_suppression_refused_total{source="command"} 2\n', exposition(self.relay))
        self.assertIn("smtpd_suppression_entries 1\n", exposition(self.relay))
        self.assertIn("is suppressed no more", self.relay.command("suppression", "remove", "bob@example.test"))
        self.assertEqual(self.rcpt("bob@example.test")[0], 250)
        added, removed = self.relay.event("policy.suppression_added"), self.relay.wait_event("policy.suppression_removed")
        self.assertEqual((added["recipient"], added["reason"], added["source"]),
                         ("bob@example.test", "asked by mail", "command"))
        self.assertEqual(removed["recipient"], "bob@example.test")
        self.assertIn("was not on the list", self.relay.command("suppression", "remove", "bob@example.test", code=1))

    def test_an_entry_of_a_tenant_is_refused_for_that_one(self):
        self.relay.command("suppression", "add", "bob@example.test", "--tenant", USER)
        self.relay.command("suppression", "add", "@whole.test", "--tenant", OTHER)
        self.assertEqual(self.rcpt("bob@example.test", self.relay.client())[0], 550)
        self.assertEqual(self.rcpt("bob@example.test")[0], 250)  # nobody logged in
        self.assertEqual(self.rcpt("x@whole.test", self.relay.client())[0], 250)
        self.relay.command("suppression", "add", "@whole.test")
        code, text = self.rcpt("x@whole.test", self.relay.client())
        self.assertEqual(code, 550)
        self.assertIn("The domain of this address is on the suppression list", text)

    def test_our_own_mailboxes_are_not_looked_up(self):
        self.relay.command("suppression", "add", "@local.test")
        self.assertEqual(self.rcpt("alice@local.test")[0], 250)

    def test_other_recipients_of_the_message_get_it(self):
        self.relay.command("suppression", "add", "bob@example.test")
        with self.relay.client() as client:
            refused = client.sendmail("app@sender.test", ["ann@example.test", "bob@example.test"], world.message())
        self.assertEqual(list(refused), ["bob@example.test"])
        world.wait_for(lambda: self.hop.delivered() == {"ann@example.test": 1}, "the other one")

    def test_off_means_off_and_a_reload_applies(self):
        self.relay.command("suppression", "add", "bob@example.test")
        self.relay.write_config(extra=suppression(at="off"))
        mark = self.relay.log_mark()
        self.relay.signal(1)
        self.relay.wait_event("server.reloaded", mark)
        self.assertEqual(self.rcpt("bob@example.test")[0], 250)

    def test_entries_expire(self):
        preload, folder = world.preload(self, "clock.c")
        clock = os.path.join(folder, "step")
        self.relay = Relay(self, hop=self.hop.port, env={"LD_PRELOAD": preload, "CLOCK_FILE": clock})
        self.relay.command("suppression", "add", "bob@example.test", "--expire", "1h")
        self.assertEqual(self.rcpt("bob@example.test")[0], 550)
        with open(clock, "w") as file:
            file.write("3601")
        world.wait_for(lambda: self.rcpt("bob@example.test")[0] == 250, "the expiry")
        self.assertEqual(listed(self.relay), {})


class BeforeDelivery(unittest.TestCase):
    def start(self, **options):
        self.hop = Hop(self)
        self.relay = Relay(self, hop=self.hop.port, extra=suppression(at="delivery", **options))

    def test_what_is_on_the_list_is_never_tried_and_its_sender_is_told(self):
        self.start()
        self.relay.command("suppression", "add", "bob@example.test")
        send(self.relay, ["bob@example.test"], sender="alice@local.test")
        dropped = self.relay.wait_event("deliver.suppressed")
        self.assertEqual((dropped["recipient"], dropped["class"], dropped["attempts"]),
                         ("bob@example.test", "suppressed", 0))
        self.relay.wait_empty()
        self.assertEqual(self.hop.connections, 0)
        report = world.wait_for(lambda: self.relay.maildir("alice"), "a report")[0].decode()
        self.assertIn("Status: 5.7.1", report)
        self.assertIn("This address is on the suppression list since", report)
        self.assertIn("smtpd_suppression_dropped_total 1\n", exposition(self.relay))

    def test_others_of_the_same_group_get_it(self):
        self.start()
        self.relay.command("suppression", "add", "bob@example.test")
        send(self.relay, ["ann@example.test", "bob@example.test", "eve@example.test"], sender="alice@local.test")
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {"ann@example.test": 1, "eve@example.test": 1})
        self.assertEqual([line for _, line in self.hop.commands if "bob@" in line], [])
        self.assertEqual(self.relay.wait_event("deliver.suppressed")["recipient"], "bob@example.test")
        report = world.wait_for(lambda: self.relay.maildir("alice"), "a report")[0].decode()
        self.assertNotIn("Final-Recipient: rfc822;ann@", report.replace(" ", ""))

    def test_without_reports_a_line_of_the_log_is_all(self):
        self.start(report=False)
        self.relay.command("suppression", "add", "bob@example.test")
        send(self.relay, ["bob@example.test"], sender="alice@local.test")
        self.relay.wait_event("deliver.suppressed")
        self.relay.wait_empty()
        self.assertEqual(self.relay.maildir("alice"), [])
        self.assertEqual(self.relay.events("deliver.report_queued"), [])

    def test_mail_that_waits_already_is_dropped_too(self):
        is_open = threading.Event()
        self.hop = Hop(self, lambda stage, *_: None if is_open.is_set() or stage != "rcpt" else "451 4.3.0 later")
        self.relay = Relay(self, hop=self.hop.port, queue='retry = ["2s"]\n', extra=suppression(at="delivery"))
        send(self.relay, ["bob@example.test"], sender="alice@local.test")
        self.relay.wait_event("deliver.deferred")
        self.relay.command("suppression", "add", "bob@example.test")
        is_open.set()
        self.relay.wait_event("deliver.suppressed")
        self.assertEqual(self.hop.delivered(), {})

    def test_an_entry_of_a_tenant_holds_for_its_mail_only(self):
        self.start()
        self.relay.command("suppression", "add", "bob@example.test", "--tenant", USER)
        with self.relay.client() as client:
            client.sendmail("alice@local.test", ["bob@example.test"], world.message())
        self.relay.wait_event("deliver.suppressed")
        send(self.relay, ["bob@example.test"])
        world.wait_for(lambda: self.hop.delivered() == {"bob@example.test": 1}, "the mail of others")


class Bounces(unittest.TestCase):
    answers = {"gone@": "550 5.1.1 no such user", "closed@": "550 5.2.1 disabled", "full@": "552 5.2.2 full",
               "sender@": "550 5.1.8 bad sender", "spam@": "554 5.7.1 spam", "later@": "450 4.1.1 perhaps",
               "worded@": "550 5.7.1 recipient unknown here", "listed@": "550 5.1.1 blocked using the list of others",
               "calls@": "550 5.1.7 sender: undeliverable, 550 5.1.1 user unknown",
               "calls-too@": "550 5.1.0 <a@b>: Sender address rejected: User unknown in virtual mailbox table"}

    def answer(self, stage, argument, _):
        if stage == "rcpt":
            return next((a for name, a in self.answers.items() if name in argument), None)
        return None

    def setUp(self):
        self.hop = Hop(self, self.answer)

    def test_mailboxes_that_do_not_exist_are_added_for_their_tenant(self):
        relay = Relay(self, hop=self.hop.port, extra=suppression(add_hard_bounces=True, expire="90d"))
        with relay.client() as client:
            for name in self.answers:
                client.sendmail("alice@local.test", [f"{name}example.test"], world.message())
        world.wait_for(lambda: len(relay.events("deliver.bounced")) == 9 and len(listed(relay)) == 3, "the bounces")
        entries = listed(relay)
        self.assertEqual(set(entries), {(USER, "gone@example.test"), (USER, "closed@example.test"), (USER, "worded@example.test")})
        entry = entries[USER, "gone@example.test"]
        self.assertEqual((entry["source"], entry["reason"]), ("bounce", "550 5.1.1 no such user"))
        self.assertAlmostEqual(entry["expires_ms"] - entry["created_ms"], 90 * 86400 * 1000, delta=1000)
        with relay.client() as client:
            client.mail("app@sender.test")
            self.assertEqual(client.rcpt("gone@example.test")[0], 550)
            self.assertEqual(client.rcpt("full@example.test")[0], 250)
        self.assertIn('smtpd_suppression_refused_total{source="bounce"} 1\n', exposition(relay))
        relay.kill()
        relay.start()
        self.assertEqual(set(listed(relay)), set(entries))

    def test_an_answer_to_the_whole_transaction_is_about_nobody_but_a_single_one(self):
        self.hop.close()
        hop = Hop(self, lambda stage, *_: "550 5.1.1 no mailbox" if stage == "dot" else None)
        relay = Relay(self, hop=hop.port, extra=suppression(add_hard_bounces=True))
        with relay.client() as client:
            client.sendmail("alice@local.test", ["one@example.test", "two@example.test"], world.message())
            client.sendmail("alice@local.test", ["alone@example.test"], world.message())
        world.wait_for(lambda: len(relay.events("deliver.bounced")) == 3, "the bounces")
        world.wait_for(lambda: listed(relay), "the one that was alone")
        self.assertEqual(set(listed(relay)), {(USER, "alone@example.test")})

    def test_without_the_option_nothing_is_added(self):
        relay = Relay(self, hop=self.hop.port)
        send(relay, ["gone@example.test"], sender="alice@local.test")
        relay.wait_event("deliver.bounced")
        relay.wait_empty()
        self.assertEqual(listed(relay), {})

    def test_a_full_list_says_so_once(self):
        relay = Relay(self, hop=self.hop.port, extra=suppression(add_hard_bounces=True, entries=1))
        relay.command("suppression", "add", "ann@example.test")
        self.assertIn("suppression.entries", relay.command("suppression", "add", "eve@example.test", code=1))
        for _ in range(3):
            send(relay, ["gone@example.test"], sender="alice@local.test")
        world.wait_for(lambda: len(relay.events("deliver.bounced")) == 3, "three bounces")
        self.assertEqual(len(relay.events("policy.suppression_full")), 1)
        self.assertIn("smtpd_suppression_not_added_total 3\n", exposition(relay))


class Kept(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(self, hop=world.free_port())

    def test_what_was_answered_survives_a_kill_right_behind_it(self):
        """Commands one after the other, until the process is gone: each that was answered is there."""
        for turn in range(3):
            done, stopping = [], threading.Event()

            def commands(turn=turn, done=done, stopping=stopping):
                for i in range(1000):
                    code = subprocess.run([world.BINARY, "suppression", "add", f"u{turn}-{i}@example.test",
                                           "--config", self.relay.config_path],
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
                    if stopping.is_set() and code:
                        return
                    self.assertEqual(code, 0)
                    done.append(f"u{turn}-{i}@example.test")

            thread = threading.Thread(target=commands)
            thread.start()
            world.wait_for(lambda done=done: len(done) > 5, "some commands")
            stopping.set()
            self.relay.kill()
            thread.join()
            self.relay.start()
            there = {address for _, address in listed(self.relay)}
            self.assertLessEqual(set(done), there)

    def test_a_torn_end_is_a_warning_and_a_damaged_middle_an_error(self):
        self.relay.command("suppression", "add", "a@example.test", "--reason", "with a reason")
        self.relay.command("suppression", "add", "b@example.test")
        self.relay.stop()
        path = os.path.join(self.relay.data, "suppression")
        with open(path, "ab") as file:
            file.write(b"+ 1 0 command = c@exam")
        self.relay.start()
        self.assertIn("22 bytes are cut off", self.relay.wait_event("policy.suppression_cut")["message"])
        self.assertEqual({a for _, a in listed(self.relay)}, {"a@example.test", "b@example.test"})
        self.relay.stop()
        with open(path, "r+b") as file:
            file.seek(60)
            file.write(b"X")
        with self.assertRaisesRegex(AssertionError, "is damaged.*import the addresses again"):
            self.relay.start()
        self.relay.process = None
        os.remove(path)
        self.relay.start()
        self.assertEqual(listed(self.relay), {})

    def test_a_disk_that_is_full_refuses_and_changes_nothing(self):
        self.relay.command("suppression", "add", "a@example.test")
        self.relay.stop()
        path = os.path.join(self.relay.data, "suppression")
        self.relay.start()
        os.rename(path, path + ".away")
        # The file is opened at the first change: a folder in its place cannot be.
        os.mkdir(path)
        self.assertIn("cannot be written", self.relay.command("suppression", "add", "b@example.test", code=1))
        self.relay.wait_event("policy.suppression_unwritable")
        os.rmdir(path)
        os.rename(path + ".away", path)
        self.relay.command("suppression", "add", "c@example.test")
        self.assertEqual({a for _, a in listed(self.relay)}, {"a@example.test", "c@example.test"})


class Commands(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(self, hop=world.free_port())

    def file(self, text):
        path = os.path.join(self.relay.folder, "addresses")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_lists_are_read_by_people_and_by_programs(self):
        add = ("suppression", "add")
        self.relay.command(*add, "a@x.test", "--reason", "first")
        self.relay.command(*add, "a@x.test", "--tenant", "red", "--expire", "30d")
        self.relay.command(*add, "@y.test", "--tenant", "red")
        text = self.relay.command("suppression", "list")
        self.assertRegex(text, r"(?m)^ADDRESS +TENANT +SOURCE +SINCE +EXPIRES +REASON")
        self.assertRegex(text, r"(?m)^a@x\.test +- +command +20\d\d-\d\d-\d\d never +first$")
        self.assertRegex(text, r"(?m)^a@x\.test +red +command +20\d\d-\d\d-\d\d 20\d\d-\d\d-\d\d")
        self.assertEqual(set(listed(self.relay)), {(None, "a@x.test"), ("red", "a@x.test"), ("red", "@y.test")})
        self.assertEqual(set(listed(self.relay, "--tenant", "red")), {("red", "a@x.test"), ("red", "@y.test")})
        self.assertEqual(set(listed(self.relay, "--global")), {(None, "a@x.test")})
        self.assertEqual(set(listed(self.relay, "--domain", "Y.test")), {("red", "@y.test")})
        self.assertEqual(len(listed(self.relay, "--limit", "2")), 2)
        shown = self.relay.command("suppression", "show", "who@Y.test")
        self.assertIn("@y.test", shown)
        self.assertNotIn("a@x.test", shown)
        self.assertIn("none", self.relay.command("suppression", "show", "who@z.test"))
        replaced = json.loads(self.relay.command(*add, "a@x.test", "--json"))
        self.assertEqual((replaced["added"], replaced["replaced"]), (0, 1))

    def test_what_is_not_understood_is_said(self):
        for words in (["add"], ["add", "nobody", "--limit", "3"], ["list", "--expire", "3d"], ["list", "a@b.test"],
                      ["add", "a@b.test", "--expire", "soon"], ["forget", "a@b.test"], ["import"], []):
            self.assertIn("usage: smtpd suppression", self.relay.command("suppression", *words, code=2))
        self.assertIn("is no address", self.relay.command("suppression", "add", "nobody", code=1))
        self.assertIn("cannot be opened", self.relay.command("suppression", "import", "/nowhere", code=1))
        self.assertIn("usage: smtpd suppression", self.relay.command("suppression", "--help"))
        self.relay.stop()
        self.relay.command("suppression", "list", code=3)

    def test_a_file_of_a_hundred_thousand_comes_in(self):
        count = 100000
        path = self.file("# from the old system\n\n" + "".join(
            f"user{i}@domain{i % 100}.test" + (", moved away\n" if i % 2 else "\n") for i in range(count)))
        said = self.relay.command("suppression", "import", path, "--tenant", USER, "--reason", "old system")
        self.assertIn(f"{count} added, 0 were there, 0 lines not understood", said)
        entries = listed(self.relay, "--domain", "domain7.test")
        self.assertEqual(len(entries), count // 100)
        self.assertEqual(entries[USER, "user7@domain7.test"]["reason"], "moved away")
        self.assertEqual(len(listed(self.relay)), count)
        before = time.monotonic()
        self.relay.kill()
        self.relay.start()
        self.assertLess(time.monotonic() - before, 20)
        self.assertIn(f"smtpd_suppression_entries {count}\n", exposition(self.relay))
        self.assertEqual(len(listed(self.relay, "--limit", "100")), 100)

    def test_bad_lines_are_told_and_the_others_come_in(self):
        path = self.file("a@x.test\nnobody\n@y.test;whole domain\n\"a b\n")
        said = self.relay.command("suppression", "import", path, code=1)
        self.assertIn("addresses:2: no address", said)
        self.assertIn("addresses:4: no address", said)
        self.assertIn("2 added, 0 were there, 2 lines not understood", said)
        self.assertEqual(listed(self.relay)[None, "@y.test"]["reason"], "whole domain")
        counts = json.loads(self.relay.command("suppression", "import", "-", "--json", stdin="a@x.test\r\nb@x.test\n"))
        self.assertEqual(counts, {"added": 1, "replaced": 1, "bad": 0})


if __name__ == "__main__":
    world.main()
