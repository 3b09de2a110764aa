/* See secure.h. The names and numbers are those of OpenSSL 1.1 and 3, whose interface is the same here. */
#include "secure.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

enum {
    CTRL_MODE = 33,             /* SSL_CTRL_MODE */
    PARTIAL_WRITE = 1,          /* SSL_MODE_ENABLE_PARTIAL_WRITE */
    MOVING_BUFFER = 2,          /* SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER */
    WANTS_READ = 2,             /* SSL_ERROR_WANT_READ */
    WANTS_WRITE = 3,            /* SSL_ERROR_WANT_WRITE */
    AT_END = 6,                 /* SSL_ERROR_ZERO_RETURN */
    BYTES_MAX = 1 << 30
};

static struct {
    const void *(*method)(void);
    void *(*context)(const void *method);
    long (*context_control)(void *context, int command, long value, void *argument);
    struct secure *(*session)(void *context);
    int (*take_fd)(struct secure *session, int fd);
    void (*be_client)(struct secure *session);
    int (*write)(struct secure *session, const void *data, int length);
    int (*read)(struct secure *session, void *data, int length);
    int (*error)(const struct secure *session, int result);
    void (*clear_errors)(void);
    int (*shutdown)(struct secure *session);
    void (*free)(struct secure *session);
} library;

static void *context; /* one for all sessions, to the end of the process */

static bool find(void *handle, const char *name, void *function)
{
    *(void **)function = dlsym(handle, name);
    return *(void **)function != NULL;
}

const char *secure_load(void)
{
    void *handle = dlopen("libssl.so.3", RTLD_NOW);
    if (handle == NULL)
        handle = dlopen("libssl.so.1.1", RTLD_NOW);
    if (handle == NULL)
        return "there is no libssl.so.3";
    if (!find(handle, "TLS_client_method", &library.method) ||
        !find(handle, "SSL_CTX_new", &library.context) ||
        !find(handle, "SSL_CTX_ctrl", &library.context_control) ||
        !find(handle, "SSL_new", &library.session) || !find(handle, "SSL_set_fd", &library.take_fd) ||
        !find(handle, "SSL_set_connect_state", &library.be_client) ||
        !find(handle, "SSL_write", &library.write) || !find(handle, "SSL_read", &library.read) ||
        !find(handle, "SSL_get_error", &library.error) ||
        !find(handle, "ERR_clear_error", &library.clear_errors) ||
        !find(handle, "SSL_shutdown", &library.shutdown) || !find(handle, "SSL_free", &library.free))
        return "libssl lacks a function";
    context = library.context(library.method());
    if (context == NULL)
        return "libssl makes no context";
    library.context_control(context, CTRL_MODE, PARTIAL_WRITE | MOVING_BUFFER, NULL);
    return NULL;
}

struct secure *secure_begin(int fd)
{
    struct secure *session = library.session(context);
    if (session == NULL)
        return NULL;
    if (library.take_fd(session, fd) != 1) {
        library.free(session);
        return NULL;
    }
    library.be_client(session);
    return session;
}

/* Of a call that answered `result`. */
static ssize_t settled(struct secure *session, int result)
{
    if (result > 0)
        return result;
    switch (library.error(session, result)) {
    case WANTS_READ:
    case WANTS_WRITE:
        errno = EAGAIN;
        return -1;
    case AT_END:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

static int bounded(size_t length)
{
    return length < BYTES_MAX ? (int)length : BYTES_MAX;
}

ssize_t secure_send(struct secure *session, const void *data, size_t length)
{
    library.clear_errors(); /* SSL_get_error() looks at the thread's, whoever left them */
    return settled(session, library.write(session, data, bounded(length)));
}

ssize_t secure_receive(struct secure *session, void *data, size_t length)
{
    library.clear_errors();
    return settled(session, library.read(session, data, bounded(length)));
}

void secure_end(struct secure *session)
{
    library.clear_errors();
    library.shutdown(session);
    library.free(session);
}
