"""The tries of tries.py, and further ones against the container of a single job and against the gateway to the model.

    python3 box_tries.py CONTEXT RESULTS
"""

import ctypes
import fcntl
import glob
import json
import os
import resource
import socket
import ssl
import struct
import sys
import time

import tries
from tries import context, holds_secret, own, ran, read, write

libc = ctypes.CDLL(None, use_errno=True)
HOST = context["host"]
# Capabilities with which a container is no boundary: SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, NET_ADMIN, NET_RAW,
# MKNOD, SYS_CHROOT, BPF.
STRONG_CAPABILITIES = [16, 17, 19, 21, 12, 13, 27, 18, 39]
PROBE_SECONDS = 1


def is_any(attempts):
    """True where one of the attempts returns something true; an error is none."""
    for attempt in attempts:
        try:
            if attempt():
                return True
        except OSError:
            pass
    return False


def request(address, text, secure=False):
    """Sends a request and returns the beginning of the answer."""
    with socket.create_connection(address, PROBE_SECONDS) as sock:
        if secure:
            unchecked = ssl._create_unverified_context()
            sock = unchecked.wrap_socket(sock)
        sock.settimeout(PROBE_SECONDS)
        sock.sendall(text.encode())
        return sock.recv(4096)


def get(path, host, headers=""):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"


def succeeds(address, text, secure=False):
    return b" 200 " in request(address, text, secure)[:20]


# The gateway to the model.

def loopback_ports():
    """Ports of this container's loopback on which something listens."""
    ports = []
    for line in open("/proc/net/tcp").readlines()[1:]:
        words = line.split()
        if words[3] == "0A":
            ports.append(int(words[1].split(":")[1], 16))
    return ports


def ask_model(port, path, token, method="POST"):
    body = '{"model": "m", "stream": true, "messages": [], "input": []}'
    keys = "".join(f"{name}: {token}\r\n" for name in ["x-api-key"] if token) + (
        f"Authorization: Bearer {token}\r\n" if token else "")
    head = f"{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{keys}Content-Length: {len(body)}\r\n\r\n"
    return request(("127.0.0.1", port), head + body)


def gives_model(port, path, token, method="POST"):
    return b" 200 " in ask_model(port, path, token, method)[:20]


def gateway_without_a_token():
    paths = ["/v1/responses", "/v1/messages"]
    return is_any(lambda port=port, path=path: gives_model(port, path, "") for port in loopback_ports() for path in paths)


def gateway_with_another_token():
    mine = os.environ.get("ANTHROPIC_API_KEY", "0" * 64)
    tokens = ["0" * len(mine), mine[:-1] + ("0" if mine[-1] != "0" else "1"), mine[:-1], mine + "0", mine.upper() + " "]
    return is_any(
        lambda port=port, token=token: gives_model(port, "/v1/messages", token) or gives_model(port, "/v1/responses", token)
        for port in loopback_ports() for token in tokens)


def other_routes_of_the_gateway():
    mine = os.environ.get("ANTHROPIC_API_KEY", "")
    routes = [
        ("GET", "/v1/files"), ("POST", "/v1/files"), ("POST", "/v1/messages/batches"), ("GET", "/v1/organizations"),
        ("POST", "/v1/messages/../files"), ("GET", "/v1/responses/resp_1"), ("POST", "/v1/batches"), ("GET", "/agent"),
        ("GET", "/events"), ("GET", "/healthz"), ("GET", "http://169.254.169.254/"), ("CONNECT", "example.com:443"),
        ("POST", "//v1/messages"), ("POST", "/v1%2Fmessages"), ("DELETE", "/v1/messages"),
    ]
    return is_any(
        lambda port=port, method=method, path=path: gives_model(port, path, mine, method)
        for port in loopback_ports() for method, path in routes)


def key_in_answers_of_the_gateway():
    mine = os.environ.get("ANTHROPIC_API_KEY", "")
    paths = ["/v1/messages", "/v1/responses", "/nothing"]
    return is_any(lambda port=port, path=path: holds_secret(ask_model(port, path, mine))
                  for port in loopback_ports() for path in paths)


def smuggled_second_request():
    mine = os.environ.get("ANTHROPIC_API_KEY", "")
    inner = get("/v1/files", "relay")
    head = (f"POST /v1/messages HTTP/1.1\r\nHost: relay\r\nx-api-key: {mine}\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Length: 4\r\n\r\n0\r\n\r\n{inner}")
    return is_any(lambda port=port: b" 200 " in request(("127.0.0.1", port), head) for port in loopback_ports())


# The relay, and the network.

def relay_routes_without_a_token():
    paths, address = ["/events", "/events?job=other%231", "/api/v1/jobs", "/metrics", "/"], (HOST, context["port"])
    return is_any(lambda path=path, secure=secure: succeeds(address, get(path, HOST), secure)
                  for path in paths for secure in [False, True])


def relay_as_a_browser():
    headers = "Origin: http://localhost\r\nAuthorization: Bearer x\r\n"
    return succeeds((HOST, context["port"]), get("/events", HOST, headers))


