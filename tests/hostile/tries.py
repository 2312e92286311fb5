"""Tries to read secrets, to write outside of the workspace and to reach another job.

    python3 tries.py CONTEXT RESULTS

CONTEXT is a JSON file with the targets; secrets stand in it in two halves, so that the file itself holds none.
RESULTS gets one line a try: `NAME broke` or `NAME held`. Each try is a process of its own with a time limit.
"""

import ctypes
import glob
import json
import os
import re
import signal
import socket
import subprocess
import sys

context = json.load(open(sys.argv[1]))
secrets = {name: "".join(halves).encode() for name, halves in context["secrets"].items()}
outside = context["outside"]
home = context["home"]
project = context["project"]
state = context["state"]
codex_home = context["codex_home"]
other = context["other"]
own = os.getcwd()
TOKEN = re.compile(rb'"token"\s*:\s*"[0-9a-f]{64}"')
MEGABYTE = 1 << 20


def read(path, most=4 * MEGABYTE):
    with open(path, "rb") as file:
        return file.read(most)


def holds_secret(data):
    return any(secret in data for secret in secrets.values()) or TOKEN.search(data) is not None


def any_file(paths, most=4 * MEGABYTE):
    for path in paths:
        try:
            if os.path.isfile(path) and holds_secret(read(path, most)):
                return True
        except OSError:
            pass
    return False


def tree(folder, limit=5000):
    found = []
    for at, _, names in os.walk(folder):
        found += [os.path.join(at, name) for name in names]
        if len(found) > limit:
            break
    return found


def others():
    """Processes that are not of this job: neither this one nor one below its first command."""
    mine = {os.getpid(), os.getppid()}
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in mine]


def of_other_job(pid):
    return context["other_mark"].encode() in read(f"/proc/{pid}/cmdline")


def write(path, text="broke\n", mode="a"):
    with open(path, mode) as file:
        file.write(text)
    return True


def marker(name):
    return os.path.join(outside, name)


