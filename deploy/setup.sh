# Shared by deploy/quickstart and tests/check (sourced, from the repository's root): what a machine needs, installed where it is missing.
# Packages come from the system's package manager and from pip as they are configured on this machine.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# need COMMAND:PACKAGE... installs the Debian packages whose commands are missing.
need() {
    local missing=() pair
    for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}"); done
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    command -v apt-get >/dev/null || fail "please install: $* (this script knows Debian and Ubuntu only)"
    say "installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The first Python here that is new enough and can make virtual environments.
find_python() {
    local python
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# make_venv EXTRA makes .venv with this project in it (and EXTRA, say [dev]); does nothing if that was done before.
make_venv() {
    local python stamp
    if ! [ -x .venv/bin/python ]; then
        python=$(find_python) || { install_packages python3 python3-venv; python=$(find_python); } ||
            fail "no Python 3.11 or newer here; install one, or name it with PYTHON=/path/to/python"
        say "making .venv with $("$python" --version)"
        "$python" -m venv .venv
    fi
    stamp=.venv/.lambent-$(printf %s "${1-}" | tr -cd a-z)-$(cksum <pyproject.toml | cut -d' ' -f1)
    [ -e "$stamp" ] && return
    say "installing Lambent's Python packages"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${1-}"
    .venv/bin/python -m compileall -q gateway sandbox # as this user: root should leave no file in the tree
    touch "$stamp"
}
