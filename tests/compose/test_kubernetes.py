"""The manifests hold together: read as files, without a cluster or kustomize."""

import re
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from tests.compose.manifests import (
    KUBERNETES,
    ROOT,
    Document,
    container,
    documents,
    kustomization,
    misfits,
    pods,
)
from tests.worker.ledger import making
from worker.ledger import Ledger

ALL = documents("base", "gpu")
PODS = pods(ALL)
OF_DOCKER: Document = yaml.safe_load((ROOT / "docker/kustomization.yaml").read_text())
SECRETS = set(re.findall(r"^(\w+)=$", (ROOT / "docker/env.example").read_text(), re.MULTILINE))
ONLY_COMPOSE = {"api": {"KD_MLFLOW_URL", "KD_S3_PUBLIC_ENDPOINT"}}
"""Links for browsers; a cluster has no address for them until somebody gives it one."""
every_pod = pytest.mark.parametrize("name", PODS)


def named(kind: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in ALL if one["kind"] == kind}


@pytest.mark.parametrize("folder", ["base", "gpu"])
def test_every_file_is_used(folder: str) -> None:
    listed = {name for name in kustomization(folder)["resources"] if name.endswith(".yaml")}
    there = {path.name for path in (KUBERNETES / folder).glob("*.yaml")}
    assert there == listed | {"kustomization.yaml"}
    for name in kustomization(folder)["resources"]:
        assert (KUBERNETES / folder / name).exists()


@pytest.mark.parametrize(
    "document", ALL, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_fields_exist(document: Document) -> None:
    assert misfits(document) == []


def test_a_field_that_does_not_exist_is_seen() -> None:
    pod = {
        "spec": {"containers": [{"name": "x", "securityContext": {"readOnlyRootFileSystem": 1}}]}
    }
    document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"backoffLimit": "3", "template": pod},
    }
    assert misfits(document) == [
        "Job.spec.backoffLimit",
        "Job.spec.template.spec.containers[0].securityContext.readOnlyRootFileSystem",
    ]


def test_no_two_have_one_name() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in ALL]
    assert len(names) == len(set(names))


def test_the_services_are_those_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(compose) == set(PODS)


