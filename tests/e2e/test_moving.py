"""smtpd queue export and import: messages leave one relay as files and come into another, with
everything that was known of them; killed meanwhile, nothing is lost and nothing comes twice."""
import json
import os
import random
import re
import subprocess
import threading
import unittest

import queue_file
import world
from world import BINARY, Hop, Relay

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Moving(unittest.TestCase):
    def setUp(self):
        self.is_open = False
        self.hop = Hop(self, lambda stage, *_: None if self.is_open or stage != "rcpt" else "451 4.3.0 later")
        self.other_hop = Hop(self)
        self.relay = Relay(self, hop=self.hop.port)
        self.other = Relay(self, hop=self.other_hop.port, start=False)
        self.files = os.path.join(self.relay.folder, "moved")

    def fill(self, count=5):
        client = self.relay.client()
        for i in range(count):
            client.sendmail("ann@from.test", [f"u{i}@x.test", f"v{i}@y.test"],
                            world.message(subject=f"s{i}", body=f".dot {i}\r\n" + "x" * random.randrange(12000)))
        client.quit()
        world.wait_for(lambda: all(g["attempts"] for g in self.relay.queue()) and
                       len(self.relay.queue()) >= count, "a first answer for all")

    def export(self, *words, relay=None, code=0):
        """Until no attempt is in the way."""
        relay = relay or self.relay

        def try_it():
            said = json.loads(relay.command("queue", "export", self.files, *words, "--json", code=code))
            return said["busy"] == 0 and said
        return world.wait_for(try_it, "an export")

    def import_into(self, relay, code=0):
        return json.loads(relay.command("queue", "import", self.files, "--json", code=code))

    def listed(self):
        return sorted(name for name in os.listdir(self.files) if name.endswith(".smtpd"))

    def head(self, name):
        with open(os.path.join(self.files, name), "rb") as file:
            magic, version, length, size = file.readline().split()
            self.assertEqual((magic, version), (b"smtpd-message", b"1"))
            head = json.loads(file.read(int(length)))
            message = file.read()
        self.assertEqual(len(message), int(size))
        return head, message

    def deliver(self, recipients):
        """The next tries are as far away as they were: now."""
        self.other.start()
        world.wait_for(lambda: not self.other.status()["queue"]["is_rebuilding"], "the index")
        self.other.command("queue", "retry", "--all")
        world.wait_for(lambda: len(self.other_hop.delivered()) == recipients, "the deliveries")

    def clean(self, relay):
        said = relay.command("queue", "verify")
        self.assertIn("no rule is broken", said)


