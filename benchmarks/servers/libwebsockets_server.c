/* libwebsockets, as its minimal examples are written: what is to leave is kept until the socket is writable.
 * It waits by poll(), as Debian's build does without a library of events. */

#include <libwebsockets.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Message {
    struct Message *next;
    size_t size;
    enum lws_write_protocol kind;
    unsigned char data[];           /* behind room for a frame's head */
} Message;

typedef struct Session {
    struct Session *next, *previous;
    struct lws *wsi;
    Message *first, **last;
    unsigned char *partial;         /* what has come of a message */
    size_t partial_size, partial_space;
} Session;

static Session everybody = {.next = &everybody, .previous = &everybody};
static bool broadcast;

static int queue(Session *to, const unsigned char *data, size_t size, enum lws_write_protocol kind) {
    Message *made = malloc(sizeof *made + LWS_PRE + size);
    if (!made) return -1;
    *made = (Message){.size = size, .kind = kind};
    memcpy(made->data + LWS_PRE, data, size);
    *to->last = made;
    to->last = &made->next;
    lws_callback_on_writable(to->wsi);
    return 0;
}

static int take(Session *from, const unsigned char *data, size_t size) {
    if (from->partial_size + size > from->partial_space) {
        from->partial_space = (from->partial_size + size) * 2;
        unsigned char *grown = realloc(from->partial, from->partial_space);
        if (!grown) return -1;
        from->partial = grown;
    }
    memcpy(from->partial + from->partial_size, data, size);
    from->partial_size += size;
    if (!lws_is_final_fragment(from->wsi)) return 0;
    enum lws_write_protocol kind = lws_frame_is_binary(from->wsi) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    size = from->partial_size;
    from->partial_size = 0;
    if (!broadcast) return queue(from, from->partial, size, kind);
    for (Session *one = everybody.next; one != &everybody; one = one->next)
        if (queue(one, from->partial, size, kind)) return -1;
    return 0;
}

static int write_queued(Session *to) {
    while (to->first && !lws_send_pipe_choked(to->wsi)) {
        Message *message = to->first;
        to->first = message->next;
        if (!to->first) to->last = &to->first;
        int sent = lws_write(to->wsi, message->data + LWS_PRE, message->size, message->kind);
        free(message);
        if (sent < 0) return -1;
    }
    if (to->first) lws_callback_on_writable(to->wsi);
    return 0;
}

static int handle(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *data, size_t size) {
    Session *session = user;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        *session = (Session){.wsi = wsi, .next = everybody.next, .previous = &everybody};
        session->last = &session->first;
        everybody.next->previous = session;
        everybody.next = session;
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return take(session, data, size);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return write_queued(session);
    case LWS_CALLBACK_CLOSED:
        session->next->previous = session->previous;
        session->previous->next = session->next;
        for (Message *message; (message = session->first); free(message)) session->first = message->next;
        free(session->partial);
        return 0;
    default:
        return 0;
    }
}

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {
        {.name = "any", .callback = handle, .per_session_data_size = sizeof(Session), .rx_buffer_size = 65536},
        {.name = NULL},
    };
    static const struct lws_extension deflate[] = {
        {"permessage-deflate", lws_extension_callback_pm_deflate, "permessage-deflate; client_max_window_bits"},
        {NULL, NULL, NULL},
    };
    struct lws_context_creation_info info = {.protocols = protocols, .iface = "127.0.0.1", .gid = -1, .uid = -1};
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--port=", 7)) info.port = atoi(argv[i] + 7);
        if (!strcmp(argv[i], "--version")) return puts(LWS_LIBRARY_VERSION) == EOF;
        if (!strcmp(argv[i], "--broadcast")) broadcast = true;
        if (!strcmp(argv[i], "--deflate")) info.extensions = deflate;
        if (!strncmp(argv[i], "--cert=", 7)) {
            info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
            info.ssl_cert_filepath = info.ssl_private_key_filepath = argv[i] + 7;
        }
    }
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    while (context && lws_service(context, 0) >= 0) {}
    return 1;
}
