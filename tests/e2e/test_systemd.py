"""'systemd: sd_notify with watchdog, socket activation, a hardened unit file in docs/': with
systemd's own programs."""
import os
import re
import signal
import smtplib
import socket
import subprocess
import tempfile
import unittest

import world
from world import Relay, message, tool

UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "systemd")


class Manager:
    """The socket on which a service manager hears its services."""

    def __init__(self, case):
        self.folder = tempfile.mkdtemp(prefix="smtpd-notify-")
        case.addCleanup(subprocess.run, ["rm", "-rf", self.folder])
        self.path = os.path.join(self.folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self.socket.close)
        self.socket.bind(self.path)
        self.socket.settimeout(world.PATIENCE)

    def heard(self):
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def wait(self, word):
        while True:
            words = self.heard()
            if word in words:
                return words


class Systemd(unittest.TestCase):
    def test_it_says_when_it_is_ready_reloads_and_leaves(self):
        """'sd_notify with watchdog': READY, WATCHDOG, RELOADING and READY again, STOPPING."""
        manager = Manager(self)
        relay = Relay(self, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"})
        ready = manager.wait("READY")
        self.assertEqual(ready["READY"], "1")
        with relay.raw() as raw:  # ready means that it serves
            self.assertTrue(raw.greeting.startswith(b"220"))
        for _ in range(3):
            self.assertEqual(manager.wait("WATCHDOG")["WATCHDOG"], "1")
        relay.signal(signal.SIGHUP)
        self.assertRegex(manager.wait("RELOADING")["MONOTONIC_USEC"], r"\A\d+\Z")
        manager.wait("READY")
        with open(relay.config_path, "a") as file:
            file.write("[nonsense]\n")
        relay.signal(signal.SIGHUP)  # refused: but the reload is over all the same
        manager.wait("RELOADING")
        manager.wait("READY")
        world.wait_for(lambda: relay.event("server.reload_failed"), "the event")
        relay.stop()
        self.assertEqual(manager.wait("STOPPING")["STOPPING"], "1")

    def test_sockets_of_the_service_manager_are_used(self):
        """'socket activation': systemd's program listens, and starts the relay at a client."""
        relay = Relay(self, start=False)
        log = open(os.path.join(relay.folder, "stderr"), "ab")
        self.addCleanup(log.close)
        relay.process = subprocess.Popen(
            [tool("systemd-socket-activate"), "-l", f"127.0.0.1:{relay.submission}", "-l",
             f"127.0.0.1:{world.free_port()}", "-l", f"[::1]:{relay.submission}",
             *[f"-E{name}" for name in os.environ if name.endswith("SAN_OPTIONS")],
             relay.binary, "run", "--config", relay.config_path],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        relay.stderr = log

        def connect():
            try:
                return smtplib.SMTP("127.0.0.1", relay.submission, timeout=world.PATIENCE,
                                    local_hostname="client.test")
            except ConnectionRefusedError:
                return None
        client = world.wait_for(connect, "the socket")
        client.starttls(context=relay.tls_context())
        client.login(world.USER, world.PASSWORD)
        client.sendmail("a@b.test", ["alice@local.test"], message("alice@local.test"))
        client.quit()
        # Both families came from outside; the rest was bound by the relay itself.
        with world.Raw(relay.submission, host="::1") as raw:
            self.assertTrue(raw.greeting.startswith(b"220"))
        with relay.raw() as raw:
            self.assertTrue(raw.greeting.startswith(b"220"))
        self.assertEqual(len(relay.events("server.listening")), 4)
        self.assertIn("no [[listen]] table", relay.wait_event("server.socket_unused")["message"])
        world.wait_for(lambda: relay.maildir("alice"), "the message")

    def test_a_socket_of_the_manager_comes_back_with_a_later_reload(self):
        """The manager holds the port: a relay that closed its descriptor could never bind it again."""
        relay = Relay(self, start=False)
        log = open(os.path.join(relay.folder, "stderr"), "ab")
        self.addCleanup(log.close)
        listening = socket.create_server(("127.0.0.1", relay.submission))
        self.addCleanup(listening.close)

        def give():
            os.dup2(listening.fileno(), 3)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        relay.process = subprocess.Popen([relay.binary, "run", "--config", relay.config_path],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         close_fds=False, preexec_fn=give)
        relay.stderr = log
        relay.wait_event("server.started")
        with open(relay.config_path) as file:
            with_it = file.read()
        without = with_it.replace(f'"127.0.0.1:{relay.submission}", ', "")
        self.assertNotEqual(with_it, without)

        def reload(text):
            reloads = relay.status()["reloads"]
            with open(relay.config_path, "w") as file:
                file.write(text)
            relay.signal(signal.SIGHUP)
            world.wait_for(lambda: relay.status()["reloads"] > reloads, "the reload")
        for _ in range(2):
            with relay.raw() as raw:
                self.assertTrue(raw.greeting.startswith(b"220"))
            mark = relay.log_mark()
            reload(without)
            self.assertIn(f"127.0.0.1:{relay.submission}",
                          relay.wait_event("server.socket_unused", mark)["message"])
            client = socket.create_connection(("127.0.0.1", relay.submission))
            self.addCleanup(client.close)
            client.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                client.recv(1)
            reload(with_it)
            client.settimeout(world.PATIENCE)
            self.assertEqual(client.recv(3), b"220")  # it waited in the kernel
        relay.stop()

    def test_the_units_are_right_and_hardened(self):
        """'a hardened unit file in docs/': as systemd judges it."""
        folder = tempfile.mkdtemp(prefix="smtpd-units-")
        self.addCleanup(subprocess.run, ["rm", "-rf", folder])
        for name in ("smtpd.service", "smtpd.socket"):
            with open(os.path.join(UNITS, name)) as file:
                text = file.read().replace("/usr/local/bin/smtpd", world.BINARY)
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        service = os.path.join(folder, "smtpd.service")
        path = ":".join((folder, os.path.join(world.TOOLS, "root/lib/systemd/system"),
                         os.path.join(world.TOOLS, "root/usr/lib/systemd/system")))
        done = subprocess.run(
            [tool("systemd-analyze"), "verify", "--man=no", service,
             os.path.join(folder, "smtpd.socket")], env=dict(os.environ, SYSTEMD_UNIT_PATH=path),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        about_ours = [line for line in done.stdout.splitlines() if "smtpd" in line]
        self.assertEqual((done.returncode, about_ours), (0, []), done.stdout)
        done = subprocess.run(
            [tool("systemd-analyze"), "security", "--offline=true", "--no-pager",
             "--threshold=20", service], env=dict(os.environ, SYSTEMD_UNIT_PATH=path), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_unit_leaves_more_time_than_the_grace_period(self):
        """A grace period longer than TimeoutStopSec would be cut by the manager."""
        with open(os.path.join(UNITS, "smtpd.service")) as file:
            seconds = int(re.search(r"(?m)^TimeoutStopSec=(\d+)s$", file.read())[1])
        relay = Relay(self, start=False)
        with open(relay.config_path) as file:
            text = file.read().replace('grace_period = "6s"', "")
        with open(relay.config_path, "w") as file:
            file.write(text)
        grace = re.search(r'(?m)^grace_period = "(\d+)s"', relay.command("check", "--effective"))
        self.assertGreater(seconds, int(grace[1]))


if __name__ == "__main__":
    world.main()