class ThereAndBack(Moving):
    def test_a_message_keeps_all_that_was_known_of_it(self):
        client = self.relay.client()
        client.ehlo()
        client.mail("ann@from.test", ["ENVID=env+2B1", "RET=HDRS", "BODY=8BITMIME"])
        client.rcpt("one@x.test", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;First@x.test"])
        client.rcpt("two@x.test", ["NOTIFY=NEVER"])
        client.data(world.message(to="one@x.test", subject="kept", body=".a dot\r\nf\u00fcr").encode())
        client.quit()
        world.wait_for(lambda: any(g["attempts"] for g in self.relay.queue()), "its first answer")
        [before] = self.relay.queue()
        stored = subprocess.run([BINARY, "queue", "show", before["id"], "--message", "--config",
                                 self.relay.config_path], stdout=subprocess.PIPE, check=True).stdout
        said = self.relay.command("queue", "export", self.files, "--all", "--dry-run")
        self.assertEqual(said, "1 message to export (dry run: nothing is changed)\n")
        self.assertEqual(len(self.relay.queue()), 1)
        counts = self.export(before["id"])
        self.assertEqual((counts["matched"], counts["exported"], counts["failed"]), (1, 1, 0))
        self.assertEqual(self.relay.queue(), [])
        self.assertEqual(self.relay.status()["queue"]["groups_waiting"], 0)
        event = self.relay.wait_event("queue.exported")
        self.assertEqual((event["id"], event["sender"]), (before["id"], "ann@from.test"))
        [name] = self.listed()
        self.assertEqual(name, before["id"] + ".smtpd")
        head, message = self.head(name)
        self.assertEqual(message, stored)
        self.assertEqual((head["id"], head["sender"], head["envid"], head["ret"], head["body"], head["user"]),
                         (before["id"], "ann@from.test", "env+2B1", "HDRS", "8BITMIME", world.USER))
        [group] = head["groups"]
        self.assertEqual([r["notify"] for r in group["recipients"]], [["SUCCESS", "DELAY"], ["NEVER"]])
        self.assertEqual((group["attempts"], group["last"]["code"]), (before["attempts"], 451))
        self.assertEqual(self.import_into(self.other),
                         {"imported": 1, "known": 0, "failed": 0, "bytes": len(stored)})
        self.assertEqual(os.listdir(self.files), [])
        event = self.other.wait_event("queue.imported")
        self.assertEqual((event["origin"], event["recipients"]), (head["origin"], 2))
        self.clean(self.other)
        self.deliver(2)
        [sent] = self.other_hop.messages
        self.assertEqual(sent["data"], stored)
        for parameter in ("ENVID=env+2B1", "RET=HDRS", "BODY=8BITMIME"):
            self.assertIn(parameter, sent["mail"])
        self.assertIn("NOTIFY=SUCCESS,DELAY", sent["rcpts"][0])
        self.assertIn("ORCPT=rfc822;First@x.test", sent["rcpts"][0])
        delivered = self.other.wait_event("deliver.delivered")
        self.assertEqual(delivered["id"], event["id"])
        self.assertEqual(delivered["attempts"], before["attempts"] + 1)
        self.assertEqual(self.relay.status()["queue"]["commits_failed"], 0)

    def test_a_held_group_stays_held_and_age_and_tries_are_the_same(self):
        self.fill(1)
        self.relay.command("queue", "hold", "--all", "--until", "2d")
        world.wait_for(lambda: all(g["state"] == "held" for g in self.relay.queue()) or
                       self.relay.command("queue", "hold", "--all", "--until", "2d") and False, "a hold")
        before = self.relay.queue()
        self.export("--all")
        self.import_into(self.other)
        self.other.start()
        world.wait_for(lambda: len(self.other.queue()) == len(before), "the index")
        for old, new in zip(before, self.other.queue()):
            self.assertNotEqual(old["id"] + self.relay.data, new["id"] + self.other.data)
            for name in ("sender", "recipients", "arrival_ms", "next_attempt_ms", "attempts", "state",
                         "held_until_ms", "size", "user", "last", "lane"):
                self.assertEqual(old[name], new[name], name)
        self.assertEqual(self.other_hop.messages, [])

    def test_a_large_streamed_message_and_many_groups_in_a_stopped_relay(self):
        with self.relay.client() as client:
            client.sendmail("ann@from.test", [f"many{i}@x.test" for i in range(250)],
                            world.message(subject="large", body=("y" * 76 + "\r\n") * 30000))
        world.wait_for(lambda: len(self.relay.queue()) == 3, "its groups")
        stored = subprocess.run([BINARY, "queue", "show", self.relay.queue()[0]["id"], "--message", "--config",
                                 self.relay.config_path], stdout=subprocess.PIPE, check=True).stdout
        self.relay.stop()
        self.assertIn("1 message to export", self.relay.command("queue", "export", self.files, "--domain",
                                                                "route:hop", "--dry-run"))
        self.assertEqual(self.export("--sender", "nobody@from.test")["exported"], 0)
        self.assertIn("needs a running server",
                      self.relay.command("queue", "export", self.files, "--source", "any", code=2))
        self.assertEqual(self.export("--domain", "route:hop")["exported"], 1)
        self.assertEqual(self.head(self.listed()[0])[1], stored)
        self.clean(self.relay)
        self.import_into(self.other)
        self.clean(self.other)
        self.deliver(250)
        self.assertEqual({m["data"] for m in self.other_hop.messages}, {stored})

    def test_what_is_attempted_is_told_and_stays(self):
        self.fill(1)
        hop = Hop(self, lambda stage, *_: "HANG" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port)
        with relay.client() as client:
            client.sendmail("ann@from.test", ["slow@x.test"], world.message())
        world.wait_for(lambda: any(g["state"] == "active" for g in relay.queue()), "an attempt")
        said = json.loads(relay.command("queue", "export", self.files, "--all", "--json"))
        self.assertEqual((said["busy"], said["exported"]), (1, 0))
        self.assertEqual(self.listed(), [])
        self.assertEqual(len(relay.queue()), 1)


class Refused(Moving):
    def test_torn_and_broken_files_stay_with_a_reason_and_the_rest_goes_on(self):
        self.fill(6)
        self.export("--all")
        names = self.listed()
        texts = {}
        for name in names:
            with open(os.path.join(self.files, name), "rb") as file:
                texts[name] = file.read()
        broken = {names[0]: texts[names[0]][:-1],
                  names[1]: texts[names[1]][:-3] + b"X\r\n",
                  names[2]: texts[names[2]].replace(b"smtpd-message 1", b"smtpd-message 7"),
                  names[3]: texts[names[3]].replace(b'"sender":"ann@from.test"', b'"sender":"a\\r\\nfrom.test"'),
                  names[4]: texts[names[4]].replace(b'"has_dot_line":true', b'"has_dot_line":null')}
        for name, text in broken.items():
            with open(os.path.join(self.files, name), "wb") as file:
                file.write(text)
        os.symlink("/etc/passwd", os.path.join(self.files, "aaaaaaaaaaaaa.smtpd"))
        said = self.other.command("queue", "import", self.files, code=1)
        self.assertIn("1 imported, 0 known already, 6 refused", said)
        for name, why in zip(names, ("torn", "digest", "format 7, this program knows 1", '"sender"|lengths|torn|JSON',
                                     '"has_dot_line"|torn')):
            self.assertRegex(said, f"smtpd: {name}: .*({why})")
        self.assertRegex(said, "aaaaaaaaaaaaa.smtpd: it cannot be opened")
        self.assertEqual(set(self.listed()), set(broken) | {"aaaaaaaaaaaaa.smtpd"})
        for name in broken:
            with open(os.path.join(self.files, name), "wb") as file:
                file.write(texts[name])
        os.unlink(os.path.join(self.files, "aaaaaaaaaaaaa.smtpd"))
        self.assertEqual(self.import_into(self.other)["imported"], 5)
        self.clean(self.other)

    def test_a_file_of_another_message_is_never_written_over(self):
        self.fill(1)
        id = self.relay.queue()[0]["id"]
        os.mkdir(self.files)
        path = os.path.join(self.files, id + ".smtpd")
        with open(path, "w") as file:
            file.write("mine")
        said = self.relay.command("queue", "export", self.files, id, code=1)
        self.assertIn(f"smtpd: {id}: a file of that name is there, and is not this message's", said)
        with open(path) as file:
            self.assertEqual(file.read(), "mine")
        self.assertEqual({g["id"] for g in self.relay.queue()}, {id})

    def test_a_folder_that_cannot_be_written_keeps_everything_in_the_queue(self):
        self.fill(2)
        said = self.relay.command("queue", "export", "/proc/nothing", "--all", code=1)
        self.assertIn("/proc/nothing", said)
        self.assertEqual(len({g["id"] for g in self.relay.queue()}), 2)

    def test_an_import_needs_a_stopped_server(self):
        os.mkdir(self.files)
        said = self.relay.command("queue", "import", self.files, code=1)
        self.assertIn(f"held by process {self.relay.process.pid}", said)
        self.assertIn("cannot open", self.other.command("queue", "import", "/nonexistent", code=1))


class Killed(Moving):
    def killed(self, relay, *words):
        """Killed later and later, until it comes to its end; how often. Its disk is slow: it must not be
        done before the first time."""
        library, _ = world.preload(self, "../../bench/slow_sync.c")
        env = dict(os.environ, LD_PRELOAD=library, SLOW_SYNC_US="20000")
        patience = 0.005
        for kills in range(100):
            process = subprocess.Popen([BINARY, "queue", *words, "--config", relay.config_path], env=env,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            timer = threading.Timer(patience * random.uniform(0.8, 1.2), process.kill)
            timer.start()
            code = process.wait()
            timer.cancel()
            if code == 0:
                return kills
            self.assertEqual(code, -9)
            patience *= 1.25
        self.fail(f"{words} never comes to its end")

    def deliver_all(self, count):
        self.deliver(2 * count)
        self.other.wait_empty()
        self.assertEqual(set(self.other_hop.delivered().values()), {1})

    def test_export_and_import_of_stopped_relays_killed_at_random(self):
        count = 60
        self.fill(count)
        self.relay.stop()
        self.assertGreater(self.killed(self.relay, "export", self.files, "--all"), 0)
        self.clean(self.relay)
        self.relay.command("queue", "export", self.files, "--all")
        self.assertEqual(len(self.listed()), count)
        self.assertEqual([n for n in os.listdir(self.files) if n.endswith(".part")], [])
        self.assertGreater(self.killed(self.other, "import", self.files), 0)
        self.other.command("queue", "import", self.files)
        self.assertEqual(os.listdir(self.files), [])
        self.clean(self.other)
        self.deliver_all(count)

    def test_a_relay_that_is_killed_while_it_exports(self):
        count = 60
        self.fill(count)
        for _ in range(3):
            process = subprocess.Popen([BINARY, "queue", "export", self.files, "--all", "--config",
                                        self.relay.config_path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            world.time.sleep(random.random() * 0.3)
            self.relay.kill()
            process.wait()
            self.clean(self.relay)
            self.relay.start()
        world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "the index")
        self.export("--all")
        self.assertEqual(self.relay.queue(), [])
        self.assertEqual(len(self.listed()), count)
        self.assertEqual(self.hop.messages, [])
        self.import_into(self.other)
        self.deliver_all(count)

    def test_an_import_that_is_cut_off_is_known_even_when_the_mail_went_out_meanwhile(self):
        self.fill(1)
        self.export("--all")
        [name] = self.listed()
        with open(os.path.join(self.files, name), "rb") as file:
            text = file.read()
        self.import_into(self.other)
        # As if it had been killed between its commit and the removal of the file.
        with queue_file.transaction(self.other.data) as txn:
            [(origin, row)] = txn.rows("import")
            txn.put("import", origin, row[:8] + b"\0")
        with open(os.path.join(self.files, name), "wb") as file:
            file.write(text)
        self.deliver_all(1)
        self.other.stop()
        self.assertEqual(self.import_into(self.other),
                         {"imported": 0, "known": 1, "failed": 0, "bytes": 0})
        self.assertTrue(self.other.wait_event("queue.import_known"))
        self.assertEqual(os.listdir(self.files), [])
        self.other.start()
        self.assertEqual(self.other.queue(), [])


class Page(Moving):
    def test_the_page_is_followed_as_it_is_written(self):
        self.fill(3)
        with open(os.path.join(ROOT, "docs", "moving.md")) as file:
            commands = re.findall(r"^    smtpd ([^#\n]*)", file.read(), re.M)
        self.assertGreaterEqual(len(commands), 4)
        for command in commands:
            relay = self.other if "import" in command or "verify" in command else self.relay
            relay.command(*command.replace("/var/lib/smtpd/moved", self.files).split())
        self.deliver(6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
