# Shared by the scripts beside it: `source` this, then use ROOT, VENV and the functions.
# shellcheck shell=bash
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
LOCK="$ROOT/requirements.lock"
PACKAGES="$ROOT/packaging/debian-packages.txt"
OLDEST_PYTHON="3.11"

say() { printf '%s\n' "prong: $*" >&2; }
die() { say "$*"; exit 1; }

# The first Python that is new enough and can make a virtual environment; the system's own is preferred, because
# one that a version manager put first on PATH may vanish with it.
find_python() {
    local candidate path
    for candidate in /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3; do
        path="$(command -v "$candidate")" || continue
        if "$path" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (${OLDEST_PYTHON/./, }))" 2>/dev/null; then
            printf '%s\n' "$path"
            return
        fi
    done
    die "no Python >= $OLDEST_PYTHON that can make a virtual environment; on Debian: apt-get install python3 python3-venv"
}

# Debian packages of $PACKAGES that are not installed here, on one line.
missing_packages() {
    local name missing=()
    while read -r name; do
        if [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" != installed ]]; then
            missing+=("$name")
        fi
    done < <(grep -v '^#' "$PACKAGES")
    printf '%s\n' "${missing[*]-}"
}

# Install the missing Debian packages, as root or with a sudo that asks nothing. Elsewhere say which are missing and
# go on: cells run without them, `prong doctor` tells what does not.
install_packages() {
    local missing as_root=()
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here: install by hand what 'prong doctor' asks for"
        return
    fi
    missing="$(missing_packages)"
    [[ -n "$missing" ]] || return 0
    if [[ "$(id -u)" != 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            say "not installed, and no root to install with: $missing"
            say "  run: sudo apt-get install $missing"
            return
        fi
        as_root=(sudo -n)
    fi
    say "installing Debian packages: $missing"
    # shellcheck disable=SC2086  # a list of package names
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get -q update && apt-get -q install -y --no-install-recommends "$@"' sh $missing </dev/null
}

# Run a command and show its output only when it fails.
quietly() {
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 || status=$?
    [[ "$status" == 0 ]] || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

# What .venv was made from: the lock, the project's own metadata, and where it stands (scripts in .venv name it).
venv_stamp() {
    { cat "$LOCK" "$ROOT/pyproject.toml"; printf '%s\n' "$ROOT"; } | sha256sum | cut -d' ' -f1
}

# Make .venv from the lock, checked by hash, and install prong itself in it. A stamp makes the second run quick; it is
# written last, so that an interrupted run is done again.
make_venv() {
    local stamp python
    stamp="$(venv_stamp)"
    if [[ -x "$VENV/bin/prong" && "$(cat "$VENV/.prong-stamp" 2>/dev/null)" == "$stamp" ]]; then
        return
    fi
    # Made anew when its Python is gone, or when the checkout was moved: its scripts name the place they were made in.
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || ! grep -qF "$VENV/bin/python" "$VENV/bin/pip"; then
        python="$(find_python)"
        say "making .venv with $python"
        quietly "$python" -m venv --clear "$VENV"
    fi
    rm -f "$VENV/.prong-stamp"
    say "installing the locked Python packages"
    quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$LOCK"
    quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e "$ROOT"
    printf '%s\n' "$stamp" >"$VENV/.prong-stamp"
}
