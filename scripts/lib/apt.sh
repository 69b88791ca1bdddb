# shellcheck shell=bash
# What the machine's own apt knows: its mirror, its suites, and packages from a newer suite without adding that suite.
# Needs lib/common.sh.

APT_LOCK_SECONDS=300
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# os_release KEY: one value of /etc/os-release (ID, VERSION_CODENAME, VERSION_ID).
os_release() {
  # shellcheck source=/dev/null
  (. /etc/os-release && printf '%s\n' "${!1:-}")
}

apt_install() {
  local install=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -o "DPkg::Lock::Timeout=$APT_LOCK_SECONDS"
    install -y --no-install-recommends "$@")
  apt_update_once
  captured "${install[@]}" && return 0
  # Once more, lists and all, where the network broke off.
  if network_failed || [ "$APT_UPDATED" != yes ]; then
    APT_UPDATED=""
    apt_update_once
    captured "${install[@]}" && return 0
  fi
  # shellcheck disable=SC2154 # lib/common.sh assigns it
  tail -n 40 <<<"$said" >&2
  die "apt-get could not install $*$(reason "${APT_UPDATED#yes}")"
}

# apt_update_once: a source that does not answer is no failure of apt-get's, and none of ours as long as the others have
# what is wanted.
apt_update_once() {
  [ -z "${APT_UPDATED:-}" ] || return 0
  local deadline=$((SECONDS + APT_LOCK_SECONDS)) status=0
  while :; do
    status=0
    captured as_root apt-get -o DPkg::Lock::Timeout="$APT_LOCK_SECONDS" -o Acquire::Retries=1 update || status=$?
    # apt waits for dpkg's lock and never for that of its lists, which a machine's own daily update holds after a boot.
    [ "$status" -ne 0 ] && [[ "$said" == *"Could not get lock"* ]] && [ "$SECONDS" -lt "$deadline" ] || break
    sleep 2
  done
  if [ "$status" -ne 0 ]; then
    tail -n 40 <<<"$said" >&2
    die "apt-get update failed$(reason)"
  fi
  APT_UPDATED=yes$(reason)
}

# debian_mirror: the address this machine takes Debian itself from, empty on anything else. apt is asked, so one-line
# and deb822 sources are the same to us. WINDLASS_DEBIAN_MIRROR overrides it.
debian_mirror() {
  if [ -n "${WINDLASS_DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "$WINDLASS_DEBIAN_MIRROR"
  elif [ "$(os_release ID)" = debian ]; then
    # shellcheck disable=SC2016 # the $(…) are apt's, not ours
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
      awk -v suite="$(os_release VERSION_CODENAME)" '
        !found && $3 == "main" && ($2 == suite || $2 == "stable" || $2 == "testing") { found = $1 }
        END { if (found) print found }' | first_mirror
  fi
}

# first_mirror: the address on stdin, or the first one of the file it names: cloud images have lists of mirrors in files,
# which an image made here has not.
first_mirror() {
  local address
  read -r address || return 0
  case "$address" in
    mirror+file:*)
      address=${address#mirror+file:}
      awk '!found && /^[^#]/ { found = $1 } END { if (found) print found }' "${address%/}"
      ;;
    *) printf '%s\n' "$address" ;;
  esac
}

# debian_source SUITE [OPTION]: one line of sources.list for a suite of Debian on this machine's mirror.
debian_source() {
  local mirror
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || return 1
  printf 'deb %s%s %s main\n' "${2:+[$2] }" "$mirror" "$1"
}

# unpack_from_suite SUITE FOLDER PACKAGE...: downloads packages of another suite and unpacks them under FOLDER. Nothing is
# installed and the machine's own package lists stay as they are.
unpack_from_suite() {
  local suite=$1 folder=$2 private signed=""
  shift 2
  private=$(mktemp -d)
  mkdir -p "$private/lists/partial" "$private/archives/partial" "$folder"
  [ ! -f "$DEBIAN_KEYRING" ] || signed=signed-by=$DEBIAN_KEYRING
  debian_source "$suite" "$signed" >"$private/sources.list" ||
    die "this machine's apt sources name no Debian mirror: set WINDLASS_DEBIAN_MIRROR to the address of one"
  (
    cd "$private/archives" || exit
    local apt=(apt-get -o "Dir::Etc::sourcelist=$private/sources.list" -o Dir::Etc::sourceparts=-
      -o "Dir::State::lists=$private/lists" -o "Dir::Cache::archives=$private/archives"
      -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o "APT::Sandbox::User=$(id -un)")
    persistently "${apt[@]}" update || die "apt could not read suite $suite$(reason)"
    persistently "${apt[@]}" download "$@" || die "apt could not download from $suite: $*$(reason)"
    local deb
    for deb in ./*.deb; do dpkg-deb --extract "$deb" "$folder"; done
  )
  rm -rf "$private"
}
