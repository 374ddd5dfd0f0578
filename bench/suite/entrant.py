"""A relay that takes part in a part of the suite: opened, warmed up, measured in turn, closed."""
import sys
import time

from peers import Missing, Wishes
from suite.measure import Failed, drain

# Messages after which a relay runs as it will: node compiles what it sees often, over thousands.
WARM = {"exim": 60, "opensmtpd": 150, "postfix": 300, "haraka": 2000, "haraka1": 2000}


class Entrant:
    def __init__(self, suite, who, sessions=100):
        self.suite, self.who, self.sessions = suite, who, sessions
        self.relay, self.reason, self.rate = None, None, 0

    def wishes(self):
        return Wishes(self.suite.sink.port)

    def warm(self, count):
        """Makes it work a first time, with about so many messages."""
        raise NotImplementedError

    def measure(self, kind):
        """Figures of one row."""
        raise NotImplementedError

    def open(self):
        """Where it does not work, `reason` says why."""
        try:
            if self.who != "tools":
                self.relay = self.suite.hall.open(self.who, self.wishes())
            count = self.suite.few(WARM.get(self.who, 1000))
            began = time.monotonic()
            self.warm(count)
            self.rate = count / (time.monotonic() - began)
        except (Missing, Failed, OSError, RuntimeError) as error:
            self.reason = str(error)
            self.close()

    def finish(self, seconds):
        """Until its queue is empty, or so long. Returns what is left."""
        return drain(self.relay, seconds) if hasattr(self.relay, "waiting") else 0

    def row(self, kind=None):
        """Measures; one that was given up in an earlier run is opened again."""
        if not self.relay and self.who != "tools" and not self.reason:
            self.open()
        if self.reason:
            return dict(failed=self.reason)
        try:
            return self.measure(kind)
        except (Failed, OSError) as error:
            self.close()
            return dict(failed=str(error))

    def close(self):
        if self.relay:
            self.relay.close()
            self.relay = None


class Bar:
    """What is measured beside the relays and is none: a program that prints its figures, or a function."""

    def __init__(self, who, measure):
        self.who, self.sessions, self.measure = who, 1, measure

    def open(self):
        pass

    def row(self, kind):
        try:
            return self.measure(kind)
        except (Missing, Failed, OSError) as error:
            return dict(failed=str(error))

    def close(self):
        pass


def in_turns(suite, lines, part, kinds, show):
    """Opens all, measures each in every run, the order turned round from run to run, closes all. Out of time there is one run, and no further one."""
    try:
        for line in lines:
            line.open()
        for number in range(suite.options.runs):
            if number and suite.is_out_of_time():
                break
            for kind in kinds:
                for line in lines if number % 2 == 0 else reversed(lines):
                    row = line.row(kind)
                    sessions = row.pop("sessions", line.sessions)
                    suite.add(part, kind, line.who, sessions, number, row)
                    print(f"  {kind}, {line.who} ({sessions} sessions), run {number + 1}: " +
                          (row.get("failed") or show(row)), file=sys.stderr, flush=True)
    finally:
        for line in lines:
            line.close()
