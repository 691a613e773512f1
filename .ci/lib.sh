# Helpers of the scripts here; sourced, not run. A script that cannot run on this machine ends by `skip`,
# which .ci/run tells from a failure.

# The exit status that means "cannot run here".
SKIPPED=75

skip() {
    echo "skipped: $*"
    exit "$SKIPPED"
}

# Runs a command as root: directly, or through sudo when it asks for nothing.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# need PROGRAM_OR_FILE PACKAGE...: installs Debian packages when a program or file is missing.
need() {
    local wanted=$1
    shift
    [ -e "$wanted" ] || command -v "$wanted" >/dev/null || install_packages "$@"
}

install_packages() {
    command -v apt-get >/dev/null || skip "$* missing, and there is no apt-get to install it"
    echo "installing $*"
    as_root apt-get update -q >/dev/null 2>&1 || skip "$* missing, and apt-get update fails"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" \
        >/dev/null 2>&1 || skip "$* missing, and apt-get cannot install it"
}

# The folder for what is fetched once: models, standard libraries of other targets.
cache_dir() {
    local dir=${XDG_CACHE_HOME:-$HOME/.cache}/pumice-ci
    mkdir -p "$dir"
    echo "$dir"
}

# The folder that holds all build products; a script that needs other flags or another compiler uses a
# folder inside it.
target_dir() {
    local dir=${CARGO_TARGET_DIR:-target}
    mkdir -p "$dir"
    (cd "$dir" && pwd)
}

# Whether the toolchain in use has the standard library of a target.
has_target() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]
}

# Chooses Debian's compiler, which comes with libraries and sources for other targets, and prints its
# version. It lies beside the usual toolchain and is used only through these variables.
use_debian_rust() {
    dpkg-query -W -f '${Status}' rustc-web 2>/dev/null | grep -q '^install ok' || install_packages rustc-web
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
    debian_rust_version=$(dpkg-query -W -f '${Version}' rustc-web)
}
