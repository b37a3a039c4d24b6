"""GPUs by what `nvidia-smi` says of them."""

import stat
from pathlib import Path

import pytest

from tests.worker.doctor.checking import found
from worker.doctor import gpu
from worker.doctor.findings import Level
from worker.doctor.settings import DoctorSettings


def smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `nvidia-smi` that does as it is told, and nothing else on PATH but a shell."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder))


def test_a_gpu_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "echo '0, NVIDIA H200, 143771, 590.48.01, 0'", monkeypatch)
    monkeypatch.setattr(gpu, "_cuda", lambda: "13.0.1")
    messages, _ = found(gpu.check_gpu, queues=("gpu",))
    assert messages == {Level.OK: "GPU 0: NVIDIA H200, 143771 MiB, driver 590.48.01"}


def test_gpus_that_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "echo '0, Tesla T4, 15360, 525.10, [N/A]'; echo '1, Tesla T4, 15360, 600.1, 3'"
    smi(tmp_path, rows, monkeypatch)
    monkeypatch.setattr(gpu, "_cuda", lambda: "13.0.1")
    findings = list(gpu.check_gpu(DoctorSettings()))
    assert [finding.level for finding in findings] == ["ok", "error", "ok", "error"]
    assert "too old for CUDA 13.0.1" in findings[1].message
    assert "Install driver 580" in str(findings[1].remedy)
    assert "GPU 1 had 3 memory errors" in findings[3].message


def test_a_driver_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "echo 'Driver/library version mismatch'; exit 18", monkeypatch)
    messages, remedies = found(gpu.check_gpu)
    assert "18: Driver/library version mismatch" in messages[Level.ERROR]
    assert "reboot" in str(remedies[Level.ERROR])


def test_a_driver_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "exec /bin/sleep 60", monkeypatch)
    monkeypatch.setattr(gpu, "WAIT_SECONDS", 0.2)
    assert "does not answer" in found(gpu.check_gpu)[0][Level.ERROR]


@pytest.mark.parametrize(
    ("queues", "level"), [(("cpu",), Level.SKIPPED), (("cpu", "gpu-large"), Level.ERROR)]
)
def test_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queues: tuple[str, ...], level: Level
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(gpu.check_gpu, queues=queues)[0].keys() == {level}
