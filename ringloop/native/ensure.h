/*
 * ENSURE(condition): an invariant of the native layer, checked in debug builds only (RINGLOOP_DEBUG).
 *
 * One condition each, so that the message names what broke. It is not for errors that a kernel or a
 * caller can cause: those are results.
 */
#ifndef RINGLOOP_ENSURE_H
#define RINGLOOP_ENSURE_H

#ifdef RINGLOOP_DEBUG

#include <stdio.h>
#include <stdlib.h>

#define ENSURE(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition);      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#else

/* The condition is still compiled, never evaluated: it cannot rot and names no unused variable. */
#define ENSURE(condition) ((void)sizeof((condition) ? 1 : 0))

#endif

#endif
