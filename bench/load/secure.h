/*
 * TLS for the clients, by the libssl that is installed. It is loaded when it is asked for, so that nothing
 * has to be there to compile this. Certificates are not verified. The sockets are connection.c's.
 *
 * Invariant: a session is used by one connection, and ended before its fd is closed.
 */
#ifndef BENCH_SECURE_H
#define BENCH_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct secure;

/* Loads the library. NULL, or what is missing. */
const char *secure_load(void);

/* A session on a socket, which shakes hands with its first bytes. NULL: no memory. */
struct secure *secure_begin(int fd);

/* As send() and recv(): bytes, 0 at the end, or -1 with errno, EAGAIN where it waits for either. */
ssize_t secure_send(struct secure *session, const void *data, size_t length);
ssize_t secure_receive(struct secure *session, void *data, size_t length);

/* Says goodbye, without waiting for the answer, and frees the session. */
void secure_end(struct secure *session);

#endif
