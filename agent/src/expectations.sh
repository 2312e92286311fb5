# Checks a job's expectations (`--expect`) in the job's working folder. The settings of the repository there can name
# programs; this script starts none of them.
#
#   sh -c SCRIPT sh begin               prints the commit that HEAD names; nothing if there is none
#   sh -c SCRIPT sh check BASE WHAT...  prints one line for each WHAT (commit, change, file:PATH): `met`, or what was
#                                       found instead. BASE is a commit, or empty if there was none.

unset CDPATH GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG_PARAMETERS
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
set_config safe.bareRepository explicit

switch_filters_off() {
    while IFS= read -r name; do
        [ -z "$name" ] || set_config "$name" ''
    done <<END
$(git config --name-only --get-regexp '^filter\..*\.(clean|smudge|process|required)$')
END
}

lacks_repository() {
    command -v git >/dev/null || {
        echo 'git is not installed on the platform'
        return
    }
    [ "$(git rev-parse --is-inside-work-tree 2>/dev/null)" = true ] && return 1
    echo 'the working folder is in no git repository'
}

check_commit() {
    lacks_repository && return
    git rev-parse --verify --quiet 'HEAD^{commit}' >/dev/null || {
        echo 'the repository has no commit'
        return
    }
    found=$(git rev-list --count HEAD ${base:+"^$base"} 2>/dev/null) || found=unknown
    case $found in
    unknown) echo 'the commits could not be counted' ;;
    0) echo "HEAD has no commit since $(echo "$base" | cut -c1-12)" ;;
    *) echo met ;;
    esac
}

check_change() {
    lacks_repository && return
    switch_filters_off
    if [ -n "$base" ] && ! git diff --quiet --no-ext-diff --no-textconv "$base" HEAD --; then
        echo met
        return
    fi
    changed=$(git status --porcelain --no-renames --ignore-submodules=dirty | head -n 1) || return
    if [ -n "$changed" ]; then echo met; else echo "no file differs from $(echo "$base" | cut -c1-12)"; fi
}

check_file() {
    root=$(pwd -P)
    folder=$(dirname -- "./$1")
    name=$(basename -- "./$1")
    # A subshell, so that this `cd` does not affect the following checks.
    (
        cd -P -- "$folder" 2>/dev/null || {
            echo 'it does not exist'
            exit
        }
        case $(pwd -P)/ in
        "${root%/}/"*) ;;
        *)
            echo 'its path leads out of the working folder'
            exit
            ;;
        esac
        if [ -h "./$name" ]; then
            echo 'it is a symbolic link'
        elif [ -f "./$name" ]; then
            echo met
        elif [ -d "./$name" ]; then
            echo 'it is a folder'
        elif [ -e "./$name" ]; then
            echo 'it is no regular file'
        else
            echo 'it does not exist'
        fi
    )
}

case $1 in
begin)
    git rev-parse --verify --quiet 'HEAD^{commit}' || :
    ;;
check)
    base=$2
    shift 2
    for what; do
        case $what in
        commit) check_commit ;;
        change) check_change ;;
        file:*) check_file "${what#file:}" ;;
        esac
    done
    ;;
esac
