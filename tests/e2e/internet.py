"""A simulated internet (internet.c): DNS for domains of every kind, and their mail servers on
127.0.0.0/8. A domain is a kind and a number, such as good17.test."""
import collections
import json
import os
import shutil
import subprocess
import tempfile
import threading

from world import free_port, wait_for

# Kinds that take no mail, each in its own way.
BAD = ("tarpit", "drop", "garbage", "silent", "endless", "refuse", "stall", "mute")
# Of these, those where something hangs for minutes.
HANGING = ("tarpit", "silent", "stall")
MOST_RECIPIENTS = 1000  # of a message


class Internet:
    def __init__(self, case, dns_delay_ms=0, ttl_s=3600):
        self.folder = tempfile.mkdtemp(prefix="smtpd-internet-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        binary = os.path.join(self.folder, "internet")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "internet.c")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", binary, source], check=True)
        self.port, self.dns_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.dns_port}"
        self.log = os.path.join(self.folder, "log")
        self.process = subprocess.Popen([binary, str(self.port), str(self.dns_port), self.log,
                                         str(dns_delay_ms), str(ttl_s)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        case.addCleanup(self.close)
        self.lock = threading.RLock()
        self.counts, self.read = collections.Counter(), 0
        self.ask("count")

    def ask(self, command):
        with self.lock:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def delivered(self):
        """Recipient -> how often it was accepted behind a final dot."""
        with self.lock:
            self.ask("count")  # whole lines are in the file now
            with open(self.log) as file:
                file.seek(self.read)
                text = file.read()
            self.read += len(text)
            self.counts.update(text.split())
            return self.counts

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def domains(kind, count):
    return [f"{kind}{i}.test" for i in range(count)]


def bad_domains(count):
    return [f"{BAD[i % len(BAD)]}{i // len(BAD)}.test" for i in range(count)]


def submit(relay, names, copies=1, prefix="u"):
    """A message to each of these domains, `copies` times, each to a recipient of its own."""
    sent = []
    with relay.relay_client() as client:
        for copy in range(copies):
            for at in range(0, len(names), MOST_RECIPIENTS):
                to = [f"{prefix}{copy}@{name}" for name in names[at:at + MOST_RECIPIENTS]]
                refused = client.sendmail("app@example.test", to, "Subject: s\r\n\r\ntext\r\n")
                assert not refused, refused
                sent += to
    return sent


def anonymous_kb(relay):
    with open(f"/proc/{relay.process.pid}/status") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1])


def open_outbound(relay):
    return relay.status()["deliver"]["connections_open"]


def wait_delivered(internet, recipients, what, seconds=None):
    def is_so():
        arrived = internet.delivered()
        return all(to in arrived for to in recipients)
    wait_for(is_so, what, seconds)
