"""Time to 250, with 10 KB messages: at half of the full rate on 100 sessions, messages coming on
schedule whether the one before is through or not; and with one client alone. Beside it, in the
same turns, what the disk takes: one sync, and the two of a commit; and the commit of the bare store, alone
and asked for by another thread over a connection."""
import os
import tempfile
import time

from common import ROOT
from suite.entrant import Bar, Entrant, in_turns
from suite.measure import Failed

SIZE = 10000


def quantiles(seconds):
    seconds.sort()
    return {name: seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1e6
            for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}


def time_syncs(count, each):
    """Appends a message to a file and syncs it, `each` times for one sample."""
    descriptor, path = tempfile.mkstemp(prefix="bench-sync-", dir=os.path.join(ROOT, "build"))
    message, took = os.urandom(SIZE), []
    try:
        for _ in range(count):
            began = time.monotonic()
            for _ in range(each):
                os.write(descriptor, message)
                os.fdatasync(descriptor)
            took.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
        os.unlink(path)
    return quantiles(took)


def figures(found):
    """Of the dot (end_to_reply_us) where the client says it, and since the schedule's moment."""
    dot = found.get("end_to_reply_us") or found["latency_us"]
    row = {f"{name}_us": dot[name] for name in ("p50", "p99", "p999")}
    row.update({f"schedule_{name}_us": found["latency_us"][name] for name in ("p50", "p99", "p999")},
               messages=found["messages"], rate=found["rate"], failures=found["failures"])
    return row


def bars(suite):
    """What the disk and the bare store take, in turn with the relays."""
    def syncs(each):
        return lambda kind: {f"{name}_us": value
                             for name, value in time_syncs(suite.few(500), each).items()}

    def commit(*words):
        def measure(kind):
            with tempfile.TemporaryDirectory(prefix="bench-commit-",
                                             dir=os.path.join(ROOT, "build")) as folder:
                found = suite.tool("commit", "--folder", folder, "--bytes", SIZE, "--seconds",
                                   suite.options.seconds / 2, *words)
            return {f"{name}_us": found[name] for name in ("p50", "p99", "p999")}
        return measure
    return [Bar("one sync", syncs(1)), Bar("two syncs", syncs(2)), Bar("bare commit", commit()),
            Bar("commit, asked for over a connection", commit("--asked"))]


class Timed(Entrant):
    def load(self, limit, *words):
        found = self.suite.load.run(self.relay.port, limit, "--size", SIZE, *words)
        if found["failures"]:
            raise Failed(f"{found['failures']} failures: {found.get('last_failure', '')}")
        return found

    def warm(self, count):
        self.load(30, "--sessions", 100, "--messages", count)
        self.finish(20)

    def measure(self, kind):
        seconds = self.suite.options.seconds
        full = self.suite.median("relay", "relay", what="10 KB", who=self.who, sessions=100)
        words = ["--sessions", 1] if kind == "alone" else \
            ["--sessions", 100, "--rate", f"{max(1, (full or self.rate) / 2):.1f}"]
        row = dict(sessions=1) if kind == "alone" else {}
        row.update(figures(self.load(4 * seconds + 10, "--seconds", seconds, *words)))
        if self.finish(4 * seconds + 10):
            raise Failed("its queue does not get empty")
        return row


def run(suite, names):
    in_turns(suite, [*bars(suite), *(Timed(suite, name) for name in ("bare", *names))], "latency",
             ["half", "alone"], lambda row: f"p50 {row['p50_us']:.0f}, p99 {row['p99_us']:.0f} us")