@pytest.mark.parametrize("name", ["api", "beat", "mlflow", "worker", "worker-gpu"])
def test_settings_are_those_of_compose(name: str) -> None:
    """Values differ; a setting that one of them has and the other has not was forgotten."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    given = {variable["name"] for variable in container(PODS[name])["env"]}
    assert given - SECRETS == set(compose["environment"]) - ONLY_COMPOSE.get(name, set())


@every_pod
def test_a_pod_is_restricted(name: str) -> None:
    """As the namespace's label `pod-security…: restricted` asks, and more."""
    spec = PODS[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    # A Service named mlflow would set MLFLOW_PORT to an address.
    assert spec["enableServiceLinks"] is False
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container(PODS[name])
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert own["resources"]["limits"]["memory"]
    assert own["resources"]["requests"].keys() >= {"cpu", "memory"}


@every_pod
def test_a_pods_parts_are_there(name: str) -> None:
    spec, own = PODS[name]["spec"], container(PODS[name])
    claims = {
        each["metadata"]["name"]
        for one in named("StatefulSet").values()
        if one["metadata"]["name"] == name
        for each in one["spec"]["volumeClaimTemplates"]
    }
    volumes = {volume["name"] for volume in spec.get("volumes", ())} | claims
    assert {mount["name"] for mount in own["volumeMounts"]} == volumes
    for volume in spec.get("volumes", ()):
        if "configMap" in volume:
            [made] = OF_DOCKER["configMapGenerator"]
            assert volume["configMap"]["name"] == made["name"]
            for item in volume["configMap"]["items"]:
                assert item["key"] in made["files"]
                assert (ROOT / "docker" / item["key"]).is_file()
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in named("PersistentVolumeClaim")
    ports = {port["name"] for port in own.get("ports", ())}
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        asked = own.get(kind, {}).get("httpGet")
        assert asked is None or asked["port"] in ports


@every_pod
def test_variables_are_made_before_they_are_used(name: str) -> None:
    [made] = OF_DOCKER["secretGenerator"]
    known: set[str] = set()
    for variable in container(PODS[name]).get("env", ()):
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == made["name"]
            assert reference["key"] in SECRETS
        else:
            assert set(re.findall(r"\$\((\w+)\)", variable["value"])) <= known
        known.add(variable["name"])


@every_pod
def test_addresses_lead_somewhere_that_lets_it_in(name: str) -> None:
    for variable in container(PODS[name]).get("env", ()):
        address = re.search(r"://(?:[^@/]*@)?([a-z-]+):(\d+)", variable.get("value", ""))
        if address is None:
            continue
        service = named("Service")[address[1]]
        port = int(address[2])
        assert port in [each["port"] for each in service["spec"]["ports"]]
        [rule] = named("NetworkPolicy")[address[1]]["spec"]["ingress"]
        assert rule["ports"] == [{"port": port}]
        assert name in _admitted(rule)


def test_the_scalers_secret_has_the_name_it_asks_for() -> None:
    """kustomize, which would add a digest to names, does not know KEDA's kinds."""
    assert OF_DOCKER["generatorOptions"] == {"disableNameSuffixHash": True}
    [made] = OF_DOCKER["secretGenerator"]
    for one in named("TriggerAuthentication").values():
        for reference in one["spec"]["secretTargetRef"]:
            assert reference["name"] == made["name"]
            assert reference["key"] in SECRETS


def test_services_select_a_pod_with_their_port() -> None:
    for name, service in named("Service").items():
        pod = PODS[service["spec"]["selector"]["app"]]
        assert pod["metadata"]["labels"] == service["spec"]["selector"], name
        ports = {port["containerPort"] for port in container(pod)["ports"]}
        assert {port["port"] for port in service["spec"]["ports"]} <= ports


def test_workloads_select_their_own_pods() -> None:
    for one in ALL:
        if "selector" in one.get("spec", {}) and "template" in one["spec"]:
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"] == {"matchLabels": labels}
            assert labels == {"app": one["metadata"]["name"]}


def test_policies_are_about_pods_that_exist() -> None:
    closed = named("NetworkPolicy")["closed"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for policy in named("NetworkPolicy").values():
        for rule in policy["spec"].get("ingress", ()):
            assert _admitted(rule) <= set(PODS)
        assert set(policy["spec"]["podSelector"].get("matchLabels", {}).values()) <= set(PODS)


def test_images_have_a_version() -> None:
    for folder in ("base", "gpu"):
        tagged = {image["name"]: image["newTag"] for image in kustomization(folder)["images"]}
        for pod in pods(documents(folder)).values():
            image = container(pod)["image"]
            assert image in tagged or re.search(r":\d[\w.]*$", image), image


def test_the_gpu_worker_is_the_worker_with_a_gpu() -> None:
    cpu, gpu = named("Deployment")["worker"], named("Deployment")["worker-gpu"]
    assert container(PODS["worker-gpu"])["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert _without_differences(gpu) == _without_differences(cpu)
    assert _without_differences(named("ScaledObject")["worker-gpu"]) == _without_differences(
        named("ScaledObject")["worker"]
    )


@pytest.mark.parametrize("name", named("ScaledObject"))
def test_a_scaler_counts_what_a_worker_could_do(name: str, ledger: Ledger) -> None:
    scaled = named("ScaledObject")[name]["spec"]
    assert scaled["scaleTargetRef"]["name"] in named("Deployment")
    assert "replicas" not in named("Deployment")[scaled["scaleTargetRef"]["name"]]["spec"]
    [trigger] = scaled["triggers"]
    assert trigger["authenticationRef"]["name"] in named("TriggerAuthentication")
    assert trigger["metadata"]["host"].split(".")[:2] == ["postgres", "stillhouse"]
    variables = {each["name"]: each.get("value") for each in container(PODS[name])["env"]}
    queue = variables["KD_QUEUES"]
    assert trigger["metadata"]["targetQueryValue"] == variables["KD_CPU_SLOTS"]

    def counted() -> Any:
        with ledger.unit_of_work() as session:
            return session.scalar(text(trigger["metadata"]["query"]))

    making.register(ledger)
    assert counted() == 0
    making.submit(ledger, making.training(), queue="elsewhere")
    assert counted() == 0
    making.submit(ledger, making.training(seeds=[0, 1]), queue=queue, force=True)
    assert counted() == 2, "two fits are queued, their verdict waits"
    with ledger.unit_of_work() as session:
        session.execute(text("UPDATE jobs SET not_before = now() + interval '1 hour'"))
    assert counted() == 0


def _admitted(rule: Document) -> set[str]:
    return {
        name
        for source in rule.get("from", ())
        for expression in source.get("podSelector", {}).get("matchExpressions", ())
        for name in expression["values"]
    }


def _without_differences(document: Document) -> str:
    """What a worker with a GPU has in other words than one without."""
    plain = yaml.safe_load(yaml.safe_dump(document).replace("worker-gpu", "worker"))
    if document["kind"] == "Deployment":
        spec = plain["spec"]["template"]["spec"]
        spec.pop("tolerations", None)
        spec["containers"][0].pop("resources")
        for variable in spec["containers"][0]["env"]:
            if variable["name"] == "KD_QUEUES":
                variable.pop("value")
    else:
        plain["spec"].pop("minReplicaCount")
        query = plain["spec"]["triggers"][0]["metadata"]
        query["query"] = re.sub(r"queue = '\w+'", "", query["query"])
    return str(yaml.safe_dump(plain))
