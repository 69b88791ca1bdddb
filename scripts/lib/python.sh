# shellcheck shell=bash
# Which Python this project runs on. Needs lib/common.sh.

PYTHON_WANTED="3.11"

# suitable_python: the first interpreter that is new enough; the distribution's default one may be too old.
# WINDLASS_PYTHON names another one.
suitable_python() {
  local candidate
  for candidate in ${WINDLASS_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c "import sys; sys.exit(sys.version_info < (${PYTHON_WANTED/./, }))" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

no_suitable_python() {
  die "Windlass needs Python $PYTHON_WANTED or newer, and python3 here is $(python3 -V 2>&1 || true): install a newer one" \
    "beside it, with its venv module, and run this again (WINDLASS_PYTHON=/path/to/it where it is not on the PATH)"
}

# trust_system_certificates: pip before 24.2 and uv bring certificates of their own and do not know those that a company
# or a proxy added to the machine's.
trust_system_certificates() {
  local bundle=/etc/ssl/certs/ca-certificates.crt
  export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
  if [ -z "${PIP_CERT:-}" ] && [ -f "$bundle" ] && ! "$1" -m pip config get global.cert >/dev/null 2>&1; then
    export PIP_CERT=$bundle
  fi
}
