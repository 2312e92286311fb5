# Git of a job's place, in the folder of the place. The worker owns everything here: no hook, filter or helper that it
# names is started.
#
#   sh -c SCRIPT sh cache BASE DEPTH     fetches the commit BASE into a cache, with DEPTH commits. Runs as the agent, in a
#                                        folder that no worker can write.
#   sh -c SCRIPT sh clone BASE BRANCH DEPTH CACHE
#                                        copies the objects in CACHE, or fetches the commit BASE if CACHE is empty, and
#                                        checks it out as BRANCH
#   sh -c SCRIPT sh copy BASE CACHE      makes a clone without files from the objects in CACHE, of which BASE is one
#   sh -c SCRIPT sh prepare BASE         checks BASE out in such a clone, with little priority
#   sh -c SCRIPT sh advance BASE BRANCH CACHE
#                                        checks BASE out as BRANCH in such a clone, with the objects that are new in CACHE;
#                                        empties the folder if that fails
#   sh -c SCRIPT sh continue BASE BRANCH checks BASE out as BRANCH, with the files that git ignores; empties the folder if its
#                                        clone is not at BASE
#   sh -c SCRIPT sh commit               commits what is not committed
#   sh -c SCRIPT sh snapshot LAST MAX    makes a commit of the work tree as it is in a temporary folder below .git, and
#                                        prints its tree, its id and the folder; prints nothing if its tree is that of LAST,
#                                        or if it takes more than MAX KiB. Nothing else in the place changes.
#   sh -c SCRIPT sh push FOLDER REF...   pushes what each REF says, and removes FOLDER unless it is empty
#
# With `cache`, `clone` without a cache, and `push`, stdout is a socket to the job's repository.

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG_PARAMETERS
export LC_ALL=C GIT_CONFIG_GLOBAL=/dev/null GIT_ALLOW_PROTOCOL=fd

set_config core.attributesFile /dev/null
set_config commit.gpgSign false
set_config gc.auto 0
set_config maintenance.auto false
set_config fetch.unpackLimit 1
# More than one process writes the files of a place. Git does that on request alone, because of network file systems.
set_config checkout.workers 4

# Returns a value of the user's own settings, or of the place's.
configured() { (unset GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM && git config "$1") 2>/dev/null; }

# Returns true if the user has settings that name an author.
has_identity() {
    for file in "$HOME/.gitconfig" "${XDG_CONFIG_HOME:-$HOME/.config}/git/config" /etc/gitconfig; do
        [ -e "$file" ] && configured user.email >/dev/null && return
    done
    return 1
}

# Uses the repository of the place. Another one that the worker has put there is not this job's to change.
enter() {
    if [ -L .git ] || [ ! -d .git ] || [ -e .git/commondir ]; then
        echo "error: .git of the job's place is no repository of its own any more" >&2
        exit 1
    fi
    export GIT_DIR="$PWD/.git" GIT_WORK_TREE="$PWD"
}

use_stream() { exec 3>&1 1>&2; }

switch_filters_off() {
    while IFS= read -r name; do
        [ -z "$name" ] || set_config "$name" ''
    done <<END
$(git config --name-only --get-regexp '^filter\..*\.(clean|smudge|process|required)$')
END
}

# Prints the beginning of the names of this place's temporary folders.
scratch_prefix() {
    set -- $(printf %s "$PWD" | cksum)
    echo "${TMPDIR:-/tmp}/relay-snapshot.$1"
}

# Objects go into a folder, instead of the place.
use_scratch() {
    export GIT_OBJECT_DIRECTORY="$1/objects" GIT_ALTERNATE_OBJECT_DIRECTORIES="$PWD/.git/objects"
    trap 'exit 143' TERM
}

name_committer() {
    name=$(configured user.name) email=$(configured user.email)
    export GIT_AUTHOR_NAME="${name:-relay worker}" GIT_AUTHOR_EMAIL="${email:-worker@relay.invalid}"
    export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
}

need_git() {
    command -v git >/dev/null && return
    echo "git is not installed on the platform: add it to the image, or to this machine"
    exit 127
}

