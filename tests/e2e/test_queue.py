"""Issue sentences of 'The queue': budgets, full disk, ids, the lock, restarts."""
import os
import subprocess
import unittest

import world
from test_deliver import send
from world import Hop, Relay, message


class Restart(unittest.TestCase):
    def test_what_waits_survives_a_restart_and_a_kill(self):
        relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n')
        ids = [send(relay, [f"w{i}@x.test"], subject=f"w{i}") for i in range(20)]
        relay.stop()
        relay.start()
        world.wait_for(lambda: relay.status()["queue"]["groups_waiting"] == 20, "20 waiting")
        relay.kill()
        relay.start()
        relay.wait_index()
        self.assertEqual([g["id"] for g in relay.queue()], ids)
        new = send(relay, ["w@x.test"])
        self.assertGreater(new, max(ids))  # an id is never used twice

    def test_a_large_message_streams_through_in_bounded_memory(self):
        hop = Hop(self)
        relay = Relay(self, hop=hop.port)
        send(relay, ["warm@x.test"])
        relay.wait_empty()
        before = relay.rss_kb()
        body = ("x" * 76 + "\r\n") * 500000  # 39 MB
        send(relay, ["large@x.test"], body=body)
        relay.wait_empty(4 * world.PATIENCE)
        data = next(m["data"] for m in hop.messages if m["recipients"] == ["large@x.test"])
        self.assertEqual(len(data.split(b"\r\n\r\n", 1)[1]), len(body) + 2)
        if world.SANITIZER == "none":
            # The cache of fresh mail (64 MiB) and one batch may be in memory, not the message
            # over and over.
            self.assertLess(relay.rss_kb() - before, 160 * 1024)


class LongWords(unittest.TestCase):
    def test_a_long_foreign_reply_hides_no_message_from_the_commands(self):
        # More than is kept, at both alignments: one of them is cut within a character.
        for lead in ("", "x"):
            words = f"451 4.3.0 {lead}" + "\u00e9" * 450
            hop = Hop(self, lambda stage, *_, words=words: words if stage == "mail" else None)
            relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
            id = send(relay, ["w@x.test"])
            world.wait_for(lambda: any(g["attempts"] for g in relay.queue()), "an attempt")
            self.assertEqual([g["id"] for g in relay.queue()], [id])
            self.assertIn("\u00e9\u00e9", relay.queue()[0]["last"]["text"])
            self.assertIn("\u00e9\u00e9", relay.command("queue", "why", id))
            self.assertIn("1 done", relay.command("queue", "remove", id))


class FullDisk(unittest.TestCase):
    """A full disk answers 452 4.3.1 and recovers by itself when there is room."""

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("mounting a small file system needs root")
        self.relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n', start=False)
        os.makedirs(self.relay.data, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.relay.data])
        if done.returncode != 0:
            self.skipTest("no mount is possible here")
        self.addCleanup(self.unmount)
        self.relay.start()

    def unmount(self):
        self.relay.stop()
        subprocess.run(["umount", self.relay.data], check=True)

    def fill(self):
        accepted = []
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            for i in range(200):
                reply = raw.say("MAIL FROM:<a@b.test>")
                if reply.startswith(b"250"):
                    raw.say(f"RCPT TO:<f{i}@x.test>")
                    raw.say("DATA")
                    raw.send(b"Subject: f\r\n\r\n" + (b"x" * 76 + b"\r\n") * 8000 + b".\r\n")
                    reply = raw.reply()
                if not reply.startswith(b"250"):
                    return accepted, reply
                accepted.append(f"f{i}@x.test")
        return accepted, b""

    def test_full_then_room_again(self):
        accepted, reply = self.fill()
        self.assertTrue(reply.startswith(b"452 4.3.1"), reply)
        self.assertGreater(len(accepted), 5)
        waiting = {r for g in self.relay.queue() for r in g["recipients"]}
        self.assertEqual(waiting, set(accepted))  # every 250 is there, nothing else
        self.relay.command("queue", "remove", "--all")
        world.wait_for(self.takes_mail, "room again")
        send(self.relay, ["again@x.test"])

    def test_a_disk_that_others_filled_is_relieved_by_removing(self):
        """Even a removal writes new pages: a little room is kept for it."""
        for i in range(8):
            send(self.relay, [f"o{i}@x.test"], body=("x" * 76 + "\r\n") * 8000)
        world.wait_for(lambda: len(self.relay.queue()) == 8, "the messages")
        world.wait_for(self.has_kept_room, "the room behind the end of the file")
        with open(os.path.join(self.relay.data, "others"), "wb", buffering=0) as others:
            with self.assertRaises(OSError):
                while True:
                    others.write(bytes(4096))
        world.wait_for(lambda: not self.takes_mail(), "no room")
        self.relay.command("queue", "remove", "--all")
        self.assertEqual(self.relay.queue(), [])
        world.wait_for(self.takes_mail, "room again")

    def has_kept_room(self):
        """4 MiB behind the end: KEPT_BYTES of store_env.c."""
        file = os.stat(os.path.join(self.relay.data, "data.mdb"))
        return file.st_blocks * 512 >= file.st_size + (4 << 20)

    def takes_mail(self):
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            reply = raw.say("MAIL FROM:<a@b.test>")
        self.assertTrue(reply.startswith((b"250", b"452 4.3.1")), reply)
        return reply.startswith(b"250")


if __name__ == "__main__":
    world.main()
