#!/bin/sh
# Redis holds wake-ups only, yet one that was sent should outlive a restart: append-only file, and a
# full memory refuses writes instead of dropping some. The settings come through a pipe, so that the
# password is on no command line; the only user may not flush, list all keys or change the settings.
set -eu
exec redis-server - <<SETTINGS
dir /data
save ""
appendonly yes
appendfsync everysec
maxmemory 256mb
maxmemory-policy noeviction
user default off
user stillhouse on >$REDIS_PASSWORD ~* &* +@all -@admin -@dangerous +info
SETTINGS
