"""The power is cut at each sync and between them, with any part of the unsynced writes lost or torn: the
images are opened, and what is there must be exactly one commit, the last that was acknowledged or
the one that was under way, with every body whole; and the ledger of that moment must agree."""
import os
import random
import shutil
import subprocess
import tempfile
import time

import load as loads
from ledger import BOOKS, Books, Ledger, Playback, world

SHARED_MEMORY = "/dev/shm"


def work_folder(case):
    above = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="smtpd-cuts-", dir=above)
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


def record(case, folder, seed, seconds, lie=None, binary=None):
    """A log of the load's writes, syncs and promises, with a kill and a restart in it."""
    log, kill = os.path.join(folder, "log"), os.path.join(folder, "kill")
    preload, _ = world.preload(case, os.path.join(os.path.dirname(__file__), "recorder.c"))
    env = {"LD_PRELOAD": preload, "DURABILITY_LOG": log, "DURABILITY_KILL": kill}
    if lie:
        env["DURABILITY_LIE"] = lie
    ledger = Ledger(log)
    hop = loads.NextHop(case, ledger)
    relay = loads.make_relay(case, hop.port, env=env, binary=binary)
    load = loads.Load(relay, ledger, seed, clients=3, most_open=10 ** 9)
    chooser = random.Random(f"record {seed}")
    load.begin()
    time.sleep(seconds * chooser.uniform(0.3, 0.5))
    with open(kill, "w"):
        world.wait_for(lambda: relay.process.poll() is not None, "the kill")
    os.unlink(kill)
    relay.kill()
    relay.start()
    time.sleep(seconds * chooser.uniform(0.2, 0.3))
    relay.stop()
    relay.start()
    time.sleep(seconds * 0.3)
    load.end()
    relay.stop()
    hop.close()
    return log


def cuts(log, folder, seed, count, kept, only=None):
    """Yields (entry, way, unsynced, books, folder of the image or None) of each."""
    command = [BOOKS, "cuts", log, folder, str(seed), str(count), str(kept)]
    errors = os.path.join(folder, "stderr")
    with open(errors, "w") as file:
        process = subprocess.Popen(command + ([only] if only else []), stdout=subprocess.PIPE,
                                   stderr=file, text=True, errors="replace")
    lines, cut, books, is_done = [], None, None, False
    for line in process.stdout:
        line = line.rstrip("\n")
        word, _, rest = line.partition(" ")
        if word in ("cut", "done") and books:
            yield (*cut, books, None)
            books = None
        if word == "cut":
            cut, lines = tuple(map(int, rest.split()[:3])), []
        elif word == "end" and cut:
            # A reader that died has said no "end"; the judge says one for it.
            books = Books(lines)
        elif word == "kept":
            yield (*cut, books, os.path.join(folder, rest))
            books = None
        elif word == "done":
            is_done = True
        else:
            lines.append(line)
    if process.wait() or not is_done:
        with open(errors) as file:
            raise AssertionError(f"{' '.join(command)}: {process.returncode} {file.read()[-3000:]}")


def start_on(image, playback, books):
    """The real server on an image: each message that is there is delivered whole."""
    with loads.World() as case:
        ledger = playback.ledger
        wanted = {(books.messages[id][0], r) for id, recipients in books.open.items()
                  for r in recipients if books.messages[id][3] != "<>"}
        got, half = set(), []

        def say(stage, argument, session):
            if stage == "dot" and argument["sender"]:
                data = argument["data"]
                at = data.find(b"X-Name: ")
                name = data[at + 8:data.find(b"\r\n", at)].decode()
                if loads.books.digest(data[at:]) != ledger.messages[name].digest:
                    half.append(name)
                got.update((name, r) for r in argument["recipients"])
            return None
        hop = world.Hop(case, say)
        relay = world.Relay(case, hop=hop.port, queue='retry = ["1s"]\n', log_level="info",
                            start=False)
        shutil.rmtree(relay.data, ignore_errors=True)
        shutil.copytree(image, relay.data)
        relay.start()
        relay.wait_event("queue.rebuilt")  # an index that holds nothing yet looks empty too
        relay.command("queue", "release", "--all")  # the operator may have held some at the cut
        relay.wait_empty(4 * world.PATIENCE)
        relay.stop()
        if got != wanted or half:
            raise AssertionError(f"{image}: {sorted(wanted ^ got)[:5]} differ, {half[:5]} not whole")


