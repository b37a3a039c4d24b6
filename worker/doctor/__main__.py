"""``kd doctor``: exit status 0 without errors, 1 with some; warnings alone are 0."""

import argparse
import json
import sys
from collections.abc import Iterator

from pydantic import ValidationError

from worker.doctor.examining import examine
from worker.doctor.findings import Report
from worker.doctor.settings import DoctorSettings


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="kd doctor",
        description="Check database, clock, broker, storage, MLflow, GPU, disk and versions, with "
        "the KD_ settings of the services, and say what to do about each finding.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    try:
        settings = DoctorSettings()
    except ValidationError as invalid:
        # pydantic's own text shows the input, which may hold a password.
        for item in invalid.errors(include_input=False, include_url=False):
            sys.stderr.write(f"KD_{str(item['loc'][0]).upper()}: {item['msg']}\n")
        return 2
    report = examine(settings)
    if options.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(report))
    return 0 if report.healthy else 1


def _lines(report: Report) -> Iterator[str]:
    for check, found in report.findings.items():
        for finding in found:
            yield f"{finding.level:8} {check:9} {finding.message}"
            if finding.remedy is not None:
                yield f"{'':8} {'':9} remedy: {finding.remedy}"


if __name__ == "__main__":
    sys.exit(main())
