"""The files of deploy/: each is what its reader takes, names what there is, and fits the others."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from resonantgenesis_server.config.load import setting_names, variable_of
from resonantgenesis_server.config.settings import Settings
from support.server import Serve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/resonantgenesis"
MANIFESTS = ["embedded", "many-nodes"]
#: The newest that our schemas know.
KUBERNETES = "1.34"
UID = 10001


def output(*command: str | Path, **variables: str) -> str:
    """What a command prints, once it has succeeded."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def resources(name: str) -> dict[str, dict[str, Any]]:
    """The resources of a manifest by their kinds."""
    text = (DEPLOY / f"kubernetes/{name}.yaml").read_text()
    return {found["kind"]: found for found in yaml.safe_load_all(text) if found}


def compose(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((DEPLOY / f"compose/{name}").read_text())
    assert isinstance(loaded, dict)
    return loaded


# -- all of them ---------------------------------------------------------------------------


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {variable_of(name) for name in setting_names()} | {"RESONANTGENESIS_CONFIG"}
    found = set()
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = re.sub(r"- name: RESONANTGENESIS_\{\{", "", path.read_text())
            found |= set(re.findall(r"\bRESONANTGENESIS_(?!PORT to)\w+", text))
    helpers = (CHART / "templates/_helpers.tpl").read_text()
    found |= {
        f"RESONANTGENESIS_{name}"
        for name in re.findall(r'"resonantgenesis.secret" \(list . "(\w+)"', helpers)
    }
    assert len(found) > 8
    assert {name.removesuffix("_FILE") for name in found} <= known


# -- the image -----------------------------------------------------------------------------


def test_the_dockerfile_is_sound() -> None:
    assert output(Path(sys.executable).with_name("hadolint"), "deploy/Dockerfile") == ""
    text = (DEPLOY / "Dockerfile").read_text()
    assert f"USER {UID}:{UID}" in text
    assert 'CMD ["resonantgenesis", "doctor", "--healthcheck"]' in text


def test_the_context_of_the_image_has_what_is_copied_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    paths = [path for line in copied for path in line.split()]
    assert len(paths) == 5
    for path in paths:
        assert (ROOT / path).exists(), path
        assert any(
            path == rule[1:] or path.startswith(f"{rule[1:]}/") for rule in rules if rule[0] == "!"
        )
    assert rules[0] == "*"
    assert fnmatch.fnmatch("server/tests", "**/tests") and "**/tests" in rules


@pytest.mark.anyio
async def test_sigterm_stops_the_first_process_of_a_container(serve: Serve) -> None:
    """The kernel gives process 1 only signals that it handles."""
    container = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child"]
    server = serve(wrapper=container)
    statuses = Path(f"/proc/{server.server_pid}/status").read_text()
    assert re.search(r"^NSpid:\t\d+\t1$", statuses, re.M)
    os.kill(server.server_pid, 15)
    assert server.wait() == 0


# -- systemd -------------------------------------------------------------------------------


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no systemd here")
    unit = DEPLOY / "systemd/resonantgenesis.service"
    text = unit.read_text()
    # `verify` looks for the program.
    program = str(Path(sys.executable).with_name("resonantgenesis"))
    installed = tmp_path / unit.name
    installed.write_text(text.replace("/opt/resonantgenesis/bin/resonantgenesis", program))
    assert output("systemd-analyze", "verify", installed) == ""
    # Below 3.0 of 10.
    output("systemd-analyze", "security", "--offline=yes", "--threshold=29", unit)
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M)
    assert int(stop) > Settings().drain_seconds


# -- Compose -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compose.yaml", "postgresql.yaml"])
def test_a_composition_fits_together(name: str) -> None:
    loaded = compose(name)
    built = [each for each in loaded["services"].values() if "build" in each]
    assert built
    for service in built:
        assert (
            DEPLOY / "compose" / service["build"]["context"] / service["build"]["dockerfile"]
        ).is_file()
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert int(service["stop_grace_period"].removesuffix("s")) > Settings().drain_seconds
    for service in loaded["services"].values():
        for secret in service.get("secrets", []):
            assert secret in loaded["secrets"]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in loaded["volumes"] or (DEPLOY / "compose" / source).is_file(), volume
        for other, condition in service.get("depends_on", {}).items():
            assert other in loaded["services"]
            assert condition == {"condition": "service_healthy"}


# -- Kubernetes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_kubernetes_takes(name: str) -> None:
    for resource in resources(name).values():
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_pod_stops_softly_and_may_do_little(name: str) -> None:
    found = resources(name)
    workload = found.get("StatefulSet") or found["Deployment"]
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    drain = int(values["RESONANTGENESIS_DRAIN_SECONDS"])
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= sleep + drain + 10
    assert pod["securityContext"]["runAsUser"] == UID
    assert container["securityContext"]["readOnlyRootFilesystem"]
    # Services of the name `resonantgenesis` would set RESONANTGENESIS_PORT.
    assert pod["enableServiceLinks"] is False
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claims = workload["spec"].get("volumeClaimTemplates", [])
    volumes = {each["name"] for each in pod["volumes"]} | {
        each["metadata"]["name"] for each in claims
    }
    assert mounted == volumes
    if "Deployment" in found:
        assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert {"PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "Ingress"} < set(
            found
        )
    else:
        assert workload["spec"]["replicas"] == 1


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Helm and the reader of compositions, built from their sources: some minutes, once."""
    folder = tmp_path_factory.mktemp("tools")
    for module in (
        "helm.sh/helm/v3/cmd/helm@v3.22.0",
        "github.com/compose-spec/compose-go/v2/cmd@v2.13.0",
    ):
        output("go", "install", module, GOBIN=str(folder))
    yield folder


@pytest.mark.soak
def test_the_manifests_are_those_of_the_chart(tools: Path, tmp_path: Path) -> None:
    helm = tools / "helm"
    for arguments in ((), ("--values", DEPLOY / "kubernetes/many-nodes.values.yaml")):
        output(helm, "lint", CHART, "--strict", "--kube-version", "1.34.0", *arguments)
    output(ROOT / "scripts/manifests.sh", tmp_path, HELM=str(helm))
    for name in MANIFESTS:
        kept = (DEPLOY / f"kubernetes/{name}.yaml").read_text()
        assert (tmp_path / f"{name}.yaml").read_text() == kept, "run scripts/manifests.sh"
    # With everything on, and what the schema refuses.
    template = (helm, "template", "x", CHART, "--kube-version", "1.34.0")
    on = ("--set", "serviceMonitor.enabled=true,metricsToken=true,existingSecret=s")
    assert "kind: ServiceMonitor" in output(*template, *on)
    for wrong in ("postgresql.enabled=true", "replica=3", "drainSeconds=x", "ingress.enabled=true"):
        assert subprocess.run(
            [*template, "--set", wrong], capture_output=True, check=False, timeout=60
        ).returncode


@pytest.mark.soak
@pytest.mark.parametrize("name", ["compose.yaml", "postgresql.yaml"])
def test_a_composition_is_what_compose_takes(tools: Path, name: str) -> None:
    output(tools / "cmd", DEPLOY / "compose" / name)
