"""A wire between two network namespaces: whole packets, with loss, delay and reordering as told.

    wire.py NAMESPACE ADDRESS NAMESPACE ADDRESS

Not every kernel has `tc netem`. Reads lines `LOSS DELAY JITTER` (percent, ms, ms) from stdin and ends with it; says `ready`.
"""
import fcntl, heapq, os, random, select, struct, subprocess, sys, time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def end(namespace, address, tag):
    """A network device in a namespace; what is sent through it is read here."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    name = f"rw{os.getpid()}{tag}"
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        f"ip link set {name} netns {namespace} name wire",
        f"ip -n {namespace} addr add {address}/30 dev wire",
        f"ip -n {namespace} link set wire up",
        f"ip -n {namespace} link set lo up",
    ):
        subprocess.run(command.split(), check=True)
    os.set_blocking(fd, False)
    return fd


ends = [end(sys.argv[1], sys.argv[2], "a"), end(sys.argv[3], sys.argv[4], "b")]
other = {ends[0]: ends[1], ends[1]: ends[0]}
loss = delay = jitter = 0.0
travelling, count = [], 0
print("ready", flush=True)
while True:
    wait = max(0.0, travelling[0][0] - time.monotonic()) if travelling else None
    for fd in select.select([0, *ends], [], [], wait)[0]:
        if fd == 0:
            line = sys.stdin.readline()
            if not line:
                sys.exit()
            loss, delay, jitter = (float(word) for word in line.split())
            continue
        packet = os.read(fd, 65536)
        if random.random() * 100 < loss:
            continue
        # Jitter alone reorders: a later packet may be due before an earlier one.
        late = (delay + random.uniform(-jitter, jitter)) / 1000
        count += 1
        heapq.heappush(travelling, (time.monotonic() + late, count, other[fd], packet))
    while travelling and travelling[0][0] <= time.monotonic():
        _, _, to, packet = heapq.heappop(travelling)
        try:
            os.write(to, packet)
        except OSError:
            pass  # The other end is not up yet, or its queue is full: packets get lost.
