# Counts what a job changed. The repository's own settings can name programs: none of them is started here.
#
#   sh -c SCRIPT sh begin               prints the commit or tree that the job begins with
#   sh -c SCRIPT sh count TREE PLACE    prints what differs from it, an entry that is not a path, and git's status
#
# PLACE is `top` for the first folder of a repository, or `below`. Exit code 3: no repository, or a folder that the
# repository around it ignores.

export GIT_OPTIONAL_LOCKS=0
set_config safe.bareRepository explicit

inside_repository() { [ "$(git rev-parse --is-inside-work-tree 2>/dev/null)" = true ]; }

case $1 in
begin)
    git rev-parse --verify --quiet HEAD && exit
    inside_repository || exit 3
    git hash-object -t tree /dev/null
    ;;
count)
    [ "$3" = top ] || ! git check-ignore --quiet . || exit 3
    named='^(filter\..*\.(clean|smudge|process|required)|diff\..*\.(command|textconv)|merge\..*\.driver)$'
    while IFS= read -r name; do
        [ -z "$name" ] || set_config "$name" ''
    done <<END
$(git config --name-only --get-regexp "$named")
END
    # While the commit and all tracked files are the same, only new files are left to count.
    status=$(git status --porcelain=v2 --branch --no-ahead-behind --untracked-files=all --no-renames \
        --ignore-submodules=dirty -- .) || {
        code=$?
        inside_repository || exit 3
        exit $code
    }
    case $status in
    *'
'[12u]' '*) is_same= ;;
    "# branch.oid $2
"*) is_same=1 ;;
    *) is_same= ;;
    esac
    [ $is_same ] ||
        git diff --numstat -z --no-color --no-renames --no-ext-diff --no-textconv --ignore-submodules=dirty --relative "$2" ||
        exit
    printf '\001\000%s\n' "$status"
    ;;
esac
