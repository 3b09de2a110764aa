/*
 * Closed-loop clients: each connection keeps `depth` requests in flight and sends the next one when a
 * response is complete. load.c owns the clock of the run and tells by `struct client` whether to go on;
 * connection.c owns sockets, partial reads and writes, and what counts as an answer.
 *
 * Invariant: in_flight of the client is the sum of in_flight over its connections. When `refill` is
 * false it can only fall, so that a window can begin and end with nothing in flight.
 */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "histogram.h"
#include "http.h"
#include "secure.h"

enum { DEPTH_MAX = 64 };

enum client_error {
    ERROR_CONNECT,  /* connect() failed */
    ERROR_RESET,    /* a read or a write failed */
    ERROR_EOF,      /* the peer closed with a request unanswered, or a connection to be kept */
    ERROR_STATUS,   /* an HTTP status other than 2xx */
    ERROR_PROTOCOL, /* not HTTP, or more bytes than were asked for */
    ERROR_MISMATCH, /* echoed bytes differ from those sent */
    ERROR_KINDS
};

extern const char *const client_error_names[ERROR_KINDS];

struct connection {
    int fd; /* -1: failed, or between two connections */
    struct secure *session;    /* of TLS, owned; NULL: the bytes are as they are */
    uint32_t in_flight;
    uint32_t oldest;           /* index into started_ns of the request to be answered next */
    size_t unsent;             /* bytes of requests begun that the kernel has not taken yet */
    size_t send_position;      /* of the next byte to send, within one request */
    size_t receive_position;   /* echo: of the next byte to come, within one response */
    struct http_response response;
    uint64_t started_ns[DEPTH_MAX];
};

struct client {
    struct sockaddr_storage address;
    socklen_t address_bytes;
    bool http;          /* else echo: the response is the request */
    bool datagrams;     /* UDP: each request is one. A lost one is an answer that never comes */
    bool secure;        /* over TLS */
    bool reconnect;     /* a new connection for each request */
    uint32_t depth;
    size_t request_bytes;
    char *requests;     /* depth + 1 times the request, so that any run of unsent bytes is contiguous */

    int epoll_fd;
    uint32_t connection_count, alive_count;
    struct connection *connections;
    uint32_t opened_count; /* picks the source address of the next connection */
    uint64_t in_flight;

    bool refill;    /* send the next request when one is answered */
    bool verify;    /* compare echoed bytes */
    bool measuring; /* record latencies */
    uint64_t answered, last_answer_ns;
    uint64_t errors[ERROR_KINDS];
    struct histogram latencies;
};

uint64_t now_ns(void);

/* Opens, uses and closes one connection, blocking: what every server has behind it before it is measured.
 * False with errno set if the server does not answer. */
bool client_prime(const struct client *client);

/* Opens all connections; true if at least one stands. */
bool client_open(struct client *client);

/* Sends `depth` requests on each connection. Nothing may be in flight. */
void client_start(struct client *client);

/* Waits at most timeout_ms for events and handles them. */
void client_poll(struct client *client, int timeout_ms);

uint64_t client_error_count(const struct client *client);

#endif
