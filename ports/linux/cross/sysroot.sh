#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# sysroot.sh - unpacks Debian's development files of another architecture into a folder of their own.
#
#   usage: ports/linux/cross/sysroot.sh ARCH FOLDER PACKAGE...
#
# apt chooses and fetches the packages and all that they depend on, from this machine's own sources, but
# with lists, state and cache in a working folder: the machine's architectures, lists and packages are
# not touched, and root is not needed. Other sources, as Ubuntu's for ARM: SYSROOT_SOURCES=FILE, in
# apt's one-line form (*.list) or in paragraphs (*.sources).
#
# FOLDER is there whole or not at all, also after a kill, and its file .made-of says of what. While that
# is what is asked for, the script does nothing; `rm -r FOLDER` makes it fetch newer packages.
set -euo pipefail

fail() {
    printf 'sysroot.sh: %s\n' "$@" >&2
    exit 1
}

[ $# -ge 3 ] || fail 'usage: sysroot.sh ARCH FOLDER PACKAGE...'
architecture=$1 folder=${2%/}
shift 2
made_of=$(printf '%s\n' "$architecture" "$@")
[ "$(cat "$folder/.made-of" 2>/dev/null)" != "$made_of" ] || exit 0

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null ||
        fail "There is no $tool here. Give a sysroot of your own: make CROSS_COMPILE=... SYSROOT=..."
done
if [ -e "$folder" ] && [ ! -e "$folder/.made-of" ]; then
    fail "$folder is there and was not made by this script. Remove it, or name another folder."
fi
mkdir -p "$(dirname "$folder")" || fail "Cannot make the folder of $folder."
work=$(mktemp -d "$folder.new.XXXXXX") || fail "Cannot make a folder beside $folder."
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
work=$(realpath "$work")
mkdir -p "$work"/{etc,state/lists/partial,cache/archives/partial,root}
: >"$work/state/status"
log=$work/log

# ---- Where the packages come from -----------------------------------------------------------------

# The sources in force, without what ties them to this machine's architectures. $1: a suite to leave out.
take_sources() {
    local file number=0
    rm -f "$work"/etc/*
    for file in ${SYSROOT_SOURCES:-/etc/apt/sources.list /etc/apt/sources.list.d/*}; do
        [ -f "$file" ] || continue
        number=$((number + 1))
        case $file in
        *.sources)
            grep -viE '^(#|Architectures:)' "$file" |
                awk -v RS= -v ORS='\n\n' -v out="$1" 'out == "" || $0 !~ out' \
                    >"$work/etc/$number.sources" || true
            ;;
        *.list)
            sed -nE '/^deb[[:space:]]/ { s/arch=[^] ]*//; s/\[ *\]//; p }' "$file" |
                awk -v out="$1" 'out == "" || $0 !~ out' >"$work/etc/$number.list"
            ;;
        esac
    done
    [ "$number" -gt 0 ] || fail 'apt has no sources here. Name a file of them: SYSROOT_SOURCES=FILE.'
}

apt() {
    local own=(
        -o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture"
        -o "Dir::State=$work/state" -o "Dir::State::lists=$work/state/lists"
        -o "Dir::State::status=$work/state/status" -o "Dir::Cache=$work/cache"
        -o "Dir::Cache::archives=$work/cache/archives"
        -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/etc"
        -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1
        -o Acquire::Languages=none -o Acquire::Retries=3
    )
    DEBIAN_FRONTEND=noninteractive apt-get -q "${own[@]}" "$@" >"$log" 2>&1
}

explain() {
    grep -E '^(E|W):' "$log" >&2 || tail -n 20 "$log" >&2
    fail "$@"
}

# apt calls it a failure when one list of many does not arrive. The security suite has been seen broken
# for one architecture for weeks; what it adds is newer, not needed to compile.
take_sources ''
if ! apt update; then
    take_sources security
    apt update || explain "apt-get cannot read the package lists for $architecture." \
        'Is the network there, and do the sources have this architecture? (SYSROOT_SOURCES=FILE)'
    echo "sysroot.sh: the security suite cannot be read for $architecture; without it" >&2
fi

# ---- Fetch and unpack -----------------------------------------------------------------------------

apt -y --download-only install "$@" ||
    explain "apt-get cannot fetch these packages for $architecture: $*"
for package in "$work"/cache/archives/*.deb; do
    [ -e "$package" ] || fail "apt-get has fetched nothing for $architecture."
    dpkg-deb -x "$package" "$work/root" || fail "Cannot unpack ${package##*/}. Is the disk full?"
done

# Where all is in /usr, the loader is still looked for in /lib.
for name in lib lib64; do
    if [ ! -e "$work/root/$name" ] && [ -e "$work/root/usr/$name" ]; then
        ln -s "usr/$name" "$work/root/$name"
    fi
done

# A link to /lib/x means the sysroot's, not this machine's.
find "$work/root" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
    target=$(realpath -m -s --relative-to="$(dirname "$link")" "$work/root$(readlink "$link")")
    ln -sfn "$target" "$link"
done

printf '%s\n' "$made_of" >"$work/root/.made-of"
rm -rf "$folder"
mv "$work/root" "$folder" || fail "Cannot make $folder."
echo "sysroot.sh: $folder, $(du -sm "$folder" | cut -f1) MB of $architecture"
