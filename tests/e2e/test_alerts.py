"""The alert rules and the dashboard in docs/: by promtool, and against what a relay exports."""
import json
import os
import re
import tempfile
import unittest

import world
from test_metrics import ROOT, Scrape, promtool
from world import Hop, Relay, free_port, message

RULES = os.path.join(ROOT, "docs", "alerts", "smtpd.rules.yml")
DASHBOARD = os.path.join(ROOT, "docs", "grafana", "smtpd.json")

# A relay that is well, for four hours: a sample a minute, in promtool's notation.
MINUTES = 240
WELL = {
    'up{job="smtpd"}': f"1x{MINUTES}",
    "smtpd_ready": f"1x{MINUTES}",
    "smtpd_draining": f"0x{MINUTES}",
    'smtpd_store_commits_total{result="failed"}': f"3x{MINUTES}",
    'smtpd_store_commit_seconds_bucket{le="0.01"}': f"0+600x{MINUTES}",
    'smtpd_store_commit_seconds_bucket{le="1.0"}': f"0+600x{MINUTES}",
    'smtpd_store_commit_seconds_bucket{le="+Inf"}': f"0+600x{MINUTES}",
    "smtpd_store_room_bytes": f"50e9-1e6x{MINUTES}",
    "smtpd_sampled_timestamp_seconds": f"0+60x{MINUTES}",
    "smtpd_queue_oldest_age_seconds": f"14400x{MINUTES}",
    'smtpd_queue_groups{state="waiting"}': f"9000+1x{MINUTES}",
    "smtpd_destinations": f"40x{MINUTES}",
    "smtpd_destinations_backing_off": f"20x{MINUTES}",
    'smtpd_destination_backing_off{destination="mx1"}': f"0x{MINUTES}",
    'smtpd_recipients_not_delivered_total{result="failed",class="bad-mailbox"}':
        f"0+50x{MINUTES}",
    'smtpd_recipients_not_delivered_total{result="deferred",class="other"}': f"0+900x{MINUTES}",
    'smtpd_recipients_delivered_total{tls="1.3"}': f"0+500x{MINUTES}",
    'smtpd_recipients_delivered_total{tls="none"}': f"0+100x{MINUTES}",
    'smtpd_auth_attempts_total{result="failed"}': f"0+59x{MINUTES}",
    'smtpd_auth_attempts_total{result="busy"}': f"2x{MINUTES}",
    'smtpd_connections_total{listener="a",result="refused"}': f"0+5x{MINUTES}",
    'smtpd_connections_total{listener="a",result="accepted"}': f"0+500x{MINUTES}",
    'smtpd_tls_certificate_expiry_timestamp_seconds{file="c"}': f"{20 * 86400}x{MINUTES}",
    'smtpd_tls_handshakes_total{direction="out",result="failed"}': f"0+10x{MINUTES}",
    'smtpd_tls_handshakes_total{direction="out",result="ok"}': f"0+90x{MINUTES}",
    'smtpd_tls_handshakes_total{direction="in",result="failed"}': f"0+900x{MINUTES}",
    'smtpd_dns_answers_total{result="failed"}': f"0+10x{MINUTES}",
    'smtpd_dns_answers_total{result="ok"}': f"0+90x{MINUTES}",
    'smtpd_dns_answers_total{result="negative"}': f"0+90x{MINUTES}",
    'smtpd_loop_lag_seconds_bucket{le="0.025"}': f"0+6000x{MINUTES}",
    'smtpd_loop_lag_seconds_bucket{le="0.25"}': f"0+6000x{MINUTES}",
    'smtpd_loop_lag_seconds_bucket{le="+Inf"}': f"0+6000x{MINUTES}",
    "smtpd_memory_pressure": f"0x{MINUTES}",
    "smtpd_descriptors_open": f"700x{MINUTES}",
    "smtpd_descriptors_limit": f"1000x{MINUTES}",
    "smtpd_log_lines_dropped_total": f"8x{MINUTES}",
    "smtpd_log_final_lines_lost_total": f"8x{MINUTES}",
    'smtpd_signatures_total{kind="rsa",result="ok"}': f"0+600x{MINUTES}",
    'smtpd_signatures_total{kind="rsa",result="failed"}': f"1x{MINUTES}",
    "smtpd_signing_refused_total": f"1x{MINUTES}",
    "smtpd_signing_key_loads_failed_total": f"1x{MINUTES}",
    'smtpd_reloads_total{result="failed"}': f"1x{MINUTES}",
    "smtpd_possible_duplicates_total": f"4x{MINUTES}",
}
LATE = MINUTES - 6  # what begins here is five minutes old at the end
# What makes each alert fire, as a change of what is well.
FIRES = {
    "SmtpdDown": {'up{job="smtpd"}': f"1x{LATE} 0x6"},
    "SmtpdNotReady": {"smtpd_ready": f"1x{LATE} 0x6"},
    "SmtpdCommitsFail": {'smtpd_store_commits_total{result="failed"}': f"3x{MINUTES - 1} 4"},
    "SmtpdCommitsSlow": {'smtpd_store_commit_seconds_bucket{le="0.01"}': f"0+580x{MINUTES}"},
    "SmtpdDiskLow": {"smtpd_store_room_bytes": f"50e9-0.2e9x{MINUTES}"},
    "SmtpdDiskHangs": {"smtpd_sampled_timestamp_seconds": f"0+60x{LATE} {60 * LATE}x6"},
    "SmtpdQueueOld": {"smtpd_queue_oldest_age_seconds": f"14401x{MINUTES}"},
    "SmtpdQueueGrows": {'smtpd_queue_groups{state="waiting"}': f"10001+1x{MINUTES}"},
    "SmtpdDestinationsFail": {"smtpd_destinations_backing_off": f"21x{MINUTES}"},
    "SmtpdDestinationRests": {'smtpd_destination_backing_off{destination="mx1"}':
                              f"1x{MINUTES}"},
    "SmtpdBounces": {'smtpd_recipients_not_delivered_total{result="failed",class="bad-mailbox"}':
                     f"0+70x{MINUTES}"},
    "SmtpdAuthFailures": {'smtpd_auth_attempts_total{result="failed"}': f"0+61x{MINUTES}"},
    "SmtpdAuthBusy": {'smtpd_auth_attempts_total{result="busy"}': f"2+1x{MINUTES}"},
    "SmtpdRefusesConnections": {'smtpd_connections_total{listener="a",result="refused"}':
                                f"0+7x{MINUTES}"},
    "SmtpdCertificateExpires": {'smtpd_tls_certificate_expiry_timestamp_seconds{file="c"}':
                                f"{14 * 86400}x{MINUTES}"},
    "SmtpdSigningFails": {"smtpd_signing_key_loads_failed_total": f"1x{MINUTES - 1} 2"},
    "SmtpdTlsToHopsFails": {'smtpd_tls_handshakes_total{direction="out",result="failed"}':
                            f"0+30x{MINUTES}"},
    "SmtpdDnsFails": {'smtpd_dns_answers_total{result="failed"}': f"0+50x{MINUTES}"},
    "SmtpdLoopLags": {'smtpd_loop_lag_seconds_bucket{le="0.025"}': f"0+5800x{MINUTES}"},
    "SmtpdMemoryPressure": {"smtpd_memory_pressure": f"0x{LATE} 1x6"},
    "SmtpdDescriptorsLow": {"smtpd_descriptors_open": f"801x{MINUTES}"},
    "SmtpdLogDropped": {"smtpd_log_lines_dropped_total": f"8x{MINUTES - 1} 9"},
    "SmtpdLogFinalLost": {"smtpd_log_final_lines_lost_total": f"8x{MINUTES - 1} 9"},
    "SmtpdReloadFailed": {'smtpd_reloads_total{result="failed"}': f"1x{MINUTES - 1} 2"},
    "SmtpdPossibleDuplicates": {"smtpd_possible_duplicates_total": f"4x{MINUTES - 1} 5"},
}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def alerts():
    return re.findall(r"^ +- alert: (\w+)$", read(RULES), re.M)


