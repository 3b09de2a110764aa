/*
 * The clients' sockets: opening them, keeping requests in flight, judging answers. See connection.h for the
 * invariant; load.c calls. Everything here runs for each request, so it makes one send and one recv per
 * request, one epoll_wait for many, and reads the clock once for each.
 *
 * The kernel's part of a request costs a client as much as a server that is written in C, so a server close
 * to that keeps this thread busy too: the report says how busy it was ("client_busy").
 */
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 256 * 1024, /* all connections receive here: it stays in the second-level cache */
    EVENTS_MAX = 256,
    SOURCE_ADDRESSES = 64,
    PATIENCE_SECONDS = 5
};

static char scratch[SCRATCH_BYTES];

const char *const client_error_names[ERROR_KINDS] = {"connect", "reset", "eof", "status", "protocol",
                                                     "mismatch"};

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t client_error_count(const struct client *client)
{
    uint64_t sum = 0;
    for (int kind = 0; kind < ERROR_KINDS; kind++)
        sum += client->errors[kind];
    return sum;
}

/*
 * A port stays in TIME_WAIT for a minute after the client closed it, and 28,000 ports are used up in a
 * second or two of short connections. Several source addresses multiply them; loopback has 127.0.0.0/8.
 */
static void spread_source(struct client *client, int fd)
{
    const struct sockaddr_in *target = (const struct sockaddr_in *)&client->address;
    if (target->sin_family != AF_INET || ntohl(target->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
        return;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + client->opened_count++ % SOURCE_ADDRESSES);
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    bind(fd, (struct sockaddr *)&source, sizeof(source)); /* if it fails, connect() finds an address */
}

/*
 * A connected socket (`wait`: blocks for at most PATIENCE_SECONDS) or a connecting one, or -1 with errno set.
 */
static int open_socket(struct client *client, bool wait)
{
    int kind = (client->datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK);
    int fd = socket(client->address.ss_family, kind, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    if (!client->datagrams && client->address.ss_family == AF_INET) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        /* BBR, where it is the default, paces by timers even on loopback: so does the server's side. */
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof("reno") - 1);
    }
    if (wait)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (client->reconnect)
        spread_source(client, fd);
    if (connect(fd, (struct sockaddr *)&client->address, client->address_bytes) < 0 &&
        (wait || errno != EINPROGRESS)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static ssize_t send_bytes(struct connection *connection, const void *data, size_t length, int flags)
{
    if (connection->session != NULL)
        return secure_send(connection->session, data, length);
    return send(connection->fd, data, length, flags | MSG_NOSIGNAL);
}

static ssize_t receive_bytes(struct connection *connection, void *data, size_t length, int flags)
{
    if (connection->session != NULL)
        return secure_receive(connection->session, data, length);
    return recv(connection->fd, data, length, flags);
}

static void close_socket(struct connection *connection)
{
    if (connection->session != NULL)
        secure_end(connection->session);
    connection->session = NULL;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

bool client_prime(const struct client *client)
{
    struct client once = *client;
    once.reconnect = false;
    struct connection first = {.fd = open_socket(&once, true)};
    if (first.fd < 0)
        return false;
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    setsockopt(first.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (client->secure)
        first.session = secure_begin(first.fd);
    ssize_t done = send_bytes(&first, client->requests, client->request_bytes, 0);
    if (done > 0)
        done = receive_bytes(&first, scratch, sizeof(scratch), 0);
    int error = done == 0 ? ECONNRESET : errno;
    close_socket(&first);
    errno = error;
    return done > 0;
}

/* Over TLS if it is to be, and in epoll, edge-triggered for both directions: no further call per request. */
static bool connection_begin(struct client *client, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = connection};
    if (client->secure) {
        fcntl(connection->fd, F_SETFL, O_NONBLOCK); /* libssl has no MSG_DONTWAIT */
        connection->session = secure_begin(connection->fd);
        if (connection->session == NULL)
            return false;
    }
    return epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) == 0;
}

static bool connection_open(struct client *client, struct connection *connection, bool wait)
{
    connection->in_flight = connection->oldest = 0;
    connection->unsent = connection->send_position = connection->receive_position = 0;
    http_reset(&connection->response);
    connection->fd = open_socket(client, wait);
    if (connection->fd < 0 || !connection_begin(client, connection)) {
        client->errors[ERROR_CONNECT]++;
        close_socket(connection);
        return false;
    }
    client->alive_count++;
    return true;
}

static void connection_close(struct client *client, struct connection *connection)
{
    close_socket(connection);
    client->in_flight -= connection->in_flight;
    connection->in_flight = 0;
    client->alive_count--;
}

static void connection_send(struct client *client, struct connection *connection);

static void begin_requests(struct client *client, struct connection *connection, uint32_t count)
{
    uint64_t started_ns = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (connection->oldest + connection->in_flight) % DEPTH_MAX;
        connection->started_ns[slot] = started_ns;
        connection->in_flight++;
    }
    client->in_flight += count;
    connection->unsent += count * client->request_bytes;
    connection_send(client, connection);
}

/* Opens the connection of one request and sends it; the latency counts from before connect(). */
static void begin_connection(struct client *client, struct connection *connection)
{
    uint64_t started_ns = now_ns();
    if (!connection_open(client, connection, false))
        return;
    begin_requests(client, connection, 1);
    if (connection->fd >= 0)
        connection->started_ns[connection->oldest] = started_ns;
}

/* Counts what went wrong. The connection is gone for good: a run with an error is not a measurement. */
static void connection_fail(struct client *client, struct connection *connection, enum client_error kind)
{
    client->errors[kind]++;
    connection_close(client, connection);
}

static void connection_send(struct client *client, struct connection *connection)
{
    while (connection->unsent) {
        size_t length = client->datagrams ? client->request_bytes : connection->unsent;
        ssize_t sent =
            send_bytes(connection, client->requests + connection->send_position, length, MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN && errno != ENOTCONN)
                connection_fail(client, connection, ERROR_RESET);
            return;
        }
        connection->unsent -= (size_t)sent;
        connection->send_position = (connection->send_position + (size_t)sent) % client->request_bytes;
    }
}

