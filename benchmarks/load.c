/* The load: opens connections to one server, takes turns, and compares every byte that comes back.
 *
 * A line on stdin asks for a turn, `run 0.3` for 0.3 seconds; a line of JSON on stdout answers it. Between turns the
 * load only answers pings. It ends when stdin ends. On an error it writes one line to stderr, and ends with status 1: a
 * turn with an error has no figure. `benchmarks/compiled_load.py` starts it; `main` lists the options.
 *
 * "k in flight" means that k messages leave in one write, and the next k when all k answers have arrived. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
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
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef struct SSL SSL;
#endif

#ifndef PATIENCE
#define PATIENCE 15                 /* a server that sends no part of an answer for so many seconds has failed */
#endif
#define READ_SIZE (1 << 18)
#define HEAD_SIZE 2048              /* the largest answer to a handshake */
#define SOURCES 16                  /* the clients' addresses: one alone has too few ports */
#define SECOND 1000000000LL
enum { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

typedef struct { const uint8_t *data; size_t size; } Bytes;
typedef enum { GONE, CONNECTING, SECURING, ASKED, OPEN, LEAVING } State;

typedef struct {
    State state;
    int fd;
    SSL *ssl;
    size_t number;                  /* among all connections */
    Bytes unsent;
    Bytes ping;                     /* in `pinged`, the last one; its pong waits for `unsent` */
    uint8_t pinged[125], pong[131];
    char *head;                     /* of the answer to the handshake, until it is complete */
    size_t head_size;
    /* The frame that is being read. */
    uint8_t start[10], control[125];
    size_t start_size, control_size;
    uint64_t left;
    bool inside, continued;
    /* The message that must come next, and how much of it has come. */
    size_t expected, matched;
    size_t burst;                   /* the one that leaves next */
    uint64_t overdue;               /* bursts that wait for `unsent` */
    uint64_t awaited;               /* messages that must still come */
    uint64_t answered;              /* messages that came in this turn, at a fixed rate */
    int64_t begun;
} Connection;

static enum { ECHO, BROADCAST, CONNECT, RATE, STORM } mode;
static const char *MODES[] = {"echo", "broadcast", "connect", "rate", "storm"};
static Connection *connections;
static size_t count, steady, in_flight = 1, at_once = 64, messages, bursts;
static double rate;
static int port, epoll;
static Bytes *requests, *replies;   /* a burst each; a message each */
static char ask[256];
static uint8_t farewell[8], buffer[READ_SIZE];
static size_t opened, begun;
static bool ending;                 /* nothing new leaves in this turn */
static uint64_t missing;            /* answers, receivers or connections without which no turn ends */
static uint64_t done, news;         /* `news` changes with each part of an answer */
static int64_t start;               /* of the turn */

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *made(size_t number, size_t size) {
    void *found = calloc(number ? number : 1, size);
    if (!found) die("no memory for %zu times %zu bytes", number, size);
    return found;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* Latencies are counted in classes, 256 for each power of two: a figure is right to 0.4 %. */
#define CLASSES 256
static uint64_t histogram[64 * CLASSES], recorded, longest;

static void record(int64_t latency) {
    uint64_t value = latency > 0 ? (uint64_t)latency : 0;
    int shift = value < 2 * CLASSES ? 0 : 63 - __builtin_clzll(value) - 8;
    histogram[(size_t)shift * CLASSES + (value >> shift)]++;
    recorded++;
    if (value > longest) longest = value;
}

static double percentile(double part) {
    uint64_t seen = 0;
    for (size_t i = 0; i < 64 * CLASSES; i++) {
        seen += histogram[i];
        if (seen > part * recorded) {
            int shift = i < 2 * CLASSES ? 0 : (int)(i / CLASSES) - 1;
            return (double)((i - (size_t)shift * CLASSES) << shift) / 1e3;
        }
    }
    return longest / 1e3;
}

/* ---- Messages ---- */

/* Reads a file with a message on each line. */
static Bytes *read_lines(const char *name, size_t *number) {
    FILE *file = fopen(name, "rb");
    if (!file) die("%s: %s", name, strerror(errno));
    Bytes *found = NULL;
    char *line = NULL;
    size_t space = 0;
    ssize_t size;
    for (*number = 0; (size = getline(&line, &space, file)) > 0; line = NULL, space = 0) {
        if (line[size - 1] == '\n') size--;
        if (!(found = realloc(found, ++*number * sizeof *found))) die("no memory for %s", name);
        found[*number - 1] = (Bytes){(uint8_t *)line, (size_t)size};
    }
    fclose(file);
    if (!*number) die("%s: there is no message", name);
    return found;
}

/* Writes a masked frame (RFC 6455 §5.2) and returns its end. */
static uint8_t *framed(uint8_t *out, int opcode, Bytes payload) {
    size_t size = payload.size;
    *out++ = (uint8_t)(0x80 | opcode);
    int bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    *out++ = (uint8_t)(0x80 | (bytes == 0 ? size : bytes == 2 ? 126 : 127));
    while (bytes--) *out++ = (uint8_t)(size >> 8 * bytes);
    uint32_t key = (uint32_t)random() | 0x01010101;
    memcpy(out, &key, 4);
    for (size_t i = 0; i < size; i++) out[4 + i] = payload.data[i] ^ out[i % 4];
    return out + 4 + size;
}

static void read_messages(const char *asked, const char *answered) {
    size_t others;
    Bytes *texts = read_lines(asked, &messages);
    replies = answered ? read_lines(answered, &others) : texts;
    if (answered && others != messages) die("%s has %zu lines, %s %zu", asked, messages, answered, others);
    bursts = messages / in_flight;
    messages = bursts * in_flight;
    if (!bursts) die("%s has less than %zu messages", asked, in_flight);
    requests = made(bursts, sizeof *requests);
    for (size_t i = 0; i < bursts; i++) {
        size_t size = 0;
        for (size_t k = 0; k < in_flight; k++) size += texts[i * in_flight + k].size + 14;
        uint8_t *frames = made(size, 1), *end = frames;
        for (size_t k = 0; k < in_flight; k++) end = framed(end, TEXT, texts[i * in_flight + k]);
        requests[i] = (Bytes){frames, (size_t)(end - frames)};
    }
}

/* ---- Bytes. A result of -1 means "not now", 0 "the server has closed the connection". ---- */

#ifdef TLS
static SSL_CTX *context;

static ssize_t judged(SSL *ssl, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static void use_tls(const char *authority) {
    context = SSL_CTX_new(TLS_client_method());
    if (!context || SSL_CTX_load_verify_locations(context, authority, NULL) != 1)
        die("%s holds no certificate", authority);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
}

static void secure(Connection *c) {
    if (!(c->ssl = SSL_new(context)) || !SSL_set_fd(c->ssl, c->fd)) die("OpenSSL makes no connection");
    SSL_set_connect_state(c->ssl);
}
#endif

static ssize_t receive(Connection *c, void *data, size_t size) {
#ifdef TLS
    if (c->ssl) return judged(c->ssl, SSL_read(c->ssl, data, (int)size));
#endif
    ssize_t got = recv(c->fd, data, size, 0);
    return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

static ssize_t give(Connection *c, const void *data, size_t size) {
#ifdef TLS
    if (c->ssl) return judged(c->ssl, SSL_write(c->ssl, data, (int)size));
#endif
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

/* Writes what waits, as far as the socket takes it: what is unsent, then a pong, then bursts. */
static void flush(Connection *c) {
    for (;;) {
        while (c->unsent.size) {
            ssize_t sent = give(c, c->unsent.data, c->unsent.size);
            if (sent == 0) die("the server has closed a connection");
            if (sent < 0) return;
            c->unsent.data += sent;
            c->unsent.size -= (size_t)sent;
        }
        if (c->ping.data) {
            c->unsent = (Bytes){c->pong, (size_t)(framed(c->pong, PONG, c->ping) - c->pong)};
            c->ping.data = NULL;
        } else if (c->overdue) {
            c->overdue--;
            c->awaited += mode == BROADCAST ? 0 : in_flight;
            c->unsent = requests[c->burst];
            c->burst = (c->burst + 1) % bursts;
        } else return;
    }
}

static void put(Connection *c, Bytes data) {
    if (c->unsent.size) die("the server answers what it has not read");
    c->unsent = data;
    flush(c);
}

static void send_burst(Connection *c) {
    c->overdue++;
    flush(c);
}

static void leave(Connection *c) {
#ifdef TLS
    if (c->ssl) SSL_free(c->ssl);
    c->ssl = NULL;
#endif
    close(c->fd);
    free(c->head);
    c->head = NULL;
    c->state = GONE;
}

static void arrive(Connection *c) {
    size_t number = c->number;
    *c = (Connection){.state = CONNECTING, .number = number, .begun = now(), .head = made(HEAD_SIZE, 1)};
    begun++;
    c->burst = mode == BROADCAST ? 0 : begun % bursts;
    c->expected = c->burst * in_flight;
    int yes = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    from.sin_addr.s_addr = htonl(0x7F000002 + (uint32_t)(begun % SOURCES));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    /* Linux chooses the port when connecting, so that each address has all ports for each server. */
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

/* ---- What comes. These return false when they have ended the connection; its slot may have a new one then. ---- */

static bool finished(Connection *c) {
    leave(c);
    done++;
    if (!ending) arrive(c);
    else missing--;
    return false;
}

static bool take_message(Connection *c) {
    if (!c->awaited) die("a message came that answers none");
    c->awaited--;
    if (mode == BROADCAST) {
        done++;
        if (!c->awaited) missing--;
        return true;
    }
    if (mode == RATE || mode == STORM) {
        uint64_t place = c->number + c->answered++ * steady;
        record(now() - start - (int64_t)(place * SECOND / rate));
        done += mode == RATE;
        missing--;
        return true;
    }
    if (c->awaited) return true;
    int64_t at = now();
    record(at - c->begun);
    if (mode == CONNECT) {
        c->state = LEAVING;
        put(c, (Bytes){farewell, sizeof farewell});
        return true;
    }
    done += in_flight;
    if (ending) {
        missing--;
        return true;
    }
    c->begun = at;
    send_burst(c);
    return true;
}

static bool take_control(Connection *c) {
    int opcode = c->start[0] & 15;
    if (opcode == CLOSE) {
        int code = c->control_size < 2 ? 1005 : c->control[0] << 8 | c->control[1];
        if (c->state != LEAVING || (code != 1000 && code != 1005))
            die("the server has closed a connection, code %d", code);
        return finished(c);
    }
    if (opcode == PING) {
        memcpy(c->pinged, c->control, c->control_size);
        c->ping = (Bytes){c->pinged, c->control_size};
        flush(c);
    }
    return true;
}

/* Takes one byte of a frame's header; returns whether the header is complete. */
static bool started(Connection *c, uint8_t byte) {
    c->start[c->start_size++] = byte;
    if (c->start_size < 2) return false;
    int opcode = c->start[0] & 15, length = c->start[1];
    size_t whole = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (c->start_size < whole) return false;
    if (length & 0x80) die("the server has sent a masked frame");
    c->left = whole == 2 ? (uint64_t)length : 0;
    for (size_t i = 2; i < whole; i++) c->left = c->left << 8 | c->start[i];
    if (c->start[0] & 0x70) die("the server has sent a frame with reserved bits: 0x%02x", c->start[0]);
    bool last = c->start[0] & 0x80;
    if (opcode >= CLOSE ? opcode > PONG || c->left > 125 || !last : opcode != (c->continued ? CONTINUATION : TEXT))
        die("a frame with opcode %d is out of place", opcode);
    if (opcode < CLOSE && c->left > replies[c->expected].size - c->matched)
        die("the message that came back is longer than the expected one");
    c->control_size = 0;
    return c->inside = true;
}

static bool feed(Connection *c, const uint8_t *data, size_t size) {
    while (size) {
        if (!c->inside) {
            size--;
            if (!started(c, *data++)) continue;
        }
        size_t part = c->left < size ? (size_t)c->left : size;
        bool control = c->start[0] & 8;
        Bytes wanted = replies[c->expected];
        if (control) {
            memcpy(c->control + c->control_size, data, part);
            c->control_size += part;
        } else {
            if (memcmp(wanted.data + c->matched, data, part)) die("the message that came back is not the expected one");
            c->matched += part;
            news += part;
        }
        data += part;
        size -= part;
        if (c->left -= part) return true;
        c->inside = false;
        c->start_size = 0;
        if (control) {
            if (!take_control(c)) return false;
            continue;
        }
        c->continued = !(c->start[0] & 0x80);
        if (c->continued) continue;
        if (c->matched != wanted.size) die("the message that came back is shorter than the expected one");
        c->matched = 0;
        c->expected = (c->expected + 1) % messages;
        if (!take_message(c)) return false;
    }
    return true;
}

/* Reads part of the answer to the handshake; returns false when there is no more to read now. */
static bool take_head(Connection *c) {
    ssize_t got = receive(c, c->head + c->head_size, HEAD_SIZE - 1 - c->head_size);
    if (got < 0) return false;
    if (!got && !c->head_size) die("the server has closed a connection before it answered the handshake");
    c->head_size += (size_t)got;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end && got && c->head_size < HEAD_SIZE - 1) return true;
    /* The answer to the sample key of RFC 6455 §1.3; nothing may follow it, as the client speaks first. */
    if (!end || end + 4 != c->head + c->head_size || strncmp(c->head, "HTTP/1.1 101 ", 13)
        || !strstr(c->head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") || strcasestr(c->head, "\nsec-websocket-extensions:"))
        die("the handshake was answered \"%.*s\"", (int)strcspn(c->head, "\r\n"), c->head);
    free(c->head);
    c->head = NULL;
    c->state = OPEN;
    opened++;
    news++;
    if (mode == CONNECT) send_burst(c);
    return true;
}

static void progress(Connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) die("the server takes no connection: %s", strerror(error));
        if (!(events & EPOLLOUT)) return;
        c->state = SECURING;
#ifdef TLS
        if (context) secure(c);
#endif
    }
    if (c->state == SECURING) {
#ifdef TLS
        ssize_t result = c->ssl ? judged(c->ssl, SSL_do_handshake(c->ssl)) : 1;
        if (result == 0)
            die("the TLS handshake fails: %s", X509_verify_cert_error_string(SSL_get_verify_result(c->ssl)));
        if (result < 0) return;
#endif
        c->state = ASKED;
        put(c, (Bytes){(uint8_t *)ask, strlen(ask)});
    }
    flush(c);
    while (c->state == ASKED)
        if (!take_head(c)) return;
    for (;;) {
        ssize_t got = receive(c, buffer, READ_SIZE);
        if (got == 0) die("the server has closed a connection");
        if (got < 0 || !feed(c, buffer, (size_t)got)) return;
        /* The socket is empty if it gave less than asked for. But TLS gives one record at a time, and a close is last. */
        if (!c->ssl && got < READ_SIZE && !(events & EPOLLRDHUP)) return;
    }
}

/* Handles what has happened; waits for so many milliseconds at most. */
static void step(int wait) {
    struct epoll_event events[256];
    int number = epoll_wait(epoll, events, 256, wait);
    for (int i = 0; i < number; i++) progress(events[i].data.ptr, events[i].events);
}

/* A step of a turn, in which answers must come. */
static void await(int wait) {
    static uint64_t known;
    static int64_t quiet;
    step(wait);
    if (news != known || quiet < start) {
        known = news;
        quiet = now();
    } else if (now() - quiet > PATIENCE * SECOND) die("the server says nothing for %d s", PATIENCE);
}

/* ---- Turns ---- */

/* Opens connections until there are `target`; at most `limit` handshakes run at the same time. */
static void open_up_to(size_t target, size_t limit, void (*meanwhile)(void)) {
    size_t asked = opened;
    while (opened < target) {
        for (size_t some = 0; asked < target && asked - opened < limit && some < 64; some++)
            arrive(&connections[asked++]);
        if (meanwhile) meanwhile();
        await(meanwhile ? 0 : 1000);
    }
}

/* Sends the messages that are due by now. */
static uint64_t due, due_in_all;
static void keep_rate(void) {
    while (due < due_in_all && start + (int64_t)(due * SECOND / rate) <= now()) {
        missing++;
        send_burst(&connections[due++ % steady]);
    }
}

static void run(double seconds) {
    memset(histogram, 0, sizeof histogram);
    longest = recorded = done = due = missing = 0;
    ending = false;
    for (size_t i = 0; i < steady; i++) connections[i].answered = 0;
    start = now();
    int64_t end = start + (int64_t)(seconds * SECOND), over = 0;
    if (mode == ECHO || mode == CONNECT) {
        missing = count;
        for (size_t i = 0; i < count; i++) {
            if (mode == CONNECT) arrive(&connections[i]);
            else {
                connections[i].begun = now();
                send_burst(&connections[i]);
            }
        }
        while (missing) {
            await(1000);
            ending = now() >= end;
        }
    } else if (mode == BROADCAST) {
        do {
            missing = count;
            for (size_t i = 0; i < count; i++) connections[i].awaited = in_flight;
            int64_t left = now();
            send_burst(&connections[0]);
            while (missing) await(1000);
            record(now() - left);
        } while (now() < end);
    } else {
        due_in_all = mode == RATE ? (uint64_t)(seconds * rate + 0.5) : UINT64_MAX;
        if (mode == STORM) {
            open_up_to(count, SIZE_MAX, keep_rate);
            over = now();
            done = count - steady;
        } else for (; due < due_in_all; await(0)) keep_rate();
        while (missing) await(1000);
    }
    if (!done || !recorded) die("no answer came in the time of a turn");
    printf("{\"messages\": %llu, \"seconds\": %.9f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, "
           "\"max_us\": %.3f}\n", (unsigned long long)done, ((over ? over : now()) - start) / 1e9, percentile(0.5),
           percentile(0.99), percentile(0.999), longest / 1e3);
    fflush(stdout);
    if (mode == STORM) for (; opened > steady; opened--) leave(&connections[opened - 1]);
}

static double positive(const char *name, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (*end || !(value > 0 && value <= 1e9)) die("%s %s is no number above 0, or it is too large", name, text);
    return value;
}

int main(int argc, char **argv) {
    const char *asked = NULL, *answered = NULL, *authority = NULL;
    size_t chosen = 0;
    if (argc < 2) die("the first argument is echo, broadcast, connect, rate or storm");
    while (chosen < 5 && strcmp(argv[1], MODES[chosen])) chosen++;
    if (chosen == 5) die("there is no mode %s", argv[1]);
    mode = chosen;
    signal(SIGPIPE, SIG_IGN);
    framed(farewell, CLOSE, (Bytes){(const uint8_t *)"\x03\xE8", 2});
    for (int i = 2; i < argc; i++) {
        char *name = argv[i], *value = strchr(name, '=');
        if (!value) die("%s: options are given as --name=value", name);
        *value++ = 0;
        if (!strcmp(name, "--port")) port = (int)positive(name, value);
        else if (!strcmp(name, "--connections")) count = (size_t)positive(name, value);
        else if (!strcmp(name, "--polite")) steady = (size_t)positive(name, value);
        else if (!strcmp(name, "--in-flight")) in_flight = (size_t)positive(name, value);
        else if (!strcmp(name, "--at-once")) at_once = (size_t)positive(name, value);
        else if (!strcmp(name, "--rate")) rate = positive(name, value);
        else if (!strcmp(name, "--messages")) asked = value;
        else if (!strcmp(name, "--replies")) answered = value;
        else if (!strcmp(name, "--tls")) authority = value;
        else die("there is no option %s", name);
    }
    if (!port || port > 65535 || !count || !asked) die("--port, --connections and --messages are needed");
    if ((mode == RATE || mode == STORM) && (!rate || in_flight > 1))
        die("%s needs --rate and one message in flight", argv[1]);
    if (mode == STORM && !steady) die("storm needs --polite");
    if (authority) {
#ifdef TLS
        use_tls(authority);
#else
        die("--tls: this was compiled without OpenSSL");
#endif
    }
    steady = mode == STORM ? steady : mode == CONNECT ? 0 : count;
    count += mode == STORM ? steady : 0;
    read_messages(asked, answered);
    snprintf(ask, sizeof ask, "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: benchmark\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
             port);
    connections = made(count, sizeof *connections);
    for (size_t i = 0; i < count; i++) connections[i].number = i;
    if ((epoll = epoll_create1(0)) < 0) die("epoll_create1: %s", strerror(errno));
    start = now();
    open_up_to(steady, at_once, NULL);
    printf("{\"open\": %zu, \"seconds\": %.9f}\n", opened, (now() - start) / 1e9);
    fflush(stdout);

    char line[64];
    setvbuf(stdin, NULL, _IONBF, 0);
    struct pollfd sources[2] = {{.fd = 0, .events = POLLIN}, {.fd = epoll, .events = POLLIN}};
    for (;;) {
        if (poll(sources, 2, -1) < 0) {
            if (errno != EINTR) die("poll: %s", strerror(errno));
        } else if (sources[1].revents) {
            step(0);
        } else {
            if (!fgets(line, sizeof line, stdin)) return 0;
            line[strcspn(line, "\n")] = 0;
            if (strncmp(line, "run ", 4)) die("there is no command %s", line);
            run(positive("run", line + 4));
        }
    }
}
