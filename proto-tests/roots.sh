#!/usr/bin/env bash
# Makes the folders that newer routers run in, below the cache:
#
#   ${HERALD_CACHE:-$HOME/.cache/herald}/roots/trixie-HASH/   a small Debian 13 with FRR 10 and BIRD 2.17 (debootstrap)
#   ${HERALD_CACHE:-$HOME/.cache/herald}/roots/bird3-HASH/    the same with BIRD 3 unpacked into it: it conflicts with BIRD 2
#
# HASH covers this script. Nothing is started in them; a test enters one with chroot, inside a network namespace of its own.
# The marker `complete` is written last: an interrupted build begins anew, and a finished one costs a hash. Packages come from
# the mirror that apt uses already, signatures checked; HERALD_MIRROR names another.
#
# usage: roots.sh          prints the two folders, a line each; everything else goes to stderr
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HERALD_CACHE:-$HOME/.cache/herald}/roots
release=trixie

say() { printf 'roots: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

mirror() {
    if [[ -n ${HERALD_MIRROR:-} ]]; then echo "$HERALD_MIRROR"; return; fi
    local sites
    sites=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null || true)
    sites=$(grep -v security <<< "$sites" || true)
    head -n 1 <<< "${sites:-http://deb.debian.org/debian}"
}

# Mounts made by a build end with it, however it ends: it lives in a mount namespace of its own.
if [[ ${1:-} != --inside ]]; then
    [[ $(id -u) == 0 ]] || die "chroot needs root; run this as root"
    exec unshare --mount --propagation private "$here/roots.sh" --inside
fi

hash=$(sha256sum < "$here/roots.sh" | cut -c1-16)
root=$cache/$release-$hash bird3=$cache/bird3-$hash
mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9

if [[ ! -e $root/complete ]]; then
    command -v debootstrap > /dev/null || die "debootstrap is missing; proto-tests/packages.sh installs it"
    started=$SECONDS from=$(mirror)
    say "debootstrap of $release from $from"
    rm -rf --one-file-system "$root"
    nice -n 10 debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        "$release" "$root" "$from" >&2 9>&- || die "debootstrap failed; the lines above say why"
    # Nothing starts: no packaged service may. BIRD 3 and what it needs beyond BIRD 2 are fetched as files.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mkdir "$root/bird3"
    mount -t proc proc "$root/proc"
    nice -n 10 chroot "$root" sh -ec '
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
        apt-get -qq update
        apt-get -qq -y --no-install-recommends install frr bird2
        cd /bird3
        apt-get -qq -o APT::Sandbox::User=root download bird3 liburcu8t64' >&2 9>&- \
        || die "the routers could not be installed in $root; the lines above say why"
    umount "$root/proc"
    rm -rf --one-file-system "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
    date -u > "$root/complete"
    say "$release took $((SECONDS - started)) s"
fi
if [[ ! -e $bird3/complete ]]; then
    rm -rf --one-file-system "$bird3"
    mkdir "$bird3"
    # Hard links: the files of the first root are read here, never written.
    cp -al "$root"/{etc,usr} "$bird3"/
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$bird3/$link"; done
    mkdir -p "$bird3"/{dev,proc,run,tmp,var}
    for package in "$root"/bird3/*.deb; do dpkg-deb -x "$package" "$bird3"; done
    chroot "$bird3" ldconfig >&2 || die "the libraries of BIRD 3 could not be indexed"
    date -u > "$bird3/complete"
fi
printf '%s\n' "$root" "$bird3"
