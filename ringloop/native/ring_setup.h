/*
 * A ring as the kernel gives it, and how it is had: between ring.c, which runs it, and ring_setup.c.
 */
#ifndef RINGLOOP_RING_SETUP_H
#define RINGLOOP_RING_SETUP_H

#include "retired.h"
#include "ring.h"

enum { RL_OPCODES = 256 };

struct rl_ring {
    rl_driver driver; /* first: a pointer to one is a pointer to the other */
    struct rl_retired retired;
    void *rings; /* both queues' heads, tails and completions; the kernel's memory */
    size_t rings_bytes, sqes_bytes;
    uint32_t *sq_tail;               /* what the kernel sees of driver.sq_tail */
    uint32_t enter_flags;            /* RL_ENTER_* that every call has */
    uint8_t opcodes[RL_OPCODES / 8]; /* a bit for each that the kernel knows */
    uint64_t owner; /* the thread that enabled it (ring.c), where the kernel lets others in; else 0 */
};

/*
 * Fills a ring that is all zero but for `calls`: fds (-1 where there is none), mappings, capabilities, the
 * witness. 0, or -errno with *failure filled; rl_ring_tear_down() and a close of the witness are due in both
 * cases.
 */
int rl_ring_set_up(struct rl_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
                   struct rl_ring_failure *failure);

static inline bool rl_ring_has_opcode(const struct rl_ring *ring, uint8_t opcode)
{
    return (ring->opcodes[opcode / 8] >> (opcode % 8) & 1) != 0;
}

/* Gives back mappings and the ring's fd, whichever there are. Not the witness. */
void rl_ring_tear_down(struct rl_ring *ring);

/* Fills *failure. Returns -error. */
int rl_ring_fail(struct rl_ring_failure *failure, enum rl_ring_cause cause, int error, const char *call);

/* What a negative errno means by itself, else `otherwise`. */
enum rl_ring_cause rl_ring_cause_of(int error, enum rl_ring_cause otherwise);

#endif
