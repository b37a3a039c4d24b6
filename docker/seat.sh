#!/bin/sh
# Several workers of one host share the volume /runs. Each takes the first numbered folder that no other
# one holds and keeps it by a lock that ends with its process, however that happens; the next worker on
# that seat goes on with what lies there. Usage: seat.sh COMMAND...
set -eu
number=0
while :; do
    seat=${KD_SEATS:-/runs}/$number
    mkdir -p "$seat"
    # The lock lives as long as descriptor 9, which COMMAND inherits and its children do not.
    exec 9>"$seat/seat.lock"
    flock --nonblock 9 && break
    number=$((number + 1))
done
export KD_WORK_DIR="$seat" TMPDIR="$seat/tmp"
rm -rf "$TMPDIR"
mkdir "$TMPDIR"
exec "$@"
