"""What a group of processes costs: CPU of all of them, the dead ones included, and memory.

Where a control group can be made (as root, with a hierarchy that counts CPU) it counts in
nanoseconds or microseconds, whoever the parents are; elsewhere the family of a process is walked,
in ticks of 10 ms, which sees the dead children that somebody has waited for."""
import os
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all that live below it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents.setdefault(int(file.read().rsplit(")", 1)[1].split()[1]),
                                   []).append(int(entry))
        except OSError:
            continue
    found, new = {pid}, [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, ()) if child not in found]
        found.update(new)
    return found


def cpu_seconds(pid):
    """user+sys of the family, its dead children included."""
    total = 0
    for one in family(pid):
        try:
            with open(f"/proc/{one}/stat") as file:
                total += sum(int(x) for x in file.read().rsplit(")", 1)[1].split()[11:15])
        except OSError:
            continue
    return total / TICK


def memory_kb(pids):
    """Proportional set size of these processes, and what of it is anonymous: (pss, anonymous)."""
    pss = anonymous = 0
    for one in pids:
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1])
                    elif line.startswith("Pss_Anon:"):
                        anonymous += int(line.split()[1])
        except OSError:
            continue
    return pss, anonymous


def pss_kb(pid):
    return memory_kb(family(pid))[0]


def _groups_root():
    """(folder of a hierarchy that counts CPU, "v2" or "v1"), or None."""
    with open("/proc/mounts") as file:
        mounts = [line.split() for line in file]
    kinds = [("v2", m[1]) for m in mounts if m[2] == "cgroup2"]
    kinds += [("v1", m[1]) for m in mounts if m[2] == "cgroup" and "cpuacct" in m[3].split(",")]
    for kind, folder in kinds:
        try:
            probe = tempfile.mkdtemp(prefix="bench-probe-", dir=folder)
        except OSError:
            continue
        works = os.path.exists(os.path.join(probe, "cpu.stat" if kind == "v2" else "cpuacct.usage"))
        os.rmdir(probe)
        if works:
            return folder, kind
    return None


_root = []


class Account:
    """Processes that are counted together: start each with preexec_fn=account.enter."""

    def __init__(self, name):
        if not _root:
            _root.append(_groups_root())
        self.folder = None
        self.pid = None  # of the oldest process; for the family, where there is no group
        if _root[0]:
            self.folder = tempfile.mkdtemp(prefix=f"bench-{name}-", dir=_root[0][0])

    @staticmethod
    def kind():
        if not _root:
            _root.append(_groups_root())
        return f"control group ({_root[0][1]})" if _root[0] else "walk of /proc, in ticks of 10 ms"

    def enter(self):
        """In the child, before exec."""
        if self.folder:
            with open(os.path.join(self.folder, "cgroup.procs"), "w") as file:
                file.write("0")

    def pids(self):
        if not self.folder:
            return family(self.pid)
        with open(os.path.join(self.folder, "cgroup.procs")) as file:
            return {int(line) for line in file}

    def cpu_seconds(self):
        if not self.folder:
            return cpu_seconds(self.pid)
        if _root[0][1] == "v1":
            with open(os.path.join(self.folder, "cpuacct.usage")) as file:
                return int(file.read()) / 1e9
        with open(os.path.join(self.folder, "cpu.stat")) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("usage_usec")) / 1e6

    def memory_kb(self):
        return memory_kb(self.pids())

    def close(self):
        """When all processes have been told to end."""
        if not self.folder:
            return
        for _ in range(500):
            try:
                os.rmdir(self.folder)
                return
            except OSError:
                time.sleep(0.02)
