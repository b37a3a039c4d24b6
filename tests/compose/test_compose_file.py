"""What `docker-compose.yml` promises about every service, read from the file itself."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import Settings
from tests.compose.dockerfiles import stages
from worker.settings import BeatSettings, BrokerSettings, ClusterWorkerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
STACK: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ONE_SHOT = {"migrate"}
KNOWN = {
    "api": [Settings],
    "beat": [BrokerSettings, BeatSettings],
    "worker": [BrokerSettings, ClusterWorkerSettings],
    "worker-gpu": [BrokerSettings, ClusterWorkerSettings],
}
services = pytest.mark.parametrize("name", SERVICES)


def test_the_services() -> None:
    stores = {"postgres", "redis", "object-store"}
    assert set(SERVICES) == stores | {"migrate", "api", "beat", "worker", "worker-gpu", "mlflow"}


@services
def test_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["init"] is True
    assert service["read_only"] is True
    assert any(mount.startswith("/tmp:size=") for mount in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "userns_mode"} & set(service)
    assert "docker.sock" not in str(service)


@services
def test_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["restart"] == ("on-failure:3" if name in ONE_SHOT else "unless-stopped")


@services
def test_is_nobody_special(name: str) -> None:
    """Numbers, so that nothing depends on the names inside an image."""
    service = SERVICES[name]
    user = service.get("user") or _user_of_image(service["build"]["dockerfile"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@services
def test_says_how_it_is(name: str) -> None:
    if name in ONE_SHOT:
        assert "healthcheck" not in SERVICES[name]
    else:
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert all(check[key] for key in ("interval", "timeout", "retries"))


@services
def test_can_be_scaled_or_says_why_not(name: str) -> None:
    assert "container_name" not in SERVICES[name]
    if name.startswith("worker"):
        assert "ports" not in SERVICES[name]


@services
def test_is_published_on_the_loopback_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        address = "${API_ADDRESS:-127.0.0.1}" if name == "api" else "127.0.0.1"
        assert port.startswith(f"{address}:")


def test_databases_have_no_way_out() -> None:
    assert STACK["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["inside"]


@services
def test_its_image_is_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["image"].startswith("stillhouse-")
    else:
        assert re.search(r":\d[\w.]*$", service["image"])


@services
def test_waits_for_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == (
            "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        )


def test_every_volume_is_declared_and_used() -> None:
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
    }
    named = {source for source in mounted if re.fullmatch(r"\w+", source)}
    assert named == set(STACK["volumes"])
    for path in mounted - named - {"${DATASETS"}:
        assert (ROOT / path).exists(), path


def test_secrets_are_those_that_are_made() -> None:
    """One name has no default and is not made: `up` would stop with a puzzle."""
    made = set(re.findall(r"^(\w+)=$", (ROOT / "docker/env.example").read_text(), re.MULTILINE))
    required = set(re.findall(r"\$\{(\w+)(?::\?[^}]*)?\}", TEXT))
    assert required == made
    for name in made:
        assert f"${{{name}:?run `make secrets`}}" in TEXT


@pytest.mark.parametrize("name", KNOWN)
def test_settings_are_real_ones(name: str) -> None:
    """pydantic-settings leaves names that it does not know alone, so a typo would be silent."""
    known = {f"KD_{field.upper()}" for settings in KNOWN[name] for field in settings.model_fields}
    given = {key for key in SERVICES[name]["environment"] if key.startswith("KD_")}
    assert given <= known


def _user_of_image(dockerfile: str) -> str:
    last = stages((ROOT / dockerfile).read_text())[-1]
    return next(it.rest for it in reversed(last) if it.word == "USER")
