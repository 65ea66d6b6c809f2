/* The limit: what the kernel and the least possible work cost. Echoes, or gives each message to all connections; it
 * answers what one read brought by one write. No timeouts, no checks of anything: not a server to be used. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 65536
#define READ_SIZE (1 << 18)

typedef struct {
    int open;
    uint8_t *in, *out;              /* what is no whole frame yet; what the socket did not take */
    size_t in_used, in_size, out_used, out_size;
} Connection;

static Connection connections[MAX_FDS];
static int highest, epoll, broadcast;
static uint8_t *joined;             /* the answers to one read */
static size_t joined_used, joined_size;

static void *grown(void *old, size_t *size, size_t wanted) {
    if (wanted <= *size) return old;
    *size = wanted * 2;
    void *made = realloc(old, *size);
    if (!made) { perror("realloc"); exit(1); }
    return made;
}

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* SHA-1 (FIPS 180) of at most 119 bytes: enough for the handshake's key and its suffix. */
static void sha1(const uint8_t *data, size_t length, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[128] = {0};
    memcpy(padded, data, length);
    padded[length] = 0x80;
    size_t total = length + 9 <= 64 ? 64 : 128;
    padded[total - 2] = (uint8_t)(length * 8 >> 8);
    padded[total - 1] = (uint8_t)(length * 8);
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            memcpy(&w[i], padded + block + 4 * i, 4);
            w[i] = ntohl(w[i]);
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999 : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                       : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rol(a, 5) + f + e + w[i];
            e = d; d = c; c = rol(b, 30); b = a; a = next;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 5; i++) {
        uint32_t big = htonl(h[i]);
        memcpy(digest + 4 * i, &big, 4);
    }
}

static void base64(const uint8_t *data, size_t length, char *text) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16 | (i + 1 < length ? data[i + 1] << 8 : 0) | (i + 2 < length ? data[i + 2] : 0);
        *text++ = letters[three >> 18];
        *text++ = letters[three >> 12 & 63];
        *text++ = i + 1 < length ? letters[three >> 6 & 63] : '=';
        *text++ = i + 2 < length ? letters[three & 63] : '=';
    }
    *text = 0;
}

static void end(int fd) {
    Connection *c = &connections[fd];
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

static void watch(int fd, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(epoll, how, fd, &event);
}

static void put(int fd, const uint8_t *data, size_t size) {
    Connection *c = &connections[fd];
    ssize_t sent = 0;
    if (!c->out_used) {
        sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) sent = 0;
        if ((size_t)sent == size) return;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    c->out = grown(c->out, &c->out_size, c->out_used + size - sent);
    memcpy(c->out + c->out_used, data + sent, size - sent);
    c->out_used += size - sent;
}

static void put_waiting(int fd) {
    Connection *c = &connections[fd];
    ssize_t sent = send(fd, c->out, c->out_used, MSG_NOSIGNAL);
    if (sent <= 0) return;
    memmove(c->out, c->out + sent, c->out_used - sent);
    c->out_used -= sent;
    if (!c->out_used) watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

/* Returns the bytes used of data: a whole request head, or nothing. */
static size_t handshake(int fd, uint8_t *data, size_t size) {
    uint8_t *ends = memmem(data, size, "\r\n\r\n", 4);
    if (!ends) return 0;
    *ends = 0;
    char *key = strcasestr((char *)data, "sec-websocket-key:");
    if (!key) { shutdown(fd, SHUT_RDWR); return size; }
    key += 18;
    while (*key == ' ') key++;
    char source[128], accept[32], answer[256];
    uint8_t digest[20];
    int length = snprintf(source, 64, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1((uint8_t *)source, length, digest);
    base64(digest, 20, accept);
    length = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    put(fd, (uint8_t *)answer, length);
    connections[fd].open = 2;
    return ends + 4 - data;
}

/* Appends the answer to one frame to joined; returns the bytes used of data, 0 for no whole frame. */
static size_t frame(uint8_t *data, size_t size) {
    if (size < 6) return 0;
    uint64_t length = data[1] & 127;
    size_t head = 2;
    if (length == 126) {
        if (size < 8) return 0;
        length = data[2] << 8 | data[3];
        head = 4;
    } else if (length == 127) {
        if (size < 14) return 0;
        length = 0;
        for (int i = 2; i < 10; i++) length = length << 8 | data[i];
        head = 10;
    }
    if (size < head + 4 + length) return 0;
    joined = grown(joined, &joined_size, joined_used + head + length);
    uint8_t *out = joined + joined_used;
    memcpy(out, data, head);
    out[1] &= 127;
    if ((data[0] & 15) == 9) out[0] = 0x8A;
    uint8_t *in = data + head + 4;
    out += head;
    uint32_t key4;
    memcpy(&key4, data + head, 4);
    uint64_t key = (uint64_t)key4 << 32 | key4, word, i = 0;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, in + i, 8);
        word ^= key;
        memcpy(out + i, &word, 8);
    }
    for (; i < length; i++) out[i] = in[i] ^ data[head + i % 4];
    joined_used += head + length;
    return head + 4 + length;
}

static void take(int fd, uint8_t *shared) {
    Connection *c = &connections[fd];
    uint8_t *buffer = shared;
    size_t have = c->in_used;
    if (have) buffer = c->in = grown(c->in, &c->in_size, have + READ_SIZE);
    ssize_t got = recv(fd, buffer + have, READ_SIZE, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) end(fd);
        return;
    }
    have += got;
    size_t used = 0, step;
    joined_used = 0;
    while ((step = c->open == 1 ? handshake(fd, buffer + used, have - used) : frame(buffer + used, have - used))) used += step;
    if (joined_used) {
        if (broadcast) {
            for (int other = 0; other <= highest; other++)
                if (connections[other].open == 2) put(other, joined, joined_used);
        } else put(fd, joined, joined_used);
    }
    c->in_used = have - used;
    if (!c->in_used) return;
    if (buffer == shared) c->in = grown(c->in, &c->in_size, c->in_used);
    memmove(c->in, buffer + used, c->in_used);
}

int main(int argc, char **argv) {
    int port = 0, one = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc) port = atoi(argv[++i]);
        if (!strcmp(argv[i], "--broadcast")) broadcast = 1;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("listen"); return 1; }
    epoll = epoll_create1(0);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    uint8_t *buffer = malloc(READ_SIZE);
    struct epoll_event events[256];
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int made = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (made < 0) continue;
                if (made >= MAX_FDS) { close(made); continue; }
                setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connections[made].open = 1;
                if (made > highest) highest = made;
                watch(made, EPOLL_CTL_ADD, EPOLLIN);
                continue;
            }
            if (events[i].events & EPOLLOUT && connections[fd].out_used) put_waiting(fd);
            if (events[i].events & ~(uint32_t)EPOLLOUT && connections[fd].open) take(fd, buffer);
        }
    }
}
