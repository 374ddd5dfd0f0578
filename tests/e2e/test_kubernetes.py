"""The real relay as docs/kubernetes runs it: that configuration, those mounts, swapped as a kubelet
swaps them, under the user id and without the rights that the pod has."""
import os
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import manifests
import world
from world import BINARY, Hop, free_port, make_certificate, message, wait_for

UID = manifests.one("StatefulSet")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
# What a container runtime does with "drop ALL" and "allowPrivilegeEscalation: false".
CONFINED = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all",
            "--bounding-set=-all", "--no-new-privs"]


def can_be_confined():
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run([*CONFINED, BINARY, "version"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


class Pod:
    """Paths, ports and addresses are moved to where a test may be; nothing else is changed."""

    def __init__(self, case, hop):
        self.folder = tempfile.mkdtemp(prefix="smtpd-pod-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        self.case, self.hop = case, hop
        self.confined = can_be_confined()
        group = UID if self.confined else None
        self.etc, self.data = os.path.join(self.folder, "etc"), os.path.join(self.folder, "data")
        self.mount = manifests.Mount(self.etc, group)
        os.mkdir(self.data)
        if self.confined:  # a new volume with fsGroup
            os.chown(self.data, 0, UID)
            os.chmod(self.data, 0o2770)
        self.ports = {port: free_port() for port in (2587, 2465, 8587)}
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.files = {"smtpd.toml": self.local(manifests.one("ConfigMap")["data"]["smtpd.toml"]),
                      "users": ""}
        self.certificate = self.new_certificate("one")
        self.new_key("example.com", "s1")
        self.set_user("app", "first password")
        self.mount.swap(self.files)
        case.addCleanup(self.end)

    def local(self, text):
        for old, new in (("/etc/smtpd/", self.etc + "/"), *(
                (f'"0.0.0.0:{port}"', f'"127.0.0.1:{there}"') for port, there in self.ports.items())):
            self.case.assertIn(old, text)
            text = text.replace(old, new)
        # No other file, no other address: nothing of this machine is touched.
        self.case.assertNotRegex(text, r"/etc/smtpd|0\.0\.0\.0")
        text = text.replace("[server]\n", f'[server]\ndata_dir = "{self.data}"\n')
        return text + (f'\n[dns]\nservers = ["127.0.0.1:9"]\n[queue]\nmin_free_space = "1MiB"\n'
                       f'allow_network_filesystem = true\n[[route]]\nmatch = ["*"]\n'
                       f'host = "127.0.0.1"\nport = {self.hop.port}\ntls = "off"\n')

    # ---- what the page's commands make ----

    def new_certificate(self, name):
        certificate, key = make_certificate(self.folder, name, host="relay.example.com")
        for path, into in ((certificate, "tls.crt"), (key, "tls.key")):
            with open(path) as file:
                self.files[into] = file.read()
        return certificate

    def new_key(self, domain, selector):
        made = tempfile.mkdtemp(dir=self.folder)
        subprocess.run([BINARY, "dkim", "keygen", domain, selector, "--type", "ed25519", "--directory",
                        made, "--config", self.config()], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        with open(os.path.join(made, domain, f"{selector}.key")) as file:
            self.files[f"{domain}.{selector}.key"] = file.read()

    def config(self):
        """The configuration with its files beside it, before they are mounted."""
        folder = os.path.join(self.folder, "secrets")
        os.makedirs(folder, exist_ok=True)
        for name, text in self.files.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text.replace(self.etc, folder))
        return os.path.join(folder, "smtpd.toml")

    def set_user(self, name, password):
        path = self.config()
        subprocess.run([BINARY, "user", "add", name, "--config", path], input=password + "\n", text=True,
                       check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(self.folder, "secrets", "users")) as file:
            self.files["users"] = file.read()

    # ---- the container ----

    def words(self, *words):
        return [*(CONFINED if self.confined else []), BINARY, *words, "--config",
                os.path.join(self.etc, "smtpd.toml")]

    def start(self):
        mark = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.words("run"), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd="/")
        wait_for(lambda: self.process.poll() is not None or self.event("server.started", mark),
                 "the start")
        self.case.assertIsNone(self.process.poll(), self.log())

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def exit_code(self):
        code = self.process.wait(world.PATIENCE)
        self.process = None
        self.case.assertNotRegex(self.log(), "Sanitizer|runtime error")
        return code

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def event(self, name, mark=0):
        return f'"event":"{name}"' in self.log()[mark:]

    def probe(self, path):
        """The code, as a kubelet sees it; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[8587]}{path}",
                                        timeout=world.PATIENCE) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    # ---- clients ----

    def client(self, password, user="app"):
        client = smtplib.SMTP("127.0.0.1", self.ports[2587], timeout=world.PATIENCE,
                              local_hostname="client.test")
        context = ssl.create_default_context(cafile=self.certificate)
        context.check_hostname = False
        client.starttls(context=context)
        client.login(user, password)
        return client

    def send(self, password, sender="a@example.com", subject="hello"):
        client = self.client(password)
        client.sendmail(sender, ["x@hop.test"], message(sender=sender, subject=subject))
        client.quit()

    def served(self):
        pem = ssl.get_server_certificate(("127.0.0.1", self.ports[2465]), timeout=world.PATIENCE)
        return pem.strip()


class Kubernetes(unittest.TestCase):
    maxDiff = None

    def signatures(self, hop, count):
        wait_for(lambda: len(hop.messages) >= count, f"message {count} at the hop")
        header = hop.messages[count - 1]["data"].split(b"\r\n\r\n")[0]
        header = re.sub(rb"\r\n[ \t]+", b" ", header).decode()
        return [re.search(r"\bd=([^;]+);.*\bs=([^;]+);", line).groups()
                for line in header.split("\r\n") if line.lower().startswith("dkim-signature:")]

    def test_the_mounted_configuration_passes_the_check(self):
        pod = Pod(self, Hop(self))
        done = subprocess.run(pod.words("check"), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        # What is missing is named.
        files = dict(pod.files)
        del files["users"]
        pod.mount.swap(files)
        done = subprocess.run(pod.words("check"), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(pod.etc + "/users", done.stdout)

    def test_it_serves_and_takes_changes_of_config_map_and_secrets_live(self):
        hop = Hop(self)
        pod = Pod(self, hop)
        pod.start()
        self.assertEqual([pod.probe(p) for p in ("/startupz", "/livez", "/readyz", "/metrics")],
                         [200] * 4)
        pod.send("first password")
        self.assertEqual(self.signatures(hop, 1), [("example.com", "s1")])
        open_session = pod.client("first password")

        # Secrets: another certificate, another password.
        before = pod.served()
        certificate = pod.new_certificate("two")
        pod.set_user("app", "second password")
        mark = len(pod.log())
        pod.mount.swap(pod.files)
        wait_for(lambda: pod.event("server.reloaded"), "the swapped folder")
        wait_for(lambda: pod.event("policy.users_loaded", mark), "the users")
        pod.certificate = certificate
        with open(certificate) as file:
            self.assertEqual(pod.served(), file.read().strip())
        self.assertNotEqual(pod.served(), before)
        pod.send("second password")
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            pod.client("first password")

        # ConfigMap and Secret in one swap: a new domain with its key, and a limit.
        pod.new_key("example.net", "n1")
        pod.files["smtpd.toml"] += (f'[limits]\nmessage_size = "70KiB"\n[[dkim]]\n'
                                    f'domain = "example.net"\nselector = "n1"\n'
                                    f'key = "{pod.etc}/example.net.n1.key"\n')
        mark = len(pod.log())
        pod.mount.swap(pod.files)
        wait_for(lambda: pod.event("server.reloaded", mark), "the reload")
        client = pod.client("second password")
        client.ehlo()
        self.assertEqual(client.esmtp_features["size"], str(70 * 1024))
        client.quit()
        pod.send("second password", sender="a@example.net")
        self.assertEqual(self.signatures(hop, 3), [("example.net", "n1")])
        # A key that does not fit its certificate: nothing changes.
        mark = len(pod.log())
        pod.files["tls.key"] = pod.files["example.com.s1.key"]
        pod.mount.swap(pod.files)
        wait_for(lambda: pod.event("server.reload_failed", mark), "the refusal")
        with open(certificate) as file:
            self.assertEqual(pod.served(), file.read().strip())
        # Who was there before is still there.
        self.assertEqual(open_session.noop()[0], 250)
        open_session.quit()

        pod.process.send_signal(signal.SIGTERM)
        self.assertEqual(pod.exit_code(), 0)

    def test_a_pod_that_leaves_finishes_what_it_began_and_the_next_one_has_its_queue(self):
        answers = {"dot": "451 4.3.0 not now"}
        hop = Hop(self, answer=lambda stage, argument, session: answers.get(stage))
        pod = Pod(self, hop)
        # Soon again, or the test would wait for minutes.
        pod.files["smtpd.toml"] = pod.files["smtpd.toml"].replace(
            "[queue]\n", '[queue]\nretry = ["1s"]\n')
        pod.mount.swap(pod.files)
        pod.start()
        pod.send("first password", subject="waits")
        client = pod.client("first password")
        client.mail("a@example.com")
        client.rcpt("x@hop.test")
        self.assertEqual(client.docmd("DATA")[0], 354)
        pod.process.send_signal(signal.SIGTERM)
        # The probe that takes it out of the Service, while the session goes on.
        wait_for(lambda: pod.probe("/readyz") == 503, "not ready")
        self.assertEqual(pod.probe("/livez"), 200)
        client.send(message(sender="a@example.com", subject="late") + ".\r\n")
        self.assertEqual(client.getreply()[0], 250)
        client.close()
        self.assertEqual(pod.exit_code(), 0)
        self.assertEqual(pod.probe("/livez"), 0)
        self.assertEqual(hop.messages, [])
        answers.clear()
        pod.start()  # the same volume
        wait_for(lambda: len(hop.messages) >= 2, "both messages")
        subjects = {re.search(rb"Subject: (\w+)", m["data"]).group(1) for m in hop.messages}
        self.assertEqual((len(hop.messages), subjects), (2, {b"waits", b"late"}))
        pod.process.send_signal(signal.SIGTERM)
        self.assertEqual(pod.exit_code(), 0)


if __name__ == "__main__":
    world.main()
