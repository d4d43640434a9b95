# dnsguard's image: what requirements-image.lock names, the package, and an interpreter; no compiler, no
# pip, no shell of its own. Both stages need the same minor version of Python.
#
#   buildah build --build-arg REVISION=$(git rev-parse HEAD) -t dnsguard .
#
# With --build-arg IPTABLES=nft or =legacy it has iptables as well, of that kind, for `node.rules: iptables`.
#
# `make image` builds it on a base of its own making and asks it a question.
ARG BUILD=docker.io/library/python:3.11-slim-bookworm
ARG BASE=gcr.io/distroless/python3-debian12

FROM ${BUILD} AS build
RUN python3 -m venv /build
COPY requirements-image.lock /src/
# Wheels only: nothing of what is downloaded runs here.
RUN /build/bin/python -m pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: \
        --require-hashes --target=/opt/dnsguard -r /src/requirements-image.lock \
    && rm -rf /opt/dnsguard/bin
COPY dnsguard /opt/dnsguard/dnsguard
# `dnsguard node` has nft change the rules of a node: the program, and what it needs beside the libc.
# iptables finds its extensions beside that; ip6tables is the same program by another name.
ARG IPTABLES=no
RUN mkdir -p /out/usr/sbin /out/usr/lib \
    && packages= \
    && if ! command -v nft >/dev/null; then packages=nftables; fi \
    && if [ "$IPTABLES" != no ] && ! command -v iptables >/dev/null; then packages="$packages iptables"; fi \
    && if [ -n "$packages" ]; then apt-get update && apt-get install -y --no-install-recommends $packages; fi \
    && cp "$(command -v nft)" /out/usr/sbin/nft \
    && if [ "$IPTABLES" != no ]; then \
        program="xtables-$IPTABLES-multi" extensions="$(dirname "$(find /usr/lib -name libxt_recent.so)")" \
        && cp "/usr/sbin/$program" /out/usr/sbin/ \
        && ln -s "$program" /out/usr/sbin/iptables && ln -s "$program" /out/usr/sbin/ip6tables \
        && mkdir -p "/out$extensions" && cp "$extensions"/*.so "/out$extensions"; fi \
    && ldd /out/usr/sbin/nft /out/usr/sbin/xtables-*-multi 2>/dev/null \
        | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u \
        | grep -E '/lib(nftables|nftnl|mnl|xtables|ip4tc|ip6tc|jansson|gmp|edit|tinfo|bsd|md|readline)\.' \
        | while read -r library; do \
            folder="/out/usr/lib/$(basename "$(dirname "$library")")"; \
            mkdir -p "$folder" && cp "$library" "$folder"; done
# Compiled here, because the file system is read-only where it runs. A state directory for whoever
# mounts none, and the command under its name, for `kubectl exec`.
RUN find /opt/dnsguard \( -name tests -o -name '*.pyi' -o -name '*.c' -o -name '*.pyx' -o -name '*.pxd' \) \
        -prune -exec rm -rf {} + \
    && python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash /opt/dnsguard \
    && mkdir -p /out/opt /out/usr/local/bin /out/var/lib/dnsguard \
    && mv /opt/dnsguard /out/opt/dnsguard \
    && printf '#!/usr/bin/python3\nfrom dnsguard.cli.main import main\n\nmain()\n' \
        > /out/usr/local/bin/dnsguard \
    && chmod 755 /out/usr/local/bin/dnsguard \
    && chown -R 65532:65532 /out/var/lib/dnsguard && chmod 700 /out/var/lib/dnsguard

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dnsguard" \
      org.opencontainers.image.description="A DNS caching proxy that keeps answering when cluster DNS does not" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
ENV PYTHONPATH=/opt/dnsguard PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/dnsguard
# By number, or a kubelet could not tell that it is not root.
USER 65532:65532
EXPOSE 5353/udp 5353/tcp 9153/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/usr/bin/python3", "-S", "-c", "import socket; s = socket.create_connection(('127.0.0.1', 9153), 2); s.sendall(b'GET /livez HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
ENTRYPOINT ["/usr/local/bin/dnsguard"]
CMD ["serve", "--listen=0.0.0.0:5353"]
