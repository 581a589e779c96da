#!/bin/sh
# Takes out of /image what none of its processes reads, and compiles what is left to bytecode. Follows build.sh.
set -eu
image=${1:-/image}
python=python3.13
site=$image/usr/local/lib/$python/dist-packages
library=$image/usr/lib/$python

# Manuals, conversions of character sets, and commands that need a shell or a network.
rm -rf "$image/usr/share/doc" "$image/usr/share/man" "$image/usr/share/lintian" "$image/usr/share/info" \
    "$image/usr/share/ca-certificates" "$image/usr/share/locale" "$image/usr/lib/$(gcc -print-multiarch)/gconv" \
    "$library/ensurepip" "$library/pydoc_data" "$library/idlelib" "$library/turtledemo" "$library/turtle.py" \
    "$library/lib2to3" "$library/venv" "$site/bin"
# PuLP's own solver (Cuvée solves with HiGHS), NumPy's compiler of Fortran, and the colours of languages that no command
# prints.
rm -rf "$site/pulp/solverdir/cbc" "$site/numpy/f2py"
find "$site/pygments/lexers" -name '*.py' ! -name __init__.py ! -name '_mapping.py' ! -name python.py ! -name special.py \
    -delete
# Tests, headers, sources of what is compiled.
find "$site" -depth -type d \( -name tests -o -name include \) -exec rm -rf {} +
find "$site" \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.c' -o -name '*.h' \) -delete
find "$image/usr" -name '*.so*' -type f -exec strip --strip-unneeded {} + 2>/dev/null || true

# The root is read-only where it runs: without bytecode each start would compile all modules anew.
find "$image/usr" -name __pycache__ -depth -exec rm -rf {} +
for folder in "$library" "$site"; do
    $python -m compileall -q --invalidation-mode unchecked-hash -s "$image" "$folder" || true
done
