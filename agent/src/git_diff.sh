# Counts a job's changes. The settings of the repository can name programs; this script starts none of them.
#
#   sh -c SCRIPT sh begin WHERE             prints the commit and the tree that the job begins with, then a line with
#                                           the properties of each new file
#   sh -c SCRIPT sh count HEAD TREE WHERE   prints what differs from TREE or HEAD (`git diff --numstat -z`), a separator
#                                           (\001 and NUL), and a line with the properties of each new file
#
# HEAD is a commit, or the empty tree if there is none. TREE is HEAD, or a tree with the uncommitted changes. WHERE
# is `top` for a repository's top folder, or else `below`. Exit code 3: no repository, or a folder that the repository
# around it ignores.

export GIT_OPTIONAL_LOCKS=0
set_config safe.bareRepository explicit
set_config gc.auto 0

inside_repository() { [ "$(git rev-parse --is-inside-work-tree 2>/dev/null)" = true ]; }

# Stops if the folder is ignored, and disables the programs that the repository names.
prepare() {
    [ "$1" = top ] || ! git check-ignore --quiet . || exit 3
    pattern='^(filter\..*\.(clean|smudge|process|required)|diff\..*\.(command|textconv)|merge\..*\.driver)$'
    while IFS= read -r name; do
        [ -z "$name" ] || set_config "$name" ''
    done <<END
$(git config --name-only --get-regexp "$pattern")
END
}

# Sets `status`, `head` (the empty tree without a commit), and `is_clean` if no tracked file differs from the commit.
read_status() {
    status=$(git status --porcelain=v2 --branch --no-ahead-behind --untracked-files=all --no-renames \
        --ignore-submodules=dirty -- .) || {
        code=$?
        inside_repository || exit 3
        exit $code
    }
    head=${status#*# branch.oid }
    head=${head%%'
'*}
    [ "$head" != '(initial)' ] || head=$(git hash-object -t tree /dev/null)
    case $status in
    *'
'[12u]' '*) is_clean= ;;
    *) is_clean=1 ;;
    esac
}

# Prints inode, size and times of each new file. A file that is written again differs in one of them.
print_new_files() {
    case $status in
    *'
? '*) git ls-files --others --exclude-standard -z -- . | xargs -0 stat -c '%i %s %y %z' -- ;;
    esac
}

# Prints the id of a tree with the tracked files' current content. The index of the repository does not change.
write_tree() {
    index=$(mktemp) || exit
    trap 'rm -f "$index"' EXIT
    cp "$(git rev-parse --git-path index)" "$index" || exit
    GIT_INDEX_FILE=$index git add -u -- . && GIT_INDEX_FILE=$index git write-tree
}

case $1 in
begin)
    prepare "$2"
    read_status
    tree=$head
    [ $is_clean ] || tree=$(write_tree) || exit
    printf '%s\n%s\n' "$head" "$tree"
    print_new_files
    true
    ;;
count)
    prepare "$4"
    read_status
    numstat() {
        git diff "$@" --no-color --no-renames --no-ext-diff --no-textconv --ignore-submodules=dirty --relative
    }
    base=$3
    # If the job has only committed changes from before the job, these count as its changes.
    [ "$3" = "$2" ] || [ "$head" = "$2" ] || ! numstat --quiet "$3" || base=$2
    # While the commit and all tracked files are the same, only new files are left to count.
    { [ $is_clean ] && [ "$head" = "$base" ]; } || numstat --numstat -z "$base" || exit
    printf '\001\000'
    print_new_files
    true
    ;;
esac