def judge(log, folder, options, seed, count, kept, only=None):
    """(cuts, cuts that could lose something, problems)"""
    playback, problems, total, unsafe = Playback(log), [], 0, 0
    for entry, way, unsynced, books, image in cuts(log, folder, seed, count, kept, only):
        playback.play(entry)
        total += 1
        unsafe += unsynced > 0
        found = playback.check(books)
        problems += [f"cut {entry}:{way}, {unsynced} unsynced: {p}" for p in found[:5]]
        if image:
            if not found:
                start_on(image, playback, books)
            shutil.rmtree(image)
        if total % 1000 == 0:
            options.say(f"{total} cuts, {len(problems)} problems")
    return total, unsafe, problems


def keep_log(log, problems):
    kept = os.path.join(tempfile.gettempdir(), f"smtpd-power-{os.getpid()}.log")
    shutil.copy(log, kept)
    return [f"the log is kept: tests/durability/run --keep {kept} --seed SEED power"] + problems


def judge_well(options, log, folder, seed, count, kept, only=None):
    total, unsafe, problems = judge(log, folder, options, seed, count, kept, only)
    if problems and not options.keep:
        problems = keep_log(log, problems)
    loads.demand(problems, f"{total} cuts, seed {seed}")
    return total, unsafe


def judge_lies(options, case, seed, seconds, count, **lie):
    """The same judgement of a disk or a server that forgets its syncs: it must see losses."""
    folder = work_folder(case)
    log = record(case, folder, seed, seconds, **lie)
    total, _, problems = judge(log, folder, options, seed, count, 0)
    shutil.rmtree(folder)
    lost = len({p.split(",")[0] for p in problems if "lost" in p})
    if not lost:
        raise AssertionError(f"{lie}: {total} cuts and nothing was seen: {problems[:5]}")
    options.say(f"{lie}: losses seen in {lost} of {total} cuts, as it must be")


def run(options, case):
    folder = work_folder(case)
    if options.keep:
        total, unsafe = judge_well(options, options.keep, folder, int(options.seed),
                                   options.rounds or 0, 0, options.only)
        return f"{total} cuts of {options.keep}, 0 problems"
    # The first in full: every boundary in every way. The others: longer, and a choice of cuts.
    # A sanitized reader needs a second for each.
    is_plain = world.SANITIZER == "none"
    plan = [(6, 0, 20)] + [(15, 3000, 20)] * 4 if options.full else \
        [(3 if is_plain else 1, options.rounds or (300 if is_plain else 25), 1)]
    total = unsafe = 0
    for number, (seconds, count, kept) in enumerate(plan):
        seed = int(options.seed) + number
        log = record(case, folder, seed, seconds)
        options.say(f"recorded {os.path.getsize(log) >> 20} MiB, seed {seed}")
        one, one_unsafe = judge_well(options, log, folder, seed, count, kept)
        total, unsafe = total + one, unsafe + one_unsafe
        os.unlink(log)
    if unsafe < total // 10:
        raise AssertionError("hardly a cut could lose anything")
    some = 1000 if options.full else 30
    judge_lies(options, case, int(options.seed), 2, some if is_plain else 8, lie="all")
    if not is_plain:
        return f"{total} cuts ({unsafe} with unsynced writes), 0 lost, half there or back"
    judge_lies(options, case, int(options.seed), 2, some * 5, lie="meta")
    binary = os.environ.get("SMTPD_NO_SYNC_BINARY")
    if binary and os.path.exists(binary):
        judge_lies(options, case, int(options.seed), 2, some, binary=binary)
    else:
        options.say("skipped: the server without syncs is built in the release preset only")
    return f"{total} cuts ({unsafe} with unsynced writes), 0 lost, half there or back"
