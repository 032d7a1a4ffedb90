#!/usr/bin/env bash
# A tag vX.Y.Z is released only if the package, the changelog and the citation say X.Y.Z.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:?the tag, such as v0.2.0}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' visionmtl/__init__.py)
fail() { echo "$1" >&2; exit 1; }

[ "$tag" = "v$version" ] || fail "the tag is $tag, visionmtl/__init__.py says $version"
grep -q "^## \[$version\] - [0-9-]\{10\}$" CHANGELOG.md || fail "CHANGELOG.md has no dated section [$version]"
grep -q "^version: $version$" CITATION.cff || fail "CITATION.cff has another version than $version"
