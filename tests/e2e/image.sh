#!/usr/bin/env bash
# Builds the image on a Debian made here, runs it as a pod would, and asks it a question.
#
# Needs root and: buildah podman runc catatonit debootstrap (Debian packages). The container has a
# network namespace of its own with nothing but loopback in it; the upstream and the client enter it.
# With --build-only it ends once the image is there; with --iptables there are those with iptables.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

missing=()
for tool in buildah podman runc debootstrap nsenter; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [[ $(id -u) -ne 0 ]] || ((${#missing[@]})); then
    echo "make image needs root and: ${missing[*]:-}" \
        "(Debian: apt-get install buildah podman runc catatonit debootstrap)" >&2
    exit 1
fi

work=build/image
mkdir -p "$work"
# Some machines give no container the limits that podman asks for by default.
export CONTAINERS_CONF=$PWD/$work/containers.conf
printf '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' \
    > "$CONTAINERS_CONF"
# Layers lie upon each other where the kernel can do that; elsewhere each copies the one below it.
driver=vfs
mkdir -p "$work"/probe/{lower,upper,work,merged}
if (cd "$work/probe" && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged) 2>/dev/null; then
    umount "$work/probe/merged"
    driver=overlay
fi
rm -rf "$work/probe"
echo "$driver" > "$work/driver"
store=(--log-level fatal --storage-driver "$driver" --root "$PWD/$work/$driver" --runroot "$PWD/$work/run-$driver")

debian() { # NAME PACKAGES: a bookworm with python3, as image localhost/NAME
    buildah "${store[@]}" inspect --type image "localhost/$1" >/dev/null 2>&1 && return
    echo "making localhost/$1 with debootstrap (a minute)"
    rm -rf "$work/$1"
    debootstrap --variant=minbase --include="$2" bookworm "$work/$1" >"$work/$1.log" 2>&1 ||
        { tail -5 "$work/$1.log" >&2; exit 1; }
    rm -rf "$work/$1"/var/cache/apt/* "$work/$1"/var/lib/apt/lists/*
    local container
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add -q "$container" "$work/$1" / >/dev/null
    buildah "${store[@]}" config \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah "${store[@]}" commit -q --rm "$container" "localhost/$1" >/dev/null
    rm -rf "${work:?}/$1"
}

debian dnsguard-build-rules python3,python3-venv,ca-certificates,nftables,iptables
debian dnsguard-base python3,ca-certificates

# pip reaches the index as it does on this machine.
lent=()
[[ -f /etc/pip.conf ]] && lent+=(--volume /etc/pip.conf:/etc/pip.conf:ro)
lent+=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
image() { # NAME ARGUMENTS: the image of this checkout, as localhost/NAME
    local name=$1
    shift
    buildah "${store[@]}" build --quiet --layers --isolation chroot --network host --format docker \
        "${lent[@]}" --build-arg BUILD=localhost/dnsguard-build-rules \
        --build-arg BASE=localhost/dnsguard-base \
        --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" "$@" \
        --tag "localhost/$name" . >/dev/null
}
echo "building"
if [[ ${1:-} == --iptables ]]; then
    for kind in nft legacy; do image "dnsguard-iptables-$kind" --build-arg "IPTABLES=$kind"; done
    exit 0
fi
image dnsguard

size() { podman "${store[@]}" image inspect --format '{{.Size}}' "localhost/$1"; }
over=$(($(size dnsguard) - $(size dnsguard-base)))
printf 'size: %d.%d MB over its base of %d MB\n' \
    $((over / 1000000)) $((over / 100000 % 10)) $(($(size dnsguard-base) / 1000000))
((over < 80000000)) || { echo "that is not under 80 MB" >&2; exit 1; }
[[ ${1:-} != --build-only ]] || exit 0

# As in a pod: unprivileged, nothing writable but the state, which is root's and open to all as an
# emptyDir is, and port 53 by the sysctl.
rm -rf "$work/state" && mkdir -m 0777 "$work/state" && chmod 0777 "$work/state"
container=$(podman "${store[@]}" run --detach --network none --read-only --cap-drop all \
    --security-opt no-new-privileges --user 65532:65532 --memory 0 \
    --sysctl net.ipv4.ip_unprivileged_port_start=53 --volume "$PWD/$work/state:/var/lib/dnsguard" \
    --health-interval disable \
    localhost/dnsguard serve --listen=127.0.0.1:53 --admin=0.0.0.0:9153 \
    --state-dir=/var/lib/dnsguard --upstream=127.0.0.1:5300)
upstream=
finish() {
    [[ -z $upstream ]] || kill "$upstream" 2>/dev/null || true
    podman "${store[@]}" rm --force --time 5 "$container" >/dev/null 2>&1 || true
}
trap finish EXIT
inside=(nsenter --net="/proc/$(podman "${store[@]}" inspect --format '{{.State.Pid}}' "$container")/ns/net")
python=${PYTHON:-.venv/bin/python}
"${inside[@]}" "$python" -m tests.e2e.upstream 5300 &
upstream=$!

answered=
for _ in {1..100}; do
    answered=$("${inside[@]}" "$python" -m dnsguard query --server 127.0.0.1:53 \
        web.shop.svc.cluster.local 2>/dev/null) && [[ $answered == *10.1.2.3* ]] && break
done
if [[ $answered != *10.1.2.3* ]]; then
    echo "it does not answer; its log:" >&2
    podman "${store[@]}" logs "$container" >&2
    exit 1
fi
echo "$answered"
podman "${store[@]}" logs "$container" 2>&1 | grep ready
podman "${store[@]}" healthcheck run "$container" && echo "HEALTHCHECK: healthy"
podman "${store[@]}" exec "$container" dnsguard explain web.shop.svc.cluster.local
for gone in pip gcc cc; do
    ! podman "${store[@]}" exec "$container" /usr/bin/python3 -c \
        "import shutil, sys; sys.exit(shutil.which('$gone') is None)" || { echo "$gone is in the image"; exit 1; }
done
echo "no pip, no compiler; user $(podman "${store[@]}" image inspect --format '{{.Config.User}}' localhost/dnsguard)"
podman "${store[@]}" stop --time 10 "$container" >/dev/null
echo "stopped with exit code $(podman "${store[@]}" inspect --format '{{.State.ExitCode}}' "$container")"
