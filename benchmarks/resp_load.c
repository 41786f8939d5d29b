/* A load for servers that speak RESP, Redis' protocol: a closed loop over many connections on loopback.
 *
 * Each connection waits for its answer before it asks again. Keys are drawn evenly; values are 100 random
 * bytes. With -W a SET is followed by WAIT 1 in the same packet, and both must be answered well. The clocks
 * of the servers' processes are read here, at the very marks that begin and end the window, so that nothing
 * but the window is charged. The result is one line of JSON on stdout; whatever makes a run worthless (no
 * connection, a stream that ends or is not RESP, no answer for 10 s) is said on stderr, and the exit is 1.
 *
 * What is bounded: connections, ports, processes, and the bytes of an answer; latencies are counted in a
 * histogram whose steps are less than 1 percent.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 1000,
    LISTED_MAX = 64,
    KEYS_MAX = 100000000, /* keys have eight digits */
    VALUE_BYTES = 100,
    VALUES = 1000,
    ANSWER_BYTES_MAX = 4096,
    PACKET_BYTES_MAX = 512,
    FINE_BITS = 7,
    FINE = 1 << FINE_BITS,
    STEPS = (64 - FINE_BITS + 1) * FINE,
};

static const uint64_t SECOND = 1000000000, QUIET_NS_MAX = 10 * SECOND;
static const int SCHEDULED = 2; /* CPUCLOCK_SCHED: what the scheduler has counted, without sampling */

struct connection {
    int fd;
    unsigned due; /* answers that are still to come */
    bool well;    /* whether those that came were good */
    uint64_t began;
    size_t used;
    char in[ANSWER_BYTES_MAX];
};

struct mark {
    uint64_t at, server, client;
};

static enum { SET, GET, FILL } operation;
static unsigned connection_count = 64, keys = 100000, wait_ms, filled;
static double warm_up_s = 0.5, window_s = 2.0;
static long ports[LISTED_MAX], pids[LISTED_MAX];
static size_t port_count, pid_count;

