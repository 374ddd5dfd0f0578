"""The machine, and what was measured on it."""
import os
import platform
import shutil
import subprocess
import time

from account import Account
from common import ROOT
from peers import Missing
from suite.relays import PEERS, SETTINGS, TITLES


def _first(path, start):
    try:
        with open(path) as file:
            return next((line.split(":", 1)[-1].strip() for line in file if line.startswith(start)), "")
    except OSError:
        return ""


def _file_system(path):
    """(type, options) of the mount that holds it."""
    best = ("", "?", "")
    with open("/proc/self/mounts") as file:
        for line in file:
            _, point, kind, options = line.split()[:4]
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
                best = (point, kind, options)
    return best[1], best[2]


def _commit():
    if not shutil.which("git"):
        return ""  # an unpacked archive on a bare machine
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip()


def describe():
    memory = _first("/proc/meminfo", "MemTotal").split()
    kind, options = _file_system(os.path.join(ROOT, "build"))
    return dict(cpu=_first("/proc/cpuinfo", "model name") or platform.machine(),
                cores=len(os.sched_getaffinity(0)), memory_gib=round(int(memory[0]) / (1 << 20)),
                virtual="hypervisor" in _first("/proc/cpuinfo", "flags"), kernel=platform.release(),
                system=_first("/etc/os-release", "PRETTY_NAME").split("=")[-1].strip('"'),
                file_system=kind, mount=options, load_before=os.getloadavg()[0], commit=_commit(),
                counted_by=Account.kind(), began=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))


def versions(hall, names):
    """For each: how it is called, its version, and how it was set up; or why it is missing."""
    found = {}
    for name in names:
        one = dict(title=TITLES[name],
                   settings=PEERS[name].settings if name in PEERS else SETTINGS)
        try:
            if name in PEERS:
                PEERS[name].check()
            one["version"] = hall.version(name)
        except (Missing, OSError) as error:
            one["version"], one["missing"] = "-", str(error)
        found[name] = one
    return found
