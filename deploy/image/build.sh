#!/bin/sh
# Makes the files of the image below /image: a root with Debian's Python, and Cuvée with its data path compiled. Runs as
# root in Debian 13, from the root of the sources; in the Dockerfile's first stage, or in a chroot (try.py). trim.sh follows.
#
# The root is made of Debian's packages, without a shell, apt or what only they need. What each package was stays in
# /var/lib/dpkg/status.d, where scanners look for it.
set -eu
image=${1:-/image}
here=$(dirname "$0")
python=python3.13
site=$image/usr/local/lib/$python/dist-packages
packages="base-files ca-certificates libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 $python-minimal
    lib$python-minimal lib$python-stdlib libssl3t64 libstdc++6 libuuid1 libzstd1 netbase zlib1g"

export DEBIAN_FRONTEND=noninteractive PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends gcc libc6-dev $python-dev $python-venv ca-certificates >/dev/null

# The root.
mkdir -p "$image/var/lib/dpkg/status.d" /tmp/packages
(cd /tmp/packages && apt-get download -qq $packages)
for package in /tmp/packages/*.deb; do
    dpkg-deb -x "$package" "$image"
    dpkg-deb -f "$package" >"$image/var/lib/dpkg/status.d/$(dpkg-deb -f "$package" Package)"
done
cp /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
echo 'cuvee:x:65532:65532::/var/lib/cuvee:/sbin/nologin' >"$image/etc/passwd"
echo 'cuvee:x:65532:' >"$image/etc/group"
echo 'hosts: files dns' >"$image/etc/nsswitch.conf"
mkdir -p "$image/etc/cuvee" "$image/var/lib/cuvee" "$image/tmp" "$image/proc" "$image/dev" "$image/sys"
chown 65532:65532 "$image/var/lib/cuvee"
chmod 1777 "$image/tmp"
ln -s $python "$image/usr/bin/python3"

# Cuvée: what it needs by hash, then itself, compiled; a data path that cannot be compiled is an error.
$python -m venv /tmp/builder
pip=/tmp/builder/bin/pip
$pip install -q --require-hashes --no-deps --only-binary :all: --target "$site" -r "$here/requirements.txt"
$pip install -q --require-hashes --no-deps --only-binary :all: -r "$here/builder.txt"
CUVEE_COMPILE=1 $pip install -q --no-deps --no-build-isolation --target "$site" .
printf '%s\n' '#!/usr/bin/python3 -P' 'from cuvee import main' '' 'if __name__ == "__main__":' '    main()' \
    >"$image/usr/bin/cuvee"
chmod 755 "$image/usr/bin/cuvee"