static void note_answer(struct client *client, struct connection *connection, uint64_t answered_ns)
{
    if (client->measuring)
        histogram_record(&client->latencies, answered_ns - connection->started_ns[connection->oldest]);
    connection->oldest = (connection->oldest + 1) % DEPTH_MAX;
    connection->in_flight--;
    client->in_flight--;
    client->answered++;
    client->last_answer_ns = answered_ns;
}

/* Takes echoed bytes; false and the kind of error if they cannot be an answer. */
static bool take_echo(struct client *client, struct connection *connection, size_t length, uint64_t at_ns,
                      enum client_error *error)
{
    size_t position = 0;
    while (position < length) {
        size_t piece = client->request_bytes - connection->receive_position;
        if (piece > length - position)
            piece = length - position;
        *error = ERROR_PROTOCOL;
        if (!connection->in_flight)
            return false;
        *error = ERROR_MISMATCH;
        if (client->verify &&
            memcmp(scratch + position, client->requests + connection->receive_position, piece) != 0)
            return false;
        position += piece;
        connection->receive_position += piece;
        if (connection->receive_position == client->request_bytes) {
            connection->receive_position = 0;
            note_answer(client, connection, at_ns);
        }
    }
    return true;
}

static bool take_http(struct client *client, struct connection *connection, size_t length, uint64_t at_ns,
                      enum client_error *error)
{
    size_t position = 0;
    while (position < length) {
        size_t piece;
        enum http_progress progress =
            http_take(&connection->response, scratch + position, length - position, &piece);
        *error = ERROR_PROTOCOL;
        if (progress == HTTP_MALFORMED || !connection->in_flight)
            return false;
        position += piece;
        if (progress == HTTP_MORE)
            break;
        *error = ERROR_STATUS;
        if (connection->response.status / 100 != 2)
            return false;
        http_reset(&connection->response);
        note_answer(client, connection, at_ns);
    }
    return true;
}

/* What follows once some requests of this connection are answered. */
static void after_answers(struct client *client, struct connection *connection)
{
    if (client->reconnect) {
        if (connection->in_flight)
            return;
        connection_close(client, connection);
        if (client->refill)
            begin_connection(client, connection);
    } else if (client->refill) {
        begin_requests(client, connection, client->depth - connection->in_flight);
    }
}

static void connection_receive(struct client *client, struct connection *connection)
{
    int fd = connection->fd;
    for (;;) {
        ssize_t received = receive_bytes(connection, scratch, sizeof(scratch), MSG_DONTWAIT);
        if (received < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                connection_fail(client, connection, ERROR_RESET);
            return;
        }
        if (received == 0) {
            connection_fail(client, connection, ERROR_EOF);
            return;
        }
        uint64_t answered_before = client->answered, at_ns = now_ns();
        enum client_error error;
        bool fine = client->http ? take_http(client, connection, (size_t)received, at_ns, &error)
                                 : take_echo(client, connection, (size_t)received, at_ns, &error);
        if (!fine) {
            connection_fail(client, connection, error);
            return;
        }
        if (client->answered != answered_before)
            after_answers(client, connection);
        /* A short read emptied the stream: whatever comes later raises the edge again. */
        bool emptied = client->datagrams ? client->depth == 1
                                         : !client->secure && (size_t)received < sizeof(scratch);
        if (connection->fd != fd || emptied)
            return;
    }
}

bool client_open(struct client *client)
{
    if (client->reconnect) /* each request will open its own */
        return true;
    for (uint32_t i = 0; i < client->connection_count; i++)
        connection_open(client, &client->connections[i], true);
    return client->alive_count > 0;
}

void client_start(struct client *client)
{
    for (uint32_t i = 0; i < client->connection_count; i++) {
        struct connection *connection = &client->connections[i];
        if (client->reconnect)
            begin_connection(client, connection);
        else if (connection->fd >= 0)
            begin_requests(client, connection, client->depth);
    }
}

void client_poll(struct client *client, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(client->epoll_fd, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        /* To send by TLS may have to wait until something comes. */
        uint32_t sends_at = client->secure ? EPOLLOUT | EPOLLIN : EPOLLOUT;
        if (connection->fd >= 0 && connection->unsent && events[i].events & sends_at)
            connection_send(client, connection);
        if (connection->fd >= 0 && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            connection_receive(client, connection);
    }
}
