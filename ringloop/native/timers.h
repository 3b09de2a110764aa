/*
 * The timers of a loop: a heap with four children to a node, ordered by deadline, then by age.
 *
 * A timer lies inside the object that it belongs to and knows its place in the heap, so that cancelling one
 * takes it out at once: a server that sets and cancels a timeout per request keeps no corpses. The heap holds
 * one reference to the owner of every timer in it; the caller takes and drops these.
 */
#ifndef RINGLOOP_TIMERS_H
#define RINGLOOP_TIMERS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct rl_timer {
    void *owner;
    uint32_t place; /* index in the heap + 1; 0: not in it */
};

struct rl_timer_node {
    double when; /* seconds, on the loop's clock */
    uint64_t order;
    struct rl_timer *timer;
};

struct rl_timers {
    struct rl_timer_node *nodes;
    uint32_t count, capacity;
    uint64_t next_order;
};

static inline bool rl_timer_before(const struct rl_timer_node *a, const struct rl_timer_node *b)
{
    return a->when < b->when || (a->when == b->when && a->order < b->order);
}

static inline void rl_timers_place(struct rl_timers *timers, uint32_t index, struct rl_timer_node node)
{
    timers->nodes[index] = node;
    node.timer->place = index + 1;
}

static inline void rl_timers_rise(struct rl_timers *timers, uint32_t index, struct rl_timer_node node)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 4;
        if (!rl_timer_before(&node, &timers->nodes[parent]))
            break;
        rl_timers_place(timers, index, timers->nodes[parent]);
        index = parent;
    }
    rl_timers_place(timers, index, node);
}

static inline void rl_timers_sink(struct rl_timers *timers, uint32_t index, struct rl_timer_node node)
{
    for (;;) {
        uint32_t first = index * 4 + 1;
        if (first >= timers->count)
            break;
        uint32_t end = first + 4 < timers->count ? first + 4 : timers->count;
        uint32_t least = first;
        for (uint32_t child = first + 1; child < end; child++)
            if (rl_timer_before(&timers->nodes[child], &timers->nodes[least]))
                least = child;
        if (!rl_timer_before(&timers->nodes[least], &node))
            break;
        rl_timers_place(timers, index, timers->nodes[least]);
        index = least;
    }
    rl_timers_place(timers, index, node);
}

/* False when there is no memory; nothing has changed then. */
static inline bool rl_timers_add(struct rl_timers *timers, struct rl_timer *timer, double when)
{
    if (timers->count == timers->capacity) {
        if (timers->capacity > UINT32_MAX / 16)
            return false;
        uint32_t capacity = timers->capacity ? timers->capacity * 2 : 64;
        struct rl_timer_node *nodes = realloc(timers->nodes, capacity * sizeof *nodes);
        if (nodes == NULL)
            return false;
        timers->nodes = nodes;
        timers->capacity = capacity;
    }
    struct rl_timer_node node = {when, timers->next_order++, timer};
    rl_timers_rise(timers, timers->count++, node);
    return true;
}

/* The timer must be in the heap. */
static inline void rl_timers_remove(struct rl_timers *timers, struct rl_timer *timer)
{
    uint32_t index = timer->place - 1;
    timer->place = 0;
    struct rl_timer_node last = timers->nodes[--timers->count];
    if (index == timers->count)
        return;
    if (index > 0 && rl_timer_before(&last, &timers->nodes[(index - 1) / 4]))
        rl_timers_rise(timers, index, last);
    else
        rl_timers_sink(timers, index, last);
}

static inline void rl_timers_free(struct rl_timers *timers)
{
    free(timers->nodes);
    *timers = (struct rl_timers){0};
}

#endif
