"""Issue sentence 'Local mailboxes': '`[[local]]` domains go to Maildir (tmp, fsync, rename into new,
folder synced; file names made of id and group, so that a repeat after a crash is not stored twice)',
by watching the calls and by killing the relay at each of them."""
import os
import unittest

import world
from test_deliver import books, send
from world import Relay

FOLDER = "local.test/alice"


class Order(unittest.TestCase):
    def setUp(self):
        preload, folder = world.preload(self, "maildir_shim.c")
        self.plan_path, self.log_path = os.path.join(folder, "plan"), os.path.join(folder, "log")
        self.env = {"LD_PRELOAD": preload, "SHIM_FILE": self.plan_path, "SHIM_LOG": self.log_path}

    def relay(self):
        relay = Relay(self, queue='retry = ["1h"]\n', env=self.env, start=False)
        relay.env["SHIM_ROOT"] = os.path.join(relay.folder, "mail")
        return relay.start()

    def plan(self, text=""):
        with open(self.plan_path, "w") as file:
            file.write(text)

    def calls(self, mark=0):
        """What was done, as lists of words; without the writes that follow a write."""
        if not os.path.exists(self.log_path):
            return []
        with open(self.log_path) as file:
            calls = [line.split() for line in file][mark:]
        return [c for at, c in enumerate(calls) if c[0] != "write" or at == 0 or calls[at - 1] != c]

    def mark(self):
        if not os.path.exists(self.log_path):
            return 0
        with open(self.log_path) as file:
            return len(file.readlines())

    def split(self, calls):
        """Folders that were made, and the other calls; each new name is synced at once."""
        made = []
        while calls and calls[0][0] == "mkdir":
            made.append(calls.pop(0)[1])
            if made[-1] != ".":  # what is above it is not watched
                self.assertEqual(calls.pop(0), ["sync", os.path.dirname(made[-1]) or "."])
        return made, calls

    def restart(self, relay):
        self.plan()
        relay.start()
        relay.wait_index()
        relay.command("queue", "retry", "--all")
        relay.wait_empty()

    def stored(self, relay):
        """Subjects of the mailbox; nothing may be left in tmp."""
        box = os.path.join(relay.folder, "mail", FOLDER)
        self.assertEqual(os.listdir(os.path.join(box, "tmp")), [])
        return [line for m in relay.maildir("alice") for line in m.split(b"\n")
                if line.startswith(b"Subject: ")]

    def test_write_sync_rename_and_sync_of_the_folder(self):
        """'go to Maildir (tmp, fsync, rename into new, folder synced; file names made of id and
        group ...)': in this order, for a message of several pieces too."""
        relay = self.relay()
        folders = [".", "local.test", FOLDER, *(f"{FOLDER}/{sub}" for sub in ("tmp", "new", "cur"))]
        for body, wanted in (("short", folders), (("x" * 76 + "\r\n") * 4000, [])):
            mark = self.mark()
            id = send(relay, ["alice@local.test"], body=body)
            relay.wait_empty()
            made, calls = self.split(self.calls(mark))
            self.assertEqual(made, wanted)
            name = os.path.basename(calls[0][1])
            self.assertIn(id, name)
            tmp, new = f"{FOLDER}/tmp/{name}", f"{FOLDER}/new/{name}"
            self.assertEqual(calls, [["create", tmp], ["write", tmp], ["sync", tmp],
                                     ["rename", tmp, new], ["sync", f"{FOLDER}/new"]])
        self.assertEqual(len(self.stored(relay)), 2)

    def test_the_name_is_made_of_id_and_group(self):
        """'file names made of id and group': two groups of one message have two names, the two
        mailboxes of one group have the same."""
        relay = self.relay()
        relay.write_config(extra='[[local]]\ndomain = "second.test"\n'
                           f'maildir = "{relay.folder}/mail/{{domain}}/{{user}}"\n'
                           'users = ["alice"]\n')
        relay.stop()
        relay.start()
        id = send(relay, ["alice@local.test", "bob@local.test", "alice@second.test"])
        relay.wait_empty()
        created = [c[1].split("/") for c in self.calls() if c[0] == "create"]
        names = {f"{domain}/{user}": name for domain, user, _, name in created}
        self.assertEqual(names["local.test/alice"], names["local.test/bob"])
        self.assertNotEqual(names["local.test/alice"], names["second.test/alice"])
        self.assertTrue(all(id in name for name in names.values()), names)

    def test_a_repeat_after_a_crash_is_not_stored_twice(self):
        """'so that a repeat after a crash is not stored twice': killed before and after each call;
        at the end the message is there once, whole, and in a folder that was synced."""
        for what in ("create", "write", "sync", "rename", "syncdir"):
            for how in ("before", "after"):
                with self.subTest(f"killed {how} {what}"):
                    self.kill_at(what, how)

    def kill_at(self, what, how):
        relay = self.relay()
        send(relay, ["alice@local.test"], subject="first")  # makes the folders
        relay.wait_empty()
        relay.wait_event("deliver.delivered")  # or the kill takes its line along
        mark = self.mark()
        self.plan(f"{what} {how}")
        send(relay, ["alice@local.test"], subject="once", body="whole\r\nend")
        self.assertEqual(relay.wait_exit(), -9)
        self.restart(relay)
        self.assertEqual(self.stored(relay), [b"Subject: first", b"Subject: once"])
        self.assertTrue(relay.maildir("alice")[1].endswith(b"\nwhole\nend\n"))
        self.assertEqual(len([c for c in self.calls(mark) if c[0] == "rename"]), 1)
        # What the restarted relay calls delivered is in a synced folder.
        self.assertEqual(self.calls(mark)[-1], ["sync", f"{FOLDER}/new"])
        world.wait_for(lambda: len(relay.events("deliver.delivered")) >= 2, "both in the log")
        self.assertEqual(len(relay.events("deliver.delivered")), 2)
        relay.stop()

    def test_one_that_a_mail_reader_took_is_not_stored_again(self):
        """'a repeat after a crash is not stored twice': also when it was read meanwhile."""
        relay = self.relay()
        self.plan("rename after")
        send(relay, ["alice@local.test"])
        self.assertEqual(relay.wait_exit(), -9)
        box = os.path.join(relay.folder, "mail", FOLDER)
        name = os.listdir(os.path.join(box, "new"))[0]
        os.rename(os.path.join(box, "new", name), os.path.join(box, "cur", name + ":2,S"))
        mark = self.mark()
        self.restart(relay)
        self.assertEqual((self.stored(relay), os.listdir(os.path.join(box, "cur"))),
                         ([], [name + ":2,S"]))
        self.assertEqual(self.calls(mark), [["sync", f"{FOLDER}/cur"]])

    def test_a_call_that_fails_defers_and_a_later_try_stores_it_once(self):
        """'tmp, fsync, rename into new, folder synced': without each of them it is not delivered,
        and the recipient waits."""
        for what in ("create", "write", "sync", "rename", "syncdir"):
            with self.subTest(f"{what} fails"):
                relay = self.relay()
                send(relay, ["alice@local.test"], subject="first")  # makes the folders
                relay.wait_empty()
                self.plan(f"{what} fail")
                send(relay, ["alice@local.test"], subject="once")
                world.wait_for(lambda: [g["attempts"] for g in relay.queue()] == [1], "deferral")
                relay.wait_event("deliver.deferred")  # the lines come in their order
                self.assertEqual(len(relay.events("deliver.delivered")), 1)
                books(self, relay, [], ["alice@local.test"])
                mark = self.mark()
                self.plan()
                relay.command("queue", "retry", "--all")
                relay.wait_empty()
                self.assertEqual(self.stored(relay), [b"Subject: first", b"Subject: once"])
                self.assertEqual(self.calls(mark)[-1], ["sync", f"{FOLDER}/new"])
                relay.stop()


if __name__ == "__main__":
    world.main()
