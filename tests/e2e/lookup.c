/* Resolves names as programs do, through getaddrinfo(3), again and again; one line a lookup.
 *
 *   lookup SECONDS NAME...
 *
 * prints "UNIX-MILLISECONDS NAME RESULT MILLISECONDS": RESULT is the addresses in order, with commas,
 * or what gai_strerror(3) calls the error. Built against glibc and against musl.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 32 };

static void leave(int number) {
    (void)number;
    _exit(0); /* as process 1 of a container, no signal ends us by itself */
}

static long long milliseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void look_up(const char *name) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char text[ADDRESSES_MAX][INET6_ADDRSTRLEN];
    int count = 0;
    long long at = milliseconds(CLOCK_REALTIME), begun = milliseconds(CLOCK_MONOTONIC);
    int error = getaddrinfo(name, NULL, &hints, &found);
    long long took = milliseconds(CLOCK_MONOTONIC) - begun;
    printf("%lld %s ", at, name);
    if (error) {
        for (const char *c = gai_strerror(error); *c; c++) putchar(*c == ' ' ? '-' : *c);
    } else {
        for (struct addrinfo *each = found; each && count < ADDRESSES_MAX; each = each->ai_next)
            if (!getnameinfo(each->ai_addr, each->ai_addrlen, text[count], sizeof text[0], NULL, 0,
                             NI_NUMERICHOST))
                count++;
        qsort(text, count, sizeof text[0], by_text);
        for (int i = 0; i < count; i++) printf("%s%s", i ? "," : "", text[i]);
        freeaddrinfo(found);
    }
    printf(" %lld\n", took);
    fflush(stdout);
}

int main(int argc, char **argv) {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    if (argc < 3) {
        fprintf(stderr, "usage: lookup SECONDS NAME...\n");
        return 2;
    }
    useconds_t pause = (useconds_t)(atof(argv[1]) * 1e6);
    for (;;) {
        for (int i = 2; i < argc; i++) look_up(argv[i]);
        usleep(pause);
    }
}
