# shellcheck shell=bash
# shellcheck disable=SC2154 # said: lib/common.sh assigns it
# The Docker Engine, Compose and Buildx: are they there, start them. Needs lib/common.sh.

COMPOSE_WANTED=2.24.4
ENGINE_LOG=/var/log/dockerd.log
ENGINE_SECONDS=60
# shellcheck disable=SC2034 # read by setup-machine
PLUGIN_FOLDER="${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
# Through sudo the home may be root's, where the user's own docker command would not look.
# shellcheck disable=SC2034
[ -z "${SUDO_USER:-}" ] || PLUGIN_FOLDER=/usr/local/lib/docker/cli-plugins

engine_answers() { docker info >/dev/null 2>&1; }

# engine_refuses_us: an engine runs, but this user may not talk to it.
engine_refuses_us() { [[ "$(docker info 2>&1)" == *"permission denied"* ]]; }

compose_version() { docker compose version --short 2>/dev/null || true; }

compose_is_enough() {
  local found
  found=$(compose_version)
  [ -n "$found" ] && version_at_least "$found" "$COMPOSE_WANTED"
}

buildx_works() { docker buildx version >/dev/null 2>&1; }

# ensure_engine: an engine that answers, be it with a refusal.
ensure_engine() {
  engine_answers && return 0
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST"
  engine_refuses_us && return 0
  say "starting the Docker Engine"
  start_engine
}

# start_engine: through systemd where it runs, by hand where it does not; returns when the engine answers.
start_engine() {
  if [ -d /run/systemd/system ]; then
    quietly as_root systemctl start docker || die "systemd could not start docker$(reason): see journalctl -u docker"
  else
    # A pid file left by a killed engine may name a living stranger, and dockerd then refuses to start.
    is_running "$(cat /var/run/docker.pid 2>/dev/null)" dockerd || quietly as_root rm -f /var/run/docker.pid ||
      die "could not start the Docker Engine$(reason)"
    quietly as_root sh -c "setsid nohup dockerd >>$ENGINE_LOG 2>&1 </dev/null & echo \$!" ||
      die "could not start the Docker Engine$(reason)"
    engine_process=$said
  fi
  wait_for_engine
}

# is_running PROCESS [NAME]: it lives, and is none that ended and that nobody has asked about.
is_running() {
  [ -n "$1" ] && { [ -z "${2:-}" ] || [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]; } &&
    grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null
}

# wait_for_engine: until it answers, be it with a refusal.
engine_process=""
wait_for_engine() {
  local deadline=$((SECONDS + ENGINE_SECONDS))
  until engine_answers || engine_refuses_us; do
    [ -z "$engine_process" ] || is_running "$engine_process" || engine_is_silent "ended right after its start"
    [ "$SECONDS" -lt "$deadline" ] || engine_is_silent "does not answer after $ENGINE_SECONDS s"
    sleep 0.5
  done
}

# engine_is_silent WHAT
engine_is_silent() {
  [ ! -d /run/systemd/system ] || die "the Docker Engine $1: see journalctl -u docker"
  captured as_root tail -n 5 "$ENGINE_LOG" || true
  say "$said"
  die "the Docker Engine $1$(reason); its last words are above, more in $ENGINE_LOG"
}

# join_docker_group: who is not root may use the engine as a member of group docker, from the next login on.
join_docker_group() {
  engine_refuses_us || return 0
  local user
  user=$(id -un)
  if ! id -nG "$user" | grep -qw docker; then
    say "adding $user to group docker, which holds from the next login on; until then: sg docker"
    quietly as_root usermod --append --groups docker "$user" || die "could not add $user to group docker$(reason)"
  fi
}

# with_docker_group SCRIPT [ARGUMENT...]: becomes SCRIPT once more, with group docker, where this login does not have it
# yet. Files it makes belong to that group then, and to the user as ever.
with_docker_group() {
  engine_refuses_us || return 0
  local user word command=exec
  user=$(id -un)
  [ -z "${WINDLASS_RERUN:-}" ] || die "the Docker Engine refuses $user, who is in group docker: who may use its socket?"
  have sg || die "$user may use the Docker Engine from the next login on: log in again and repeat this"
  # For the shell that sg starts, which may be no bash: each word in single quotes.
  for word in "$@"; do command+=" '${word//\'/\'\\\'\'}'"; done
  export WINDLASS_RERUN=1
  exec sg docker -c "$command"
}