def scenario(changes, firing, minute=MINUTES):
    series = dict(WELL, **changes)
    return {"interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}
                                for name in firing]}]}


class Rules(unittest.TestCase):
    def run_scenarios(self, scenarios):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump({"rule_files": [RULES], "evaluation_interval": "1m", "tests": scenarios}, file)
            file.flush()
            done = promtool("test", "rules", file.name)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_promtool_takes_them(self):
        done = promtool("check", "rules", RULES)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(f"{len(alerts())} rules found", done.stdout)

    def test_a_relay_that_is_well_fires_none(self):
        self.run_scenarios([scenario({}, [])])

    def test_each_fires_for_its_own_reason_and_alone(self):
        self.assertEqual(sorted(FIRES), sorted(alerts()))
        self.run_scenarios([scenario(changes, [name]) for name, changes in FIRES.items()])

    def test_a_relay_that_leaves_is_not_called_unready(self):
        self.run_scenarios([scenario({"smtpd_ready": f"0x{MINUTES}",
                                      "smtpd_draining": f"1x{MINUTES}"}, [])])

    def test_those_that_should_bear_with_a_moment_do(self):
        moment = {"up{job=\"smtpd\"}": f"1x{MINUTES - 1} 0", "smtpd_ready": f"1x{MINUTES - 1} 0",
                  "smtpd_queue_oldest_age_seconds": f"10x{MINUTES - 5} 20000x5",
                  'smtpd_destination_backing_off{destination="mx1"}': f"0x{MINUTES - 50} 1x50",
                  "smtpd_descriptors_open": f"700x{MINUTES - 2} 900x2"}
        self.run_scenarios([scenario(moment, [])])


