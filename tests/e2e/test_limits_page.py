"""docs/limits.md: its commands run as they are written, and its table says what clients see."""
import os
import re
import signal
import subprocess
import tempfile
import unittest

import world
from world import Relay

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "limits.md")


class Page(unittest.TestCase):
    def test_the_commands_and_the_configuration(self):
        with open(PAGE) as file:
            blocks = re.findall(r"```(sh|toml)\n(.*?)```", file.read(), re.S)
        self.assertEqual([kind for kind, _ in blocks], ["sh", "toml", "sh"])
        limits = next(text for kind, text in blocks if kind == "toml")
        self.assertTrue(limits.startswith("[limits]\n"))
        relay = Relay(self, limits=limits.partition("\n")[2])
        folder = tempfile.mkdtemp(dir=relay.folder)
        # The page's smtpd reads /etc/smtpd/smtpd.toml without being told.
        with open(os.path.join(folder, "smtpd"), "w") as file:
            file.write(f'#!/bin/sh\nexec "{world.BINARY}" "$@" --config "{relay.config_path}"\n')
        os.chmod(os.path.join(folder, "smtpd"), 0o755)
        said = []
        for _, text in (block for block in blocks if block[0] == "sh"):
            done = subprocess.run(["sh", "-euc", text], input="a password\n", text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"))
            self.assertEqual(done.returncode, 0, done.stderr)
            said.append(done.stdout)
        for words in ("added newsletter", "192.0.2.0/24,2001:db8::/32", "@example.com,@*.example.com"):
            self.assertIn(words, said[0])
        with open(relay.users) as file:
            line = file.read().splitlines()[-1]
        self.assertTrue(line.endswith(":senders=@example.com,@*.example.com size=10MiB recipients=100 "
                                      "messages=500/m,20000/d recipient_rate=50000/d"), line)
        # The server takes the file, and offers what the page promises.
        mark = relay.log_mark()
        relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("policy.users_loaded", mark), "the users file")
        effective = relay.command("check", "--effective")
        self.assertIn('messages_per_user = ["100/m", "1000/h", "5000/d"]', effective)


if __name__ == "__main__":
    world.main()
