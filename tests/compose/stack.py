"""The stack of `docker-compose.yml`, under a name and on ports of its own."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
from botocore.config import Config

ROOT = Path(__file__).parents[2]
PORTS = {"API_PORT": 8000, "MLFLOW_PORT": 5000, "S3_PORT": 8333}
UP_SECONDS = 300


class Stack:
    """Every call raises `subprocess.CalledProcessError` with what docker said as its note."""

    def __init__(self, folder: Path) -> None:
        self.name = f"stillhouse-test-{uuid4().hex[:8]}"
        self._env = folder / "env"
        subprocess.run([ROOT / "docker/secrets.sh", self._env], check=True, capture_output=True)
        self.ports = {name: _free_port() for name in PORTS}
        self.secrets = dict(line.split("=", 1) for line in self._env.read_text().splitlines())

    def compose(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        command = ["docker", "compose", "--project-name", self.name, "--env-file", str(self._env)]
        given = {name: str(port) for name, port in self.ports.items()}
        return _run([*command, *arguments], given, seconds=seconds)

    def up(self, *arguments: str) -> float:
        """Seconds until everything was healthy."""
        started = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS), *arguments)
        return time.monotonic() - started

    def restart(self, service: str) -> None:
        """Until it is healthy again."""
        self.compose("restart", service)
        until(lambda: set(self.health(service)) == {"healthy"}, seconds=120, what=service)

    def services(self) -> list[str]:
        """Of the default profile."""
        return self.compose("config", "--services").split()

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """As `docker inspect` shows them."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        inspected: list[dict[str, Any]] = json.loads(_run(["docker", "inspect", *ids], {}))
        return inspected

    def health(self, service: str) -> list[str]:
        """One word a container."""
        return [
            container["State"].get("Health", {}).get("Status", container["State"]["Status"])
            for container in self.containers(service)
        ]

    def leftovers(self) -> str:
        """Ids of what docker still knows of this stack."""
        label = f"label=com.docker.compose.project={self.name}"
        lists = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return "".join(_run(["docker", *kind, "--quiet", "--filter", label], {}) for kind in lists)

    def api(self) -> httpx.Client:
        address = f"http://127.0.0.1:{self.ports['API_PORT']}"
        return httpx.Client(base_url=f"{address}/v1", timeout=120.0, trust_env=False)

    def mlflow(self) -> httpx.Client:
        address = f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}"
        return httpx.Client(base_url=f"{address}/api/2.0/mlflow", timeout=60.0, trust_env=False)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """All that lies in it, by key."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.ports['S3_PORT']}",
            region_name="us-east-1",
            aws_access_key_id=self.secrets["S3_ACCESS_KEY"],
            aws_secret_access_key=self.secrets["S3_SECRET_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def until(holds: Callable[[], bool], *, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


def _run(command: list[str], variables: dict[str, str], *, seconds: float = 60.0) -> str:
    # Nothing of the developer's own environment, which compose prefers to the file.
    kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_BUILDKIT", "COMPOSE_BAKE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**environment, **variables},
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
        ).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr[-4000:])
        raise


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
