#!/bin/sh
# Builds the static binary and the image around it, and writes the image as an OCI archive.
#
#   deploy/image.sh ARCHIVE [NAME]        NAME is localhost/herald:test where not given
#
# HERALD_BINARY=FILE takes that (static) binary instead of building one.
# The archive goes into a node by `ctr -n k8s.io image import ARCHIVE`, into a registry by `skopeo copy oci-archive:ARCHIVE docker://…`.
set -eu

fail() { echo "image.sh: $*" >&2; exit 1; }

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: deploy/image.sh ARCHIVE [NAME]"
archive=$(realpath -m "$1")
name=${2:-localhost/herald:test}
tree=$(cd "$(dirname "$0")/.." && pwd)
command -v buildah >/dev/null || fail "buildah is missing: apt-get install buildah"

binary=${HERALD_BINARY:-}
if [ -z "$binary" ]; then
    # Only the last crate of the graph needs these flags; dependencies are shared with the ordinary release build.
    (cd "$tree" && cargo rustc --release --bin herald -- -C target-feature=+crt-static -C relocation-model=pie)
    binary=${CARGO_TARGET_DIR:-$tree/target}/release/herald
fi
# A program that asks for a loader cannot start in an empty image.
if readelf -l "$binary" | grep -q 'Requesting program interpreter'; then
    fail "$binary is not static; let this script build it, or link it with -C target-feature=+crt-static -C relocation-model=pie"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/context"
cp "$tree/deploy/Dockerfile" "$work/context/Dockerfile"
cp "$binary" "$work/context/herald"
chmod 0755 "$work/context/herald"

# Storage of its own, so that nothing is left behind and no other image is touched.
store="--root $work/root --runroot $work/runroot --storage-driver vfs"
# shellcheck disable=SC2086  # the options are meant to be split
buildah $store bud --isolation chroot --tag "$name" --file "$work/context/Dockerfile" "$work/context"
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
# shellcheck disable=SC2086
buildah $store push "$name" "oci-archive:$archive:$name"
echo "$archive: $name"
