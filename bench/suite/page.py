"""The measured part of docs/benchmarks.md, between its two marks; what stands around is kept."""
import os

from suite.relays import TITLES
from suite.rows import Rows
from suite.targets import judge

BEGIN = "<!-- measured: written by bench/run, do not edit up to the closing mark -->"
END = "<!-- /measured -->"


def cell(found, form="{:.0f}", scale=1):
    """median (least-most)"""
    if found is None:
        return "-"
    middle, least, most = (form.format(value * scale) for value in found)
    return middle if least == most else f"{middle} ({least}-{most})"


def title(who):
    return TITLES.get(who, who)


def table(heads, lines):
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads),
            *("| " + " | ".join(line) + " |" for line in lines), ""]


def failed(rows, part, columns, **wanted):
    """The cells of a line that has no figures at all: why."""
    return [rows.reason(part, **wanted).replace("|", "/"), *["-"] * (columns - 1)]


def relay(rows):
    text = []
    for what in rows.kinds("relay"):
        lines = []
        for who, sessions in rows.lines("relay", what):
            wanted = dict(what=what, who=who, sessions=sessions)

            def figure(key, form="{:.0f}", scale=1):
                return cell(rows.range("relay", key, **wanted), form, scale)

            def lag(which):
                if not rows.values("relay", f"{which}_p99_us", **wanted):
                    return "-"
                return " / ".join(figure(f"{which}_{key}_us", "{:.1f}", 1e-3)
                                  for key in ("p99", "max"))
            cells = [figure("relay"), figure("accept"), figure("cpu_us"), figure("peak_mb"),
                     figure("processes"), lag("lag"), lag("empty_lag")]
            if not rows.values("relay", "relay", **wanted):
                cells = failed(rows, "relay", 7, **wanted)
            left = rows.values("relay", "left", **wanted)
            if left:
                cells[0] += f", {max(left)} left undelivered"
            lines.append([title(who), str(sessions), *cells])
        text += [f"**{what}**", ""]
        text += table(("who", "sessions", "relayed/s", "accepted/s", "CPU us/message", "peak MB",
                       "processes", "loop lag p99 / max, ms", "of an empty loop"), lines)
    return text


def latency(rows):
    text = []
    for what, head in (("half", "At half of the full rate, 100 sessions, on schedule"),
                       ("alone", "One client alone, as fast as it can")):
        lines = []
        for who, sessions in rows.lines("latency", what):
            wanted = dict(what=what, who=who)
            keys = ("p50_us", "p99_us", "p999_us", "schedule_p99_us")
            cells = [cell(rows.range("latency", key, **wanted), "{:.2f}", 1e-3) for key in keys]
            if not rows.values("latency", "p50_us", **wanted):
                cells = failed(rows, "latency", 4, **wanted)
            lines.append([title(who), cell(rows.range("latency", "rate", **wanted)), *cells])
        text += [f"**{head}** (ms)", ""]
        text += table(("who", "messages/s", "p50", "p99", "p99.9", "p99 since the schedule"), lines)
    return text


def log_ins(rows):
    lines = []
    for what in rows.kinds("tls"):
        for who, sessions in rows.lines("tls", what):
            wanted = dict(what=what, who=who)
            share = rows.range("tls", "resumed_share", **wanted)
            cells = [cell(rows.range("tls", key, **wanted)) for key in ("rate", "cpu_us", "source_us")]
            if not rows.values("tls", "cpu_us", **wanted):
                cells = failed(rows, "tls", 3, **wanted)
            tls = [row["tls"] for row in rows.select("tls", **wanted) if row.get("tls")]
            lines.append([what, title(who), *cells, cell(share, "{:.0f} %", 100),
                          tls[0] if tls else "-"])
    return table(("handshakes", "who", "log-ins/s", "CPU us each", "client's CPU us", "resumed",
                  "TLS"), lines)


