#!/usr/bin/env bash
# Builds the Go programs that the tests run: a Kubernetes control plane and node, etcd, GoBGP, Kubernetes' own end-to-end suite
# with the name server that it asks for, MetalLB's controller, and the two small programs of the test's own images. Each set is
# built once, into a cache outside the tree:
#
#   ${HERALD_CACHE:-$HOME/.cache/herald}/bin/SET-HASH/
#
# HASH covers the set's go.mod, go.sum, sources and programs, how they are built, and Go's version. A program is moved to its name only when it is whole, and
# the marker `complete` is written last: an interrupted build is resumed, and a finished one costs one hash.
#
# usage: go-build.sh SET     prints the folder of that set on stdout; everything else goes to stderr
#        go-build.sh all     builds every set and prints their folders, a line each
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HERALD_CACHE:-$HOME/.cache/herald}/bin
kubernetes=v1.37.2
sets=(gobgp app cluster e2e coredns metallb)

say() { printf 'go-build: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The folder that holds the set's go.mod.
module_of() {
    case $1 in
        cluster) echo "$here/cluster" ;;
        gobgp) echo "$here/lab/gobgp" ;;
        app) echo "$here/cluster/app" ;;
        e2e | coredns | metallb) echo "$here/upstream/$1" ;;
        *) die "no set is called '$1'; the sets are: ${sets[*]}" ;;
    esac
}

# NAME PACKAGE, a line each; the order is the order of building: what the others share comes first. A name that ends in .test is
# the package's tests.
programs_of() {
    case $1 in
        cluster)
            echo "etcd go.etcd.io/etcd/server/v3"
            for name in kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
                echo "$name k8s.io/kubernetes/cmd/$name"
            done ;;
        gobgp)
            echo "gobgpd github.com/osrg/gobgp/v4/cmd/gobgpd"
            echo "gobgp github.com/osrg/gobgp/v4/cmd/gobgp" ;;
        app)
            echo "backend-app ./backend-app"
            echo "pause ./pause" ;;
        e2e)
            echo "agnhost k8s.io/kubernetes/test/images/agnhost"
            echo "e2e.test k8s.io/kubernetes/test/e2e" ;;
        coredns) echo "coredns github.com/coredns/coredns" ;;
        metallb) echo "controller go.universe.tf/metallb/controller" ;;
    esac
}

# Builds PACKAGE into FILE, for what is called NAME.
compile() {
    local name=$1 package=$2 file=$3 verb=(build)
    [[ $name == *.test ]] && verb=(test -c)
    CGO_ENABLED=0 nice -n 10 go "${verb[@]}" -p 2 -trimpath \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" -o "$file" "$package"
}

hash_of() {
    local set=$1 module=$2
    (
        cd "$module"
        { find . -maxdepth 2 \( -name go.mod -o -name go.sum -o -name '*.go' \) -not -path './app/*' | LC_ALL=C sort | xargs sha256sum
          programs_of "$set"; declare -f compile; echo "$kubernetes"; go version; } | sha256sum | cut -c1-16
    )
}

build_set() {
    local set=$1 module folder name package started
    module=$(module_of "$set")
    folder=$cache/$set-$(hash_of "$set" "$module")
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [[ ! -e $folder/complete ]]; then
        while read -r name package; do
            [[ -x $folder/$name ]] && continue
            started=$SECONDS
            say "building $name"
            (cd "$module" && compile "$name" "$package" "$folder/$name.part") >&2 9>&- || die "$name was not built; the lines above say why"
            mv "$folder/$name.part" "$folder/$name"
            say "$name took $((SECONDS - started)) s"
        done < <(programs_of "$set")
        date -u > "$folder/complete"
    fi
    flock -u 9
    echo "$folder"
}

command -v go > /dev/null || die "'go' is not in PATH; Go 1.26 or newer is needed"
case ${1:-} in
    all) for set in "${sets[@]}"; do build_set "$set"; done ;;
    "") die "name a set (${sets[*]}), or all" ;;
    *) module_of "$1" > /dev/null; build_set "$1" ;;
esac
