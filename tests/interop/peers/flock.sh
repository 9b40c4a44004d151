#!/usr/bin/env bash
# flock(1) of util-linux on a file: flock.sh FILE
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/turns.sh"

file=$1
take() { exec 9>> "$file"; flock 9; }
try_take() {
    exec 9>> "$file"
    flock -n 9 || { exec 9>&-; return 1; }
}
release() { exec 9>&-; }
serve
