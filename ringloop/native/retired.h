/*
 * Drivers that were abandoned and that the kernel may still use: see retired.c.
 */
#ifndef RINGLOOP_RETIRED_H
#define RINGLOOP_RETIRED_H

/* Part of a driver, so that abandoning needs no memory and cannot fail. */
struct rl_retired {
    struct rl_retired *next;
    int witness_fd; /* the read end of a pipe whose write end only the kernel holds; owned from retiring on */
    void (*release)(void *argument);
    void *argument;
    void *driver; /* freed after `release` */
};

/* Puts a driver whose other fds are closed on the list of those that rl_driver_sweep() looks after. */
void rl_retire(struct rl_retired *retired);

#endif
