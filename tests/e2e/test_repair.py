"""smtpd queue verify and compact: on the queue of a real relay after real traffic, on copies, on
damaged files, and killed meanwhile."""
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import unittest

import queue_file
import world
from world import BINARY, Hop, Relay

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Filled(unittest.TestCase):
    def setUp(self):
        self.is_open = False
        self.hop = Hop(self, lambda stage, *_: None if self.is_open or stage != "rcpt" else "451 4.3.0 later")
        self.relay = Relay(self, hop=self.hop.port)

    def traffic(self):
        """Reports, groups of many recipients, large and streamed messages, drafts, 8-bit, dots."""
        client = self.relay.client()
        for i in range(20):
            client.sendmail("ann@from.test", [f"u{i}@x.test", f"v{i}@y.test", "bob@local.test"],
                            world.message(subject=f"s{i}", body=f".dot {i}\r\n" + "x" * random.randrange(20000)))
        client.sendmail("ann@from.test", [f"many{i}@x.test" for i in range(250)],
                        world.message(subject="many"))
        client.sendmail("ann@from.test", ["large@x.test"],
                        world.message(subject="large", body=("y" * 76 + "\r\n") * 20000))
        client.sendmail("ann@from.test", ["utf@x.test"],
                        world.message(subject="utf", body="f\u00fcr alle").encode(), ["BODY=8BITMIME"])
        client.sendmail("", ["null@x.test"], world.message(subject="null"))
        client.quit()
        world.wait_for(lambda: all(g["attempts"] for g in self.relay.queue() if "hop" in g["lane"]),
                       "a first answer for all")
        # An accepted one with its header section alone, and one that is never finished.
        with self.relay.raw() as raw:
            raw.say("EHLO client.test")
            raw.say("MAIL FROM:<a@from.test>")
            raw.say("RCPT TO:<b@x.test>")
            raw.say("DATA")
            raw.say("Subject: bare\r\n\r\n.")
            raw.say("MAIL FROM:<a@from.test>")
            raw.say("RCPT TO:<b@x.test>")
            raw.say("DATA")
            raw.send(b"Subject: cut\r\n\r\n" + (b"z" * 70 + b"\r\n") * 10000)
            world.wait_for(lambda: self.relay.status()["queue"]["receiving_bytes"] < 400000 and
                           self.relay.status()["queue"]["drafts"] > 0, "a part of it in the file")
            with self.relay.relay_client() as client:  # the commit of this one holds that part too
                client.sendmail("a@from.test", ["b@x.test"], world.message("b@x.test"))
            self.relay.kill()

    def verify(self, *words, code=0):
        lines = [json.loads(line) for line in
                 self.relay.command("queue", "verify", *words, "--json", code=code).splitlines()]
        return lines[-1], lines[:-1]


