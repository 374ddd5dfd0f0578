"""docs/kubernetes is of one piece: ports, probes, mounts and times are those of its smtpd.toml.

Types and names of fields are checked by TypeScript's compiler where node is there; what kustomize
makes of it, where kubectl is there."""
import json
import os
import re
import shutil
import subprocess
import unittest

import yaml

import manifests
import world

ROOT = os.path.join(manifests.FOLDER, "..", "..")


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def listed(value):
    return value if isinstance(value, list) else [value]


class Manifests(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.config = manifests.configuration()
        self.set = manifests.one("StatefulSet")
        self.template = self.set["spec"]["template"]
        self.pod = self.template["spec"]
        [self.container] = self.pod["containers"]
        self.ports = {p["name"]: p["containerPort"] for p in self.container["ports"]}
        self.mail_ports = {}
        for listen in self.config["listen"]:
            name = "submissions" if listen.get("tls") == "implicit" else "submission"
            [self.mail_ports[name]] = [port_of(a) for a in listed(listen["address"])]
        [self.admin_port] = [port_of(a) for a in self.config["admin"]["listen"]]

    def dockerfile(self, word):
        with open(os.path.join(ROOT, "Dockerfile")) as file:
            return re.findall(rf"^{word} (.*)$", file.read(), re.M)

    def test_ports_of_the_pod_are_those_that_it_listens_on(self):
        self.assertEqual(self.ports, dict(self.mail_ports, admin=self.admin_port))
        self.assertEqual(set(self.dockerfile("EXPOSE")[0].split()),
                         {str(port) for port in self.ports.values()})
        # Without the right to bind low ports: every capability is dropped.
        self.assertTrue(all(port > 1023 for port in self.ports.values()))

    def test_services_lead_to_these_ports(self):
        service = manifests.one("Service")["spec"]
        self.assertEqual({p["port"]: p["targetPort"] for p in service["ports"]},
                         {587: "submission", 465: "submissions"})
        headless = manifests.one("Service", self.set["spec"]["serviceName"])["spec"]
        self.assertEqual(headless["clusterIP"], "None")
        for spec in (service, headless):
            self.assertLessEqual(spec["selector"].items(),
                                 self.template["metadata"]["labels"].items())
            self.assertLessEqual({p["targetPort"] for p in spec["ports"]}, set(self.ports))

    def test_every_selector_finds_the_pods(self):
        labels = self.template["metadata"]["labels"].items()
        [spread] = self.pod["topologySpreadConstraints"]
        for selector in (self.set["spec"]["selector"],
                         manifests.one("PodDisruptionBudget")["spec"]["selector"],
                         manifests.one("NetworkPolicy")["spec"]["podSelector"],
                         spread["labelSelector"]):
            self.assertTrue(selector["matchLabels"])
            self.assertLessEqual(selector["matchLabels"].items(), labels)
        # The label that a replica loses before it goes must not be what makes it a replica.
        self.assertNotIn("smtpd/serves", self.set["spec"]["selector"]["matchLabels"])

    def test_the_network_policy_lets_in_and_out_what_is_needed_and_nothing_else(self):
        spec = manifests.one("NetworkPolicy")["spec"]
        self.assertEqual(sorted(spec["policyTypes"]), ["Egress", "Ingress"])
        clients, monitoring = ({p["port"] for p in rule["ports"]} for rule in spec["ingress"])
        self.assertEqual(clients, set(self.mail_ports.values()))
        self.assertEqual(monitoring, {self.admin_port})
        self.assertTrue(all(rule["from"] for rule in spec["ingress"]))
        [out] = spec["egress"]
        self.assertEqual({(p["protocol"], p["port"]) for p in out["ports"]},
                         {("TCP", 25), ("TCP", 443), ("TCP", 53), ("UDP", 53)})

    def test_probes_ask_the_admin_listener(self):
        for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"),
                            ("readinessProbe", "/readyz")):
            self.assertEqual(self.container[probe]["httpGet"], {"path": path, "port": "admin"})
        notes = self.template["metadata"]["annotations"]
        self.assertEqual(notes, {"prometheus.io/scrape": "true", "prometheus.io/path": "/metrics",
                                 "prometheus.io/port": str(self.admin_port)})

    def test_the_grace_period_fits_into_that_of_the_pod(self):
        stop = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = manifests.seconds(self.config["server"]["grace_period"])
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], stop + grace + 5)

    def test_every_file_of_the_configuration_comes_from_a_mounted_folder(self):
        mounts = {m["mountPath"]: m["name"] for m in self.container["volumeMounts"]}
        self.assertEqual(set(mounts), {"/etc/smtpd", "/var/lib/smtpd"})
        # A file mounted by subPath is never updated.
        self.assertFalse([m for m in self.container["volumeMounts"] if "subPath" in m])
        [volume] = [v for v in self.pod["volumes"] if v["name"] == mounts["/etc/smtpd"]]
        self.assertEqual(volume["projected"]["defaultMode"] & 0o007, 0)
        made = manifests.secrets_of_the_page()
        there = []
        for source in volume["projected"]["sources"]:
            [(kind, value)] = source.items()
            self.assertEqual(set(value), {"name"}, "with items a new key would not appear")
            there += manifests.one("ConfigMap", value["name"])["data"] if kind == "configMap" \
                else made[value["name"]]
        self.assertEqual(len(there), len(set(there)))
        wanted = [self.config["tls"]["certificate"], self.config["tls"]["key"],
                  self.config["auth"]["users_file"], "/etc/smtpd/smtpd.toml",
                  *(key["key"] for key in self.config["dkim"])]
        self.assertEqual(sorted(wanted), sorted(f"/etc/smtpd/{name}" for name in there))

    def test_the_queue_lies_on_a_volume_of_the_replica(self):
        mounts = {m["mountPath"]: m["name"] for m in self.container["volumeMounts"]}
        [claim] = self.set["spec"]["volumeClaimTemplates"]
        self.assertEqual(claim["metadata"]["name"], mounts["/var/lib/smtpd"])
        self.assertNotIn("data_dir", self.config["server"])  # the default, /var/lib/smtpd
        self.assertEqual(self.dockerfile("VOLUME"), ["/var/lib/smtpd"])
        self.assertEqual(set(self.set["spec"]["persistentVolumeClaimRetentionPolicy"].values()),
                         {"Retain"})

    def test_the_pod_has_no_right_that_it_does_not_need(self):
        context = self.pod["securityContext"]
        self.assertEqual(self.dockerfile("USER"),
                         [f"{context['runAsUser']}:{context['runAsGroup']}"])
        self.assertEqual(context["fsGroup"], context["runAsGroup"])
        self.assertTrue(context["runAsNonRoot"])
        self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertEqual(self.container["securityContext"],
                         {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                          "capabilities": {"drop": ["ALL"]}})
        self.assertIs(self.pod["automountServiceAccountToken"], False)

    def test_an_edited_configuration_is_applied_and_not_a_new_pod(self):
        kustomization = yaml.safe_load(manifests.read("kustomization.yaml"))
        self.assertTrue(kustomization["generatorOptions"]["disableNameSuffixHash"])
        self.assertTrue(self.config["server"]["follow_file"])

    def test_kustomize_makes_these_objects(self):
        kubectl = shutil.which("kubectl")
        if not kubectl:
            self.skipTest("there is no kubectl, which has kustomize inside")
        done = subprocess.run([kubectl, "kustomize", manifests.FOLDER], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        made = list(yaml.safe_load_all(done.stdout))
        kustomization = yaml.safe_load(manifests.read("kustomization.yaml"))
        [image] = kustomization["images"]
        for wanted in manifests.objects():
            [found] = [o for o in made if o["kind"] == wanted["kind"] and
                       o["metadata"]["name"] == wanted["metadata"]["name"]]
            self.assertEqual(found["metadata"].pop("namespace"), kustomization["namespace"])
            if found["kind"] == "StatefulSet":
                self.assertEqual(found["spec"]["template"]["spec"]["containers"][0].pop("image"),
                                 f"{image['newName']}:{image['newTag']}")
                wanted["spec"]["template"]["spec"]["containers"][0].pop("image")
            for part in ("data", "spec"):
                self.assertEqual(found.get(part), wanted.get(part))
        self.assertEqual(len(made), len(manifests.objects()))

    def check_types(self, objects):
        modules = os.path.join(os.path.dirname(world.TOOLS), "kubernetes-types")
        node = shutil.which("node")
        if not node or not os.path.isdir(os.path.join(modules, "node_modules")):
            self.skipTest("without node and npm nothing knows the types of Kubernetes "
                          "(third_party/kubernetes_types.sh)")
        script = os.path.join(ROOT, "tests", "kubernetes", "check_types.cjs")
        return subprocess.run([node, os.path.abspath(script), modules], input=json.dumps(objects),
                              text=True, timeout=300, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def test_every_field_has_a_name_and_a_type_that_kubernetes_knows(self):
        done = self.check_types(manifests.objects())
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.strip(), f"{len(manifests.objects())} objects, 0 faults")

    def test_the_type_checker_finds_what_is_wrong(self):
        """It would prove nothing if it let everything pass."""
        objects = manifests.objects()
        wrong = next(o for o in objects if o["kind"] == "StatefulSet")
        container = wrong["spec"]["template"]["spec"]["containers"][0]
        container["readynessProbe"] = container.pop("readinessProbe")
        wrong["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "40s"
        done = self.check_types(objects)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("readynessProbe", done.stdout)
        done = self.check_types([{"apiVersion": "v1", "kind": "Servise", "metadata": {}}])
        self.assertEqual(done.returncode, 1, done.stdout)


if __name__ == "__main__":
    world.main()
