# First lines of every script that runs git: git starts no program that a repository or the environment names.

export GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 GIT_NO_LAZY_FETCH=1
export GIT_ALLOW_PROTOCOL=none GIT_SSH_COMMAND=false GIT_ASKPASS=false GIT_PAGER=cat GIT_EDITOR=false

n=0
set_config() {
    eval "export GIT_CONFIG_KEY_$n=\$1 GIT_CONFIG_VALUE_$n=\$2"
    n=$((n + 1))
    export GIT_CONFIG_COUNT=$n
}
set_config core.fsmonitor false
set_config core.hooksPath /dev/null
set_config core.sshCommand false
set_config core.alternateRefsCommand false
set_config credential.helper ''
set_config diff.external ''

