"""Memory of idle connections, which have said EHLO, plain and under TLS: 10,000 asked of each relay
(15,000 of smtpd, and as a second row the 10,000), within a time; what is held then counts.

The figures are differences of before and after: the proportional set size of all its processes,
and what of that is anonymous. What the kernel needs for a socket is in none of them."""
import json
import selectors
import subprocess
import sys
import time

from peers import Missing, Wishes

SECONDS = 25  # for the asking
OURS = 60
RESERVE_KB = 3 << 20  # of memory that must stay free


def available_kb():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))


def accepted(port):
    """How many connections the port holds, without those that nobody has taken yet."""
    count = 0
    with open("/proc/net/tcp") as file:
        for line in file:
            words = line.split()
            if words[1].endswith(f":{port:04X}"):
                if words[3] == "01":  # established
                    count += 1
                elif words[3] == "0A":  # listens: its queue
                    count -= int(words[4].split(":")[1], 16)
    return count


class Crowd:
    """The load client with its idle sessions."""

    def __init__(self, suite, port, count, kind):
        words = ["--idle", count, "--sessions", 50, "--sources", 20]
        if kind != "plain":
            words += ["--tls", "starttls"]
        self.process = subprocess.Popen(suite.load.command(port, *words), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def wait(self, seconds):
        """What it says, or None: it was not through in time, or memory went short."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while time.monotonic() < end and available_kb() > RESERVE_KB:
                if selector.select(0.5):
                    line = self.process.stdout.readline()
                    return json.loads(line) if line else None
        return None

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def stable(account):
    """Memory once it has stopped to change, at most a few seconds later."""
    before = account.memory_kb()
    for _ in range(6):
        time.sleep(0.5)
        now = account.memory_kb()
        if abs(now[0] - before[0]) < max(64, before[0] // 500):
            break
        before = now
    return now


def measure(suite, relay, count, kind, seconds):
    before, cpu = stable(relay.account), relay.account.cpu_seconds()
    crowd = Crowd(suite, relay.port, count, kind)
    try:
        began = time.monotonic()
        said = crowd.wait(seconds)
        took = time.monotonic() - began
        cpu = relay.account.cpu_seconds() - cpu
        held = said["held"] if said else accepted(relay.port)
        why = said["last_failure"] if said else "not asked further: out of time or memory"
        if held < 10:
            return dict(failed=f"{held} of {count} connections were held: {why}")
        after = stable(relay.account)
        return dict(asked=count, held=held, why=why if held < count else "", seconds=took,
                    pss_kib=(after[0] - before[0]) / held,
                    anonymous_kib=(after[1] - before[1]) / held, open_us=cpu / held * 1e6,
                    total_mb=after[0] / 1024, processes=len(relay.account.pids()))
    finally:
        crowd.close()


def run(suite, names):
    asked = 200 if suite.options.quick else 10000
    for name in names:
        for kind in ("plain", "TLS"):
            for count in ((asked, asked * 3 // 2) if name == "smtpd" else (asked,)):
                wishes = Wishes(suite.sink.port, connections=count)
                if kind == "TLS":
                    wishes.certificate = suite.certificate()
                try:
                    suite.load.command(0)
                    relay = suite.hall.open(name, wishes)
                    try:
                        row = measure(suite, relay, count, kind, OURS if name == "smtpd" else SECONDS)
                    finally:
                        relay.close()
                except (Missing, OSError, RuntimeError) as error:
                    row = dict(failed=str(error))
                suite.add("idle", kind, name, count, 0, row)
                print(f"  {name}, {count} idle, {kind}: " + (row.get("failed") or
                      f"{row['held']} held, {row['pss_kib']:.1f} KiB each"), file=sys.stderr,
                      flush=True)
