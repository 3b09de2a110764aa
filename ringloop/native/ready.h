/*
 * The ready queue: what the next pass over the loop runs, first in, first out.
 *
 * An entry owns one reference to its `object` and, if there is one, to its `payload`. Header only, so that
 * every room that pushes does so without a call. Pushing never runs Python code: a callback that comes from
 * inside the garbage collector or a signal handler finds the queue whole.
 */
#ifndef RINGLOOP_READY_H
#define RINGLOOP_READY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum rl_ready_kind { RL_READY_HANDLE, RL_READY_COMPLETION };

struct rl_ready_entry {
    void *object;  /* a Handle, or the Operation that completed */
    void *payload; /* what the operation made of the completion when it was collected, or NULL */
    int64_t result;
    uint32_t flags;
    enum rl_ready_kind kind;
};

struct rl_ready_queue {
    struct rl_ready_entry *entries;
    uint32_t head, count, capacity; /* capacity is a power of two, or 0 before the first push */
};

static inline bool rl_ready_reserve(struct rl_ready_queue *queue)
{
    if (queue->count < queue->capacity)
        return true;
    uint32_t capacity = queue->capacity ? queue->capacity * 2 : 64;
    if (capacity > UINT32_MAX / 2 / sizeof(struct rl_ready_entry))
        return false;
    struct rl_ready_entry *entries = malloc(capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    for (uint32_t i = 0; i < queue->count; i++)
        entries[i] = queue->entries[(queue->head + i) & (queue->capacity - 1)];
    free(queue->entries);
    queue->entries = entries;
    queue->capacity = capacity;
    queue->head = 0;
    return true;
}

/* The next entry, to be filled at once. Room for one more must have been reserved. */
static inline struct rl_ready_entry *rl_ready_next(struct rl_ready_queue *queue)
{
    return &queue->entries[(queue->head + queue->count++) & (queue->capacity - 1)];
}

/* Room for one more must have been reserved. */
static inline void rl_ready_push(struct rl_ready_queue *queue, struct rl_ready_entry entry)
{
    *rl_ready_next(queue) = entry;
}

/* The queue must not be empty. */
static inline struct rl_ready_entry rl_ready_pop(struct rl_ready_queue *queue)
{
    struct rl_ready_entry entry = queue->entries[queue->head];
    queue->head = (queue->head + 1) & (queue->capacity - 1);
    queue->count--;
    return entry;
}

static inline void rl_ready_free(struct rl_ready_queue *queue)
{
    free(queue->entries);
    *queue = (struct rl_ready_queue){0};
}

#endif
