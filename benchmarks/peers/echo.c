/* The bare minimum of a DNS server: it sends every query back marked as a reply.
 *
 * What the kernel alone costs: UDP in batches (recvmmsg, sendmmsg), and in a second process TCP,
 * where all that one read brought is written back at once. It parses nothing but TCP's length
 * prefixes (RFC 1035 section 4.2.2). Usage: echo PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#define BATCH 64
#define SIZE 2048
#define CLIENTS 256
#define BUFFER 131072
#define QR 0x80 /* in the third byte of the header */

static char data[BATCH][SIZE];
static struct sockaddr_in from[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr batch[BATCH];

static void serve_udp(int sock)
{
    for (int i = 0; i < BATCH; i++) {
        parts[i].iov_base = data[i];
        batch[i].msg_hdr.msg_iov = &parts[i];
        batch[i].msg_hdr.msg_iovlen = 1;
        batch[i].msg_hdr.msg_name = &from[i];
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i].iov_len = SIZE;
            batch[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        int got = recvmmsg(sock, batch, BATCH, MSG_WAITFORONE, 0);
        for (int i = 0; i < got; i++) {
            parts[i].iov_len = batch[i].msg_len;
            data[i][2] |= QR;
        }
        for (int sent = 0; sent < got;) {
            int done = sendmmsg(sock, batch + sent, got - sent, 0);
            sent += done > 0 ? done : 1;
        }
    }
}

static struct pollfd polled[CLIENTS + 1];
static char *stream[CLIENTS + 1];
static int filled[CLIENTS + 1];

static int write_all(int sock, const char *bytes, int size)
{
    while (size > 0) {
        int done = write(sock, bytes, size);
        if (done <= 0) return -1;
        bytes += done;
        size -= done;
    }
    return 0;
}

/* Sends back every whole message of a connection; -1 when the connection is over. */
static int answer(int slot)
{
    char *bytes = stream[slot];
    int got = read(polled[slot].fd, bytes + filled[slot], BUFFER - filled[slot]);
    if (got <= 0) return -1;
    int total = filled[slot] + got, done = 0;
    while (done + 2 <= total) {
        int size = 2 + ((unsigned char)bytes[done] << 8 | (unsigned char)bytes[done + 1]);
        if (done + size > total) break;
        if (size > 4) bytes[done + 4] |= QR;
        done += size;
    }
    if (write_all(polled[slot].fd, bytes, done)) return -1;
    filled[slot] = total - done;
    memmove(bytes, bytes + done, filled[slot]);
    return 0;
}

static void serve_tcp(int listener)
{
    int one = 1;
    for (int i = 1; i <= CLIENTS; i++) polled[i].fd = -1;
    polled[0].fd = listener;
    for (int i = 0; i <= CLIENTS; i++) polled[i].events = POLLIN;
    for (;;) {
        if (poll(polled, CLIENTS + 1, -1) < 0) continue;
        for (int i = 1; i <= CLIENTS; i++) {
            if (polled[i].fd < 0 || !polled[i].revents || !answer(i)) continue;
            close(polled[i].fd);
            polled[i].fd = -1;
        }
        if (!polled[0].revents) continue;
        int fresh = accept(listener, 0, 0), slot = 1;
        while (slot <= CLIENTS && polled[slot].fd >= 0) slot++;
        if (slot > CLIENTS || (!stream[slot] && !(stream[slot] = malloc(BUFFER)))) {
            close(fresh);
            continue;
        }
        setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        filled[slot] = 0;
        polled[slot].fd = fresh;
        polled[slot].revents = 0;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int one = 1;
    int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    here.sin_port = htons(atoi(argv[1]));
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(udp, (struct sockaddr *)&here, sizeof here)) return 1;
    if (bind(tcp, (struct sockaddr *)&here, sizeof here) || listen(tcp, 128)) return 1;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(udp);
        serve_tcp(tcp);
    }
    close(tcp);
    serve_udp(udp);
}
