#!/usr/bin/env bash
# A database's own client on an advisory lock: sql.sh postgres KEY psql WORD…, sql.sh mysql NAME mariadb WORD…
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/turns.sh"

engine=$1 key=$2
shift 2
coproc CLIENT { exec "$@"; }

ask() { # statement, answer
    local answer
    echo "$1;" >&"${CLIENT[1]}"
    read -r answer <&"${CLIENT[0]}" && [[ $answer == "$2" ]]
}

if [[ $engine == postgres ]]; then
    take() { ask "SELECT pg_advisory_lock($key) IS NULL" f; }
    try_take() { ask "SELECT pg_try_advisory_lock($key)" t; }
    release() { ask "SELECT pg_advisory_unlock($key)" t; }
else
    take() { ask "SELECT GET_LOCK('$key', 60)" 1; }
    try_take() { ask "SELECT GET_LOCK('$key', 0)" 1; }
    release() { ask "SELECT RELEASE_LOCK('$key')" 1; }
fi
serve
