"""The benchmark of the losses at a tiny size: both sides compute the same."""

from pathlib import Path

import pytest

from benchmarks.fused_loss import main


def test_both_sides_print_the_same_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.md"
    arguments = ["--classes", "3", "--size", "32", "--batch", "1", "--turns", "1"]
    main([*arguments, "--table", str(table)])
    assert capsys.readouterr().out.strip() == table.read_text().strip()
    rows = [line.split("|") for line in table.read_text().splitlines() if line.startswith("|")][2:]
    assert [row[1].strip() for row in rows] == ["ce", "kd", "ce + kd"]
    for row in rows:
        plain, ours = float(row[3]), float(row[4])
        assert plain > 0
        assert ours == pytest.approx(plain, rel=1e-5)
