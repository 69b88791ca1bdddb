#!/bin/sh
# Starts Redis as the official image does: as its own user, open to the container's network unless told otherwise.
set -eu

case "$1" in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \! -user redis -exec chown redis {} +
  exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi

# The official build has protected mode off by default; a configuration file that speaks of it keeps the last word.
if [ "$1" = redis-server ]; then
  shift
  case "${1:-}" in
    -v | --version | -h | --help) ;;
    '' | -*) set -- --protected-mode no "$@" ;;
    *) grep -qs '^protected-mode' "$1" || { file=$1; shift; set -- "$file" --protected-mode no "$@"; } ;;
  esac
  set -- redis-server "$@"
fi
exec "$@"
