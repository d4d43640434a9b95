/*
 * A bare echo: every datagram, or every octet of a stream, goes back as it came. Nothing that
 * answers queries can cost less, so it shows the limit of whoever asks. It listens on a free port of
 * 127.0.0.1, prints the port, and dies with the process that started it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define SIZE 2048
#define READ (1 << 18)

static char data[BATCH][SIZE];
static char stream[READ];
static struct sockaddr_in from[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr batch[BATCH];

static void echo_datagrams(int sock)
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
        for (int i = 0; i < got; i++)
            parts[i].iov_len = batch[i].msg_len;
        for (int sent = 0; sent < got;) {
            int done = sendmmsg(sock, batch + sent, got - sent, 0);
            sent += done > 0 ? done : 1;
        }
    }
}

static int give_back(int conn)
{
    ssize_t got = read(conn, stream, READ);
    for (ssize_t sent = 0; sent < got;) {
        ssize_t done = write(conn, stream + sent, got - sent);
        if (done <= 0)
            return -1;
        sent += done;
    }
    return got > 0 ? 0 : -1;
}

static int echo_streams(int sock)
{
    struct epoll_event ready[BATCH], wanted = {.events = EPOLLIN, .data.fd = sock};
    int one = 1, poll = epoll_create1(0);
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, sock, &wanted))
        return 1;
    for (;;) {
        int count = epoll_wait(poll, ready, BATCH, -1);
        for (int i = 0; i < count; i++) {
            int conn = ready[i].data.fd;
            if (conn != sock) {
                if (give_back(conn))
                    close(conn);
                continue;
            }
            conn = accept(sock, 0, 0);
            if (conn < 0)
                continue;
            setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            wanted.data.fd = conn;
            if (epoll_ctl(poll, EPOLL_CTL_ADD, conn, &wanted))
                close(conn);
        }
    }
}

int main(int argc, char **argv)
{
    int tcp = argc > 1 && !strcmp(argv[1], "tcp");
    struct sockaddr_in here = {.sin_family = AF_INET};
    socklen_t size = sizeof here;
    int room = 4 << 20;
    int sock = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!tcp && setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(sock, (struct sockaddr *)&here, size) || (tcp && listen(sock, 1024)) ||
        getsockname(sock, (struct sockaddr *)&here, &size))
        return 1;
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    if (tcp)
        return echo_streams(sock);
    echo_datagrams(sock);
}
