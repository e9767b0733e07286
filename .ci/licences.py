"""Every dependency has a licence of the list in deny.toml and comes from the registry."""

import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    policy = tomllib.load(file)
allowed = set(policy["licenses"]["allow"])
banned = {entry["crate"] for entry in policy["bans"]["deny"]}

metadata = subprocess.run(
    ["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True, text=True
)
packages = json.loads(metadata.stdout)["packages"]


def acceptable(expression: str) -> bool:
    """Whether some choice of an SPDX expression is allowed; brackets do not nest in practice. "Or later" (+)
    is as good as the version itself."""
    flat = expression.replace("/", " OR ").replace("(", "").replace(")", "")
    return any(
        all(term.split(" WITH ")[0].strip().removesuffix("+") in allowed for term in choice.split(" AND "))
        for choice in re.split(r"\s+OR\s+", flat)
    )


wrong = []
for package in packages:
    source = package["source"]
    if source is not None and not source.startswith("registry+"):
        wrong.append(f"{package['name']}: comes from {source}")
    if package["name"] in banned:
        wrong.append(f"{package['name']}: banned by deny.toml")
    if not acceptable(package["license"] or ""):
        wrong.append(f"{package['name']}: licence {package['license']!r} is not in deny.toml")

print(f"{len(packages)} packages, {len(wrong)} problems")
for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
