"""bench/run works: each part gives its rows, the page keeps what is written by hand, targets are judged
by the rows, and a peer that is missing is a row with the reason. No figure is asserted."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

import world

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import peers  # noqa: E402
from suite import entrant, page  # noqa: E402
from suite.relays import Hall  # noqa: E402
from suite.rows import Rows  # noqa: E402
from suite.targets import judge  # noqa: E402

# Where this preset builds them.
BENCH_TOOLS = os.path.join(os.environ.get("SMTPD_BUILD", os.path.dirname(world.BINARY)), "bench")


class Quick(unittest.TestCase):
    def run_quick(self, *words):
        folder = tempfile.mkdtemp(prefix="smtpd-bench-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        with open(os.path.join(folder, "benchmarks.md"), "w") as file:
            file.write(f"by hand, before\n{page.BEGIN}\nold\n{page.END}\nby hand, behind\n")
        before = set(glob.glob(os.path.join(ROOT, "build", "bench-*")))
        process = subprocess.Popen([os.path.join(ROOT, "bench", "run"), "--quick", "--only", "smtpd",
                                    "--binary", world.BINARY, "--tools", BENCH_TOOLS, "--output",
                                    folder, *words], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        # SIGTERM lets it end what it started.
        self.addCleanup(lambda: process.poll() is None and process.terminate())
        text = process.communicate(timeout=4 * world.PATIENCE)[0]
        self.assertEqual(process.returncode, 0, text)
        left = set(glob.glob(os.path.join(ROOT, "build", "bench-*"))) - before
        return folder, text, left

    def rows(self, folder):
        with open(os.path.join(folder, "benchmarks.json")) as file:
            return Rows(json.load(file)["rows"])

    def test_a_quick_run_has_a_row_for_all_that_was_asked(self):
        """'one command': relay and floor with smtp-source; what needs our client says if it is not
        built."""
        folder, text, left = self.run_quick("--shapes", "10k,single,mix")
        rows = self.rows(folder)
        for what in ("10 KB", "1 KB, one per connection"):
            for who in ("smtpd", "tools"):
                row, = rows.select("relay", what=what, who=who)
                self.assertNotIn("failed", row, text)
                self.assertGreater(row["relay"], 0)
                self.assertGreater(row["cpu_us"], 0)
        built = os.path.exists(os.path.join(BENCH_TOOLS, "load"))
        for part, what in (("relay", "mixed sizes"), ("latency", "half"), ("latency", "alone"),
                           ("tls", "full"), ("tls", "resumed"), ("idle", "plain"), ("idle", "TLS")):
            found = rows.select(part, what=what, who="smtpd")
            self.assertTrue(found, (part, what))
            for row in found:
                if built:
                    self.assertNotIn("failed", row, text)
                else:
                    self.assertIn("is not built", row["failed"])
        with open(os.path.join(folder, "benchmarks.md")) as file:
            written = file.read()
        self.assertTrue(written.startswith("by hand, before\n" + page.BEGIN), written[:200])
        self.assertTrue(written.endswith(page.END + "\nby hand, behind\n"), written[-200:])
        self.assertNotIn("\nold\n", written)
        self.assertIn("| smtpd | 100 |", written)
        xml.dom.minidom.parse(os.path.join(folder, "benchmarks.svg"))
        self.assertEqual(left, set())

    def test_parts_are_picked_and_the_page_is_written_anew_from_the_rows(self):
        folder, text, _ = self.run_quick("--parts", "relay", "--shapes", "1k")
        rows = self.rows(folder)
        self.assertEqual([(row["part"], row["what"], row["who"]) for row in rows.rows],
                         [("relay", "1 KB", "smtpd")], text)
        path = os.path.join(folder, "benchmarks.md")
        with open(path) as file:
            first = file.read()
        os.unlink(path)
        subprocess.run([os.path.join(ROOT, "bench", "run"), "--page",
                        os.path.join(folder, "benchmarks.json"), "--output", folder], check=True,
                       stderr=subprocess.DEVNULL, timeout=60)
        with open(path) as file:
            self.assertIn(file.read().strip(), first)


class Judged(unittest.TestCase):
    def target(self, words, *rows):
        found = Rows()
        for part, what, who, sessions, figures in rows:
            for run, one in enumerate(figures):
                found.add(part, what, who, sessions, run, one)
        target, = [target for target in judge(found) if words in target.text]
        return target

    def cpu(self, ours, *others):
        return self.target("10 KB: CPU per message against the best durable peer",
                           ("relay", "10 KB", "smtpd", 100, [dict(cpu_us=x) for x in ours]),
                           *(("relay", "10 KB", who, sessions, [figures])
                             for who, sessions, figures in others))

    def test_the_best_durable_peer_counts_at_its_best(self):
        """'against the best peer in that run', Postfix at 20 sessions too; a queue without syncs is
        no rival."""
        peers_ = [("postfix", 100, dict(cpu_us=3000)), ("postfix", 20, dict(cpu_us=1500)),
                  ("opensmtpd", 100, dict(cpu_us=10)), ("haraka", 100, dict(failed="no node"))]
        met = self.cpu([500, 100, 90], *peers_)  # the median
        self.assertTrue(met.holds, met.measured)
        self.assertIn("postfix (20 sessions) 1500 us", met.measured)
        missed = self.cpu([101], *peers_)
        self.assertIs(missed.holds, False, missed.measured)

    def test_what_was_not_measured_does_not_hold(self):
        self.assertIsNone(self.cpu([1]).holds)
        self.assertEqual({target.holds for target in judge(Rows())}, {None})

    def test_idle_memory_and_number(self):
        rows = ("idle", "plain", "smtpd", 10000, [dict(anonymous_kib=2.1, held=10000)]), \
            ("idle", "plain", "smtpd", 15000, [dict(anonymous_kib=2.1, held=15000)])
        self.assertIs(self.target("idle connection, plain", *rows).holds, False)
        self.assertIs(self.target("held at once", *rows).holds, True)
        self.assertIs(self.target("held at once", rows[0]).holds, False)


class Missing(unittest.TestCase):
    def test_a_peer_that_could_not_be_fetched_is_a_row_with_the_reason(self):
        """'never silently absent'."""
        folder = tempfile.mkdtemp(prefix="smtpd-bench-")
        self.addCleanup(shutil.rmtree, folder)
        self.addCleanup(setattr, peers, "FOLDER", peers.FOLDER)
        peers.FOLDER = folder
        os.mkdir(os.path.join(folder, "exim"))
        with open(os.path.join(folder, "exim", "failed"), "w") as file:
            file.write("E: no such package\n")

        class Suite(Rows):
            options = type("Options", (), dict(runs=3, binary="", quick=True))
            hall = Hall(options)
            sink = type("Sink", (), dict(port=9))

            def is_out_of_time(self):
                return True
        suite = Suite()
        entrant.in_turns(suite, [entrant.Entrant(suite, "exim")], "relay", ["1 KB"], str)
        row, = suite.rows  # out of time, there is one run
        wanted = "E: no such package" if os.getuid() == 0 else "needs root"
        self.assertIn(wanted, row["failed"])
        text = "\n".join(page.relay(suite))
        self.assertRegex(text, r"\| Exim \| 100 \| [^|]*" + wanted)


if __name__ == "__main__":
    world.main()
