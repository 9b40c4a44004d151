# The requests of tests/interop/README.md, for peers in shell: defines `serve`, which calls the functions
# `take`, `try_take` and `release`.
# shellcheck shell=bash

turns() { # count, file
    local turn number
    for ((turn = 0; turn < $1; turn++)); do
        take || { echo busy; return; }
        read -r number < "$2" || true
        echo $((number + 1)) > "$2"
        release || { echo lost; return; }
    done
    echo "done"
}

serve() {
    local verb count counter
    while read -r verb count counter; do
        case $verb in
            take) if take; then echo taken; else echo busy; fi ;;
            try) if try_take; then echo taken; else echo busy; fi ;;
            release) if release; then echo released; else echo lost; fi ;;
            turns) turns "$count" "$counter" ;;
        esac
    done
}
