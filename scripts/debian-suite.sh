#!/usr/bin/env bash
# debian-suite.sh DESTDIR SUITE PACKAGE...      e.g. debian-suite.sh .tools/restic-0.18 trixie restic
#
# Unpacks packages of any Debian suite into DESTDIR, without touching the system and without root: apt works on a private
# state, and Debian's own keyring verifies what it downloads. The mirror is the one this machine already uses;
# DEBIAN_MIRROR names another one, for instance a day of snapshot.debian.org.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: debian-suite.sh DESTDIR SUITE PACKAGE..." >&2; exit 2; }
dest=$1 suite=$2
shift 2
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    echo "debian-suite.sh: $*" >&2
    exit 1
}

# apt lists only the indexes that it has downloaded, so on a machine that never ran `apt-get update` the sources are read
# themselves: deb822 (`URIs: …`) or one line each (`deb [options] URI suite …`).
configured_mirror() {
    {
        # A format of apt, not a variable of the shell.
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null || true
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*//p' | tr -s ' ' '\n' || true
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' || true
    } | grep -E '/debian/?$' || true
}

{ command -v apt-get && command -v dpkg-deb; } >/dev/null || fail "this machine has no apt; it needs Debian's"
[ -r "$keyring" ] || fail "$keyring is missing; install the package debian-archive-keyring"
mirror=${DEBIAN_MIRROR:-$(configured_mirror | head -n 1)}
mirror=${mirror:-http://deb.debian.org/debian}

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/deb"
# A day of the past is signed but no longer "valid until"; the signature is what counts here.
echo "deb [signed-by=$keyring check-valid-until=no] $mirror $suite main" >"$state/suite.list"
apt=(
    apt-get -q
    -o "Dir::Etc::sourcelist=$state/suite.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o APT::Sandbox::User=root
)
"${apt[@]}" update >"$state/log" 2>&1 || { cat "$state/log" >&2; fail "cannot read the suite $suite of $mirror"; }
(cd "$state/deb" && "${apt[@]}" download "$@") >"$state/log" 2>&1 ||
    { cat "$state/log" >&2; fail "cannot download $* of $suite from $mirror"; }
mkdir -p "$dest"
for deb in "$state"/deb/*.deb; do
    dpkg-deb -x "$deb" "$dest"
done
