/*
 * Reads of files by workers, several in the hand of one: the kernel begins with all of them before any is
 * waited for.
 */
#ifndef RINGLOOP_READING_H
#define RINGLOOP_READING_H

#include <stdbool.h>

#include "workers.h"

/*
 * The `begin` of a struct rl_sqe_work with a READ of a regular file that has RWF_NOWAIT: reads what is in
 * memory, else has the disk read it.
 */
int64_t rl_reading_begin(rl_work *work);

/* False once it is known that a read cannot be begun, or that it cannot be known whether it has. */
bool rl_reading_may_begin(void);

#endif
