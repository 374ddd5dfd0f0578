"""What a container asks of a program: it may be process 1, it may find no configuration, and its data
folder may be one that goes with the container."""
import os
import shutil
import signal
import subprocess
import threading
import unittest

import world
from world import BINARY, Relay, wait_for


def namespace(*kinds):
    """The words that start a program in namespaces of its own; None where nobody may."""
    words = ["unshare", *(f"--{kind}" for kind in kinds), "--fork", "--kill-child"]
    if os.getuid() != 0:
        words[1:1] = ["--user", "--map-root-user"]
    if not shutil.which("unshare"):
        return None
    tried = subprocess.run([*words, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return words if tried.returncode == 0 else None


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


class Container(unittest.TestCase):
    def slow_start(self, wrapper=()):
        """A relay that waits for its users, a pipe, and what must come into the pipe."""
        relay = Relay(self, start=False, wrapper=wrapper)
        with open(relay.users) as file:
            text = file.read()
        os.unlink(relay.users)
        os.mkfifo(relay.users)
        relay.stderr = open(os.path.join(relay.folder, "stderr"), "ab")
        relay.process = subprocess.Popen(
            [*relay.wrapper, BINARY, "run", "--config", relay.config_path], env=relay.env,
            stdin=subprocess.DEVNULL, stdout=relay.stderr, stderr=relay.stderr)
        return relay, text

    def feed(self, relay, text, before):
        """Who opens the pipe is in the middle of its start; it gets the users after `before`."""
        def write():
            with open(relay.users, "w") as pipe:
                with open(relay.users + ".file", "w") as file:
                    file.write(text)
                os.rename(relay.users + ".file", relay.users)  # whoever reads it again
                before()
                pipe.write(text)
        threading.Thread(target=write, daemon=True).start()

    def check_that_a_signal_while_it_starts_counts(self, relay, text, pid_of):
        self.feed(relay, text, before=lambda: os.kill(pid_of(), signal.SIGTERM))
        self.assertEqual(relay.wait_exit(), 0, relay.errors() + relay.log_tail())
        self.assertTrue(relay.event("server.stopped"))

    def test_a_sigterm_while_it_starts_is_not_lost(self):
        relay, text = self.slow_start()
        self.check_that_a_signal_while_it_starts_counts(relay, text, lambda: relay.process.pid)

    def test_nor_is_it_for_process_1(self):
        """The kernel drops what process 1 has no handler for yet."""
        words = namespace("pid")
        if not words:
            self.skipTest("no namespaces of its own here")
        relay, text = self.slow_start(wrapper=words)
        self.check_that_a_signal_while_it_starts_counts(
            relay, text, lambda: wait_for(lambda: child_of(relay.process.pid), "process 1")[0])

    def test_process_1_reloads_and_leaves_as_any_other(self):
        words = namespace("pid")
        if not words:
            self.skipTest("no namespaces of its own here")
        relay = Relay(self, wrapper=words)
        [pid] = child_of(relay.process.pid)
        with open(f"/proc/{pid}/status") as file:
            self.assertIn("\t1\n", next(line for line in file if line.startswith("NSpid")))
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: relay.event("server.reloaded"), "the reload")
        self.assertIn("ok", relay.command("health"))
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(relay.wait_exit(), 0)

    def test_without_a_configuration_it_says_what_is_missing(self):
        relay = Relay(self, start=False)
        os.unlink(relay.config_path)
        said = relay.command("run", code=1)
        self.assertIn(relay.config_path, said)
        self.assertIn("No such file or directory", said)
        self.assertIn("mounted", said)
        self.assertIn("smtpd document example", said)
        self.assertFalse(os.path.exists(relay.data))

    def test_a_data_folder_without_a_volume_is_refused(self):
        """The root of a container is an overlay: a queue there would go with the container."""
        words = namespace("mount")
        if not words:
            self.skipTest("no namespaces of its own here")
        relay = Relay(self, start=False)
        with open(relay.config_path) as file:
            text = file.read()
        with open(relay.config_path, "w") as file:
            file.write(text.replace("allow_network_filesystem = true\n", ""))
        os.mkdir(relay.data)
        layers = os.path.join(relay.folder, "layers")
        os.mkdir(layers)
        script = ('set -eu; mount -t tmpfs none "$1"; mkdir "$1/a" "$1/b" "$1/c"; '
                  'mount -t overlay none -o "lowerdir=$1/a,upperdir=$1/b,workdir=$1/c" "$2" || exit 99; '
                  'exec "$3" run --config "$4"')
        done = subprocess.run([*words, "sh", "-c", script, "sh", layers, relay.data, BINARY,
                               relay.config_path], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        if done.returncode == 99:
            self.skipTest("no overlay file system here: " + done.stdout)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("mount a volume there", done.stdout)
        self.assertIn("overlay", done.stdout)


if __name__ == "__main__":
    world.main()
