"""What we call in the C library, and the script that compiles these declarations into `_libc.py`.

The result is plain Python that cffi reads in a millisecond, where parsing C at every start would
take fifty. Run `python -m dnsguard.net.libc_build` after a change here; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

DECLARATIONS = """
struct iovec { void *iov_base; size_t iov_len; };
struct msghdr {
    void *msg_name; unsigned int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
    void *msg_control; size_t msg_controllen; int msg_flags;
};
struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
int recvmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags, void *timeout);
int sendmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags);
ssize_t recvmsg(int fd, void *header, int flags);
ssize_t sendmsg(int fd, void *header, int flags);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
"""
TARGET = Path(__file__).with_name("_libc.py")
HEAD = '''"""What we call in the C library, compiled from `libc_build.py`; not to be edited."""

'''


def build(target: Path = TARGET) -> None:
    """Write the compiled declarations to `target`."""
    from cffi import FFI  # the parser is wanted here and nowhere else

    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source("dnsguard.net._libc", None)
    ffi.emit_python_code(str(target))
    target.write_text(HEAD + target.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    build()