def as_an_agent_with_tls():
    for token in ["", "0" * 64, os.environ.get("ANTHROPIC_API_KEY", "null")]:
        upgrade = ("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                   f"Sec-WebSocket-Protocol: worker-relay.v1\r\nAuthorization: Bearer {token}\r\n")
        text = get("/agent", f"{HOST}:{context['port']}", upgrade).replace("Connection: close", "Connection: Upgrade")
        try:
            if b" 101 " in request((HOST, context["port"]), text, True)[:40]:
                return True
        except OSError:
            pass
    return False


def engine_over_the_network():
    return is_any(lambda port=port: succeeds((HOST, port), get("/version", HOST)) for port in [2375, 2376, 4243, 8080])


def metadata_of_the_machine():
    address = ("169.254.169.254", 80)
    probes = [
        get("/latest/meta-data/", address[0]),
        get("/computeMetadata/v1/", address[0], "Metadata-Flavor: Google\r\n"),
        get("/metadata/instance?api-version=2021-02-01", address[0], "Metadata: true\r\n"),
        f"PUT /latest/api/token HTTP/1.1\r\nHost: {address[0]}\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n",
    ]
    return is_any(lambda probe=probe: succeeds(address, probe) for probe in probes)


def listeners_of_other_containers():
    first = socket.gethostbyname(socket.gethostname()).rsplit(".", 1)[0]
    mine = socket.gethostbyname(socket.gethostname())

    def answers(last):
        with socket.socket() as sock:
            sock.settimeout(0.05)
            return sock.connect_ex((f"{first}.{last}", context["port"])) == 0
    # The bridge itself is the machine, on whose port the relay checks tokens.
    return any(answers(last) for last in range(2, 12) if f"{first}.{last}" != mine)


def raw_sockets():
    return is_any([
        lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    ])


def address_of_the_network_card():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = struct.pack("16sH2s4s8s", b"eth0", socket.AF_INET, b"", socket.inet_aton("172.17.0.99"), b"")
        fcntl.ioctl(sock, 0x8916, name)
    return True


def sockets_of_the_machine():
    names = open("/proc/net/unix").read()
    return any(word in names for word in ["docker", "containerd", "X11", "systemd"])


# The kernel.

def capabilities():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    held = int(lines["CapBnd"], 16) | int(lines["CapEff"], 16)
    return any(held >> capability & 1 for capability in STRONG_CAPABILITIES) or lines["NoNewPrivs"].strip() != "1"


def become_root():
    if is_any([lambda: os.setuid(0) or True]):
        return True
    done, said = ran("su", "-c", "id -u", stdin=b"\n")
    return done and said.strip() == b"0"


def setuid_program():
    path = os.path.join(own, "setuid-program")
    done, _ = ran("cp", "/bin/cat", path)
    os.chmod(path, 0o4755)
    os.chown(path, 0, 0)
    return done


def root_file_through_a_setuid_program():
    for path in ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/chsh", "/usr/bin/mount", "/usr/bin/newgrp"]:
        if os.path.exists(path):
            done, said = ran(path, "--version")
            if b"uid=0" in said:
                return True
    ok, said = ran("mount", "--bind", "/var/lib/worker-agent", own)
    return ok


def mounts():
    for source, kind in [(b"none", b"tmpfs"), (b"proc", b"proc"), (b"/dev/vda", b"ext4"), (b"none", b"cgroup")]:
        if libc.mount(source, b"/mnt", kind, 0, None) == 0:
            return True
    return libc.mount(b"none", b"/", None, 32 | 4096, None) == 0


def mounts_in_a_namespace_of_a_user():
    ok, _ = ran("unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt")
    return ok


def new_root():
    os.chroot("/tmp")
    return True


def devices():
    opened = [lambda path=path: os.open(path, os.O_RDWR) for path in
              ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/loop-control"]]
    made = [lambda: os.mknod(os.path.join(own, "disk"), 0o60666, os.makedev(254, 0)) or True,
            lambda: os.mknod("/tmp/memory", 0o20666, os.makedev(1, 1)) or True]
    return is_any(opened + made)


def limits_of_the_container():
    files = ["memory/memory.limit_in_bytes", "pids/pids.max", "memory.max", "pids.max", "cpu/cpu.cfs_quota_us",
             "cpu.max", "devices/devices.allow", "memory/cgroup.procs", "cgroup.procs", "memory/release_agent"]
    return is_any(lambda file=file: write(f"/sys/fs/cgroup/{file}", "a *:* rwm\n", "w") for file in files)


def new_cgroup():
    folders = [f"{folder}/escape" for folder in ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")]]
    return is_any(lambda folder=folder: os.mkdir(folder) or True for folder in folders)


def containers_of_others_in_the_cgroups():
    return len(glob.glob("/sys/fs/cgroup/*/docker/*") + glob.glob("/sys/fs/cgroup/docker/*")) > 0


def settings_of_the_kernel():
    files = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/modprobe",
             "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register", "/sys/power/state"]
    return is_any(lambda file=file: write(file, "|/bin/true", "w") for file in files)


def memory_of_the_kernel():
    if is_any([lambda: read("/proc/kcore", 4096), lambda: read("/dev/kmsg", 1)]):
        return True
    addresses = {line.split()[0] for line in open("/proc/kallsyms").readlines()[:50]}
    return addresses not in ({"0" * 16}, set())


def messages_of_the_kernel():
    return libc.klogctl(3, ctypes.create_string_buffer(4096), 4096) > 0


def kernel_keyring():
    add_key, keyctl = 248, 250
    if libc.syscall(add_key, b"user", b"relay-try", b"x", 1, -4) >= 0:
        return True
    return libc.syscall(keyctl, 0, -5, 0, 0, 0) >= 0


def programs_in_the_kernel():
    bpf, perf_event_open, init_module = 321, 298, 175
    attributes = ctypes.create_string_buffer(128)
    return (libc.syscall(bpf, 0, attributes, 128) >= 0 or libc.syscall(perf_event_open, attributes, -1, 0, -1, 0) >= 0
            or libc.syscall(init_module, attributes, 0, b"") == 0)


def name_and_time_of_the_machine():
    return is_any([lambda: socket.sethostname("broke") or True,
                   lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()) or True])


def protection_of_the_agent():
    return is_any([
        lambda: write("/proc/self/oom_score_adj", "-1000", "w"),
        lambda: write("/proc/1/oom_score_adj", "1000", "w"),
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -20) or True,
    ])


