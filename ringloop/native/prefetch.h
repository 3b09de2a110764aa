/*
 * Prefetching: a part of a file is read into the page cache by one work, and is there when it is done.
 */
#ifndef RINGLOOP_PREFETCH_H
#define RINGLOOP_PREFETCH_H

#include "workers.h"

/*
 * The `execute` of a work that lies in a struct rl_call_work whose arguments are an fd, an offset and a
 * length, not negative. How many bytes are in memory now, less than the length at the file's end; or
 * -errno: -ESPIPE for what has no pages.
 */
int64_t rl_prefetch_execute(rl_work *work);

#endif
