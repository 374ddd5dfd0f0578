"""Relay: source -> relay -> sink, closed loop. Rates, CPU per message, peak memory; and the floor:
the tools alone, and the bare loop.

All relays of a shape are open at once with empty queues and are measured in turn. How many
messages: what takes about `seconds` at the rate of the run before."""
import dataclasses
import time

from suite.entrant import Entrant, in_turns
from suite.measure import Sender, Watch


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str  # on the command line
    title: str  # in the rows
    bytes: int  # None: mixed
    reuse: bool = True  # many messages on a connection


SHAPES = (Shape("10k", "10 KB", 10000), Shape("1k", "1 KB", 1000),
          Shape("100k", "100 KB", 100000), Shape("mix", "mixed sizes", None),
          Shape("single", "1 KB, one per connection", 1000, False))


class Relaying(Entrant):
    def __init__(self, suite, who, sessions, shape):
        super().__init__(suite, who, sessions)
        self.shape = shape
        self.sender = Sender(suite.load, shape, sessions)

    def port(self):
        return self.relay.port if self.relay else self.suite.sink.port

    def warm(self, count):
        # Large ones last: a third is as much work.
        self.sender.send(self.port(), count if self.shape.bytes != 100000 else count // 3 + 1, 30)
        self.finish(20)

    def measure(self, kind):
        count = max(self.suite.few(100), int(self.rate * self.suite.options.seconds))
        limit = 4 * self.suite.options.seconds + 10
        if not self.relay:
            return self.measure_tools(count, limit)
        with Watch(self.relay.account) as watch:
            cpu = self.relay.account.cpu_seconds()
            began = time.monotonic()
            source = self.sender.send(self.port(), count, limit)
            accepted = time.monotonic() - began
            left = self.finish(limit)
            relayed = time.monotonic() - began
            cpu = self.relay.account.cpu_seconds() - cpu
        self.rate = (count - left) / relayed  # for the number of the next run
        row = dict(messages=count, accept=count / accepted, relay=(count - left) / relayed,
                   cpu_us=cpu / count * 1e6, source_us=source / count * 1e6,
                   peak_mb=watch.peak_kb / 1024, processes=watch.processes)
        if self.who == "smtpd":
            ours, empty = self.relay.lag(), self.suite.idle.lag()
            row.update(lag_p99_us=ours["p99_us"], lag_max_us=ours["max_us"],
                       empty_lag_p99_us=empty["p99_us"], empty_lag_max_us=empty["max_us"])
        if left:
            row["left"] = left
            self.close()  # an empty queue for the next run
        return row

    def measure_tools(self, count, limit):
        account = self.suite.sink.account
        sink = account.cpu_seconds()
        began = time.monotonic()
        source = self.sender.send(self.port(), count, limit)
        took = time.monotonic() - began
        sink = account.cpu_seconds() - sink
        return dict(messages=count, accept=count / took, relay=count / took,
                    cpu_us=(sink + source) / count * 1e6, source_us=source / count * 1e6)


def entrants(suite, shape, names, floor):
    found = []
    if floor:
        found += [Relaying(suite, "tools", 100, shape), Relaying(suite, "bare", 100, shape)]
    for name in names:
        found.append(Relaying(suite, name, 100, shape))
        if name == "postfix" and shape.reuse and shape.bytes:
            found.append(Relaying(suite, name, 20, shape))  # where it is at its best
        if name == "haraka" and shape.name in ("10k", "1k"):
            found.append(Relaying(suite, "haraka1", 100, shape))  # so is its CPU per message
    return found


def run(suite, names, floor):
    for shape in SHAPES:
        if shape.name in suite.options.shapes:
            in_turns(suite, entrants(suite, shape, names, floor), "relay", [shape.title],
                     lambda row: f"{row['relay']:.0f}/s, {row['cpu_us']:.0f} us")