class Verify(Filled):
    def test_a_queue_after_real_traffic_breaks_no_rule(self):
        self.traffic()
        numbers, findings = self.verify()
        self.assertEqual(findings, [])
        self.assertEqual(numbers["findings"], 0)
        self.assertGreaterEqual(numbers["messages"], 24)
        self.assertEqual(numbers["drafts"], 1)
        self.assertGreater(numbers["recipients"], 290)
        said = self.relay.command("queue", "verify")
        self.assertIn("no rule is broken", said)
        self.assertIn("1 unfinished: the next start removes them", said)
        self.is_open = True
        self.relay.start()
        self.relay.wait_index()
        self.relay.command("queue", "retry", "--all")
        self.relay.wait_empty()
        self.relay.stop()
        numbers, findings = self.verify()
        self.assertEqual((numbers["messages"], numbers["chunks"], findings), (0, 0, []))
        self.assertGreater(numbers["free_pages"], 100)

    def test_a_running_server_is_named_and_left_alone(self):
        for word in ("verify", "compact"):
            said = self.relay.command("queue", word, code=1)
            self.assertIn(f"held by process {self.relay.process.pid}", said)
        self.assertEqual(self.relay.status()["queue"]["commits_failed"], 0)

    def test_a_copy_is_checked_without_a_configuration_and_nothing_is_made_in_it(self):
        self.traffic()
        copy = os.path.join(self.relay.folder, "copy")
        os.mkdir(copy)
        shutil.copy(os.path.join(self.relay.data, "data.mdb"), copy)
        self.relay.start()
        done = subprocess.run([BINARY, "queue", "verify", copy, "--config", "/nonexistent"],
                              stdout=subprocess.PIPE, text=True, timeout=world.PATIENCE)
        self.assertEqual((done.returncode, os.listdir(copy)), (0, ["data.mdb"]), done.stdout)
        self.assertIn("no rule is broken", done.stdout)

    def test_a_broken_rule_is_told_with_record_and_rule_and_mended_by_nobody(self):
        self.traffic()
        with queue_file.transaction(self.relay.data) as txn:
            name, record = txn.rows("envelope")[0]
            txn.put("envelope", name, record[:2] + bytes([record[2] & ~4]) + record[3:])
        numbers, findings = self.verify(code=1)
        [finding] = findings
        self.assertEqual((finding["rule"], finding["table"], numbers["findings"]),
                         ("flag-dot-line", "envelope", 1))
        self.assertRegex(finding["record"], r"\A[a-z2-7]{13}\Z")
        said = self.relay.command("queue", "verify", code=1)
        self.assertIn(f"envelope {finding['record']}: flag-dot-line: ", said)
        self.assertIn("1 broken rule\n", said)

    def test_damaged_pages_are_told_and_kill_nobody(self):
        self.traffic()
        path = os.path.join(self.relay.data, "data.mdb")
        with open(path, "rb") as file:
            whole = file.read()
        pages = len(whole) // 4096
        for page in sorted(random.sample(range(2, pages), 8)) + [None]:
            with open(path, "wb") as file:
                if page is None:
                    file.write(whole[:pages // 2 * 4096])
                else:
                    file.write(whole[:page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096:])
            done = subprocess.run([BINARY, "queue", "verify", "--config", self.relay.config_path],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=world.PATIENCE)
            # A page that is free may hold anything.
            self.assertIn(done.returncode, (0, 1), (page, done.stderr))
            if page is None:
                self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("format" if done.stdout else "smtpd: ", done.stdout or done.stderr)

    def test_the_commands_of_the_page_run_as_they_are_written(self):
        self.traffic()
        with open(os.path.join(ROOT, "docs", "repair.md")) as file:
            commands = re.findall(r"^    smtpd ([^#\n]*)", file.read(), re.M)
        self.assertGreaterEqual(len(commands), 3)
        for command in commands:
            self.relay.command(*command.replace("FOLDER", self.relay.data).split())

    def test_every_rule_of_the_page_is_one_of_the_program_and_the_other_way_round(self):
        rules = set()
        for name in ("verify.c", "verify_pages.c", "verify_message.c", "facts.c"):
            with open(os.path.join(ROOT, "src", "queue", name)) as file:
                text = file.read()
            rules |= set(re.findall(r'(?:verify_tell\(verify|tell\(&?message|break_chunks\(message|verify_tell_at\([\w>-]+),\s*"([a-z0-9-]+)"', text))
            rules |= set(re.findall(r'return "([a-z0-9-]+)";', text))
            rules |= set(re.findall(r'facts_quarrel\){\s*"([a-z0-9-]+)"', text))
            rules |= set(re.findall(r'\? NULL\s*: "([a-z0-9-]+)"', text))
        with open(os.path.join(ROOT, "docs", "repair.md")) as file:
            page = set(re.findall(r"^\| `([a-z0-9-]+)` \|", file.read(), re.M))
        self.assertEqual(rules, page)


class Compact(Filled):
    def drain(self):
        self.is_open = True
        self.relay.start()
        self.relay.wait_index()
        self.relay.command("queue", "retry", "--domain", "route:hop")
        world.wait_for(lambda: self.hop.delivered().get("large@x.test"), "the large one")
        self.is_open = False
        self.relay.stop()

    def size(self):
        return os.path.getsize(os.path.join(self.relay.data, "data.mdb"))

    def digest(self):
        text = repr(queue_file.rows(self.relay.data))
        return hashlib.sha256(text.encode()).hexdigest()

    def test_it_gives_the_free_pages_back_and_the_rest_is_delivered(self):
        self.traffic()
        self.drain()
        self.relay.start()
        with self.relay.client() as client:
            client.sendmail("ann@from.test", ["kept@x.test"], world.message(subject="kept"))
        world.wait_for(lambda: any(g["attempts"] for g in self.relay.queue()), "its first answer")
        self.relay.stop()
        before, digest = self.size(), self.digest()
        said = json.loads(self.relay.command("queue", "compact", "--json"))
        self.assertEqual((said["bytes_before"], said["bytes_after"]), (before, self.size()))
        self.assertLess(self.size() * 2, before)
        self.assertEqual(self.digest(), digest)
        self.assertRegex(self.relay.command("queue", "compact"), r"\A[\d.]+K before, [\d.]+K now; \d+ records\n\Z")
        self.assertEqual(self.verify()[1], [])
        self.is_open = True
        self.relay.start()
        self.relay.wait_index()
        self.relay.command("queue", "retry", "--all")
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered()["kept@x.test"], 1)

    def test_killed_at_any_moment_the_queue_is_whole(self):
        self.traffic()
        digest = self.digest()
        killed = 0
        began = time.monotonic()
        self.relay.command("queue", "compact")
        takes = time.monotonic() - began
        for _ in range(25):
            began = time.monotonic()
            process = subprocess.Popen([BINARY, "queue", "compact", "--config", self.relay.config_path],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            timer = threading.Timer(random.random() * takes, process.kill)
            timer.start()
            if process.wait() != 0:
                killed += 1
            else:  # the machine may have been slow when it was measured: every run tells more
                takes = min(takes, time.monotonic() - began)
            timer.cancel()
            self.assertEqual(self.verify()[1], [])
        self.assertGreater(killed, 2)
        self.assertEqual(self.digest(), digest)
        self.relay.command("queue", "compact")
        self.assertEqual(self.digest(), digest)
        self.assertNotIn("data.mdb.compact", os.listdir(self.relay.data))


if __name__ == "__main__":
    unittest.main(verbosity=2)