format_of() { [ ${#1} -eq 40 ] || echo --object-format=sha256; }

# Fetches the base as REF; the last argument is the number of commits.
fetch_base() { git fetch -q --depth "$2" --no-tags --no-recurse-submodules fd::3 "refs/heads/base$1"; }

check_fetched() {
    read -r fetched _ <"$2"
    [ "$fetched" = "$1" ] && return
    echo "the relay sent another commit than the job's base"
    exit 1
}

# Makes a repository without a commit.
init_clone() {
    [ ! -e .git ] || rm -rf .git || exit
    git init -q --template= $(format_of "$1") . || exit
    enter
    printf '[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n' >>"$GIT_DIR/config" || exit
}

add_identity() {
    has_identity ||
        printf '[user]\n\tname = relay worker\n\temail = worker@relay.invalid\n' >>"$GIT_DIR/config"
}

# Copies the objects of a cache that are not in the place yet.
copy_objects() {
    for pack in "$1"/objects/pack/*.pack "$1"/objects/pack/*.idx; do
        [ -e "$GIT_DIR/objects/pack/${pack##*/}" ] || cp "$pack" "$GIT_DIR/objects/pack" || return
    done
    [ -e "$1/shallow" ] || return 0
    cat "$1/shallow" >>"$GIT_DIR/shallow" && sort -u -o "$GIT_DIR/shallow" "$GIT_DIR/shallow"
}

tell_missing_files() {
    [ ! -e .gitmodules ] || echo "relay: the submodules of the repository are not in the job's place"
    [ ! -e .gitattributes ] || [ -z "$(git ls-files -- ':(attr:filter=lfs)' 2>/dev/null)" ] ||
        echo "relay: files of Git LFS are pointers in the job's place, without their content"
}

empty_folder() { find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +; }

# Removes what git would wait for: it opens pipes and devices like files. Settings that are included from other files are
# dropped for the same reason.
remove_traps() {
    find "$GIT_DIR" \( -type p -o -type b -o -type c \) -exec rm -f {} + 2>/dev/null
    find "$GIT_DIR" -type l 2>/dev/null | while IFS= read -r link; do
        [ ! -p "$link" ] && [ ! -c "$link" ] && [ ! -b "$link" ] || rm -f "$link"
    done
    find . -type p \( -name .gitignore -o -name .gitattributes -o -name .gitmodules \) -exec rm -f {} + 2>/dev/null
    config="$GIT_DIR/config"
    [ -e "$config" ] || return 0
    # Outside of the repository: inside, git would read the included files first.
    (
        export GIT_DIR=/nonexistent
        git config --file "$config" --no-includes --name-only --get-regexp '^include(if)?\.' 2>/dev/null |
            while IFS= read -r name; do
                git config --file "$config" --no-includes --unset-all "$name"
            done
    )
}

case $1 in
cache)
    use_stream
    need_git
    umask 022
    [ -e HEAD ] || git init -q --bare --template= $(format_of "$2") . || exit
    export GIT_DIR="$PWD"
    fetch_base ":refs/bases/$2" "$3" || exit
    check_fetched "$2" "refs/bases/$2"
    ;;
clone)
    use_stream
    need_git
    init_clone "$2"
    add_identity || exit
    if [ -n "$5" ]; then
        copy_objects "$5" || exit
    else
        fetch_base "" "$4" || exit
        check_fetched "$2" "$GIT_DIR/FETCH_HEAD"
    fi
    git checkout -q -f -B "$3" "$2" || exit
    tell_missing_files
    ;;
copy)
    need_git
    init_clone "$2"
    copy_objects "$3"
    ;;
prepare)
    renice -n 19 -p $$ >/dev/null 2>&1
    enter
    set_config core.logAllRefUpdates false
    git checkout -q -f --detach "$2"
    ;;
advance)
    enter
    # An agent that was killed may have left it.
    rm -f "$GIT_DIR/index.lock"
    add_identity && copy_objects "$4" && git checkout -q -f -B "$3" "$2" && tell_missing_files && exit
    empty_folder
    exit 1
    ;;
continue)
    enter
    remove_traps
    [ "$(git rev-parse HEAD)" = "$2" ] && git checkout -q -B "$3" && exit
    empty_folder
    exit 1
    ;;
commit)
    enter
    # No process of the job is left that could hold a lock.
    rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock" "$GIT_DIR/config.lock" "$GIT_DIR/shallow.lock"
    find "$GIT_DIR/refs" -name '*.lock' -type f -exec rm -f {} + 2>/dev/null
    rm -rf "$(scratch_prefix)".*
    remove_traps
    switch_filters_off
    # A file that can't be read, or a repository without a commit, must not keep the rest back.
    left=0
    git add -A --ignore-errors || left=1
    git diff --cached --quiet --no-ext-diff --no-textconv HEAD && exit $left
    name_committer
    git commit -q --no-verify -m 'relay: uncommitted changes' && exit $left
    ;;
snapshot)
    enter
    switch_filters_off
    prefix=$(scratch_prefix)
    # That of a snapshot whose push never began.
    rm -rf "$prefix".*
    scratch=$(mktemp -d "$prefix.XXXXXX") || exit
    trap 'rm -rf "$scratch"' EXIT
    use_scratch "$scratch"
    mkdir "$scratch/objects" || exit
    # In blocks of 512 bytes: a larger file ends git, and there is no snapshot.
    ulimit -f $(($3 * 2))
    cp "$GIT_DIR/index" "$scratch/index" 2>/dev/null
    export GIT_INDEX_FILE="$scratch/index"
    # The worker changes files meanwhile: one that is gone must not keep the rest back.
    git add -A --ignore-errors 2>/dev/null
    tree=$(git write-tree) || exit
    [ "$tree" != "$(git rev-parse "$2^{tree}")" ] || exit 0
    used=$(du -sk "$scratch/objects") && [ "${used%%[!0-9]*}" -le "$3" ] || exit 0
    name_committer
    commit=$(git commit-tree "$tree" -p HEAD -m 'relay: work in progress') || exit
    trap - EXIT
    echo "$tree $commit $scratch"
    ;;
push)
    use_stream
    enter
    shift
    scratch=$1
    shift
    if [ -n "$scratch" ]; then
        trap 'rm -rf "$scratch"' EXIT
        use_scratch "$scratch"
    fi
    # Git rewrites an address by the longest match, so the whole address is matched by itself. The part behind the
    # descriptor has no meaning.
    url=fd::3/$$
    set_config "url.$url.insteadOf" "$url"
    set_config "url.$url.pushInsteadOf" "$url"
    git push --force --no-verify --no-signed --recurse-submodules=no "$url" "$@"
    ;;
esac