def ran(*argv, env=None, stdin=None):
    done = subprocess.run(argv, env=env, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    return done.returncode == 0, done.stdout


# Reading.

def own_environment():
    # A job's own `--env` value is its own: what is looked for is the model's key.
    return any(secrets["key"] in value.encode() for value in os.environ.values())


def environment_of_the_model():
    return any_key(f"/proc/{pid}/environ" for pid in others())


def any_key(paths):
    for path in paths:
        try:
            if secrets["key"] in read(path):
                return True
        except OSError:
            pass
    return False


def environment_of_the_other_job():
    for pid in others():
        try:
            if secrets["other"] in read(f"/proc/{pid}/environ"):
                return True
        except OSError:
            pass
    return False


def command_lines():
    return any_file(f"/proc/{pid}/cmdline" for pid in others())


def memory(pid):
    with open(f"/proc/{pid}/maps") as maps:
        ranges = [line.split() for line in maps]
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for words in ranges:
            if "r" not in words[1] or (len(words) > 5 and words[5].startswith("/")):
                continue
            start, end = (int(edge, 16) for edge in words[0].split("-"))
            try:
                mem.seek(start)
                if holds_secret(mem.read(min(end - start, 16 * MEGABYTE))):
                    return True
            except (OSError, ValueError, OverflowError):
                pass
    return False


def memory_of(wanted):
    for pid in others():
        try:
            if wanted(pid) and memory(pid):
                return True
        except OSError:
            pass
    return False


def is_agent(pid):
    # The shims of a job are the same program, and the job's own.
    words = read(f"/proc/{pid}/cmdline").split(b"\0")
    return words[0].endswith(b"worker-agent") and b"run" in words


def memory_of_the_agent():
    return memory_of(is_agent)


def memory_of_the_other_job():
    return memory_of(of_other_job)


def descriptors_of_others():
    for pid in others():
        try:
            if of_other_job(pid):
                continue
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                path = f"/proc/{pid}/fd/{name}"
                if os.path.isfile(path) and holds_secret(read(path)):
                    return True
            except OSError:
                pass
    return False


def own_descriptors():
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.lseek(int(name), 0, os.SEEK_SET)
                if holds_secret(os.read(int(name), MEGABYTE)):
                    return True
            except OSError:
                pass
    return False


def attach(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0:
        return False
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, 0, 0)
    return True


def attach_to_the_agent():
    return any(attach(pid) for pid in others() if is_agent(pid))


def attach_to_the_other_job():
    return any(attach(pid) for pid in others() if of_other_job(pid))


def configuration_of_the_agent():
    return any_file([
        f"{project}/platform/workers/agent/config.json",
        f"{state}/agent/config.json",
        "/var/lib/worker-agent/config.json",
        *glob.glob(f"{state}/*/agent/config.json"),
    ])


def login_of_codex():
    return any_file([f"{codex_home}/auth.json", f"{home}/.codex/auth.json", os.path.expanduser("~/.codex/auth.json")])


def registry():
    return len(os.listdir(f"{project}/platform/workers")) > 0


def registry_secrets():
    return any_file(tree(f"{project}/platform"))


def api_token():
    return len(read(f"{project}/platform/workers/api-token")) > 0


def state_of_the_person():
    return len(tree(state)) > 0


def temporary_files():
    return any_file(tree("/tmp", 2000) + tree("/dev/shm") + tree("/var/tmp", 500), MEGABYTE)


def spool_of_the_agent():
    return any_file(tree("/var/lib/worker-agent"))


def core_of_the_agent():
    for pid in others():
        if is_agent(pid):
            os.kill(pid, signal.SIGABRT)
            return True
    return False


# Writing.

def startup_file_of_the_shell():
    return write(f"{home}/.bashrc")


def beside_the_project():
    return write(marker("beside"))


def through_a_link():
    os.symlink(marker("through-a-link"), os.path.join(own, "out"))
    return write(os.path.join(own, "out"))


def through_a_hard_link():
    os.link(context["victim"], os.path.join(own, "hard"))
    return write(os.path.join(own, "hard"))


def settings_of_relay():
    return write(f"{project}/platform/relay.toml", "\n# broke\n")


def forged_spec():
    return write(f"{project}/platform/workers/forged.1.spec", "{}")


def forged_request():
    request = {"Cancel": {"job": context["other_job"], "grace_ms": 0}}
    return write(f"{project}/platform/workers/requests/forged.json", json.dumps(request))


def log_folder_as_a_link():
    folder = os.path.join(own, ".codex-worker")
    os.rename(folder, folder + ".moved")
    os.symlink(outside, folder)
    # What is written through it later is seen by who looks for markers.
    return False


def settings_of_codex():
    broke = False
    for name in ["config.toml", "AGENTS.md", "hooks.json"]:
        for folder in {codex_home, f"{home}/.codex"}:
            try:
                broke = write(f"{folder}/{name}", "\n# broke\n")
            except OSError:
                pass
    return broke


def consent_of_the_person():
    os.makedirs(f"{state}/consent", exist_ok=True)
    return write(f"{state}/consent/forged")


def caches_of_the_person():
    broke = False
    for folder in [".cache", ".npm", ".cargo/registry", ".cargo/git", ".cargo/bin", ".local/bin"]:
        try:
            os.makedirs(f"{home}/{folder}", exist_ok=True)
            broke = write(f"{home}/{folder}/broke")
        except OSError:
            pass
    return broke


def programs_of_relay():
    return write(os.path.join(context["programs"], "broke"))


def roots_of_others():
    for pid in others():
        for way in ["root", "cwd"]:
            try:
                if write(f"/proc/{pid}/{way}{marker('root-of-another')}"):
                    return True
            except OSError:
                pass
    return False


def namespaces():
    target = marker("namespaces")
    script = f"mount -o remount,rw / 2>/dev/null; mount --bind {outside} /mnt 2>/dev/null && touch /mnt/namespaces; touch {target}"
    ran("unshare", "-Urm", "sh", "-c", script)
    return os.path.exists(target)


def enter_the_first_process():
    done, _ = ran("nsenter", "-t", "1", "-m", "touch", marker("nsenter"))
    return done and os.path.exists(marker("nsenter"))


def a_job_without_a_sandbox():
    env = {name: value for name, value in os.environ.items() if not name.startswith("RELAY")}
    argv = [os.path.join(context["programs"], "relay"), "--root", project, "launch", "-q", "--runner", "shell", "-w", own]
    done, _ = ran(*argv, f"touch {marker('launched')}", env=env)
    return done


def a_job_by_name():
    argv = [os.path.join(context["programs"], "relay"), "--root", project, "launch", "-q", "--runner", "shell", "-w", own]
    done, _ = ran(*argv, f"touch {marker('launched-by-name')}")
    return done


def timed_jobs():
    ok, _ = ran("crontab", "-", stdin=f"* * * * * touch {marker('cron')}\n".encode())
    unit, _ = ran("systemd-run", "--user", "touch", marker("unit"))
    return ok or unit


# Reaching others.

def connect(address, family=socket.AF_UNIX):
    with socket.socket(family) as sock:
        sock.settimeout(3)
        sock.connect(address)
        return sock


def socket_of_the_engine():
    for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"]:
        try:
            connect(path)
            return True
        except OSError:
            pass
    return False


def upgrade(host, port, token):
    with socket.create_connection((host, port), 3) as sock:
        request = (
            f"GET /agent HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: worker-relay.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        sock.sendall(request.encode())
        return b" 101 " in sock.recv(200)


def as_an_agent():
    for host in ["127.0.0.1", "host.docker.internal"]:
        for token in ["", "0" * 64, "null"]:
            try:
                if upgrade(host, context["port"], token):
                    return True
            except OSError:
                pass
    return False


def signal_the_agent():
    broke = False
    for pid in others():
        try:
            if is_agent(pid):
                os.kill(pid, 0)
                broke = True
        except OSError:
            pass
    return broke


def signal_the_other_job():
    for pid in others():
        try:
            if of_other_job(pid):
                os.kill(pid, 0)
                return True
        except OSError:
            pass
    return False


def workspace_of_the_other_job():
    return write(os.path.join(other, "broke"))


TRIES = [
    own_environment, environment_of_the_model, environment_of_the_other_job, command_lines, memory_of_the_agent,
    memory_of_the_other_job, descriptors_of_others, own_descriptors, attach_to_the_agent, attach_to_the_other_job,
    configuration_of_the_agent, login_of_codex, registry, registry_secrets, api_token, state_of_the_person,
    temporary_files, spool_of_the_agent, startup_file_of_the_shell, beside_the_project, through_a_link,
    through_a_hard_link, settings_of_relay, forged_spec, forged_request, settings_of_codex, consent_of_the_person,
    caches_of_the_person, programs_of_relay, roots_of_others, namespaces, enter_the_first_process,
    a_job_without_a_sandbox, a_job_by_name, timed_jobs, socket_of_the_engine, as_an_agent, signal_the_agent,
    signal_the_other_job, workspace_of_the_other_job, core_of_the_agent, log_folder_as_a_link,
]


def attempt(function):
    """Runs one try in a process of its own: True where it broke through."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        broke = False
        try:
            broke = bool(function())
        except BaseException:
            pass
        os._exit(7 if broke else 0)
    _, status = os.waitpid(pid, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7


def run(functions):
    for function in functions:
        word = "broke" if attempt(function) else "held"
        # Opened anew each time: a try may move what is open.
        with open(sys.argv[2], "a") as results:
            results.write(f"{function.__name__} {word}\n")


if __name__ == "__main__":
    run(TRIES)
