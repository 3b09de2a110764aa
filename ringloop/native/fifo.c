/*
 * A FIFO's writer: see fifo.h. poll() tells of what he writes, and of his end. Of one who does neither only
 * tee() tells, which takes nothing out (Linux 6.18, ipipe_prep): EAGAIN if there is a writer, 0 if there is
 * none. That he came is no event, so he is looked for again and again.
 */
#define _GNU_SOURCE
#include "fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "execute.h"

enum { LOOK_MS = 10 };

static bool has_writer(int reader, int scratch)
{
    ssize_t count = tee(reader, scratch, 1, SPLICE_F_NONBLOCK);
    return count > 0 || (count < 0 && errno == EAGAIN);
}

int64_t rl_fifo_execute(rl_work *work)
{
    struct rl_call_work *call = (struct rl_call_work *)((char *)work - offsetof(struct rl_call_work, work));
    int reader = (int)call->arguments[0];
    struct pollfd reading = {.fd = reader, .events = POLLIN};
    int scratch[2];
    if (pipe2(scratch, O_CLOEXEC) < 0)
        return -errno;
    int count = 0;
    while (count == 0 && !has_writer(reader, scratch[1]))
        count = poll(&reading, 1, LOOK_MS);
    int64_t result = count < 0 ? -errno : reader;
    close(scratch[0]);
    close(scratch[1]);
    return result;
}
