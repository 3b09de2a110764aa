/*
 * Paths that led to a regular file a moment ago.
 *
 * Who opens such a path once more need not look first what it leads to. That it leads to the same still is
 * no promise: a file may have been put in its place, so what was opened is looked at. Of paths only a hash
 * is kept, so rarely it stands for another; each has a few places of a table, where it takes that of the
 * oldest.
 */
#ifndef RINGLOOP_RECENT_H
#define RINGLOOP_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RL_RECENT_PLACES = 16384, /* a tree's files, listed and then read, find room: 128 KiB if all are used */
    RL_RECENT_WAYS = 4,       /* the places of one path, next to each other */
    RL_RECENT_MS = 1000       /* how long it is remembered */
};

/* All zero: nothing is remembered. */
struct rl_recent {
    struct rl_recent_place {
        uint32_t path;     /* the half of the hash that is not the place; 0: none */
        uint32_t until_ms; /* of a clock that goes round in 49 days */
    } places[RL_RECENT_PLACES];
};

/* Every bit comes to depend on every other. */
static inline uint64_t rl_recent_mixed(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 33;
}

/* What stands for a path, never 0; `start`, not 0, for what a relative one begins at. */
static inline uint64_t rl_recent_hash(uint64_t start, const char *path, size_t length)
{
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t hash = (start ^ length) * factor;
    for (size_t done = 0; done < length; done += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t count = length - done < sizeof word ? length - done : sizeof word;
        __builtin_memcpy(&word, path + done, count);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 32;
    }
    return rl_recent_mixed(hash) | UINT64_C(1) << 32;
}

/* The first of the path's places. */
static inline uint64_t rl_recent_set(uint64_t path)
{
    return path % (RL_RECENT_PLACES / RL_RECENT_WAYS) * RL_RECENT_WAYS;
}

static inline void rl_recent_note(struct rl_recent *recent, uint64_t path, uint32_t now_ms)
{
    struct rl_recent_place *set = &recent->places[rl_recent_set(path)], *place = set;
    uint32_t name = (uint32_t)(path >> 32);
    for (int way = 0; way < RL_RECENT_WAYS; way++) {
        if (set[way].path == name || set[way].path == 0) {
            place = &set[way];
            break;
        }
        if ((int32_t)(set[way].until_ms - place->until_ms) < 0)
            place = &set[way];
    }
    *place = (struct rl_recent_place){name, now_ms + RL_RECENT_MS};
}

static inline bool rl_recent_knows(const struct rl_recent *recent, uint64_t path, uint32_t now_ms)
{
    const struct rl_recent_place *set = &recent->places[rl_recent_set(path)];
    for (int way = 0; way < RL_RECENT_WAYS; way++)
        if (set[way].path == path >> 32)
            return set[way].until_ms - now_ms - 1 < RL_RECENT_MS;
    return false;
}

#endif