def higher_limits_of_a_process():
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return hard != resource.RLIM_INFINITY


def shared_memory_of_others():
    segments = [len(open(f"/proc/sysvipc/{kind}").readlines()) > 1 for kind in ["shm", "sem", "msg"]]
    return any(segments) or any(name for name in os.listdir("/dev/shm"))


# Files and processes of the container.

def the_first_process():
    return is_any([lambda: os.kill(1, 0) or True, lambda: os.readlink("/proc/1/exe"), lambda: read("/proc/1/environ")])


def program_of_the_agent():
    paths = ["/usr/local/bin/worker-agent", "/usr/local/lib/relay/entrypoint.sh", "/usr/bin/tini", "/usr/local/bin/codex",
             "/etc/ld.so.preload", "/etc/passwd", "/usr/local/bin/broke"]
    return is_any(lambda path=path: write(path, "") for path in paths)


def state_folder_of_the_agent():
    folder = "/var/lib/worker-agent"
    return is_any([
        lambda: os.listdir(folder),
        lambda: os.rename(folder, folder + ".moved") or True,
        lambda: write(f"{folder}/config.json", "{}"),
    ])


def configuration_through_links():
    target, output = "/var/lib/worker-agent/config.json", os.environ.get("RELAY_OUTPUT", own)
    # What the agent reads through these links is seen by who looks at the job's output and log.
    for folder, name in [(output, "leak"), (own, "leak"), (own, ".codex-worker/leak")]:
        try:
            os.symlink(target, os.path.join(folder, name))
        except OSError:
            pass
    return is_any([lambda: os.link(target, os.path.join(own, "hard-leak")) or True,
                   lambda: os.link(target, os.path.join(output, "hard-leak")) or True])


def a_pipe_where_files_are_read():
    for name in [".git", ".codex-worker/pipe"]:
        try:
            os.mkfifo(os.path.join(own, name))
        except OSError:
            pass
    # A reader that opens it would hang: the job would not end.
    return False


def folders_of_other_jobs():
    workspaces = os.path.dirname(own)
    return len(os.listdir(workspaces)) > 1 or os.path.exists(context["other"]) or len(os.listdir("/home")) > 1


def above_the_workspace():
    return write(os.path.join(os.path.dirname(own), "broke")) and len(os.listdir(os.path.dirname(own))) > 2


def files_of_the_machine():
    paths = [context["project"], context["state"], context["programs"], "/var/run/docker.sock", "/var/lib/docker",
             "/host", "/rootfs"]
    return any(os.path.exists(path) for path in paths)


BOX_TRIES = [
    gateway_without_a_token, gateway_with_another_token, other_routes_of_the_gateway, key_in_answers_of_the_gateway,
    smuggled_second_request, relay_routes_without_a_token, relay_as_a_browser, as_an_agent_with_tls,
    engine_over_the_network, metadata_of_the_machine, listeners_of_other_containers, raw_sockets,
    address_of_the_network_card, sockets_of_the_machine, capabilities, become_root, setuid_program,
    root_file_through_a_setuid_program, mounts, mounts_in_a_namespace_of_a_user, new_root, devices,
    limits_of_the_container, new_cgroup, containers_of_others_in_the_cgroups, settings_of_the_kernel,
    memory_of_the_kernel, messages_of_the_kernel, kernel_keyring, programs_in_the_kernel, name_and_time_of_the_machine,
    protection_of_the_agent, higher_limits_of_a_process, shared_memory_of_others, the_first_process,
    program_of_the_agent, state_folder_of_the_agent, configuration_through_links, a_pipe_where_files_are_read,
    folders_of_other_jobs, above_the_workspace, files_of_the_machine,
]

if __name__ == "__main__":
    tries.run(BOX_TRIES + tries.TRIES)
