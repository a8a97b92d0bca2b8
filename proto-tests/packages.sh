#!/usr/bin/env bash
# Installs the Debian packages that the tests need, and only those that are missing. While it does, a policy-rc.d answers
# 101 ("not allowed"), so that no packaged service starts on its own: the tests start their own routers and container daemons,
# each in a namespace. What stood there before is put back. With nothing missing it asks nothing of the network.
#
# usage: packages.sh          install what is missing
#        packages.sh --list   print the packages, one a line
set -euo pipefail

packages=(
    bird2 frr exabgp openbgpd                       # the routers
    debootstrap                                     # newer ones of them, in a folder of their own (roots.sh)
    containerd runc containernetworking-plugins     # a node's containers and their network
    buildah                                         # builds the images from deploy/Dockerfile and the like
    iptables nftables conntrack                     # kube-proxy's tools, and cutting links silently
    iproute2 ethtool kmod procps util-linux         # namespaces, links, sysctls, nsenter, setpriv
    curl openssl tcpdump                            # a client, the cluster's keys, looking at the wire
    netcat-openbsd wget                             # with curl, what Kubernetes' own suite asks of its test image
)
say() { printf 'packages: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

if [[ ${1:-} == --list ]]; then printf '%s\n' "${packages[@]}"; exit 0; fi

missing() {
    local name
    for name in "${packages[@]}"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
    done
}

command -v dpkg-query > /dev/null || die "this is not a Debian machine: install by hand: ${packages[*]}"
[[ -z $(missing) ]] && exit 0
[[ $(id -u) == 0 ]] || die "missing: $(missing | tr '\n' ' '); run this as root, or install them by hand"

exec 9> /run/lock/herald-packages
flock 9 # two suites may be started at once
mapfile -t wanted < <(missing)
[[ ${#wanted[@]} -gt 0 ]] || exit 0

policy=/usr/sbin/policy-rc.d
kept=
restore() {
    rm -f "$policy"
    if [[ -n $kept ]]; then mv "$kept" "$policy"; fi
}
if [[ -e $policy || -L $policy ]]; then
    kept=$policy.kept.$$
    mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

say "installing: ${wanted[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 || die "apt-get update failed; the lines above say why"
apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "${wanted[@]}" >&2 \
    || die "apt-get install failed; the lines above say why"
[[ -z $(missing) ]] || die "still missing after the installation: $(missing | tr '\n' ' ')"
