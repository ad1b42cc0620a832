"""Checks that the crates depend on each other only as ARCHITECTURE.md draws them: never upwards."""

import json
import subprocess
import sys

ALLOWED = {
    "accounting": set(),
    "storage": {"accounting"},
    "providers": {"accounting"},
    "metering": {"accounting", "storage", "providers"},
    "gateway": {"accounting", "storage", "providers", "metering"},
    "testing": {"accounting", "storage"},
    "benches": {"accounting", "storage", "providers", "testing"},
    "cli": {"accounting", "storage", "providers", "metering", "gateway", "testing"},
}

metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"]))
wrong = []
for package in metadata["packages"]:
    for dependency in package["dependencies"]:
        name = dependency["name"]
        ordinary = dependency["kind"] is None
        if ordinary and name in ALLOWED and name not in ALLOWED[package["name"]]:
            wrong.append(f"{package['name']} must not depend on {name}")
    if package["name"] not in ALLOWED:
        wrong.append(f"{package['name']} is not drawn: name it in scripts/check_rooms.py and ARCHITECTURE.md")
if wrong:
    sys.exit("\n".join(wrong))
