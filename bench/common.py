"""What the benchmarks share: processes of their own on loopback, and what they cost."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from account import Account, cpu_seconds  # noqa: F401 (others import it from here)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TOOLS = os.path.join(ROOT, "build", "tools")


def tool(name):
    return os.path.join(TOOLS, "bin", name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited too long")
        time.sleep(0.01)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def greets(port):
    """Whether a mail server says 220 there within five seconds."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            return one.recv(3) == b"220"
    except OSError:
        return False


class Sink:
    """smtp-sink, which takes everything."""

    def __init__(self):
        self.port = free_port()
        self.account = Account("sink")
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self.process = subprocess.Popen([tool("smtp-sink"), *user, f"inet:127.0.0.1:{self.port}",
                                         "1024"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL,
                                        preexec_fn=self.account.enter)
        self.account.pid = self.process.pid
        try:
            wait_for(lambda: listens(self.port))
        except BaseException:  # also where somebody ends us meanwhile
            self.close()
            raise

    def close(self):
        self.process.kill()
        self.process.wait()
        self.account.close()


def source(port, count, size, sessions, reuse=True, enter=None, timeout=None):
    """smtp-source; without `reuse` each message has a connection of its own."""
    subprocess.run([tool("smtp-source"), *(["-d"] if reuse else []), "-s", str(sessions), "-m",
                    str(count), "-l", str(size), "-f", "sender@bench.test", "-t",
                    "recipient@bench.test", f"inet:127.0.0.1:{port}"], check=True,
                   stdout=subprocess.DEVNULL, preexec_fn=enter, timeout=timeout)


class Smtpd:
    name = "smtpd"

    def __init__(self, binary, sink_port, limits="", sign=None, extra="", environment=None,
                 connections=100):
        """`sign`: words for `dkim keygen`, of a key that signs every message. `extra`: TOML
        behind the rest; {folder} is the relay's own folder. `environment`: more of it for the
        relay."""
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix="bench-smtpd-", dir=os.path.join(ROOT, "build"))
        self.prepare()
        self.port = free_port()
        self.config = os.path.join(self.folder, "smtpd.toml")
        with open(self.config, "w") as file:
            file.write(f"""
[server]
hostname = "relay.bench.test"
data_dir = "{self.folder}/data"
postmaster = "postmaster@bench.test"
[relay]
trusted_networks = ["127.0.0.0/8"]
[limits]
{limits}
[queue]
min_free_space = "64MiB"
[log]
output = "{self.folder}/log"
[[listen]]
address = "127.0.0.1:{self.port}"
mode = "relay"
tls = "none"
[[route]]
name = "sink"
match = "*"
host = "127.0.0.1"
port = {sink_port}
tls = "off"
connections = {connections}
{extra.replace("{folder}", self.folder)}
""")
            if sign is not None:
                subprocess.run([binary, "dkim", "keygen", "bench.test", "s", "--directory", self.folder,
                                *sign], check=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
                file.write(f'[[dkim]]\ndomain = "bench.test"\nselector = "s"\n'
                           f'key = "{self.folder}/bench.test/s.key"\n')
        self.account = Account("smtpd")
        self.process = subprocess.Popen([binary, "run", "--config", self.config],
                                        stdout=subprocess.DEVNULL, preexec_fn=self.account.enter,
                                        env=dict(os.environ, **(environment or {})))
        self.account.pid = self.process.pid
        try:
            self.wait_for_start()
        except BaseException:  # also where somebody ends us meanwhile
            self.process.kill()
            self.close()
            raise

    def wait_for_start(self):
        wait_for(lambda: self.process.poll() is not None or
                 (listens(self.port) and os.path.exists(self.folder + "/data/control.sock")), 30)
        if self.process.poll() is not None:
            raise RuntimeError("smtpd does not start: its words stand above")

    def prepare(self):
        """What must stand in the folder before the start."""

    def status(self):
        return json.loads(subprocess.run([self.binary, "status", "--json", "--config", self.config],
                                         check=True, stdout=subprocess.PIPE).stdout)

    def waiting(self):
        queue = self.status()["queue"]
        return queue["groups_waiting"] + queue["groups_leased"]

    def lag(self):
        return self.status()["loop_lag"]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.account.close()
        shutil.rmtree(self.folder, ignore_errors=True)
