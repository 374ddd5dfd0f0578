"""docs/kubernetes as a test sees it: its objects, and its mounts laid out as a kubelet lays them."""
import os
import re
import tomllib

import yaml

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "kubernetes")


def read(name):
    with open(os.path.join(FOLDER, name)) as file:
        return file.read()


def objects():
    """What `kubectl apply -k` sends: the resources, and the generated ConfigMaps."""
    kustomization = yaml.safe_load(read("kustomization.yaml"))
    found = [one for name in kustomization["resources"] for one in yaml.safe_load_all(read(name))]
    for generator in kustomization["configMapGenerator"]:
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]},
                      "data": {name: read(name) for name in generator["files"]}})
    return found


def one(kind, name="smtpd"):
    return next(o for o in objects() if o["kind"] == kind and o["metadata"]["name"] == name)


def configuration():
    return tomllib.loads(one("ConfigMap")["data"]["smtpd.toml"])


def secrets_of_the_page():
    """Secret -> names of its files, by the commands of README.md that make them."""
    text = read("README.md").replace("\\\n", " ")
    found = {}
    for kind, name, rest in re.findall(
            r"^\s*kubectl\b[^\n]*? create secret (\w+) ([a-z-]+) ([^\n]*)$", text, re.M):
        if kind == "tls":
            found[name] = ["tls.crt", "tls.key"]
            continue
        files = re.findall(r"--from-file=(\S+)", rest)
        found[name] = [os.path.basename(f.split("=")[0]) for f in files]
    return found


def seconds(text):
    assert re.fullmatch(r"\d+s", text), text
    return int(text[:-1])


class Mount:
    """A volume of a ConfigMap, of Secrets, or of both: ..data is swapped as a whole."""

    def __init__(self, path, group=None):
        self.path, self.group, self.number = path, group, 0
        os.mkdir(path)

    def swap(self, files):
        """`files`: name -> text. Names that are gone lose their link, as the kubelet does it."""
        self.number += 1
        version = f"..2026_11_25_{self.number}"
        folder = os.path.join(self.path, version)
        os.mkdir(folder)
        for name, text in files.items():
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o440)
            if self.group is not None:
                os.chown(path, 0, self.group)
        data = os.path.join(self.path, "..data")
        before = os.readlink(data) if os.path.islink(data) else None
        os.symlink(version, os.path.join(self.path, "..data_tmp"))
        os.rename(os.path.join(self.path, "..data_tmp"), data)
        for name in files:
            link = os.path.join(self.path, name)
            if not os.path.islink(link):
                os.symlink(f"..data/{name}", link)
        for name in os.listdir(self.path):
            if not name.startswith("..") and name not in files:
                os.unlink(os.path.join(self.path, name))
        if before:
            for name in os.listdir(os.path.join(self.path, before)):
                os.unlink(os.path.join(self.path, before, name))
            os.rmdir(os.path.join(self.path, before))
