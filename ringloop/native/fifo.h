/*
 * Waiting for the writer of a FIFO that is open for reading already, as opening it without O_NONBLOCK does.
 * No Python.
 */
#ifndef RINGLOOP_FIFO_H
#define RINGLOOP_FIFO_H

#include <stdint.h>

#include "workers.h"

/*
 * The `execute` of a work that lies in a struct rl_call_work with the reader's fd as its first argument: the
 * fd, once somebody has opened the FIFO for writing, also if he has closed it again; or -errno. It holds two
 * more fds meanwhile.
 */
int64_t rl_fifo_execute(rl_work *work);

#endif
