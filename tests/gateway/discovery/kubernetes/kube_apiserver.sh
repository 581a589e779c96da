#!/usr/bin/env bash
# Makes build/kubernetes/kube-apiserver, from Debian 12's source package `kubernetes` (1.20), which has no
# binary package of the server. Needs root, for apt; ten minutes on two cores. Prints the program's path.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
folder=$PWD/build/kubernetes
program=$folder/kube-apiserver
if [ ! -x "$program" ]; then
    mkdir -p "$folder/lists/partial"
    cd "$folder"
    {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends golang-go etcd-server openssl golang-github-modern-go-reflect2-dev
        echo "deb-src http://deb.debian.org/debian bookworm main" >sources.list
        apt="-o Dir::Etc::sourcelist=$folder/sources.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::Lists=$folder/lists"
        # shellcheck disable=SC2086
        apt-get $apt update -qq && apt-get $apt -qq --download-only source kubernetes

        export GOPATH=$folder/go GOCACHE=$folder/cache GO111MODULE=off CGO_ENABLED=0
        tree=$GOPATH/src/k8s.io/kubernetes
        rm -rf "$tree" && mkdir -p "$tree"
        tar xf kubernetes_*.orig.tar.gz --strip-components=1 -C "$tree"
        cd "$tree"
        # The old one reads Go's maps as they were before Go 1.18, and crashes.
        rm -rf vendor/github.com/modern-go/reflect2
        cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
        # What the source's own Makefile generates, by the packages that want it.
        go build -o "$folder/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
        packages=$(grep -rl --include=*.go -E '^// \+k8s:openapi-gen=' staging/src/k8s.io pkg cmd |
            grep -vE '_test\.go|/testdata/|code-generator|sample-' | xargs -n1 dirname | sort -u |
            sed -E 's#^staging/src/#vendor/#; s#^#k8s.io/kubernetes/#' | paste -sd,)
        "$folder/openapi-gen" -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
            -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r /dev/null --output-base "$GOPATH/src"
        go build -ldflags "-X k8s.io/component-base/version.gitVersion=v1.20.2" -o "$program" ./cmd/kube-apiserver
        cd "$folder" && chmod -R u+w go cache && rm -rf go cache lists
    } >&2
fi
echo "$program"
