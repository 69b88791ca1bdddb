# shellcheck shell=bash
# Small functions every script here shares. Source it; it changes nothing by itself.

say() { printf '%s\n' "$*" >&2; }

# step WORDS...: what begins now, and how long this script has run.
step() { say "[$SECONDS s] $*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, through sudo where we are not.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo -- "$@"
  else
    say "error: '$1' needs root: run this as root, or install sudo"
    return 1
  fi
}

# version_at_least HAVE WANTED: compares dotted versions; a leading v and a -suffix are ignored.
version_at_least() {
  local have_version=${1#v} wanted=${2#v}
  have_version=${have_version%%[-+~]*}
  [ "$(printf '%s\n%s\n' "$wanted" "$have_version" | sort -V | head -n 1)" = "$wanted" ]
}

# quietly COMMAND...: shows the output only when the command fails; `reason` then says why, where it is a common one.
quietly() {
  local status=0
  captured "$@" || status=$?
  [ "$status" -eq 0 ] || tail -n 40 <<<"$said" >&2
  return "$status"
}

# persistently COMMAND...: as quietly, and once more where it was the network that failed.
persistently() {
  captured "$@" && return 0
  if network_failed; then
    say "the network broke off: trying once more"
    sleep 3
  else
    tail -n 40 <<<"$said" >&2
    return 1
  fi
  quietly "$@"
}

# captured COMMAND...: sets said to its output and never shows it.
said=""
captured() {
  local log status=0
  log=$(mktemp) || die "no temporary file can be made: is the disk full?"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  said=$(tr -d '\0' <"$log")
  rm -f "$log"
  return "$status"
}

# reason [ELSE]: what the last command that `quietly` ran died of, as the end of a sentence; ELSE when that is not known.
reason() {
  if grep -qi 'no space left on device\|not enough free space\|disk quota exceeded' <<<"$said"; then
    echo ": the disk is full"
  elif grep -qi "needs root: run\|not in the sudoers file\|password is required\|terminal is required" <<<"$said"; then
    echo ": it needs root, so run this as root or as a user whom sudo lets in"
  elif network_failed; then
    echo ": the network does not answer"
  else
    printf '%s\n' "${1:-}"
  fi
}

# network_failed: whether it is the network that the last command died of.
network_failed() {
  grep -qi "could not resolve\|name resolution\|name or service not known\|no such host\|failed to fetch\|could not connect\|\
cannot initiate the connection\|network is unreachable\|max retries exceeded\|failed to establish a new connection\|\
connection broken\|connection reset by peer\|incompleteread\|read timed out\|readtimeout" <<<"$said"
}

# free_megabytes FOLDER: how much its file system has left; nothing where that cannot be told.
free_megabytes() { df --output=avail --block-size=1M "$1" 2>/dev/null | tail -n 1 | tr -d ' '; }

# in_turn NAME COMMAND...: runs it when no other run of this user runs one of the same name. What it starts does not
# hold the lock, so a daemon among it keeps nobody waiting.
in_turn() {
  local name=$1
  shift
  exec 9>"${TMPDIR:-/tmp}/windlass-$name.$(id -u).lock"
  if ! flock --nonblock 9; then
    say "waiting for another run of this ($name)"
    flock 9
  fi
  "$@" 9>&-
  exec 9>&-
}