def extrapolated(rows, count=100000):
    """What so many would take, by the line through smtpd's two rows."""
    text = []
    for what in rows.kinds("idle"):
        found = [row for row in rows.select("idle", what=what, who="smtpd") if "held" in row]
        if len(found) == 2 and found[0]["held"] < found[1]["held"]:
            less, more = found
            each = (more["total_mb"] - less["total_mb"]) / (more["held"] - less["held"])
            text.append(f"{what} {more['total_mb'] + each * (count - more['held']):.0f} MB")
    if not text:
        return []
    return [f"Extrapolated, not measured: {count:,} connections would take of smtpd " +
            ", ".join(text) + ".", ""]


def idle(rows):
    lines = []
    for row in rows.select("idle"):
        if "failed" in row:
            lines.append([row["what"], title(row["who"]), row["failed"].replace("|", "/"), *["-"] * 6])
            continue
        held = f"{row['held']} of {row['asked']}" + (f" ({row['why']})" if row["why"] else "")
        lines.append([row["what"], title(row["who"]), held, f"{row['anonymous_kib']:.1f}",
                      f"{row['pss_kib']:.1f}", f"{row['open_us']:.0f}",
                      f"{row['seconds']:.1f}", str(row["processes"]), f"{row['total_mb']:.0f}"])
    text = table(("kind", "who", "held", "anonymous KiB each", "PSS KiB each", "CPU us to open one",
                  "seconds to open all", "processes", "PSS MB in all"), lines)
    text += extrapolated(rows)
    heap = rows.median("tls", "heap_kib", what="full", who="library")
    if heap:
        text += [f"An open session of the TLS library alone holds {heap:.1f} KiB of heap "
                 "(`bench/tools/handshake.c`).", ""]
    return text


def targets(rows):
    words = {True: "yes", False: "**no**", None: "-"}
    return table(("target", "wanted", "measured", "holds"),
                 [[t.text, t.wanted, t.measured, words[t.holds]] for t in judge(rows)])


def machine(result):
    one = result["machine"]
    text = f"{one['began']}, {result['took_s'] / 60:.0f} minutes, commit {one['commit'] or 'unknown'}. " \
           f"{one['cores']} cores of {one['cpu']}{' (virtual)' if one['virtual'] else ''}, " \
           f"{one['memory_gib']} GB, {one['system']}, kernel {one['kernel']}, {one['file_system']} " \
           f"({one['mount']}). Load before: {one['load_before']:.2f}. Medians of {result['runs']} " \
           f"alternating runs of about {result['seconds']:g} s, lowest and highest in brackets. CPU " \
           f"is counted by {one['counted_by']}."
    if result["cut"]:
        text += " Time ran out: some parts have fewer runs."
    if result["quick"]:
        text += " **A quick run: it shows that everything works; its figures mean nothing.**"
    return [text, ""]


def versions(result):
    text = []
    for one in result["versions"].values():
        text.append(f"- **{one['title']}** {one['version']}" +
                    (f": {one['missing']}" if one.get("missing") else ""))
        text += [f"  - {setting}" for setting in one["settings"]]
    return [*text, ""]


def render(result):
    rows = Rows(result["rows"])
    text = [BEGIN, "", *machine(result), "![Rates and CPU per message](benchmarks.svg)", "",
            "### Targets", "", *targets(rows)]
    for head, part, write in (("Relay", "relay", relay), ("Time to 250", "latency", latency),
                              ("Log-ins under TLS", "tls", log_ins),
                              ("Idle connections", "idle", idle)):
        if rows.select(part):
            text += [f"### {head}", "", *write(rows)]
    text += ["### Versions and configurations", "", *versions(result), END]
    return "\n".join(text)


def write(path, result):
    text = render(result)
    if os.path.exists(path):
        with open(path) as file:
            whole = file.read()
        if BEGIN in whole and END in whole:
            text = whole[:whole.index(BEGIN)] + text + whole[whole.index(END) + len(END):]
        elif os.path.basename(os.path.dirname(os.path.abspath(path))) == "docs":
            raise SystemExit(f"{path} has no marks to write between")
    else:
        text += "\n"
    with open(path, "w") as file:
        file.write(text)