static struct connection connections[CONNECTIONS_MAX];
static char values[VALUES][VALUE_BYTES];
static uint64_t histogram[STEPS], seed = 1;
static uint64_t operations, errors;
static char first_error[128];
static unsigned asking; /* connections with a question that is not answered */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list given;
    va_start(given, format);
    fputs("resp_load: ", stderr);
    vfprintf(stderr, format, given);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        fail("a clock cannot be read: %s; is a server's process gone?", strerror(errno));
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static struct mark take_mark(void) {
    struct mark mark = {clock_ns(CLOCK_MONOTONIC), 0, clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    for (size_t i = 0; i < pid_count; i++)
        mark.server += clock_ns((clockid_t)(~(unsigned)pids[i] << 3 | (unsigned)SCHEDULED));
    return mark;
}

static uint64_t draw(void) { /* splitmix64 */
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* --- latencies --- */

static size_t step_of(uint64_t ns) {
    if (ns < FINE)
        return (size_t)ns;
    unsigned shift = 63 - FINE_BITS - (unsigned)__builtin_clzll(ns);
    return (shift + 1) * (size_t)FINE + (size_t)(ns >> shift) - FINE;
}

/* The upper end of a step. */
static uint64_t step_ns(size_t step) {
    if (step < FINE)
        return step;
    unsigned shift = (unsigned)(step / FINE) - 1;
    return ((uint64_t)(step % FINE + FINE + 1) << shift) - 1;
}

static double percentile_us(double share) {
    uint64_t total = 0, below = 0;
    for (size_t i = 0; i < STEPS; i++)
        total += histogram[i];
    for (size_t i = 0; i < STEPS; i++) {
        below += histogram[i];
        if (total > 0 && (double)below >= share * (double)total)
            return (double)step_ns(i) / 1e3;
    }
    return 0;
}

/* --- questions and answers --- */

static bool ask(struct connection *to) {
    char packet[PACKET_BYTES_MAX], text[16];
    size_t length;
    unsigned key;
    if (operation == FILL) {
        if (filled == keys)
            return false;
        key = filled++;
    } else {
        key = (unsigned)((unsigned __int128)draw() * keys >> 64);
    }
    if (operation == GET) {
        length = (size_t)sprintf(packet, "*2\r\n$3\r\nGET\r\n$12\r\nkey-%08u\r\n", key);
    } else {
        length = (size_t)sprintf(packet, "*3\r\n$3\r\nSET\r\n$12\r\nkey-%08u\r\n$%d\r\n", key, VALUE_BYTES);
        memcpy(packet + length, values[draw() % VALUES], VALUE_BYTES);
        length += VALUE_BYTES;
        length += (size_t)sprintf(packet + length, "\r\n");
    }
    if (wait_ms > 0) {
        int digits = sprintf(text, "%u", wait_ms);
        length += (size_t)sprintf(
            packet + length, "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$%d\r\n%s\r\n", digits, text);
    }
    to->due = wait_ms > 0 ? 2 : 1;
    to->well = true;
    to->began = clock_ns(CLOCK_MONOTONIC);
    if (send(to->fd, packet, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail("a question was not sent whole: %s", strerror(errno));
    asking++;
    return true;
}

static void note_error(struct connection *from, const char *text, size_t length) {
    from->well = false;
    if (first_error[0] != '\0')
        return;
    for (size_t i = 0; i < length && i + 1 < sizeof first_error; i++)
        first_error[i] = text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\' ? '?' : text[i];
}

/* Judge the first answer that has come. Returns its bytes, or 0 if it is not whole yet. */
static size_t hear(struct connection *from) {
    char *end = memmem(from->in, from->used, "\r\n", 2);
    if (end == NULL) {
        if (from->used == sizeof from->in)
            fail("an answer is longer than %d bytes", ANSWER_BYTES_MAX);
        return 0;
    }
    size_t line = (size_t)(end - from->in), length = line + 2;
    bool to_wait = wait_ms > 0 && from->due == 1;
    char kind = from->in[0];
    long number = kind == ':' || kind == '$' ? strtol(from->in + 1, NULL, 10) : 0;
    if (kind == '$' && number >= 0) {
        if (number > ANSWER_BYTES_MAX - 32)
            fail("an answer of %ld bytes is too long", number);
        length += (size_t)number + 2;
        if (from->used < length)
            return 0;
    }
    if (kind == '-')
        note_error(from, from->in + 1, line - 1);
    else if (to_wait ? kind != ':' : operation == GET ? kind != '$' : kind != '+')
        fail("an answer that is none to what was asked: %.*s", (int)line, from->in);
    else if (to_wait && number < 1)
        note_error(from, "no replica acknowledged in time", 31);
    else if (kind == '$' && number < 0)
        note_error(from, "a key that was written was not found", 36);
    else if (kind == '$' && number != VALUE_BYTES)
        note_error(from, "a value of another length", 25);
    return length;
}

/* Take what has come. True if the question is answered. */
static bool take(struct connection *from) {
    ssize_t got = recv(from->fd, from->in + from->used, sizeof from->in - from->used, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0)
        fail("a server has closed its connection: %s", got < 0 ? strerror(errno) : "the stream has ended");
    from->used += (size_t)got;
    for (size_t length; from->used > 0 && (length = hear(from)) > 0;) {
        if (from->due == 0)
            fail("more answers than questions");
        from->used -= length;
        memmove(from->in, from->in + length, from->used);
        from->due--;
    }
    if (from->due > 0)
        return false;
    asking--;
    return true;
}

/* --- the run --- */

static void note_answer(const struct connection *from, uint64_t now, const struct mark *begin, uint64_t end) {
    if (begin->at == 0 || (end != 0 && from->began >= end))
        return; /* warming up, or wholly after the window */
    if (!from->well) {
        errors++;
        return;
    }
    histogram[step_of(now - from->began)]++;
    operations += end == 0;
}

static int connect_to(long port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("no connection to port %ld: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int open_all(void) {
    int poller = epoll_create1(0);
    for (unsigned i = 0; i < connection_count; i++) {
        connections[i].fd = connect_to(ports[i % port_count]);
        struct epoll_event interest = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, connections[i].fd, &interest) != 0)
            fail("no poller: %s", strerror(errno));
    }
    return poller;
}

/* Milliseconds to sleep at most: until the next mark, or until nobody has answered for too long. */
static int sleep_ms(uint64_t now, uint64_t due, uint64_t heard) {
    if (now > heard + QUIET_NS_MAX)
        fail("no answer for %d s", (int)(QUIET_NS_MAX / SECOND));
    uint64_t until = due != 0 && due < heard + QUIET_NS_MAX ? due : heard + QUIET_NS_MAX;
    return until > now ? (int)((until - now) / 1000000) + 1 : 0;
}

static void run(struct mark *begin, struct mark *end) {
    struct epoll_event events[CONNECTIONS_MAX];
    int poller = open_all();
    uint64_t now = clock_ns(CLOCK_MONOTONIC), heard = now;
    uint64_t due = operation == FILL ? 0 : now + (uint64_t)(warm_up_s * 1e9);
    if (operation == FILL)
        *begin = take_mark();
    for (unsigned i = 0; i < connection_count; i++)
        ask(&connections[i]);
    while (asking > 0) {
        int count = epoll_wait(poller, events, CONNECTIONS_MAX, sleep_ms(now, due, heard));
        now = clock_ns(CLOCK_MONOTONIC);
        if (due != 0 && now >= due) {
            struct mark *mark = begin->at == 0 ? begin : end;
            *mark = take_mark();
            due = mark == begin ? mark->at + (uint64_t)(window_s * 1e9) : 0;
            if (mark == begin)
                first_error[0] = '\0';
        }
        for (int i = 0; i < count; i++) {
            struct connection *from = events[i].data.ptr;
            if (!take(from))
                continue;
            heard = clock_ns(CLOCK_MONOTONIC);
            note_answer(from, heard, begin, end->at);
            if (end->at == 0)
                ask(from);
        }
    }
    if (operation == FILL)
        *end = take_mark();
}

/* --- words --- */

static size_t listed(char *text, long *numbers) {
    size_t count = 0;
    for (char *word = strtok(text, ","); word != NULL; word = strtok(NULL, ",")) {
        char *rest;
        if (count == LISTED_MAX)
            fail("more than %d ports or processes", LISTED_MAX);
        numbers[count] = strtol(word, &rest, 10);
        if (*rest != '\0' || numbers[count++] < 1)
            fail("%s is no port and no process", word);
    }
    return count;
}

static unsigned bounded(const char *text, long most) {
    char *rest;
    long number = strtol(text, &rest, 10);
    if (*rest != '\0' || number < 1 || number > most)
        fail("%s is not a number from 1 to %ld", text, most);
    return (unsigned)number;
}

static void read_words(int count, char **words) {
    for (int option; (option = getopt(count, words, "o:p:P:c:k:s:w:t:W:")) != -1;) {
        switch (option) {
        case 'o':
            if (strcmp(optarg, "set") != 0 && strcmp(optarg, "get") != 0 && strcmp(optarg, "fill") != 0)
                fail("-o %s: there is only set, get and fill", optarg);
            operation = optarg[0] == 'g' ? GET : optarg[0] == 'f' ? FILL : SET;
            break;
        case 'p': port_count = listed(optarg, ports); break;
        case 'P': pid_count = listed(optarg, pids); break;
        case 'c': connection_count = bounded(optarg, CONNECTIONS_MAX); break;
        case 'k': keys = bounded(optarg, KEYS_MAX); break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 'w': warm_up_s = strtod(optarg, NULL); break;
        case 't': window_s = strtod(optarg, NULL); break;
        case 'W': wait_ms = bounded(optarg, 3600000); break;
        default: exit(2);
        }
    }
    if (port_count == 0 || warm_up_s < 0 || window_s <= 0)
        fail("-o set|get|fill -p PORT,... [-P PID,...] [-c connections] [-k keys] [-s seed] "
             "[-w warm-up s] [-t window s] [-W ms to wait for a replica]");
}

int main(int count, char **words) {
    struct mark begin = {0}, end = {0};
    read_words(count, words);
    for (size_t i = 0; i < sizeof values; i++)
        ((char *)values)[i] = (char)draw();
    run(&begin, &end);
    printf("{\"window_ns\": %" PRIu64 ", \"operations\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"first_error\": \"%s\", \"p50_us\": %.1f, \"p99_us\": %.1f, \"server_cpu_ns\": %" PRIu64
           ", \"client_cpu_ns\": %" PRIu64 "}\n",
           end.at - begin.at, operations, errors, first_error, percentile_us(0.5), percentile_us(0.99),
           end.server - begin.server, end.client - begin.client);
    return 0;
}
