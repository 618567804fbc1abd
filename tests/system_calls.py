"""What a program does to the world outside of it, told from its system calls (strace, Linux).

Watched are the calls that reach a network, change files or start programs. Reading files is free, but for those that a
look-up of a name reads. Calls that failed count, too: whether a forbidden one works depends on the machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE")
OPENING = ("open", "openat", "openat2")
CHANGING = (
    *(
        "creat",
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
    ),
    *("link", "linkat", "symlink", "symlinkat", "truncate"),
)
SENDING = ("sendto", "sendmsg", "sendmmsg")
# io_uring does all of this without further calls, so that a watcher would see nothing of it.
CALLS = (*OPENING, *CHANGING, *SENDING, "socket", "connect", "bind", "execve", "execveat", "io_uring_setup")

FAMILIES = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK")  # netlink asks the kernel alone, which interfaces there are
NAME_PORTS = (53, 5353)  # DNS and mDNS: a resolver on this machine asks others
NAME_FILES = ("/etc/hosts", "/etc/resolv.conf")
# And no others. What lies in /dev/shm is memory, no file: the lock of a progress bar, for one.
DEVICES = ("/dev/null", "/dev/dri", "/dev/shm")
PROGRAMS = ('"/sbin/ldconfig"',)  # lists the system's libraries for ctypes, by which OpenGL is found

LINE = re.compile(r"\d+ +(\w+)\((.*)")
FILE = re.compile(r'(?:<([^<>]*)>, )?"((?:[^"\\]|\\.)*)"')  # the folder that a descriptor stands for, and a path
ADDRESS = re.compile(
    r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]*)"\)'
    r'|sin6_port=htons\((\d+)\),.*?inet_pton\(AF_INET6, "([^"]*)"'
)
LOCAL_NAME = re.compile(r'sun_path=@?"([^"]*)"')
ENDED = re.compile(r"\+\+\+ (?:exited|killed)")
REPORT_SECONDS = 10.0  # for strace to write its last line


def watcher(report: Path) -> list[str]:
    """Put before a command, it writes the command's calls into a file; the command stays its starter's own child."""
    calls = ",".join(f"?{name}" for name in CALLS)  # those that this processor does not have are left out
    # -s 0: what is sent is not told. --seccomp-bpf: all other calls are as fast as ever.
    return ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", "0", "-o", str(report), "-e", f"trace={calls}"]


def environment(folder: Path) -> dict[str, str]:
    """This process's, with an empty home of its own, and a folder of its own for temporary files."""
    for name in ("home/.cache", "temp"):
        (folder / name).mkdir(parents=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MESA_", "ORT_"))}
    return own | {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "home" / ".cache"),  # otherwise Mesa asks the system who the user is
        "TMPDIR": str(folder / "temp"),
        "PYTHONDONTWRITEBYTECODE": "1",  # Python keeps what it compiled beside its sources
    }


def faults(report: Path, folder: Path, allowed: Iterable[Path]) -> list[str]:
    """What a watched program did that nobody had named, each once, in words.

    Args:
        folder: in which it was started.
        allowed: files and folders that it may change.
    """
    deadline = time.monotonic() + REPORT_SECONDS
    while not ENDED.search(last_line(report)) and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = report.read_text(errors="replace").splitlines()
    assert lines and ENDED.search(lines[-1]), "the watcher saw the program to its end"
    may_change = [Path(path) for path in DEVICES] + [path.resolve() for path in allowed]
    found: dict[str, None] = {}
    programs = 0
    for line in lines:
        call = LINE.match(line)
        if call is None:
            continue  # the second half of a call that was interrupted, a signal, an end
        name, arguments = call.groups()
        programs += name in ("execve", "execveat")
        if name in ("execve", "execveat") and programs == 1:
            continue  # the program itself
        found |= dict.fromkeys(faults_of(name, arguments, folder, may_change))
    return list(found)


def last_line(report: Path) -> str:
    lines = report.read_text(errors="replace").splitlines() if report.exists() else []
    return lines[-1] if lines else ""


def faults_of(name: str, arguments: str, folder: Path, may_change: Sequence[Path]) -> Iterator[str]:
    """Of one call, as strace prints it."""
    if name in OPENING or name in CHANGING:
        writes = name in CHANGING or any(flag in arguments for flag in WRITING)
        for at, text in FILE.findall(arguments):
            path = Path(os.path.normpath(Path(at or folder) / text))
            if writes and not any(path.is_relative_to(allowed) for allowed in may_change):
                yield f"changes {path} ({name})"
            elif str(path) in NAME_FILES:
                yield f"looks up a name: it reads {path}"
    elif name in SENDING or name in ("connect", "bind"):
        yield from faults_of_addresses(name, arguments)
    elif name == "socket":
        if not arguments.startswith(FAMILIES):
            yield f"opens a socket of the family {arguments.split(',')[0]}"
    elif not arguments.startswith(PROGRAMS):
        yield f"{name}({arguments}"


def faults_of_addresses(name: str, arguments: str) -> Iterator[str]:
    """A server takes calls of this machine and answers them: it connects to nothing."""
    for port, address, port6, address6 in ADDRESS.findall(arguments):
        host, number = ipaddress.ip_address(address or address6), int(port or port6)
        if number in NAME_PORTS and name != "bind":
            yield f"looks up a name at {host}, port {number} ({name})"
        elif name == "connect" or not host.is_loopback:
            yield f"{name} {host}, port {number}"
    for path in LOCAL_NAME.findall(arguments):
        yield f"{name} {path}, another program's"
