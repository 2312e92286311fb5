# Git of a job's place, in the folder of the place. The worker owns everything here: no hook, filter or helper that it
# names is started.
#
#   sh -c SCRIPT sh clone BASE BRANCH    fetches the commit BASE and checks it out as BRANCH
#   sh -c SCRIPT sh commit               commits what is not committed
#   sh -c SCRIPT sh snapshot LAST        makes a commit of the work tree as it is in a temporary folder, and prints its
#                                        tree, its id and the folder; prints nothing if its tree is that of LAST. Nothing
#                                        in the place changes.
#   sh -c SCRIPT sh push FOLDER REF...   pushes what each REF says, and removes FOLDER unless it is empty
#
# With `clone` and `push`, stdout is a socket to the job's repository.

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG_PARAMETERS
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0 GIT_NO_LAZY_FETCH=1
export GIT_ALLOW_PROTOCOL=fd GIT_SSH_COMMAND=false GIT_ASKPASS=false GIT_PAGER=cat GIT_EDITOR=false

n=0
set_config() {
    eval "export GIT_CONFIG_KEY_$n=\$1 GIT_CONFIG_VALUE_$n=\$2"
    n=$((n + 1))
    export GIT_CONFIG_COUNT=$n
}
set_config core.fsmonitor false
set_config core.hooksPath /dev/null
set_config core.attributesFile /dev/null
set_config core.sshCommand false
set_config core.alternateRefsCommand false
set_config credential.helper ''
set_config diff.external ''
set_config commit.gpgSign false
set_config gc.auto 0
set_config maintenance.auto false

# Returns a value of the user's own settings, or of the place's.
configured() { (unset GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM && git config "$1") 2>/dev/null; }

enter() { export GIT_DIR="$PWD/.git" GIT_WORK_TREE="$PWD"; }

use_stream() { exec 3>&1 1>&2; }

switch_filters_off() {
    while IFS= read -r name; do
        [ -z "$name" ] || set_config "$name" ''
    done <<END
$(git config --name-only --get-regexp '^filter\..*\.(clean|smudge|process|required)$')
END
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

case $1 in
clone)
    use_stream
    command -v git >/dev/null || {
        echo "git is not installed on the platform: add it to the image, or to this machine"
        exit 127
    }
    [ ${#2} -eq 64 ] && set -- "$@" --object-format=sha256
    git init -q --template= $4 . || exit
    enter
    git fetch -q --depth 1 --no-tags --no-recurse-submodules fd::3 refs/heads/base || exit
    [ "$(git rev-parse FETCH_HEAD)" = "$2" ] || {
        echo "the relay sent another commit than the job's base"
        exit 1
    }
    git checkout -q -f -B "$3" "$2" || exit
    git config gc.auto 0 && git config maintenance.auto false || exit
    if ! configured user.email >/dev/null; then
        git config user.name 'relay worker' && git config user.email worker@relay.invalid || exit
    fi
    [ ! -e .gitmodules ] || echo "relay: the submodules of the repository are not in the job's place"
    [ -z "$(git ls-files -- ':(attr:filter=lfs)' 2>/dev/null)" ] ||
        echo "relay: files of Git LFS are pointers in the job's place, without their content"
    ;;
commit)
    enter
    # No process of the job is left that could hold a lock.
    rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock" "$GIT_DIR/config.lock" "$GIT_DIR/shallow.lock"
    find "$GIT_DIR/refs" -name '*.lock' -type f -exec rm -f {} + 2>/dev/null
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
    scratch=$(mktemp -d) || exit
    trap 'rm -rf "$scratch"' EXIT
    use_scratch "$scratch"
    mkdir "$scratch/objects" || exit
    cp "$GIT_DIR/index" "$scratch/index" 2>/dev/null
    export GIT_INDEX_FILE="$scratch/index"
    # The worker changes files meanwhile: one that is gone must not keep the rest back.
    git add -A --ignore-errors 2>/dev/null
    tree=$(git write-tree) || exit
    [ "$tree" != "$(git rev-parse "$2^{tree}")" ] || exit 0
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
