"""The targets, each judged by the medians of this run. One that has no rows says so, and does not
count as one that holds."""

# OpenSMTPD is no rival: it does not sync its queue, and these are targets for durable ones.
RIVALS = ("postfix", "haraka", "haraka1", "exim")
SINGLE = "1 KB, one per connection"
NOT_MEASURED = "not measured"


class Target:
    def __init__(self, text, wanted, measured=NOT_MEASURED, holds=None):
        self.text, self.wanted, self.measured, self.holds = text, wanted, measured, holds


def best_rival(rows, key, what, pick):
    """(value, who, sessions), or None."""
    found = [(rows.median("relay", key, what=what, who=who, sessions=sessions), who, sessions)
             for who, sessions in rows.lines("relay", what) if who in RIVALS]
    found = [one for one in found if one[0] is not None]
    return pick(found) if found else None


def against_peers(rows):
    what = "10 KB"
    cpu = Target(f"{what}: CPU per message against the best durable peer", "at most 1/15")
    rate = Target(f"{what}: relay rate against the best durable peer", "at least 9 times")
    ours = rows.median("relay", "cpu_us", what=what, who="smtpd")
    rival = best_rival(rows, "cpu_us", what, min)
    if ours and rival:
        cpu.measured = f"{ours:.0f} us, {rival[1]} ({rival[2]} sessions) {rival[0]:.0f} us: " \
                       f"1/{rival[0] / ours:.1f}"
        cpu.holds = ours <= rival[0] / 15
    ours = rows.median("relay", "relay", what=what, who="smtpd")
    rival = best_rival(rows, "relay", what, max)
    if ours and rival:
        rate.measured = f"{ours:.0f}/s, {rival[1]} ({rival[2]} sessions) {rival[0]:.0f}/s: " \
                        f"{ours / rival[0]:.1f} times"
        rate.holds = ours >= 9 * rival[0]
    return [cpu, rate]


def against_tools(rows):
    found = []
    for what, limit in (("10 KB", 1.2), ("1 KB", 1.3), ("100 KB", 1.5), (SINGLE, 1.5)):
        target = Target(f"{what}: CPU per message against the tools alone", f"at most {limit} times")
        ours = rows.median("relay", "cpu_us", what=what, who="smtpd")
        tools = rows.median("relay", "cpu_us", what=what, who="tools")
        if ours and tools:
            target.measured = f"{ours:.0f} us, tools {tools:.0f} us: {ours / tools:.2f} times"
            target.holds = ours <= limit * tools
        found.append(target)
    return found


def against_bare(rows):
    target = Target("100 KB: relay rate against the bare loop", "at least 70 %")
    ours = rows.median("relay", "relay", what="100 KB", who="smtpd")
    bare = rows.median("relay", "relay", what="100 KB", who="bare")
    if ours and bare:
        target.measured = f"{ours:.0f}/s, bare {bare:.0f}/s: {100 * ours / bare:.0f} %"
        target.holds = ours >= 0.7 * bare
    return [target]


def time_to_250(rows):
    half = Target("p99 of the time to 250 at half of the full rate", "below two syncs + 5 ms")
    ours = rows.median("latency", "p99_us", what="half", who="smtpd")
    syncs = rows.median("latency", "p50_us", what="half", who="two syncs")
    if ours and syncs:
        half.measured = f"{ours / 1000:.2f} ms; two syncs {syncs / 1000:.2f} ms"
        half.holds = ours < syncs + 5000
    alone = Target("p50 of the time to 250, one client alone", "at most 1.3 times the bare commit")
    ours = rows.median("latency", "p50_us", what="alone", who="smtpd")
    commit = rows.median("latency", "p50_us", what="alone", who="bare commit")
    if ours and commit:
        alone.measured = f"{ours:.0f} us, bare commit {commit:.0f} us: {ours / commit:.2f} times"
        alone.holds = ours <= 1.3 * commit
    return [half, alone]


def idle(rows):
    plain = Target("anonymous memory of an idle connection, plain", "at most 2 KiB")
    found = rows.select("idle", what="plain", who="smtpd")
    found = [row for row in found if "anonymous_kib" in row]
    if found:
        plain.measured = f"{found[0]['anonymous_kib']:.2f} KiB at {found[0]['held']}"
        plain.holds = found[0]["anonymous_kib"] <= 2
    many = Target("idle connections held at once", "15,000")
    if found:
        held = max(row["held"] for row in found)
        many.measured, many.holds = str(held), held >= 15000
    tls = Target("anonymous memory of an idle connection, TLS", "what the library needs + 10 %")
    found = [row for row in rows.select("idle", what="TLS", who="smtpd") if "anonymous_kib" in row]
    library = rows.median("tls", "heap_kib", what="full", who="library")
    if found and library:
        tls.measured = f"{found[0]['anonymous_kib']:.1f} KiB at {found[0]['held']}, library " \
                       f"{library:.1f} KiB"
        tls.holds = found[0]["anonymous_kib"] <= 1.1 * library
    return [plain, tls, many]


def log_ins(rows):
    cost = Target("STARTTLS + AUTH, full handshakes: CPU against the TLS library's own benchmark",
                  "at most 1.3 times")
    ours = rows.median("tls", "cpu_us", what="full", who="smtpd")
    library = rows.median("tls", "cpu_us", what="full", who="library")
    if ours and library:
        cost.measured = f"{ours:.0f} us, library {library:.0f} us: {ours / library:.2f} times"
        cost.holds = ours <= 1.3 * library
    lag = Target("p99 of the loop's lag meanwhile", "within 2 ms of an empty loop's")
    busy = rows.median("tls", "lag_p99_us", what="full", who="smtpd")
    empty = rows.median("tls", "empty_lag_p99_us", what="full", who="smtpd")
    if busy is not None and empty is not None:
        lag.measured = f"{busy / 1000:.1f} ms, empty {empty / 1000:.1f} ms"
        lag.holds = busy <= empty + 2000
    return [cost, lag]


def judge(rows):
    return [target for part in (against_peers, against_tools, against_bare, time_to_250, idle,
                                log_ins) for target in part(rows)]
