#!/bin/sh
# Writes FILE (.env by default) with a random value for each name of docker/env.example that it has
# not got yet. What is there stays: a database keeps the password that it was made with.
set -eu
file=${1:-.env}
umask 077
touch "$file"
# A last line without its end would swallow the first name added.
[ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
sed -n 's/^\([A-Z0-9_]*\)=$/\1/p' "$(dirname "$0")/env.example" | while read -r name; do
    if ! grep -q "^$name=." "$file"; then
        echo "$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >>"$file"
        echo "secrets: $name is new in $file"
    fi
done