class Names(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        port = free_port()
        hop = Hop(cls.case)
        relay = Relay(cls.case, hop=hop.port, extra=f'[admin]\nlisten = "127.0.0.1:{port}"\n')
        with relay.relay_client() as client:
            client.sendmail("a@b.test", ["c@d.test"], message())
        relay.wait_empty()
        cls.scrape = Scrape(port)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def check(self, expressions):
        """Each name, and each label with a fixed value, is in a real scrape."""
        used = 0
        for text in expressions:
            for name, labels in re.findall(r"\b(smtpd_[a-z0-9_]+)(\{[^}]*\})?", text):
                used += 1
                having = [dict(key) for sample, key in self.scrape.samples if sample == name]
                self.assertTrue(having, f"{name} is not exported: {text}")
                wanted = {label: value for label, value in
                          re.findall(r'(\w+)="([^"$]*)"', labels) if label not in ("instance", "job")}
                self.assertTrue(any(set(wanted.items()) <= set(one.items()) for one in having),
                                f"no {name} has {wanted}: {text}")
            for label in re.findall(r"by \(([^)]*)\)", text):
                for one in label.split(","):
                    known = {key for _, key_set in self.scrape.samples for key, _ in key_set}
                    self.assertIn(one.strip(), known | {"instance", "job"})
        return used

    def test_rules_use_what_is_exported(self):
        text = re.sub(r"(?m)^ +summary: .*$", "", read(RULES))
        self.assertGreaterEqual(self.check([text]), len(alerts()))

    def test_the_dashboard_uses_what_is_exported_and_shows_every_group(self):
        dashboard = json.loads(read(DASHBOARD))
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        self.assertGreater(len(panels), 20)
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
        self.assertGreater(self.check(expressions), 30)
        places = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(places & cells, f"{panel['title']} lies on another")
            places |= cells
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        # Each expression is one that Prometheus takes.
        rules = {"groups": [{"name": "panels", "rules": [
            {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "5m")}
            for i, expression in enumerate(expressions)]}]}
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(rules, file)
            file.flush()
            done = promtool("check", "rules", file.name)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_each_alert_says_what_to_do_and_has_its_section(self):
        manual = read(os.path.join(ROOT, "docs", "operations.md"))
        text = read(RULES)
        for name in alerts():
            block = text.split(f"- alert: {name}\n")[1].split("- alert:")[0]
            summary = re.search(r'summary: "(.*)"\n', block)[1]
            self.assertGreaterEqual(summary.count(". "), 1, f"{name} says what is and what to do")
            self.assertIn(f"runbook: docs/operations.md#{name.lower()}\n", block)
            section = manual.split(f"\n### {name}\n")
            self.assertEqual(len(section), 2, f"docs/operations.md has no section {name}")
            self.assertGreater(len(section[1].split("\n#")[0].split()), 20, name)


if __name__ == "__main__":
    world.main()
