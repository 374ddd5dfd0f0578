"""docs/signing.md: its commands run as they are written, and what it says happens.

Only /etc/smtpd becomes a folder of the test, and the DNS gets what keygen printed.
"""
import os
import re
import signal
import subprocess
import tempfile
import unittest

import world
from test_signing import Verifiers, signatures
from world import Dns, Hop, Relay, message, wait_for

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "signing.md")


class Page(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        with open(PAGE) as file:
            self.text = file.read()
        self.blocks = re.findall(r"```(sh|toml)\n(.*?)```", self.text, re.S)
        self.relay = Relay(self, start=False)
        self.bin = tempfile.mkdtemp(dir=self.relay.folder)
        # The page's smtpd reads /etc/smtpd/smtpd.toml without being told.
        with open(os.path.join(self.bin, "smtpd"), "w") as file:
            file.write(f'#!/bin/sh\nexec "{world.BINARY}" "$@" --config "{self.relay.config_path}"\n')
        os.chmod(os.path.join(self.bin, "smtpd"), 0o755)
        self.zone = []

    def local(self, text):
        return text.replace("/etc/smtpd", self.relay.folder + "/etc")

    def run_block(self, kind="sh"):
        """The next block of the page."""
        found, text = self.blocks.pop(0)
        self.assertEqual(found, kind, text)
        if kind == "toml":
            return self.local(text)
        done = subprocess.run(["sh", "-euc", self.local(text)], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              env=dict(os.environ, PATH=self.bin + ":" + os.environ["PATH"]))
        self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def publish(self, printed, **changes):
        """A zone with all records so far, behind a new name server."""
        self.zone.append(printed)
        server = Dns(self, {"example.com": "\n".join(self.zone)})
        self.relay.write_config(dns=server, **changes)
        return Verifiers(server.port)

    def submit(self, hop):
        before = len(hop.messages)
        client = self.relay.client()
        client.sendmail("a@example.com", ["x@hop.test"], message(sender="a@example.com"))
        client.quit()
        wait_for(lambda: len(hop.messages) > before, "the message at the hop")
        return hop.messages[before]["data"]

    def assert_signed(self, hop, verifiers, selectors):
        self.assertEqual(verifiers.dkimpy(self.submit(hop)), dict.fromkeys(selectors, True))

    def test_its_commands_start_signing_and_change_a_key(self):
        hop = Hop(self)
        verifiers = self.publish(self.run_block(), hop=hop.port)
        self.relay.start()
        self.assertEqual(signatures(self.submit(hop)), [])
        self.assertIn("good", self.run_block())
        self.run_block()
        self.relay.write_config(extra=self.run_block("toml"))
        self.relay.signal(signal.SIGHUP)
        wait_for(lambda: self.relay.event("server.reloaded"), "the reload")
        said = self.run_block()
        self.assertIn("no errors", said)
        self.assertIn("good", said)
        self.assert_signed(hop, verifiers, ["s1"])
        # The next key. Its block makes it and checks it; the DNS learns of it in between.
        kind, text = self.blocks.pop(0)
        first, second = text.splitlines()
        self.blocks[:0] = [(kind, first), (kind, second)]
        verifiers = self.publish(self.run_block())
        self.assertIn("good", self.run_block())
        mark = self.relay.log_mark()
        self.run_block()
        wait_for(lambda: self.relay.event("sign.keys_loaded", mark), "the new key")
        self.assert_signed(hop, verifiers, ["s2"])
        self.assertIn("k=ed25519", self.run_block())
        self.assertEqual(self.blocks, [])

    def test_it_names_every_code_and_every_field(self):
        with open(os.path.join(os.path.dirname(PAGE), "..", "src", "sign", "check.c")) as file:
            source = file.read()
        codes = re.findall(r'\[CHECK_\w+\] = "([a-z0-9-]+)"', source)
        self.assertEqual(len(codes), 11)
        self.assertEqual(sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", self.text, re.M)), sorted(codes))
        with open(os.path.join(os.path.dirname(PAGE), "..", "src", "sign", "signature.c")) as file:
            fields = re.findall(r'\{"([a-z-]+)", (true|false)\}', file.read())
        said = re.search(r"Fields signed.*?: (.*?)\. The first eleven", self.text, re.S).group(1)
        said = [name.strip().lower() for name in said.replace("\n", " ").split(",")]
        self.assertEqual(said[:11], [name for name, over in fields if over == "true"])
        rest = [name for name, over in fields if over == "false"]
        self.assertEqual([n for n in rest if not n.startswith("list-")],
                         [n for n in said[11:] if "list-" not in n and "8058" not in n])


if __name__ == "__main__":
    world.main()
